"""Shared directions: planted ranks on other items, and canonical correlation."""

import numpy as np
import pytest

from isogloss.measures.principal_axes import common_axes
from isogloss.measures.shared_directions import (
    N_SHARED,
    generalised_cca,
    mean_correlation,
    shared_correlations,
    whitening,
)

NO_ORDERS: list = []


def orthonormal(rng, k: int, width: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(width, k)))[0].T


def held_out_correlations(states, n_fit: int, k: int):
    """`shared_correlations` of the items after the first `n_fit`, which the directions are of."""
    fit = states[:, :n_fit]
    along = (states - fit.mean(axis=1, keepdims=True)) @ common_axes(fit, k).T
    return shared_correlations(along[:, :n_fit], along[:, n_fit:], NO_ORDERS)


def test_whitening_makes_the_scatter_the_identity():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4)) * [1, 5, 10, 0.1]
    white = x @ whitening(x, ridge=0)
    np.testing.assert_allclose(white.T @ white, np.eye(4), atol=1e-6)


def planted_shared(rng, rank: int, n_items: int, rotate: bool) -> np.ndarray:
    """Three languages with `rank` shared directions, in the same or in different places."""
    loadings = 4 * rng.normal(size=(n_items, rank))
    place = orthonormal(rng, rank, 30)
    places = [orthonormal(rng, rank, 30) if rotate else place for _ in range(3)]
    return np.stack([loadings @ p for p in places]) + rng.normal(size=(3, n_items, 30))


@pytest.mark.parametrize("rotate", [False, True])
def test_held_out_correlations_find_the_planted_rank_wherever_the_languages_are(rotate):
    rng = np.random.default_rng(0)
    states = planted_shared(rng, 3, 160, rotate)
    correlations, null = held_out_correlations(states, 120, 30)
    assert correlations.shape == (N_SHARED,) and null.shape == (0, N_SHARED)
    assert correlations[:3].min() > 0.7 and np.abs(correlations[3:]).max() < 0.4


def test_generalised_cca_of_two_languages_is_canonical_correlation():
    rng = np.random.default_rng(0)
    x = planted_shared(rng, 2, 60, True)[:2, :, :5]
    x = x - x.mean(axis=1, keepdims=True)
    white = np.stack([of_language @ whitening(of_language, ridge=1e-12) for of_language in x])
    projected = white @ generalised_cca(white.transpose(1, 0, 2), 5)
    expected = np.linalg.svd(white[0].T @ white[1], compute_uv=False)
    np.testing.assert_allclose(mean_correlation(projected), expected, atol=1e-6)


def test_mean_correlation_is_the_mean_over_pairs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 20, 1))
    pairs = [np.corrcoef(x[i, :, 0], x[j, :, 0])[0, 1] for i, j in [(0, 1), (0, 2), (1, 2)]]
    assert mean_correlation(x)[0] == pytest.approx(np.mean(pairs))
    assert np.isnan(mean_correlation(np.zeros((3, 20, 1)))[0])


def test_in_sample_correlation_is_1_on_noise_and_the_held_out_one_is_not():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(3, 80, 100))
    x = states[:, :20] - states[:, :20].mean(axis=1, keepdims=True)
    white = np.stack([of_language @ whitening(of_language, ridge=1e-9) for of_language in x])
    assert mean_correlation(white @ generalised_cca(white.transpose(1, 0, 2), 3))[0] > 0.99
    held_out, _ = held_out_correlations(states, 20, 5)
    assert np.isnan(held_out[5:]).all() and abs(held_out[0]) < 0.3
