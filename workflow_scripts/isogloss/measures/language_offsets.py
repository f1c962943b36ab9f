"""The language subspace: the span of the languages' mean states, and whether there is any."""

import numpy as np
from scipy.sparse import csr_array

EXPLAINED = 0.95  # share of the offsets' variance that `language_rank` components hold


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
    known = min(n, len(singular))
    basis[:known], variance[:known] = rows[:known], singular[:known] ** 2
    total = variance.sum()
    # Directions at the level of rounding are no directions: they would be arbitrary.
    basis[~(variance > 1e-12 * max(total, np.finfo(float).tiny))] = 0
    return basis, variance


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
        orders: (permutation, language, item) from `shuffles.label_orders`.
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


def offset_energies(states: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Squared norm of the offsets, and under permuted labels: (1 + permutation,).

    Of some features it is a part of the sum over all.

    Args:
        states: (language, item, feature).
        orders: (permutation, language, item) from `shuffles.label_orders`.
    """
    centred = states - states.mean(axis=0)
    unchanged = np.broadcast_to(np.arange(len(states))[:, None], states.shape[:2])
    observed, null = offset_energy(centred, unchanged[None]), offset_energy(centred, orders)
    return np.concatenate([observed, null])


def offset_test(energies: np.ndarray) -> tuple[float, float]:
    """Squared norm of the offsets over that under permuted labels, and the one-sided p of it.

    Args: energies of `offset_energies`.
    """
    observed, null = energies[0], energies[1:]
    p = (1 + (null >= observed * (1 - 1e-6)).sum()) / (1 + len(null))
    return float(observed / null.mean() if null.mean() > 0 else np.nan), float(p)


def fold_sums(states: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Sums of states (item, feature) over the items of each fold: (fold, feature)."""
    return np.stack([states[folds == fold].sum(axis=0) for fold in np.unique(folds)])


def offset_reliability(sums: np.ndarray, folds: np.ndarray) -> float:
    """Mean over folds and languages of the cosine of offsets from fit and from held-out items.

    Args:
        sums: (fold, language, feature) of `fold_sums`.
        folds: (item,).
    """
    cosines = []
    for held_out, n in zip(
        sums, np.bincount(np.unique(folds, return_inverse=True)[1]), strict=True
    ):
        fit = (sums.sum(axis=0) - held_out) / (len(folds) - n)
        here = held_out / n
        fit, here = fit - fit.mean(axis=0), here - here.mean(axis=0)
        norm = np.linalg.norm(fit, axis=1) * np.linalg.norm(here, axis=1)
        product = (fit * here).sum(axis=1)
        cosines.append(np.divide(product, norm, out=np.full_like(norm, np.nan), where=norm > 0))
    return float(np.mean(cosines))
