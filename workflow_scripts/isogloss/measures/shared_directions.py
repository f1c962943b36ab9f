"""The shared subspace: directions along which parallel items co-vary, evaluated on other items."""

from collections.abc import Sequence

import numpy as np

from isogloss.measures.in_threads import in_threads
from isogloss.measures.principal_axes import largest_eigenpairs
from isogloss.measures.shuffles import Shuffle

MAX_COMMON = 60  # dimensions of the common PCA, for shared directions and separability
N_SHARED = 10  # shared directions reported
RIDGE = 0.1  # of the generalised CCA, in units of the mean variance of a dimension


def whitening(x: np.ndarray, ridge: float = RIDGE) -> np.ndarray:
    """Inverse square root (k, k) of the ridged scatter of centred x (item, k)."""
    scatter = x.T @ x
    unit = np.trace(scatter) / len(scatter)
    values, vectors = np.linalg.eigh(scatter + max(ridge * unit, 1e-300) * np.eye(len(scatter)))
    return (vectors / np.sqrt(values)) @ vectors.T


def generalised_cca(by_item: np.ndarray, n: int) -> np.ndarray:
    """Directions along which parallel items co-vary, one set a language (MAXVAR).

    Args:
        by_item: (item, language, k) states, whitened within each language.
        n: directions, strongest first.

    Returns:
        (language, k, n) weights on the whitened states.

    Source: Kettenring (1971); Rastogi, Van Durme and Arora (2015) for the ridge.
    """
    n_items, n_languages, k = by_item.shape
    side_by_side = by_item.reshape(n_items, -1)
    vectors = largest_eigenpairs(side_by_side @ side_by_side.T, n)[1]
    return (side_by_side.T @ vectors).reshape(n_languages, k, -1)


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
    x: np.ndarray, y: np.ndarray, shuffles: Sequence[tuple[Shuffle, Shuffle]]
) -> tuple[np.ndarray, np.ndarray]:
    """Held-out correlation along shared directions, and under shuffled pairings.

    Each language has directions of its own, so this is shared shape: place is for item share.
    The common PCA and the whitening see no pairing and are done once.

    Args:
        x, y: (language, item, k) fit and held-out states, of different items, along the axes of the
            common PCA of the fit states, less the fit items' means.
        shuffles: of the fit and of the held-out items, a pair each.

    Returns:
        correlation: (N_SHARED,), strongest direction first.
        null: (shuffle, N_SHARED).
        NaN beyond k.
    """
    n = min(N_SHARED, x.shape[2])
    whiteners = np.stack([whitening(language) for language in x])
    fitted, evaluated = x @ whiteners, y @ whiteners
    every = np.broadcast_to(np.arange(x.shape[1]), x.shape[:2])
    flat, starts = fitted.reshape(-1, x.shape[2]), np.arange(len(x))[:, None] * x.shape[1]

    def correlation(
        order: np.ndarray, signs: np.ndarray | None, then: Shuffle | None
    ) -> np.ndarray:
        values = np.full(N_SHARED, np.nan)
        by_item = flat[(order + starts).T]
        if signs is not None and (signs != 1).any():
            by_item *= signs.T[..., None]
        projected = evaluated @ generalised_cca(by_item, n)
        values[:n] = mean_correlation(projected if then is None else then.of(projected))
        return values

    def shuffled(shuffle: tuple[Shuffle, Shuffle]) -> np.ndarray:
        of_fit, of_held_out = shuffle
        return correlation(of_fit.order, of_fit.signs, of_held_out)

    null = list(in_threads(shuffled, shuffles))
    return correlation(every, None, None), np.array(null).reshape(-1, N_SHARED)
