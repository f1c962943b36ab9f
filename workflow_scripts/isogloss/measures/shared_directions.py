"""The shared subspace: directions along which parallel items co-vary, evaluated on other items."""

from collections.abc import Sequence

import numpy as np

from isogloss.measures.principal_axes import common_axes, largest_eigenpairs
from isogloss.measures.shuffles import Shuffle

N_SHARED = 10  # shared directions reported
RIDGE = 0.1  # of the generalised CCA, in units of the mean variance of a dimension


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
    whiteners = np.stack([whitening(language) for language in x])
    x_white, y_white = x @ whiteners, y @ whiteners

    def correlation(fitted: np.ndarray, evaluated: np.ndarray) -> np.ndarray:
        values = np.full(N_SHARED, np.nan)
        values[:n] = mean_correlation(evaluated @ generalised_cca(fitted, n))
        return values

    null = [correlation(a.of(x_white), b.of(y_white)) for a, b in shuffles]
    return correlation(x_white, y_white), np.array(null).reshape(-1, N_SHARED)
