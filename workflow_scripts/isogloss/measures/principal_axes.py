"""Within-language subspaces: their principal axes, angles and overlaps, with ceiling and floor."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import ArpackNoConvergence, eigsh

from isogloss.measures.in_threads import in_threads

ITERATED_FROM = 2000  # rows of a matrix of which a few eigenvectors come by iteration
DRAWN_AT_ONCE = 2**25  # random numbers behind the floor
N_SPLITS = 5  # random halves behind the overlaps
N_FLOOR = 20  # random subspaces behind their floor


def largest_eigenpairs(matrix: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (k,), largest first, and vectors (n, k) of a symmetric (n, n) matrix.

    Fewer where n is less than k. Of 480, ten take a third of the time of all; of a large
    matrix Lanczos' iteration, to the last digit, takes a tenth of it.
    """
    n = len(matrix)
    if n >= ITERATED_FROM and 20 * k < n:
        try:
            values, vectors = eigsh(matrix, k, which="LA", v0=np.ones(n))
            order = values.argsort()[::-1]
            return values[order], vectors[:, order]
        except ArpackNoConvergence:
            pass  # eigenvalues too near each other: all of them
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


def common_axes(states: np.ndarray, k: int) -> np.ndarray:
    """Principal axes of the centred states of all languages together: (k, feature).

    Args:
        states: (language, item, feature).
    """
    centred = (states - states.mean(axis=1, keepdims=True)).reshape(-1, states.shape[2])
    if centred.shape[0] <= centred.shape[1]:
        return principal_axes(centred, k)
    return axes_of_scatter(centred.T @ centred, k)


def axes_of_scatter(scatter: np.ndarray, k: int) -> np.ndarray:
    """First k principal axes (k, feature) from the scatter (feature, feature) of centred states."""
    vectors = largest_eigenpairs(scatter, k)[1]
    axes = np.zeros((k, len(scatter)))
    axes[: vectors.shape[1]] = vectors.T
    return axes


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Overlap of every two subspaces: 0 when orthogonal, 1 when equal.

    The mean squared cosine of the principal angles.

    Args:
        first, second: (language, k, feature) orthonormal axes.

    Returns:
        (language, language).
    """
    products = np.einsum("lkd,mjd->lmkj", first, second, optimize=True)
    return (products**2).sum(axis=(2, 3)) / first.shape[1]


def principal_angles(axes: np.ndarray) -> np.ndarray:
    """Angles [degree] between subspaces, smallest first: (language, language, k).

    Args:
        axes: (language, k, feature) orthonormal axes.

    Source: Björck and Golub (1973).
    """
    products = np.einsum("lkd,mjd->lmkj", axes, axes, optimize=True)
    cosine = np.linalg.svd(products, compute_uv=False)
    return np.degrees(np.arccos(np.clip(cosine, 0, 1)))


class Languages(Protocol):
    """States (item, feature) of each language in turn, as often as wanted."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[np.ndarray]: ...


def split_half_overlaps(states: Languages, clusters: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Overlap of subspaces fitted on disjoint halves of the items, averaged over halvings.

    The diagonal is the ceiling: a language with itself, with as few items and no shared ones.
    Halvings that leave a half fewer than the k + 1 items which k axes need are left out.

    Args:
        states: (language, item, feature), or languages in turn.
        clusters: (item,), never torn by a half.

    Returns:
        (language, language), symmetric; NaN where no halving is left, for want of clusters.
    """
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(N_SPLITS):
        first = half_of(clusters, rng)
        if min(first.sum(), (~first).sum()) <= k:
            continue

        def axes(x: np.ndarray, first: np.ndarray = first) -> list[np.ndarray]:
            return [principal_axes(x[half], k) for half in (first, ~first)]

        values.append(overlaps(*np.stack(list(in_threads(axes, states)), axis=1)))
    if not values:
        return np.full((len(states), len(states)), np.nan)
    mean = np.mean(values, axis=0)
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


def overlap_floor(states: Languages, k: int, seed: int) -> float:
    """Overlap of random subspaces that follow the covariance all languages have in common.

    k / width would be the floor of isotropic states, and too low for real ones.

    Args:
        states: (language, item, feature), or languages in turn.

    Source: Elsayed, Lara, Kaufman, Churchland and Cunningham (2016), supplementary note 3.
    """
    rng, n_items = np.random.default_rng(seed), len(next(iter(states)))
    at_once = max(1, DRAWN_AT_ONCE // (k * n_items * len(states)))
    drawn = []
    for start in range(0, 2 * N_FLOOR, at_once):
        several = min(at_once, 2 * N_FLOOR - start)
        weights = rng.standard_normal((several, k, len(states), n_items))
        centred = enumerate(x - x.mean(axis=0) for x in states)
        drawn.append(sum(weights[:, :, language] @ x for language, x in centred))
    axes = np.linalg.qr(np.concatenate(drawn).transpose(0, 2, 1))[0].transpose(0, 2, 1)
    return float(
        np.mean([overlaps(axes[i : i + 1], axes[i + 1 : i + 2]) for i in range(0, 2 * N_FLOOR, 2)])
    )
