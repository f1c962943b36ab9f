"""Steering vectors: what is fitted on the states of parallel items.

Everything is cross-fitted: an item is only ever steered with what other folds gave.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from isogloss.errors import InputError
from isogloss.files.activation_file import open_states
from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.language_offsets import language_basis
from isogloss.questions.items import check_folds
from isogloss.steering.design import ALL_ITEMS, fitting_design
from isogloss.study.steering_methods import METHODS

POOLINGS = ("prompt_mean", "prompt_last")

# Penalties tried for the linear map, in units of the mean eigenvalue of the states' Gram matrix.
PENALTIES = np.logspace(-2, 4, 25)


# Kernels


def map_penalty(source: np.ndarray, target: np.ndarray) -> float:
    """Penalty of `map_factors` that minimises generalised cross-validation.

    Args:
        source, target: (item, feature) centred states of the same items in two languages.

    Returns:
        The penalty, in squared units of the states; infinite where the source does not vary.

    Source: Golub, Heath and Wahba (1979), in the dual form; the grid is our choice.
    """
    n = len(source)
    values, vectors = np.linalg.eigh(source @ source.T)
    values = values.clip(min=0)
    unit = values.sum() / n
    if unit == 0:
        return float("inf")
    energy = ((vectors.T @ (target - source)) ** 2).sum(axis=1)
    left = PENALTIES[:, None] * unit / (values + PENALTIES[:, None] * unit)
    # The mean is fitted too: it takes one degree of freedom.
    criterion = (left**2 @ energy) / ((left.sum(axis=1) - 1) / n) ** 2
    return float(PENALTIES[np.argmin(criterion)] * unit)


def random_directions(states: np.ndarray, seed: int, n: int) -> np.ndarray:
    """Unit vectors (n, feature) drawn with the languages' mean covariance of states.

    Gaussian combinations of the states, each language centred: Gaussian with the mean of their
    sample covariances, without ever forming it. A draw combines the same items with the same
    weights whatever the layer, so that it is one direction for all folds and languages, and at
    different layers the image of one combination. NaN where the states do not vary.

    Args: states (language, item, feature).
    """
    n_languages, n_items, width = states.shape
    centred = (states - states.mean(axis=1, keepdims=True)).reshape(-1, width)
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal((n, n_languages * n_items)) @ centred
    norm = np.linalg.norm(drawn, axis=1, keepdims=True)
    return np.divide(drawn, norm, out=np.full_like(drawn, np.nan), where=norm > 0)


# Fitting


def vectors_of_files(
    paths: Sequence[Path], pivot: str, folds: Mapping[str, Any], steering: Mapping[str, Any]
) -> xr.Dataset:
    """`fit_vectors` on activation files.

    Args:
        paths: one file per language, of one model and dataset.
        pivot: language steered towards.
        folds: as `isogloss.steering.design.fitting_design` takes them.
        steering: `layers` (relative depths), `methods` and `random_draws`.
    """
    mean, last = (open_states(paths, pooling) for pooling in POOLINGS)
    fitted, fold = fitting_design(mean.clusters, folds)
    n_layers = len(mean.depths) - 1
    return fit_vectors(
        mean.of_items(fitted),
        last.of_items(fitted),
        fold,
        pivot,
        sorted({round(depth * n_layers) for depth in steering["layers"]}),
        steering["methods"],
        draws=steering["random_draws"],
        seed=folds["seed"],
    )


def fit_vectors(
    states_mean: ParallelStates,
    states_last: ParallelStates,
    folds: np.ndarray | None,
    pivot: str,
    layers: Sequence[int],
    methods: Sequence[str] = METHODS,
    *,
    draws: int = 9,
    seed: int = 0,
) -> xr.Dataset:
    """Cross-fitted means, language subspaces, random directions and maps.

    Nothing depends on the order of the languages, since the key of the vectors does not: they
    are fitted and kept in the order of their tags.

    Args:
        states_mean, states_last: the same items, pooled over the prompt and at its last token.
        folds: (item,) fold of each item; fold k is fitted on the items of all others. None
            where these items are a fitting set of their own, on which nothing is evaluated.
        pivot: language steered towards.
        layers: layer indices to fit at (0 = embeddings).
        methods: of METHODS; `linear_map` also stores the states that its factors come from.
        draws: random directions per layer, shared by all folds and languages: in the mean over
            folds or languages of a draw that differed between them, their effects would cancel.
        seed: of the random directions.

    Returns:
        `mean`, `overall_mean`, `basis`, `basis_variance`, `random`, and for the linear map
        `state`, `map_penalty`, `in_fit`; fold ALL_ITEMS is fitted on all items, for other ones.

    Raises:
        InputError: an unknown method, layer or pivot, states that do not match, torn folds.
    """
    _check_request(states_mean, states_last, pivot, layers, methods)
    in_fit = {ALL_ITEMS: np.ones(len(states_mean.item_ids), bool)}
    if folds is not None:
        in_fit |= {int(k): folds != k for k in check_folds(folds, states_mean.clusters)}
    languages = sorted(states_mean.languages)
    order = [states_mean.languages.index(tag) for tag in languages]
    by_pooling = []
    for states in (states_mean, states_last):
        by_layer = []
        for layer in layers:
            x = states.at(layer)[order].astype(np.float64)
            fitted = xr.concat([_fit(x[:, items]) for items in in_fit.values()], "fold")
            directions = random_directions(x, seed, draws).astype(np.float32)
            by_layer.append(fitted.assign(random=(("draw", "feature"), directions)))
            if "linear_map" in methods:
                data = _map_data(x, list(in_fit.values()), languages.index(pivot))
                by_layer[-1] = by_layer[-1].merge(data)
        by_pooling.append(xr.concat(by_layer, "layer"))
    vectors = xr.concat(by_pooling, "pooling").assign_coords(
        pooling=list(POOLINGS),
        fold=list(in_fit),
        language=languages,
        layer=list(layers),
        relative_depth=("layer", states_mean.depths[list(layers)]),
        item=list(states_mean.item_ids),
    )
    if folds is not None:
        vectors = vectors.assign_coords(item_fold=("item", folds))
    if "linear_map" in methods:
        vectors["in_fit"] = (("fold", "item"), np.array(list(in_fit.values())))
    return _described(vectors.assign_attrs(pivot=pivot, methods=" ".join(methods), seed=seed))


def _check_request(
    states_mean: ParallelStates,
    states_last: ParallelStates,
    pivot: str,
    layers: Sequence[int],
    methods: Sequence[str],
) -> None:
    """Refuse what cannot be fitted, in words that say what to change."""
    unknown = [m for m in methods if m not in METHODS]
    if unknown:
        raise InputError(f"steering: no method {unknown[0]!r}: use {', '.join(METHODS)}")
    if pivot not in states_mean.languages or len(states_mean.languages) < 2:
        known = ", ".join(states_mean.languages)
        raise InputError(f"steering: pivot {pivot!r} and another language are needed, got {known}")
    outside = [i for i in layers if not 0 <= i < len(states_mean.depths)]
    if outside or not len(layers):
        last = len(states_mean.depths) - 1
        raise InputError(f"steering: layers {list(layers)}: give layers from 0 to {last}")
    if (states_mean.languages, states_mean.item_ids) != (
        states_last.languages,
        states_last.item_ids,
    ):
        raise InputError(
            "steering: prompt_mean and prompt_last are of different items: "
            "read both from the same activation files"
        )


def _fit(x: np.ndarray) -> xr.Dataset:
    """What one fold, layer and pooling gives; x (language, item, feature): the fit items."""
    means = x.mean(axis=1)
    basis, variance = language_basis(means)
    return xr.Dataset(
        {
            "mean": (("language", "feature"), means.astype(np.float32)),
            "overall_mean": ("feature", means.mean(axis=0).astype(np.float32)),
            "basis": (("component", "feature"), basis.astype(np.float32)),
            "basis_variance": ("component", variance),
        }
    )


def _map_data(x: np.ndarray, in_fit: Sequence[np.ndarray], pivot: int) -> xr.Dataset:
    """The states (language, item, feature) of one layer and the map's penalty in each fold.

    The factors follow from them by one small solve; kept a fold each they would be many
    times the states.
    """
    penalties = np.empty((len(in_fit), len(x)))
    for k, items in enumerate(in_fit):
        centred = x[:, items] - x[:, items].mean(axis=1, keepdims=True)
        penalties[k] = [map_penalty(source, centred[pivot]) for source in centred]
    return xr.Dataset(
        {
            "state": (("language", "item", "feature"), x.astype(np.float32)),
            "map_penalty": (("fold", "language"), penalties),
        }
    )


def _described(vectors: xr.Dataset) -> xr.Dataset:
    """Give every variable its long name and units."""
    described = {
        "mean": ("mean state of a language over the fit items", "residual stream"),
        "overall_mean": ("mean of the languages' means", "residual stream"),
        "basis": ("orthonormal basis of the language subspace", "1"),
        "basis_variance": ("squared norm of the language offsets", "residual stream squared"),
        "random": ("random directions with the languages' mean covariance", "1"),
        "state": ("states of all items", "residual stream"),
        "map_penalty": ("ridge penalty of the linear map", "residual stream squared"),
        "in_fit": ("items that a fold is fitted on", "1"),
    }
    for name, (long_name, units) in described.items():
        if name in vectors:
            vectors[name].attrs.update(long_name=long_name, units=units)
    return vectors
