"""Steering vectors: what is fitted on the states of parallel items, and how it is applied.

Everything is cross-fitted: an item is only ever steered with what other folds gave. All
interventions have one form, so that applying them takes one line in any array library:

    steered = h + alpha * (shift + ((h - centre) @ down.T) @ up)
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from isogloss.errors import InputError
from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.subspaces import language_basis
from isogloss.questions.items import check_folds
from isogloss.study.steering_methods import CONTROLS, METHODS

POOLINGS = ("prompt_mean", "prompt_last")

# The fold of what is fitted on all items: only for items of another dataset.
ALL_ITEMS = -1

# Penalties tried for the linear map, in units of the mean eigenvalue of the states' Gram matrix.
PENALTIES = np.logspace(-2, 4, 25)


@dataclass(frozen=True)
class Intervention:
    """A change of the residual stream at one layer: affine, of low rank.

    `steered = h + alpha * (shift + ((h - centre) @ down.T) @ up)`, h in the units of the
    residual stream, alpha the strength (1 is the whole change).

    Attributes:
        shift: (feature,) the constant part.
        centre: (feature,) the point at which the rest vanishes.
        down: (k, feature) directions read; k is 0 where the change is a constant shift.
        up: (k, feature) directions written.

    Raises:
        ValueError: the arrays do not fit one another.
    """

    shift: np.ndarray
    centre: np.ndarray
    down: np.ndarray
    up: np.ndarray

    def __post_init__(self) -> None:
        width = self.shift.shape[-1]
        same_width = {a.shape[-1] for a in (self.centre, self.down, self.up)} == {width}
        if self.shift.ndim != 1 or not same_width or self.down.shape != self.up.shape:
            shapes = [a.shape for a in (self.shift, self.centre, self.down, self.up)]
            raise ValueError(f"shift, centre, down and up do not fit one another: {shapes}")

    def displacement(self, states: np.ndarray) -> np.ndarray:
        """What alpha = 1 adds to states (..., feature)."""
        return self.shift + ((states - self.centre) @ self.down.T) @ self.up

    def apply(self, states: np.ndarray, alpha: float = 1.0) -> np.ndarray:
        """Steered states, (..., feature)."""
        return states + alpha * self.displacement(states)

    def reversed(self) -> "Intervention":
        """The same change in the other direction."""
        return Intervention(-self.shift, self.centre, self.down, -self.up)


def constant_shift(shift: np.ndarray) -> Intervention:
    """The intervention that adds `shift` (feature,) to every state."""
    none = np.zeros((0, shift.shape[-1]), shift.dtype)
    return Intervention(shift, np.zeros_like(shift), none, none)


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


def map_factors(
    source: np.ndarray, target: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression towards the identity, as the low-rank factors of the change.

    Minimises ||target - source (I + M)||^2 + penalty ||M||^2, so that what the items do not
    span is left as it is. M = down.T @ up, of rank at most the number of items.

    Args:
        source, target: (item, feature) centred states of the same items in two languages.
        penalty: squared units of the states; infinite gives M = 0.

    Returns:
        down, up: (item, feature) each.

    Source: ridge regression in the dual form; towards the identity: our choice.
    """
    if np.isinf(penalty):
        return source, np.zeros_like(source)
    gram = source @ source.T + penalty * np.eye(len(source))
    return source, np.linalg.solve(gram, target - source)


def random_directions(centred: np.ndarray, rng: np.random.Generator, n: int) -> np.ndarray:
    """Unit vectors (n, feature) drawn with the covariance of centred states (item, feature).

    Gaussian combinations of the states: Gaussian with their sample covariance, without ever
    forming it. NaN where the states do not vary.
    """
    drawn = rng.standard_normal((n, len(centred))) @ centred
    norm = np.linalg.norm(drawn, axis=1, keepdims=True)
    return np.divide(drawn, norm, out=np.full_like(drawn, np.nan), where=norm > 0)


# Fitting


def fit_vectors(
    states_mean: ParallelStates,
    states_last: ParallelStates,
    folds: np.ndarray,
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
        folds: (item,) fold of each item; fold k is fitted on the items of all others. Items
            of fold -1 (a separate fitting set) are in every fit.
        pivot: language steered towards.
        layers: layer indices to fit at (0 = embeddings).
        methods: of METHODS; `linear_map` also stores the states that its factors come from.
        draws: random directions per fold, language and layer.
        seed: of the random directions.

    Returns:
        `mean`, `overall_mean`, `basis`, `basis_variance`, `random`, and for the linear map
        `state`, `map_penalty`, `in_fit`; fold -1 is fitted on all items, for other datasets.

    Raises:
        InputError: an unknown method, layer or pivot, states that do not match, torn folds.
    """
    _check_request(states_mean, states_last, pivot, layers, methods)
    numbered = [ALL_ITEMS, *check_folds(folds, states_mean.clusters)]
    in_fit = np.array(
        [np.ones(len(folds), bool) if k == ALL_ITEMS else folds != k for k in numbered]
    )
    languages = sorted(states_mean.languages)
    order = [states_mean.languages.index(tag) for tag in languages]
    by_pooling = []
    for pooling, states in zip(POOLINGS, (states_mean, states_last), strict=True):
        by_layer = []
        for layer in layers:
            x = states.at(layer)[order].astype(np.float64)
            key = (seed, POOLINGS.index(pooling), layer)
            fitted = [
                _fit(x[:, fit], languages, draws, (*key, fold + 1))
                for fold, fit in zip(numbered, in_fit, strict=True)
            ]
            by_layer.append(xr.concat(fitted, "fold"))
            if "linear_map" in methods:
                by_layer[-1] = by_layer[-1].merge(_map_data(x, in_fit, languages.index(pivot)))
        by_pooling.append(xr.concat(by_layer, "layer"))
    vectors = xr.concat(by_pooling, "pooling").assign_coords(
        pooling=list(POOLINGS),
        fold=numbered,
        language=languages,
        layer=list(layers),
        relative_depth=("layer", states_mean.depths[list(layers)]),
        item=list(states_mean.item_ids),
        item_fold=("item", folds),
    )
    if "linear_map" in methods:
        vectors["in_fit"] = (("fold", "item"), in_fit)
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


def _fit(x: np.ndarray, languages: Sequence[str], draws: int, key: tuple[int, ...]) -> xr.Dataset:
    """What one fold, layer and pooling gives; x (language, item, feature): the fit items."""
    means = x.mean(axis=1)
    basis, variance = language_basis(means)
    directions = [
        random_directions(own - mean, np.random.default_rng((*key, seed_of(tag))), draws)
        for tag, own, mean in zip(languages, x, means, strict=True)
    ]
    return xr.Dataset(
        {
            "mean": (("language", "feature"), means.astype(np.float32)),
            "overall_mean": ("feature", means.mean(axis=0).astype(np.float32)),
            "basis": (("component", "feature"), basis.astype(np.float32)),
            "basis_variance": ("component", variance),
            "random": (("language", "draw", "feature"), np.array(directions, np.float32)),
        }
    )


def seed_of(language: str) -> int:
    """A language's part of a seed: the same in every study, wherever it stands in a list.

    >>> seed_of("de")
    2509915604
    """
    return int.from_bytes(hashlib.sha256(language.encode()).digest()[:4], "big")


def _map_data(x: np.ndarray, in_fit: np.ndarray, pivot: int) -> xr.Dataset:
    """The states (language, item, feature) of one layer and the map's penalty in each fold.

    The factors follow from them by one small solve; kept a fold each they would be many
    times the states.
    """
    penalties = np.empty((len(in_fit), len(x)))
    for k, fit in enumerate(in_fit):
        centred = x[:, fit] - x[:, fit].mean(axis=1, keepdims=True)
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
        "random": ("random directions with the states' covariance", "1"),
        "state": ("states of all items", "residual stream"),
        "map_penalty": ("ridge penalty of the linear map", "residual stream squared"),
        "in_fit": ("items that a fold is fitted on", "1"),
    }
    for name, (long_name, units) in described.items():
        if name in vectors:
            vectors[name].attrs.update(long_name=long_name, units=units)
    return vectors


# Reading interventions


def intervention(
    vectors: xr.Dataset,
    method: str,
    *,
    language: str,
    fold: int,
    layer: int,
    pooling: str = "prompt_mean",
) -> Intervention:
    """One method's intervention on one language at one layer, for the items of one fold.

    Args:
        vectors: from `fit_vectors`.
        method: of METHODS.
        language: language of the prompts steered.
        fold: fold of the items steered; ALL_ITEMS for another dataset's items.
        layer: layer steered.
        pooling: "prompt_mean" for steering all tokens, "prompt_last" for the last one.

    Raises:
        InputError: the vectors do not hold what is asked for.
    """
    if method not in METHODS:
        raise InputError(f"steering: no method {method!r}: use {', '.join(METHODS)}")
    at = _select(vectors, fold=fold, layer=layer, pooling=pooling)
    pivot_mean = at["mean"].sel(language=vectors.attrs["pivot"]).values
    mean = at["mean"].sel(language=_known(vectors, "language", language)).values
    overall = at["overall_mean"].values
    match method:
        case "mean_difference":
            return constant_shift(pivot_mean - mean)
        case "shared_centroid":
            return constant_shift(overall - mean)
        case "shared_projection":
            basis = at["basis"].values
            return Intervention(np.zeros_like(mean), pivot_mean, basis, -basis)
    if "state" not in at:
        raise InputError("steering: these vectors hold no linear_map: fit them with that method")
    states = at["state"].isel(item=np.flatnonzero(at["in_fit"].values))
    source = states.sel(language=language).values.astype(np.float64) - mean
    aim = states.sel(language=vectors.attrs["pivot"]).values.astype(np.float64) - pivot_mean
    down, up = map_factors(source, aim, float(at["map_penalty"].sel(language=language)))
    return Intervention(pivot_mean - mean, mean, down.astype(np.float32), up.astype(np.float32))


def control(
    vectors: xr.Dataset,
    name: str,
    *,
    method: str = "mean_difference",
    language: str,
    fold: int,
    layer: int,
    pooling: str = "prompt_mean",
    draw: int = 0,
) -> Intervention:
    """A control of `intervention`, as strong as it is and wrong in one respect.

    `random`, `shuffled_language` and `wrong_layer` are constant shifts with the norm of what
    the method does to the mean of the language, so that only the direction differs: one with
    the states' covariance, that of another language (the `draw`-th next by tag), that of the
    fitted layer farthest away; no shift where there is no such direction, as where the states do
    not vary. `reverse` is the method negated; `zero` adds nothing.

    Raises:
        InputError: an unknown control, or one that needs another language, layer or draw.
    """
    where: dict[str, Any] = {"fold": fold, "pooling": pooling}
    own = intervention(vectors, method, language=language, layer=layer, **where)
    if name == "zero":
        return constant_shift(np.zeros_like(own.shift))
    if name == "reverse":
        return own.reversed()
    at = _select(vectors, fold=fold, layer=layer, pooling=pooling)
    norm = np.linalg.norm(own.displacement(at["mean"].sel(language=language).values))
    if name == "random":
        _known(vectors, "draw", draw)
        direction = at["random"].sel(language=language).isel(draw=draw).values
    elif name == "shuffled_language":
        direction = _mean_displacement(
            vectors, method, other_language(vectors, language, draw), layer, where
        )
    elif name == "wrong_layer":
        direction = _mean_displacement(
            vectors, method, language, farthest_layer(vectors, layer), where
        )
    else:
        raise InputError(f"steering: no control {name!r}: use {', '.join(CONTROLS)}")
    length = np.linalg.norm(direction)
    if not length > 0:  # NaN too: states that do not vary
        return constant_shift(np.zeros_like(own.shift, dtype=np.float32))
    return constant_shift((direction * (norm / length)).astype(np.float32))


def _mean_displacement(
    vectors: xr.Dataset, method: str, language: str, layer: int, where: dict[str, Any]
) -> np.ndarray:
    """What a method adds to the mean of its own language, (feature,)."""
    change = intervention(vectors, method, language=language, layer=layer, **where)
    at = _select(vectors, fold=where["fold"], layer=layer, pooling=where["pooling"])
    return change.displacement(at["mean"].sel(language=language).values)


def other_language(vectors: xr.Dataset, language: str, draw: int = 0) -> str:
    """The language whose vector stands in for `language`: never itself, never the pivot.

    The `draw`-th after it in the order of tags, from the first again after the last.

    Raises:
        InputError: there is no third language.
    """
    known = sorted(str(tag) for tag in vectors["language"].values)
    others = [tag for tag in known if tag not in (language, vectors.attrs["pivot"])]
    others.sort(key=lambda tag: tag < language)  # stable: those after it first
    if not others:
        raise InputError("steering: shuffled_language needs a third language: add one")
    return others[draw % len(others)]


def farthest_layer(vectors: xr.Dataset, layer: int) -> int:
    """The fitted layer farthest from `layer` in relative depth; the lower one of two.

    Raises:
        InputError: only one layer is fitted.
    """
    if vectors.sizes["layer"] < 2:
        raise InputError("steering: wrong_layer needs vectors at two layers: fit another layer")
    depth = vectors["relative_depth"]
    distance = np.abs(depth.values - float(depth.sel(layer=layer)))
    return int(vectors["layer"].values[np.argmax(distance.round(9))])


def _select(vectors: xr.Dataset, *, fold: int, layer: int, pooling: str) -> xr.Dataset:
    """The vectors of one fold, layer and pooling."""
    for name, value in (("fold", fold), ("layer", layer), ("pooling", pooling)):
        _known(vectors, name, value)
    return vectors.sel(fold=fold, layer=layer, pooling=pooling)


def _known(vectors: xr.Dataset, name: str, value: str | int) -> str | int:
    """The value, if the dimension has it; a dimension without coordinate counts from 0."""
    held = vectors[name].values.tolist()
    if value not in held:
        raise InputError(f"steering: no vectors for {name} {value!r}: they hold {held}")
    return value
