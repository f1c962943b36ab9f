"""What chance gives: shuffled pairings, permuted labels, and tests of whole maps."""

import numpy as np
import pytest

from isogloss.measures.shuffles import MaxT, label_orders, rare_signs, shuffled_orders


def test_shuffled_orders_put_whole_clusters_in_the_places_of_clusters_as_large():
    clusters = np.array([0, 3, 0, 1, 1, 2, 3, 4, 4, 4])
    orders = shuffled_orders(clusters, 2, 200, 0)
    np.testing.assert_array_equal(
        np.sort(orders, axis=-1), np.broadcast_to(np.arange(10), orders.shape)
    )
    for cluster in range(5):
        sits = clusters[orders[..., clusters == cluster]]
        assert (sits == sits[..., :1]).all()
        peers = {0: 3, 1: 3, 3: 3}.get(cluster, 1)  # three clusters have two items
        assert len(np.unique(sits[..., 0])) == peers
    assert (orders[:, 0] != orders[:, 1]).any(axis=1).mean() > 0.9


def test_shuffled_orders_of_single_items_are_uniform():
    alone = shuffled_orders(np.arange(8), 2, 2000, 0)[:, 1]
    share = (alone[..., None] == np.arange(8)).mean(axis=0)
    np.testing.assert_allclose(share, 1 / 8, atol=0.03)


def test_signs_are_of_whole_clusters_that_have_few_of_their_size():
    clusters = np.array([0, 0, *range(1, 6)])
    signs = rare_signs(clusters, 2, 500, 0)
    assert (signs[..., 2:] == 1).all()
    np.testing.assert_array_equal(signs[..., 0], signs[..., 1])
    assert abs(signs[..., 0].mean()) < 0.1


def test_labels_are_permuted_within_clusters_of_items():
    clusters = np.array([0, 1, 1, 2, 3])
    orders = label_orders(clusters, 3, 400, 0)
    np.testing.assert_array_equal(
        np.sort(orders, axis=1), np.broadcast_to(np.arange(3)[:, None], orders.shape)
    )
    np.testing.assert_allclose((orders == 0).mean(axis=0), 1 / 3, atol=0.1)
    np.testing.assert_array_equal(orders[..., 1], orders[..., 2])
    assert (orders[:, :, 0] != orders[:, :, 1]).any(axis=1).mean() > 0.7


def max_t(observed, null, confidence):
    """`MaxT` of a map (...) and its null (permutation, ...) as a whole: mean, threshold, p."""
    test = MaxT(len(null))
    test.add(observed, null)
    return (of_parts[0] for of_parts in test.tested(confidence))


@pytest.mark.parametrize("n_permutations", [19, 199])
def test_max_t_errs_in_one_family_in_twenty_on_pure_noise(n_permutations):
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(1000):
        maps = rng.normal(size=(1 + n_permutations, 60)) * np.linspace(0.1, 9, 60)
        _, threshold, p = max_t(maps[0], maps[1:], 0.95)
        wrong += (p <= 0.05).any()
        np.testing.assert_array_equal(p <= 0.05, maps[0] > threshold)
    assert wrong / 1000 == pytest.approx(0.05, abs=2.5 * np.sqrt(0.05 * 0.95 / 1000))


def test_max_t_finds_what_is_there_and_its_threshold_stays_with_the_null():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(200, 40))
    maps[0, :10] += 30
    mean, threshold, p = max_t(maps[0], maps[1:], 0.95)
    assert (p[:10] == 1 / 200).all() and (p[10:] > 0.05).all()
    assert np.abs(mean).max() < 0.3 and 2 < threshold.min() < threshold.max() < 5


def test_max_t_leaves_out_what_has_no_number():
    rng = np.random.default_rng(0)
    observed = np.array([9.0, np.nan, 0.0])
    *_, p = max_t(observed, rng.normal(size=(99, 3)), 0.95)
    assert p[0] == 0.01 and np.isnan(p[1]) and p[2] > 0.1
    *_, p = max_t(np.array([np.nan]), np.full((9, 1), np.nan), 0.95)
    assert np.isnan(p).all()
