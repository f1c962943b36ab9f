"""Within-language subspaces: independent implementations, ceiling and floor."""

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

from isogloss.measures.principal_axes import (
    ITERATED_FROM,
    common_axes,
    half_of,
    largest_eigenpairs,
    overlap_floor,
    overlaps,
    principal_angles,
    principal_axes,
    split_half_overlaps,
)


def orthonormal(rng, k: int, width: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(width, k)))[0].T


@pytest.mark.parametrize("shape", [(30, 12), (12, 30)])
def test_principal_axes_are_those_of_sklearn(shape):
    rng = np.random.default_rng(0)
    states = rng.normal(size=shape) * np.arange(1, shape[1] + 1) + 5
    ours, theirs = principal_axes(states, 4), PCA(4).fit(states).components_
    np.testing.assert_allclose(np.abs(ours @ theirs.T), np.eye(4), atol=1e-6)
    pooled = common_axes(np.stack([states, states + 9]), 4)
    np.testing.assert_allclose(np.abs(pooled @ theirs.T), np.eye(4), atol=1e-6)


def test_principal_axes_beyond_the_rank_are_zero():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(20, 2)) @ rng.normal(size=(2, 9))
    norms = np.linalg.norm(principal_axes(states, 5), axis=1)
    np.testing.assert_allclose(norms, [1, 1, 0, 0, 0], atol=1e-9)
    assert not principal_axes(np.ones((4, 3)), 2).any()


def test_principal_angles_are_those_of_scipy():
    rng = np.random.default_rng(0)
    axes = np.stack([orthonormal(rng, 3, 10) for _ in range(3)])
    angles = principal_angles(axes)
    for i, j in [(0, 1), (1, 2), (2, 0)]:
        expected = np.degrees(np.sort(subspace_angles(axes[i].T, axes[j].T)))
        np.testing.assert_allclose(angles[i, j], expected, atol=1e-6)
        cosines = np.cos(np.radians(angles[i, j]))
        assert overlaps(axes, axes)[i, j] == pytest.approx((cosines**2).mean())
    np.testing.assert_allclose(angles[0, 0], 0, atol=1e-4)


def test_languages_in_one_subspace_reach_their_ceiling_and_others_their_floor():
    rng = np.random.default_rng(0)
    first, two = orthonormal(rng, 4, 200), orthonormal(rng, 4, 200)
    loadings = 5 * rng.normal(size=(3, 80, 4))
    states = np.stack([loadings[0] @ first, loadings[1] @ first, loadings[2] @ two])
    states += 0.3 * rng.normal(size=states.shape)
    overlaps = split_half_overlaps(states, np.arange(80), 4, 0)
    np.testing.assert_allclose(overlaps, overlaps.T)
    assert overlaps[0, 1] == pytest.approx(overlaps[0, 0], abs=0.03) and overlaps[0, 0] > 0.9
    assert overlaps[0, 2] < 0.1


def test_the_floor_of_isotropic_states_is_k_over_width_and_higher_for_others():
    rng = np.random.default_rng(0)
    isotropic = rng.normal(size=(2, 2000, 40))
    assert overlap_floor(isotropic, 4, 0) == pytest.approx(4 / 40, abs=0.02)
    elongated = isotropic * np.where(np.arange(40) < 6, 10, 1)
    assert overlap_floor(elongated, 4, 0) > 0.4


def test_halves_are_disjoint_balanced_and_tear_no_cluster():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(20), 3)
    halves = np.array([half_of(clusters, rng) for _ in range(50)])
    for half in halves:
        assert not set(clusters[half]) & set(clusters[~half])
        assert 27 <= half.sum() <= 33
    assert 0.3 < halves.mean(axis=0).min()


def test_a_large_cluster_goes_where_the_halves_become_more_equal():
    rng = np.random.default_rng(0)
    clusters = np.concatenate([np.zeros(36, int), np.arange(1, 25)])
    sizes = np.array([half_of(clusters, rng).sum() for _ in range(100)])
    # 12 of the 24 single items before it make both sides equally good.
    assert np.minimum(sizes, 60 - sizes).min() >= 12
    assert (sizes < 30).any() and (sizes > 30).any()
    # Nothing moves where items are their own clusters: the larger half of an odd number is first.
    assert [half_of(np.arange(n), rng).sum() for n in (4, 5, 9)] == [2, 3, 5]


def test_overlaps_of_halves_too_small_to_fit_are_no_number():
    states = np.random.default_rng(0).normal(size=(2, 112, 20))
    lopsided = np.concatenate([np.zeros(100, int), np.arange(1, 13)])
    assert np.isnan(split_half_overlaps(states, lopsided, 12, 0)).all()
    assert np.isfinite(split_half_overlaps(states, lopsided, 4, 0)).all()
    assert np.isnan(split_half_overlaps(states, np.zeros(112, int), 1, 0)).all()


def test_a_few_eigenvectors_of_a_large_matrix_are_those_of_all():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(ITERATED_FROM, 50)) * np.linspace(9, 1, 50)
    matrix = factor @ factor.T
    values, vectors = largest_eigenpairs(matrix, 10)
    small = np.linalg.eigvalsh(factor.T @ factor)[::-1]
    np.testing.assert_allclose(values, small[:10], rtol=1e-9)
    np.testing.assert_allclose(matrix @ vectors, vectors * values, atol=1e-6 * values[0])
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(10), atol=1e-9)
