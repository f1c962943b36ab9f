"""Separability: how well the language of a state is read from it."""

from collections.abc import Sequence

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

from isogloss.measures.in_threads import in_threads


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
    x: np.ndarray, y: np.ndarray, orders: Sequence[tuple[np.ndarray, np.ndarray]]
) -> tuple[float, float, np.ndarray]:
    """How well the language of held-out states is read by shrinkage LDA.

    Args:
        x, y: (language, item, k) fit and held-out states, of different items, along the axes of a
            PCA of the fit states, means included.
        orders: (language, item) language labels permuted within clusters of items, of the fit and
            of the held-out items, a pair a permutation.

    Returns:
        accuracy, margin (mean log odds of the right language against the next [nat]), and the
        accuracy under permuted labels (permutation,).
    """
    labels = np.arange(len(x))[:, None]

    def read(fitted: np.ndarray, evaluated: np.ndarray) -> np.ndarray:
        # Anew under permuted labels: what is known of the labels is no part of their null.
        within = (fitted - fitted.mean(axis=1, keepdims=True)).reshape(-1, x.shape[2])
        return lda_scores(fitted, evaluated, float(ledoit_wolf_shrinkage(within)))

    def accuracy(scores: np.ndarray) -> float:
        return float((scores.argmax(axis=2) == labels).mean())

    scores = read(x, y)
    right = np.einsum("lil->li", scores)
    others = np.where(np.eye(len(x), dtype=bool)[:, None], -np.inf, scores).max(axis=2)

    def permuted(order: tuple[np.ndarray, np.ndarray]) -> float:
        of_fit, of_held_out = order
        items, held_out_items = np.arange(x.shape[1]), np.arange(y.shape[1])
        return accuracy(read(x[of_fit, items], y[of_held_out, held_out_items]))

    null = np.array(list(in_threads(permuted, orders)))
    return accuracy(scores), float((right - others).mean()), null
