"""Language subspaces: where languages lie apart, what each spans, and what they share.

The costly measures (overlaps, shared directions, separability) are taken at a few layers and are
NaN at the others. Whatever is fitted is evaluated on items of other folds. States are read language
by language, or some features at a time: memory is bounded, whatever the number of languages.
"""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from isogloss.errors import InputError
from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.in_threads import in_threads
from isogloss.measures.language_offsets import (
    fold_sums,
    language_basis,
    language_rank,
    offset_energies,
    offset_reliability,
    offset_test,
)
from isogloss.measures.layer_states import LayerStates, joined_reasons
from isogloss.measures.principal_axes import (
    axes_of_scatter,
    common_axes,
    overlap_floor,
    principal_angles,
    principal_axes,
    split_half_overlaps,
)
from isogloss.measures.separability import separability
from isogloss.measures.shared_directions import MAX_COMMON, N_SHARED, shared_correlations
from isogloss.measures.shuffles import Shuffle, label_orders, rare_signs, shuffled_orders
from isogloss.measures.variance_shares import SOURCES, variance_share_sums
from isogloss.questions.items import LEAST_IN_A_FOLD, check_folds

PAIR = ("language", "language_2")
LONG_NAMES = {
    "offset": ("mean state of a language less the mean of all", "residual stream"),
    "basis": ("orthonormal basis of the language subspace", "1"),
    "offset_coordinate": ("language offset in the language subspace", "residual stream"),
    "offset_variance": ("share of the offsets' squared norm along a component", "1"),
    "offset_energy_ratio": ("squared norm of the offsets over that of permuted labels", "1"),
    "offset_p": ("p of the offsets, language labels permuted within clusters of items", "1"),
    "offset_reliability": ("cosine of offsets from fit and from held-out items", "1"),
    "language_rank": ("components that hold 95% of the offsets' variance", "1"),
    "variance_share": ("share of variance, standardised within languages", "1"),
    "principal_angle": ("principal angle between within-language subspaces", "degree"),
    "overlap": ("overlap of within-language subspaces from disjoint halves", "1"),
    "overlap_ceiling": ("overlap of the pair's languages with themselves", "1"),
    "overlap_floor": ("overlap of random subspaces with the states' covariance", "1"),
    "overlap_normalised": ("overlap between its floor and its ceiling", "1"),
    "shared_correlation": ("held-out correlation along directions of generalised CCA", "1"),
    "shared_correlation_null": ("held-out correlation, pairing shuffled", "1"),
    "shared_correlation_p": ("p of the held-out correlation, pairing shuffled", "1"),
    "separability": ("held-out accuracy of reading the language", "1"),
    "separability_margin": ("held-out log odds of the right language", "nat"),
    "separability_null": ("held-out accuracy, labels permuted within clusters of items", "1"),
    "separability_p": ("p of the held-out accuracy, labels permuted", "1"),
    "reason": ("why a layer has no subspaces", "1"),
}


def subspaces(
    states: ParallelStates,
    folds: np.ndarray,
    *,
    n_layers: int = 7,
    n_components: int = 10,
    permutations: int = 99,
    seed: int = 0,
    memory_gb: float = 4.0,
) -> xr.Dataset:
    """Language subspaces, within-language subspaces and the shared subspace, layer by layer.

    Args:
        states: parallel states.
        folds: (item,) fold of each item, whole clusters.
        n_layers: layers with the costly measures, evenly spread, the first and last included.
        n_components: of the within-language subspaces; fewer with few items.
        permutations: behind each null.
        seed: of permutations, halves and random subspaces.
        memory_gb: for states and what is computed from them.

    Returns:
        The variables of LONG_NAMES; NaN with a `reason` (layer) where states are degenerate.

    Raises:
        InputError: torn folds, too few languages or items.
    """
    _check(states, folds)
    depths = np.asarray(states.depths, float)
    chosen = np.linspace(0, len(depths) - 1, min(n_layers, len(depths))).round().astype(int)
    layers = []
    for index in range(len(depths)):
        x = LayerStates(states, index, memory_gb * 1e9)
        reason = joined_reasons(states.languages, x.reasons)
        measured = not reason and index in chosen
        k = max(1, min(n_components, x.n_items // 4, x.n_features))
        layer = _language_part(x, states.clusters, folds, permutations, seed, not reason)
        layer |= _within_part(x, states.clusters, k, seed, measured)
        layer |= _cross_fitted_part(x, states.clusters, folds, permutations, seed, measured)
        layers.append(xr.Dataset({**layer, "reason": reason}))
    dataset = xr.concat(layers, "layer").assign_coords(
        layer=np.arange(len(depths)),
        relative_depth=("layer", depths),
        language=list(states.languages),
        language_2=list(states.languages),
        source=list(SOURCES),
    )
    for name, variable in dataset.data_vars.items():
        long_name, units = LONG_NAMES[str(name)]
        variable.attrs.update(long_name=long_name, units=units)
    return dataset


def _check(states: ParallelStates, folds: np.ndarray) -> None:
    """Refuse what has no subspaces, in words that say what to change."""
    if len(states.languages) < 2:
        raise InputError("subspaces: one language: give two or more")
    check_folds(folds, states.clusters)
    if (size := int(np.bincount(folds).min())) < LEAST_IN_A_FOLD:
        raise InputError(f"subspaces: a fold of {size} items: use fewer folds or more items")


def _language_part(
    x: LayerStates,
    clusters: np.ndarray,
    folds: np.ndarray,
    permutations: int,
    seed: int,
    clean: bool,
) -> dict[str, object]:
    """Offsets, their subspace, their null, and shares of variance."""
    sums = np.stack([fold_sums(states, folds) for states in x], axis=1)
    means = sums.sum(axis=0) / x.n_items
    offsets = means - means.mean(axis=0)
    basis, variance = language_basis(means)
    total = variance.sum()
    part = {
        "offset": (("language", "feature"), offsets.astype(np.float32)),
        "basis": (("component", "feature"), basis.astype(np.float32)),
        "offset_coordinate": (("language", "component"), offsets @ basis.T),
        "offset_variance": ("component", variance / total if total > 0 else variance * np.nan),
        "language_rank": language_rank(variance),
    }
    if not clean:
        missing = ("offset_energy_ratio", "offset_p", "offset_reliability")
        nothing = np.full(len(SOURCES), np.nan)
        return part | dict.fromkeys(missing, np.nan) | {"variance_share": ("source", nothing)}
    orders = label_orders(clusters, len(x), permutations, (seed, 0))
    energies, shares, n_varying = np.zeros(1 + permutations), np.zeros(len(SOURCES)), 0
    for features in x.feature_parts(x.n_features):
        states = x.features(features)
        energies += offset_energies(states, orders)
        of_part, n_of_part = variance_share_sums(states)
        shares, n_varying = shares + of_part, n_varying + n_of_part
    ratio, p = offset_test(energies)
    return part | {
        "offset_energy_ratio": ratio,
        "offset_p": p,
        "offset_reliability": offset_reliability(sums, folds),
        "variance_share": ("source", shares / (n_varying or np.nan)),
    }


def _within_part(
    x: LayerStates, clusters: np.ndarray, k: int, seed: int, measured: bool
) -> dict[str, object]:
    """Within-language subspaces: angles, and overlaps with their ceiling and floor."""
    n = len(x)
    if measured:
        axes = in_threads(lambda states: principal_axes(states, k), x)
        angle = principal_angles(np.stack(list(axes)))
        overlap = split_half_overlaps(x, clusters, k, seed)
        floor = overlap_floor(x, k, seed)
    else:
        angle, overlap = np.full((n, n, k), np.nan), np.full((n, n), np.nan)
        floor = np.nan
    with_itself = np.diag(overlap).clip(min=0)
    ceiling = np.sqrt(with_itself[:, None] * with_itself)
    room = np.where(ceiling > floor, ceiling - floor, np.nan)
    return {
        "principal_angle": ((*PAIR, "angle"), angle),
        "overlap": (PAIR, overlap),
        "overlap_ceiling": (PAIR, ceiling),
        "overlap_floor": floor,
        "overlap_normalised": (PAIR, (overlap - floor) / room),
    }


def _cross_fitted_part(
    x: LayerStates,
    clusters: np.ndarray,
    folds: np.ndarray,
    permutations: int,
    seed: int,
    measured: bool,
) -> dict[str, object]:
    """Shared directions and separability: fitted on all folds but one, evaluated on that one."""
    if not measured:
        nothing = ("direction", np.full(N_SHARED, np.nan))
        names = ("separability", "separability_margin", *_tested("separability"))
        missing = dict.fromkeys(("shared_correlation", *_tested("shared_correlation")), nothing)
        return {**missing, **dict.fromkeys(names, np.nan)}
    shared, read = [], []
    # One draw for all folds: each item is fitted on in one fold and read in another, so that what
    # is found in the folds goes up and down together, in the data and so in the null.
    labels = label_orders(clusters, len(x), permutations, (seed, 3))
    pairings = _pairings(clusters, folds, len(x), permutations, seed)
    for fold, within, overall in _projected(x, folds):
        parts = (folds != fold, folds == fold)
        shuffles = [_shuffles(*pairings, part) for part in parts]
        orders = [labels[:, :, part] for part in parts]
        shared.append(shared_correlations(*within, list(zip(*shuffles, strict=True))))
        read.append(separability(*overall, list(zip(*orders, strict=True))))
    return _means_over_folds(shared, read)


States = tuple[np.ndarray, np.ndarray]
"""Fit and held-out states (language, item, k) along some axes."""


def _projected(x: LayerStates, folds: np.ndarray) -> Iterator[tuple[int, States, States]]:
    """Each fold, with states along the axes of the fit states, less means of these.

    Yields:
        The fold; states less their language's mean, along the first axes of what is left; states
        less the mean of all, along the first axes of what is left of them.
    """
    scatter = _Scatter(x, folds)
    for fold in np.unique(folds):
        fit, held_out = folds != fold, folds == fold
        k = max(1, min(int(fit.sum()) // 4, x.n_features, MAX_COMMON))
        wide = max(1, min(MAX_COMMON, x.n_features))
        mean, axes, overall_axes = scatter.of_fit(int(fold), k, wide)
        overall = mean.mean(axis=0)
        parts: list[list[np.ndarray]] = [[], [], [], []]
        for states, of_language in zip(x, mean, strict=True):
            for part, items in zip(parts[:2], (fit, held_out), strict=True):
                part.append((states[items] - of_language) @ axes.T)
            for part, items in zip(parts[2:], (fit, held_out), strict=True):
                part.append((states[items] - overall) @ overall_axes.T)
        within_fit, within_out, fit_states, out_states = map(np.stack, parts)
        yield int(fold), (within_fit, within_out), (fit_states, out_states)


class _Scatter:
    """Scatter of the states of each fold, once: that of the others is their sum."""

    def __init__(self, x: LayerStates, folds: np.ndarray) -> None:
        self.x, self.folds = x, folds
        self.few = x.n_languages * x.n_items <= x.n_features
        self.means = np.stack([states.mean(axis=0) for states in x])
        if self.few:
            return
        n_folds, d = int(folds.max()) + 1, x.n_features
        self.scatter, self.sums = np.zeros((n_folds, d, d)), np.zeros((n_folds, len(x), d))
        for language, states in enumerate(x):
            centred = states - self.means[language]
            for fold in np.unique(folds):
                part = centred[folds == fold]
                self.scatter[fold] += part.T @ part
                self.sums[fold, language] = part.sum(axis=0)

    def of_fit(self, fold: int, k: int, wide: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Means (language, feature) of the states outside a fold, and their principal axes.

        Returns: the means; k axes of the states less these; `wide` of those less the mean of all.
        """
        fit = self.folds != fold
        n = int(fit.sum())
        if self.few:
            states = np.stack([of_language[fit] for of_language in self.x])
            flat = states.reshape(1, -1, states.shape[2])
            return states.mean(axis=1), common_axes(states, k), common_axes(flat, wide)
        # Of these states less their language's overall mean, what is left of a mean.
        left = -self.sums[fold] / n
        within = self.scatter.sum(axis=0) - self.scatter[fold] - n * left.T @ left
        means = self.means + left
        between = means - means.mean(axis=0)
        overall = within + n * between.T @ between
        return means, axes_of_scatter(within, k), axes_of_scatter(overall, wide)


def _pairings(
    clusters: np.ndarray, folds: np.ndarray, n_languages: int, permutations: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Shuffled pairings that leave every item in its fold.

    Returns: orders and signs (permutation, language, item) of all items.
    """
    orders = np.empty((permutations, n_languages, len(folds)), np.min_scalar_type(-len(folds)))
    signs = np.empty(orders.shape, np.int8)
    for fold in np.unique(folds).tolist():
        items = np.flatnonzero(folds == fold)
        inside = clusters[items], n_languages, permutations
        orders[:, :, items] = items[shuffled_orders(*inside, (seed, fold, 1))]
        signs[:, :, items] = rare_signs(*inside, (seed, fold, 2))
    return orders, signs


def _shuffles(orders: np.ndarray, signs: np.ndarray, part: np.ndarray) -> list[Shuffle]:
    """The pairings of `_pairings` in a part (item,) of whole folds, items numbered as there."""
    place = (np.cumsum(part) - 1).astype(orders.dtype)
    inside = place[orders[:, :, part]], signs[:, :, part]
    return [Shuffle(*both) for both in zip(*inside, strict=True)]


def _means_over_folds(
    shared: list[tuple[np.ndarray, np.ndarray]], read: list[tuple[float, float, np.ndarray]]
) -> dict[str, object]:
    """Means over folds, beside those of the permutations.

    Args: shared of `shared_correlations`, read of `separability`, one per fold.
    """
    correlation, null = (np.mean(part, axis=0) for part in zip(*shared, strict=True))
    accuracy, margin, read_null = (np.mean(part, axis=0) for part in zip(*read, strict=True))
    p_shared = (1 + (null >= correlation - 1e-9).sum(axis=0)) / (1 + len(null))
    p_shared = np.where(np.isnan(correlation), np.nan, p_shared)
    p_read = (1 + (read_null >= accuracy - 1e-9).sum()) / (1 + len(read_null))
    return {
        "shared_correlation": ("direction", correlation),
        "shared_correlation_null": ("direction", null.mean(axis=0)),
        "shared_correlation_p": ("direction", p_shared),
        "separability": accuracy,
        "separability_margin": margin,
        "separability_null": read_null.mean(),
        "separability_p": p_read,
    }


def _tested(name: str) -> tuple[str, str]:
    """Variables of a test beside what it tests."""
    return f"{name}_null", f"{name}_p"
