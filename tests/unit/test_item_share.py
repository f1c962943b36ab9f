"""Item share: the intraclass correlation, its jackknife, and what chance gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_states import UNEVEN, clustered_states, grams_of, planted, spectrum

from isogloss.measures.cka import centred_over_clusters, pair_cka
from isogloss.measures.item_share import (
    left_out_sums,
    pair_item_share,
    shuffled_paired_sums,
    shuffled_sums_of_pairs,
)
from isogloss.measures.pooled import mean_over_pairs
from isogloss.measures.shuffles import Shuffle, rare_signs, shuffled_orders
from isogloss.measures.states import degenerate_reason, standardised, without_length


def item_share(states: np.ndarray) -> float:
    return float(mean_over_pairs(pair_item_share(standardised(states))))


def shuffled_shares(z: np.ndarray, orders: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Item share under shuffled pairings, mean over pairs: (permutation,)."""
    n_pairs = len(z) * (len(z) - 1)
    return shuffled_sums_of_pairs(z, orders, signs) / (n_pairs * z.shape[1] * z.shape[2])


def anova_item_share(states: np.ndarray) -> float:
    """The intraclass correlation from its mean squares, dimension by dimension."""
    n_languages, n_items, width = states.shape
    shares = []
    for d in range(width):
        z = np.array([(x - x.mean()) / x.std() for x in states[..., d]])
        means = z.mean(axis=0)
        ms_item = n_languages * (means**2).sum() / (n_items - 1)
        ms_rest = ((z - means) ** 2).sum() / ((n_items - 1) * (n_languages - 1))
        shares.append((ms_item - ms_rest) / (ms_item + (n_languages - 1) * ms_rest))
    return float(np.mean(shares))


@given(st.integers(0, 10**6), st.integers(2, 5), st.floats(0, 0.9))
def test_item_share_is_the_intraclass_correlation(seed, n_languages, share):
    states = planted(share, np.random.default_rng(seed), n_languages, 12, 5)
    assert item_share(states) == pytest.approx(anova_item_share(states), abs=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_item_share_finds_the_planted_share_whatever_the_width(share):
    rng = np.random.default_rng(0)
    for width in (50, 1000):
        assert item_share(planted(share, rng, 4, 200, width)) == pytest.approx(share, abs=0.03)


def test_item_share_does_not_see_offsets_or_the_scale_of_dimensions():
    rng = np.random.default_rng(0)
    states = planted(0.5, rng)
    moved = states * rng.uniform(0.1, 1e4, size=(3, 1, 30)) + 100 * rng.normal(size=(3, 1, 30))
    assert item_share(moved) == pytest.approx(item_share(states), abs=1e-4)


def test_item_share_by_hand():
    # Correlations 1 and -1 in two dimensions; the third is constant and is left out.
    states = np.array([[[1, 1, 7], [2, 2, 7], [3, 3, 7]], [[2, 9, 7], [4, 8, 7], [6, 7, 7]]])
    assert item_share(states.astype(float)) == pytest.approx(0, abs=1e-7)
    assert item_share(states[..., :1].astype(float)) == pytest.approx(1)
    assert np.isnan(item_share(states[..., 2:].astype(float)))


def test_left_out_item_shares_equal_those_computed_without_the_cluster():
    rng = np.random.default_rng(1)
    states, clusters = planted(0.4, rng, 3, 20, 7), np.arange(20) // 2 * 3
    shares = left_out_sums(standardised(states), clusters) / 7
    for cluster, left in zip(np.unique(clusters), shares, strict=True):
        direct = pair_item_share(standardised(states[:, clusters != cluster]))
        np.testing.assert_allclose(left, direct, atol=1e-5)


def test_without_length_takes_out_exactly_what_follows_log_tokens():
    rng = np.random.default_rng(0)
    n_tokens = rng.integers(5, 60, size=(2, 80))
    length = np.log(n_tokens)[..., None] * rng.normal(size=(2, 1, 20)) * 10
    noise = planted(0.0, rng, 2, 80, 20)
    left = without_length(noise + length, n_tokens)
    for residual, tokens in zip(left, n_tokens, strict=True):
        np.testing.assert_allclose(
            (np.log(tokens) - np.log(tokens).mean()) @ residual, 0, atol=1e-8
        )
    np.testing.assert_allclose(left, without_length(noise, n_tokens), atol=1e-8)
    constant = without_length(noise, np.full((2, 80), 9))
    np.testing.assert_allclose(constant, noise - noise.mean(axis=1, keepdims=True))


def test_rotated_languages_share_shape_but_not_place():
    rng = np.random.default_rng(0)
    items = rng.normal(size=(200, 256))
    rotation, _ = np.linalg.qr(rng.normal(size=(256, 256)))
    same, rotated = np.stack([items, items]), np.stack([items, items @ rotation])
    assert item_share(same) > 0.99
    assert abs(item_share(rotated)) < 0.1
    assert pair_cka(centred_over_clusters(grams_of(rotated), np.arange(200)))[
        0, 1
    ] == pytest.approx(1, abs=1e-9)


def test_degenerate_states_say_why():
    rng = np.random.default_rng(0)
    good = rng.normal(size=(20, 5)).astype(np.float32)
    assert degenerate_reason(good) == ""
    rounding = 1000 + 1e-5 * good
    assert degenerate_reason(rounding) == "constant over items"
    assert degenerate_reason(good[np.arange(20) % 3]) == "3 distinct states for 20 items"
    bad = good.copy()
    bad[0, 0] = np.inf
    assert degenerate_reason(bad) == "not finite"


def test_shuffled_shares_are_those_of_the_shuffled_states():
    rng = np.random.default_rng(0)
    z = standardised(planted(0.5, rng, 3, 15, 6))
    clusters = np.array([0, 0, 0, 0, *range(1, 12)])
    orders, signs = (draw(clusters, 3, 4, 0) for draw in (shuffled_orders, rare_signs))
    by_order = shuffled_paired_sums(z, orders, signs) / z[0].size
    means = shuffled_shares(z, orders, signs)
    for order, sign, shares, mean in zip(orders, signs, by_order, means, strict=True):
        direct = pair_item_share(Shuffle(order, sign).of(z))
        np.testing.assert_allclose(shares[0, 1:], direct[0, 1:], atol=1e-6)
        assert mean == pytest.approx(mean_over_pairs(direct), abs=1e-6)


def test_the_dissociation_test_is_calibrated_on_pure_noise():
    rng = np.random.default_rng(0)
    p = []
    for seed in range(100):
        z = standardised(rng.normal(size=(3, 20, 6)))
        orders, signs = (draw(np.arange(20), 3, 99, seed) for draw in (shuffled_orders, rare_signs))
        null = shuffled_shares(z, orders, signs)
        p.append((1 + (null >= item_share(z)).sum()) / 100)
    assert np.mean(p) == pytest.approx(0.5, abs=0.1)
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.08)


@pytest.mark.parametrize("clusters", [np.arange(60) // 3, UNEVEN])
def test_the_test_of_item_share_is_calibrated_where_items_cluster(clusters):
    rng, p = np.random.default_rng(0), []
    for seed in range(300):
        z = standardised(clustered_states(rng, clusters, 3, spectrum(8), within=0.9))
        orders = shuffled_orders(clusters, 3, 99, seed)
        signs = rare_signs(clusters, 3, 99, (seed, 1))
        null = shuffled_shares(z, orders, signs)
        p.append((1 + (null >= item_share(z) - 1e-9).sum()) / 100)
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)


def test_a_shuffled_pairing_holds_nothing_of_what_languages_share_in_clusters_that_stay():
    rng = np.random.default_rng(0)
    z = standardised(clustered_states(rng, UNEVEN, 2, spectrum(60), shared=0.9, within=0.9))
    orders, signs = (draw(UNEVEN, 2, 400, 0) for draw in (shuffled_orders, rare_signs))
    null = shuffled_shares(z, orders, signs)
    # A small part of what 28 of 60 items in their places would leave: .38.
    assert null.mean() == pytest.approx(0, abs=0.06)
