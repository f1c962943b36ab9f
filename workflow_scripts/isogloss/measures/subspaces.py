"""Language subspaces: where languages lie apart, what each spans, and what they share.

The costly measures (overlaps, shared directions, separability) are taken at a few layers and are
NaN at the others. Whatever is fitted is evaluated on items of other folds.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy import linalg
from scipy.sparse import csr_array
from sklearn.covariance import ledoit_wolf_shrinkage

from isogloss.errors import InputError
from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.shuffles import Shuffle, label_orders, rare_signs, shuffled_orders
from isogloss.measures.states import degenerate_reason
from isogloss.questions.items import LEAST_IN_A_FOLD, check_folds

SOURCES = ("item", "language", "residual")
EXPLAINED = 0.95  # share of the offsets' variance that `language_rank` components hold
N_SHARED = 10  # shared directions reported
MAX_COMMON = 60  # dimensions of the common PCA, for shared directions and separability
RIDGE = 0.1  # of the generalised CCA, in units of the mean variance of a dimension
N_SPLITS = 5  # random halves behind the overlaps
N_FLOOR = 20  # random subspaces behind their floor


# Kernels: language offsets and shares of variance


def variance_shares(states: np.ndarray) -> np.ndarray:
    """Shares of variance by expected mean squares, per dimension and averaged.

    The design is item x language, both random, one state a cell: the residual is what a question
    has of its own in a language, in meaning or in wording. Per dimension, a language's deviations
    from its own mean are divided by its own spread, so that languages which spread more do not
    pass for a residual; the languages' offsets by the pooled spread, the root of the mean of their
    variances, so that they stay comparable. Not clipped: slightly negative where a source has
    nothing.

    Args:
        states: (language, item, feature).

    Returns:
        (3,) shares of SOURCES, which sum to 1; NaN where no dimension varies in every language.

    Raises:
        ValueError: fewer than two languages or items.

    Source: two-way random-effects analysis of variance, Searle, Casella and McCulloch (1992);
    the scale and the average over dimensions are our choice.

    >>> offsets = np.array([-10.0, 10.0])[:, None, None]
    >>> states = offsets + np.array([-1.0, 0.0, 1.0])[None, :, None]
    >>> variance_shares(states).round(3).tolist()
    [0.005, 0.995, 0.0]
    """
    n_languages, n_items, _ = states.shape
    if min(n_languages, n_items) < 2:
        raise ValueError(f"needs 2 languages and 2 items, got {n_languages} and {n_items}")
    x = states.astype(np.float64)
    x -= x.mean(axis=(0, 1))
    offset, total = x.mean(axis=1, keepdims=True), (x**2).mean(axis=(0, 1))
    x -= offset
    variance = (x**2).mean(axis=1, keepdims=True)
    varies = (variance > 1e-12 * total).all(axis=(0, 1))
    if not varies.any():
        return np.full(len(SOURCES), np.nan)
    x, offset, variance = (part[..., varies] for part in (x, offset, variance))
    x /= np.sqrt(variance)
    x += offset / np.sqrt(variance.mean(axis=0))
    language, item = x.mean(axis=1), x.mean(axis=0)
    ms_item = n_languages * (item**2).sum(axis=0) / (n_items - 1)
    ms_language = n_items * (language**2).sum(axis=0) / (n_languages - 1)
    rest = x - language[:, None] - item
    ms_rest = (rest**2).sum(axis=(0, 1)) / ((n_items - 1) * (n_languages - 1))
    components = np.stack(
        [(ms_item - ms_rest) / n_languages, (ms_language - ms_rest) / n_items, ms_rest]
    )
    return (components / components.sum(axis=0)).mean(axis=1)


def language_rank(variance: np.ndarray, explained: float = EXPLAINED) -> int:
    """The fewest components of `language_basis` that hold a share of the offsets' variance.

    >>> language_rank(np.array([8.0, 1.5, 0.5]))
    2
    """
    share = np.cumsum(variance) / variance.sum() if variance.sum() > 0 else np.zeros(0)
    return int((share < explained - 1e-12).sum() + 1) if len(share) else 0


def offset_energy(states: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Squared norm of the language offsets under relabelled states: (permutation,).

    Args:
        states: (language, item, feature), less their item's mean.
        orders: (permutation, language, item) from `label_orders`.
    """
    n_languages, n_items, width = states.shape
    flat = states.reshape(-1, width)
    starts = np.arange(n_languages + 1) * n_items
    energy = []
    for order in orders:
        # The label's row picks a state of each item: no copy of the states, nor all their products.
        picked = (order * n_items + np.arange(n_items)).ravel()
        members = csr_array(
            (np.full(len(flat), 1 / n_items), picked, starts), (len(order), len(flat))
        )
        energy.append(((members @ flat) ** 2).sum())
    return np.array(energy)


# Kernels: within-language subspaces


def largest_eigenpairs(matrix: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (k,), largest first, and vectors (n, k) of a symmetric (n, n) matrix.

    Fewer where n is less than k. Of 480, ten take a third of the time of all.
    """
    n = len(matrix)
    values, vectors = linalg.eigh(matrix, subset_by_index=(max(0, n - k), n - 1))
    return values[::-1], vectors[:, ::-1]


def principal_axes(states: np.ndarray, k: int) -> np.ndarray:
    """First k principal axes of states (item, feature): orthonormal (k, feature).

    Zero rows where the states span less, so that an overlap with them is 0.
    """
    centred = states - states.mean(axis=0)
    values, vectors = largest_eigenpairs(centred @ centred.T, k)
    real = values > 1e-10 * max(values[0], np.finfo(float).tiny)
    scale = np.where(real, 1 / np.sqrt(np.where(real, values, 1)), 0)
    axes = np.zeros((k, states.shape[1]))
    axes[: len(values)] = (vectors * scale).T @ centred
    return axes


def overlaps(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Overlap of every two subspaces: 0 when orthogonal, 1 when equal.

    The mean squared cosine of the principal angles.

    Args:
        one, two: (language, k, feature) orthonormal axes.

    Returns:
        (language, language).
    """
    products = np.einsum("lkd,mjd->lmkj", one, two, optimize=True)
    return (products**2).sum(axis=(2, 3)) / one.shape[1]


def principal_angles(axes: np.ndarray) -> np.ndarray:
    """Angles [degree] between subspaces, smallest first: (language, language, k).

    Args:
        axes: (language, k, feature) orthonormal axes.

    Source: Björck and Golub (1973).
    """
    products = np.einsum("lkd,mjd->lmkj", axes, axes, optimize=True)
    cosine = np.linalg.svd(products, compute_uv=False)
    return np.degrees(np.arccos(np.clip(cosine, 0, 1)))


def split_half_overlaps(states: np.ndarray, clusters: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Overlap of subspaces fitted on disjoint halves of the items, averaged over halvings.

    The diagonal is the ceiling: a language with itself, with as few items and no shared ones.
    Halvings that leave a half fewer than the k + 1 items which k axes need are left out.

    Args:
        states: (language, item, feature).
        clusters: (item,), never torn by a half.

    Returns:
        (language, language), symmetric; NaN where no halving is left, for want of clusters.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(N_SPLITS):
        first = half_of(clusters, rng)
        if min(first.sum(), (~first).sum()) <= k:
            continue
        one, two = (
            np.stack([principal_axes(x[half], k) for x in states]) for half in (first, ~first)
        )
        found.append(overlaps(one, two))
    if not found:
        return np.full((len(states), len(states)), np.nan)
    mean = np.mean(found, axis=0)
    return (mean + mean.T) / 2


def half_of(clusters: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(item,) bool: a random half of the items, in whole clusters.

    The cluster that crosses the middle goes where the halves become more equal, first where both
    would do. With few large clusters they may differ much, and one may be empty.
    """
    names, codes = np.unique(clusters, return_inverse=True)
    order = rng.permutation(len(names))
    filled = np.cumsum(np.bincount(codes)[order])
    crossing = int(np.searchsorted(filled, len(codes) / 2))
    before = filled[crossing - 1] if crossing else 0
    nearer = filled[crossing] + before <= len(codes)
    return np.isin(codes, order[: crossing + nearer])


def overlap_floor(states: np.ndarray, k: int, seed: int) -> float:
    """Overlap of random subspaces that follow the covariance all languages have in common.

    k / width would be the floor of isotropic states, and too low for real ones.

    Args:
        states: (language, item, feature).

    Source: Elsayed, Lara, Kaufman, Churchland and Cunningham (2016), supplementary note 3.
    """
    rng = np.random.default_rng(seed)
    centred = (states - states.mean(axis=1, keepdims=True)).reshape(-1, states.shape[2])
    drawn = rng.standard_normal((2 * N_FLOOR, k, len(centred))) @ centred
    axes = np.linalg.qr(drawn.transpose(0, 2, 1))[0].transpose(0, 2, 1)
    return float(
        np.mean([overlaps(axes[i : i + 1], axes[i + 1 : i + 2]) for i in range(0, 2 * N_FLOOR, 2)])
    )


# Kernels: shared directions


def common_axes(states: np.ndarray, k: int) -> np.ndarray:
    """Principal axes of the centred states of all languages together: (k, feature).

    Args:
        states: (language, item, feature).
    """
    centred = (states - states.mean(axis=1, keepdims=True)).reshape(-1, states.shape[2])
    if centred.shape[0] <= centred.shape[1]:
        return principal_axes(centred, k)
    vectors = largest_eigenpairs(centred.T @ centred, k)[1]
    axes = np.zeros((k, states.shape[2]))
    axes[: vectors.shape[1]] = vectors.T
    return axes


def whitening(x: np.ndarray, ridge: float = RIDGE) -> np.ndarray:
    """Inverse square root (k, k) of the ridged scatter of centred x (item, k)."""
    scatter = x.T @ x
    unit = np.trace(scatter) / len(scatter)
    values, vectors = np.linalg.eigh(scatter + max(ridge * unit, 1e-300) * np.eye(len(scatter)))
    return (vectors / np.sqrt(values)) @ vectors.T


def generalised_cca(white: np.ndarray, n: int) -> np.ndarray:
    """Directions along which parallel items co-vary, one set a language (MAXVAR).

    Args:
        white: (language, item, k) states, whitened within each language.
        n: directions, strongest first.

    Returns:
        (language, k, n) weights on the whitened states.

    Source: Kettenring (1971); Rastogi, Van Durme and Arora (2015) for the ridge.
    """
    n_items = white.shape[1]
    side_by_side = white.transpose(1, 0, 2).reshape(n_items, -1)
    vectors = largest_eigenpairs(side_by_side @ side_by_side.T, n)[1]
    return white.transpose(0, 2, 1) @ vectors


def mean_correlation(projected: np.ndarray) -> np.ndarray:
    """Correlation over items, mean over pairs of languages: (language, item, n) to (n,).

    NaN along directions in which a language does not vary.
    """
    z = projected - projected.mean(axis=1, keepdims=True)
    norm = np.sqrt((z**2).sum(axis=1, keepdims=True))
    z = np.divide(z, norm, out=np.full_like(z, np.nan), where=norm > 0)
    n = len(z)
    return ((z.sum(axis=0) ** 2).sum(axis=0) - n) / (n * (n - 1))


def shared_correlations(
    fit: np.ndarray, held_out: np.ndarray, k: int, shuffles: Sequence[tuple[Shuffle, Shuffle]]
) -> tuple[np.ndarray, np.ndarray]:
    """Held-out correlation along shared directions, and under shuffled pairings.

    Each language has directions of its own, so this is shared shape: place is for item share.
    The common PCA and the whitening see no pairing and are done once.

    Args:
        fit, held_out: (language, item, feature) states of different items.
        k: dimensions of the common PCA.
        shuffles: of the fit and of the held-out items, a pair each.

    Returns:
        correlation: (N_SHARED,), strongest direction first.
        null: (shuffle, N_SHARED).
        NaN beyond k.
    """
    axes, mean = common_axes(fit, k), fit.mean(axis=1, keepdims=True)
    x, y = (fit - mean) @ axes.T, (held_out - mean) @ axes.T
    n = min(N_SHARED, k)
    whiteners = np.stack([whitening(one) for one in x])
    x_white, y_white = x @ whiteners, y @ whiteners

    def correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        found = np.full(N_SHARED, np.nan)
        found[:n] = mean_correlation(other @ generalised_cca(one, n))
        return found

    null = [correlation(a.of(x_white), b.of(y_white)) for a, b in shuffles]
    return correlation(x_white, y_white), np.array(null).reshape(-1, N_SHARED)


# Kernels: separability


def lda_scores(fit: np.ndarray, held_out: np.ndarray, shrinkage: float) -> np.ndarray:
    """Log posterior [nat], up to a constant, of each language for held-out states.

    Args:
        fit: (language, item, k), the states of each class.
        held_out: (..., k).
        shrinkage: of the pooled covariance towards a multiple of the identity.

    Returns:
        (..., language), classes equally likely.

    Source: linear discriminant analysis with the shrunken covariance of Ledoit and Wolf (2004).
    """
    means = fit.mean(axis=1)
    residual = (fit - means[:, None]).reshape(-1, fit.shape[2])
    covariance = residual.T @ residual / len(residual)
    target = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    weights = np.linalg.solve((1 - shrinkage) * covariance + shrinkage * target, means.T)
    return held_out @ weights - 0.5 * np.einsum("lk,kl->l", means, weights)


def separability(
    fit: np.ndarray, held_out: np.ndarray, k: int, orders: Sequence[tuple[np.ndarray, np.ndarray]]
) -> tuple[float, float, np.ndarray]:
    """How well the language of held-out states is read by shrinkage LDA.

    Args:
        fit, held_out: (language, item, feature) states of different items.
        k: dimensions of a PCA of the fit states, means included.
        orders: (language, item) language labels permuted within clusters of items, of the fit and
            of the held-out items, a pair a permutation.

    Returns:
        accuracy, margin (mean log odds of the right language against the next [nat]), and the
        accuracy under permuted labels (permutation,).
    """
    flat = fit.reshape(1, -1, fit.shape[2])
    axes, mean = common_axes(flat, k), flat.mean(axis=1)
    x, y = (fit - mean) @ axes.T, (held_out - mean) @ axes.T
    labels = np.arange(len(x))[:, None]

    def read(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
        # Anew under permuted labels: what is known of the labels is no part of their null.
        within = (one - one.mean(axis=1, keepdims=True)).reshape(-1, k)
        scores = lda_scores(one, other, float(ledoit_wolf_shrinkage(within)))
        right = np.einsum("lil->li", scores)
        others = np.where(np.eye(len(x), dtype=bool)[:, None], -np.inf, scores).max(axis=2)
        return float((scores.argmax(axis=2) == labels).mean()), float((right - others).mean())

    accuracy, margin = read(x, y)
    null = [read(x[a, np.arange(x.shape[1])], y[b, np.arange(y.shape[1])])[0] for a, b in orders]
    return accuracy, margin, np.array(null)


# The labelled dataset

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
) -> xr.Dataset:
    """Language subspaces, within-language subspaces and the shared subspace, layer by layer.

    Args:
        states: parallel states.
        folds: (item,) fold of each item, whole clusters.
        n_layers: layers with the costly measures, evenly spread, the first and last included.
        n_components: of the within-language subspaces; fewer with few items.
        permutations: behind each null.
        seed: of permutations, halves and random subspaces.

    Returns:
        The variables of LONG_NAMES; NaN with a `reason` (layer) where states are degenerate.

    Raises:
        InputError: torn folds, too few languages or items.
    """
    if len(states.languages) < 2:
        raise InputError("subspaces: one language: give two or more")
    check_folds(folds, states.clusters)
    if (size := int(np.bincount(folds).min())) < LEAST_IN_A_FOLD:
        raise InputError(f"subspaces: a fold of {size} items: use fewer folds or more items")
    count = len(states.depths)
    costly = set(np.linspace(0, count - 1, min(n_layers, count)).round().astype(int).tolist())
    layers = []
    for index in range(count):
        x = states.at(index).astype(np.float64)
        reasons = [
            (name, degenerate_reason(one)) for name, one in zip(states.languages, x, strict=True)
        ]
        reason = "; ".join(f"{name}: {why}" for name, why in reasons if why)
        clean = not reason
        layer = _language_part(x, states.clusters, folds, permutations, (seed, 0), clean)
        k = max(1, min(n_components, x.shape[1] // 4, x.shape[2]))
        layer |= _within_part(x, states.clusters, k, seed, clean and index in costly)
        layer |= _cross_fitted_part(
            x, states.clusters, folds, permutations, seed, clean and index in costly
        )
        layers.append(xr.Dataset({**layer, "reason": reason}))
    dataset = xr.concat(layers, "layer").assign_coords(
        layer=np.arange(count),
        relative_depth=("layer", np.asarray(states.depths, float)),
        language=list(states.languages),
        language_2=list(states.languages),
        source=list(SOURCES),
    )
    for name, variable in dataset.data_vars.items():
        long_name, units = LONG_NAMES[str(name)]
        variable.attrs.update(long_name=long_name, units=units)
    return dataset


def _language_part(
    x: np.ndarray,
    clusters: np.ndarray,
    folds: np.ndarray,
    permutations: int,
    seed: tuple[int, int],
    clean: bool,
) -> dict[str, object]:
    """Offsets, their subspace, their null, and shares of variance; x (language, item, feature)."""
    offsets = x.mean(axis=1) - x.mean(axis=(0, 1))
    basis, variance = language_basis(x.mean(axis=1))
    total = variance.sum()
    orders = label_orders(clusters, len(x), permutations, seed)
    centred = x - x.mean(axis=0)
    own = np.broadcast_to(np.arange(len(x))[:, None], x.shape[:2])
    observed, null = offset_energy(centred, own[None])[0], offset_energy(centred, orders)
    p = (1 + (null >= observed * (1 - 1e-6)).sum()) / (1 + permutations)
    found = {
        "offset_energy_ratio": observed / null.mean() if null.mean() > 0 else np.nan,
        "offset_p": p,
        "offset_reliability": _offset_reliability(x, folds),
    }
    return {
        "offset": (("language", "feature"), offsets.astype(np.float32)),
        "basis": (("component", "feature"), basis.astype(np.float32)),
        "offset_coordinate": (("language", "component"), offsets @ basis.T),
        "offset_variance": ("component", variance / total if total > 0 else variance * np.nan),
        "language_rank": language_rank(variance),
        **{name: value if clean else np.nan for name, value in found.items()},
        "variance_share": (
            "source",
            variance_shares(x) if clean else np.full(len(SOURCES), np.nan),
        ),
    }


def _offset_reliability(x: np.ndarray, folds: np.ndarray) -> float:
    """Mean over folds and languages of the cosine of offsets from fit and held-out items."""
    found = []
    for fold in np.unique(folds[folds >= 0]):
        one, two = (x[:, part].mean(axis=1) for part in (folds != fold, folds == fold))
        one, two = one - one.mean(axis=0), two - two.mean(axis=0)
        norm = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
        product = (one * two).sum(axis=1)
        found.append(np.divide(product, norm, out=np.full_like(norm, np.nan), where=norm > 0))
    return float(np.mean(found))


def _within_part(
    x: np.ndarray, clusters: np.ndarray, k: int, seed: int, measured: bool
) -> dict[str, object]:
    """Within-language subspaces: angles, and overlaps with their ceiling and floor."""
    n = len(x)
    pair = ("language", "language_2")
    if measured:
        angle = principal_angles(np.stack([principal_axes(one, k) for one in x]))
        overlap = split_half_overlaps(x, clusters, k, seed)
        floor = overlap_floor(x, k, seed)
    else:
        angle, overlap = np.full((n, n, k), np.nan), np.full((n, n), np.nan)
        floor = np.nan
    own = np.diag(overlap).clip(min=0)
    ceiling = np.sqrt(own[:, None] * own)
    room = np.where(ceiling > floor, ceiling - floor, np.nan)
    return {
        "principal_angle": ((*pair, "angle"), angle),
        "overlap": (pair, overlap),
        "overlap_ceiling": (pair, ceiling),
        "overlap_floor": floor,
        "overlap_normalised": (pair, (overlap - floor) / room),
    }


def _cross_fitted_part(
    x: np.ndarray,
    clusters: np.ndarray,
    folds: np.ndarray,
    permutations: int,
    seed: int,
    measured: bool,
) -> dict[str, object]:
    """Shared directions and separability: fitted on all folds but one, evaluated on that one."""
    shared, shared_null, read = [], [], []
    for fold in np.unique(folds[folds >= 0]) if measured else []:
        parts = folds != fold, folds == fold
        fit, held_out = (x[:, part] for part in parts)
        drawn = [
            _drawn(clusters[part], len(x), permutations, (seed, int(fold), i))
            for i, part in enumerate(parts)
        ]
        shuffles, labels = (
            list(zip(*of_parts, strict=True)) for of_parts in zip(*drawn, strict=True)
        )
        k = max(1, min(fit.shape[1] // 4, x.shape[2], MAX_COMMON))
        correlation, null = shared_correlations(fit, held_out, k, shuffles)
        wide = max(1, min(MAX_COMMON, x.shape[2]))
        read.append(separability(fit, held_out, wide, labels))
        shared.append(correlation)
        shared_null.append(null)
    if not measured:
        shared = [np.full(N_SHARED, np.nan)]
        shared_null, read = [np.full((1, N_SHARED), np.nan)], [(np.nan, np.nan, np.full(1, np.nan))]
    return _with_nulls(shared, shared_null, read)


def _drawn(
    clusters: np.ndarray, n_languages: int, permutations: int, seed: tuple[int, int, int]
) -> tuple[list[Shuffle], np.ndarray]:
    """Shuffled pairings and permuted labels of the items of one part of the folds."""
    orders = shuffled_orders(clusters, n_languages, permutations, (*seed, 1))
    signs = rare_signs(clusters, n_languages, permutations, (*seed, 2))
    shuffles = [Shuffle(*both) for both in zip(orders, signs, strict=True)]
    return shuffles, label_orders(clusters, n_languages, permutations, (*seed, 3))


def _with_nulls(
    shared: list[np.ndarray],
    shared_null: list[np.ndarray],
    read: list[tuple[float, float, np.ndarray]],
) -> dict[str, object]:
    """Means over folds, beside those of the permutations."""
    correlation, null = np.mean(shared, axis=0), np.mean(shared_null, axis=0)
    accuracy, margin = (float(np.mean([fold[i] for fold in read])) for i in (0, 1))
    read_null = np.mean([fold[2] for fold in read], axis=0)
    p_shared = (1 + (null >= correlation - 1e-9).sum(axis=0)) / (1 + len(null))
    p_read = (1 + (read_null >= accuracy - 1e-9).sum()) / (1 + len(read_null))
    return {
        "shared_correlation": ("direction", correlation),
        "shared_correlation_null": ("direction", null.mean(axis=0)),
        "shared_correlation_p": ("direction", np.where(np.isnan(correlation), np.nan, p_shared)),
        "separability": accuracy,
        "separability_margin": margin,
        "separability_null": read_null.mean(),
        "separability_p": p_read if np.isfinite(accuracy) else np.nan,
    }


def language_basis(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal basis of the span of the language offsets.

    Args:
        means: (language, feature) mean state of each language.

    Returns:
        basis: (language - 1, feature), strongest first; rows beyond the rank are zero, so that
            `basis.T @ basis` is the projection whatever the rank.
        variance: (language - 1,) squared norm of the offsets along each row.

    Raises:
        ValueError: fewer than two languages.

    Source: our choice; the singular value decomposition of the offsets.

    >>> basis, variance = language_basis(np.array([[1.0, 0.0, 5.0], [-1.0, 0.0, 5.0]]))
    >>> np.abs(basis).round(6).tolist(), variance.round(6).tolist()
    ([[1.0, 0.0, 0.0]], [2.0])
    """
    if len(means) < 2:
        raise ValueError(f"a language subspace needs 2 languages, got {len(means)}")
    offsets = means - means.mean(axis=0)
    _, singular, rows = np.linalg.svd(offsets, full_matrices=False)
    n = len(means) - 1
    basis, variance = np.zeros((n, means.shape[1])), np.zeros(n)
    found = min(n, len(singular))
    basis[:found], variance[:found] = rows[:found], singular[:found] ** 2
    total = variance.sum()
    # Directions at the level of rounding are no directions: they would be arbitrary.
    basis[~(variance > 1e-12 * max(total, np.finfo(float).tiny))] = 0
    return basis, variance
