"""Means over pairs of languages, and their intervals over items and over languages."""

import numpy as np
import pytest
from simulated_states import cluster_sizes, clustered_states, grams_of, spectrum

from isogloss.measures.cka import centred_over_clusters, cosine, left_out_hsics, pair_cka
from isogloss.measures.item_share import left_out_sums, pair_item_share
from isogloss.measures.pooled import SHARES, mean_over_pairs, means_without_language, pooled
from isogloss.measures.states import standardised
from isogloss.measures.statistics import Jackknife, without_bias


def test_means_without_a_language_by_hand():
    pairs = np.array([[9, 1, 2], [1, 9, 3], [2, 3, 9.0]])
    assert mean_over_pairs(pairs) == pytest.approx(2)
    assert means_without_language(pairs).tolist() == [3, 2, 1]
    without = means_without_language(pairs, row=0)
    assert np.isnan(without[0]) and without[1:].tolist() == [2, 1]
    assert np.isnan(means_without_language(pairs[:2, :2])).all()


def crossed_world(rng, n_languages=6, n_clusters=40):
    """A map over pairs, the same without each cluster, and the languages' true effects."""
    effect = 0.06 * rng.normal(size=n_languages)
    noise = 0.1 * rng.normal(size=(n_clusters, n_languages, n_languages))
    noise += 0.1 * rng.normal(size=(n_clusters, 1, 1))
    values = effect[:, None] + effect + noise + noise.transpose(0, 2, 1)
    return values.mean(axis=0), (values.sum(axis=0) - values) / (n_clusters - 1), effect


@pytest.mark.parametrize("row", [None, 0])
def test_intervals_over_items_hold_for_these_languages_and_crossed_ones_for_others_too(row):
    rng = np.random.default_rng(0)
    others, these = [], []
    for _ in range(500):
        *maps, effect = crossed_world(rng)
        values = pooled("x", *maps, 0.95, row)
        # The pivot is no sample of languages: its effect is part of the truth.
        truth = 0 if row is None else effect[row]
        others.append(values["x_crossed_low"] <= truth <= values["x_crossed_high"])
        here = 2 * effect.mean() if row is None else effect[row] + effect[1:].mean()
        these.append(values["x_low"] <= here <= values["x_high"])
        assert values["x_high"] < values["x_crossed_high"]
    assert np.mean(others) > 0.93
    assert np.mean(these) == pytest.approx(0.95, abs=0.025)


def test_what_a_comparison_of_models_needs_is_kept():
    pairs, without_cluster, _ = crossed_world(np.random.default_rng(0))
    values = pooled("x", pairs, without_cluster, 0.95)
    np.testing.assert_allclose(values["x_without_cluster"], mean_over_pairs(without_cluster))
    np.testing.assert_allclose(values["x_without_language"], means_without_language(pairs))


def test_an_interval_holds_its_estimate_however_far_the_bias_is_taken_to_be():
    pairs, n_clusters = np.full((3, 3), 0.5), 10
    noise = 1e-4 * np.random.default_rng(0).normal(size=(n_clusters, 3, 3))
    for biased in (0.48, 0.52):
        without = biased + noise + noise.transpose(0, 2, 1)
        values = pooled("x", pairs, without, 0.95, sizes=np.ones(n_clusters))
        for end in ("", "_crossed"):
            assert values[f"x{end}_low"] <= values["x"] <= values[f"x{end}_high"]


def test_bounds_stay_where_values_can_be():
    pairs, without_cluster, _ = crossed_world(np.random.default_rng(0), n_languages=3)
    values = pooled("x", 0.9 + pairs, 0.9 + without_cluster, 0.95, None, (0.0, 1.0))
    assert values["x_crossed_high"] == 1 and values["x_crossed_low"] >= 0


def test_intervals_of_shares_lie_around_them_though_a_cluster_less_is_a_smaller_gallery():
    rng = np.random.default_rng(0)
    pairs = 0.3 + 0.02 * rng.normal(size=(5, 5))
    without = pairs + 0.005 + 0.001 * rng.normal(size=(40, 5, 5))  # one less to choose among
    values = pooled("x", pairs, without, 0.95, None, SHARES)
    mean = mean_over_pairs(pairs)
    assert values["x_crossed_low"] < mean < values["x_crossed_high"]
    assert values["x_crossed_low"] + values["x_crossed_high"] == pytest.approx(2 * mean)


def test_intervals_of_a_mean_over_many_dimensions_hold_though_each_correlation_is_too_low():
    """The bias of 200 correlations of 60 items is as large as the error of their mean."""
    rng, clusters, width = np.random.default_rng(0), np.arange(60) // 3, 200
    holds, estimates = [], []
    for _ in range(60):
        z = standardised(clustered_states(rng, clusters, 3, (1.0,) * width, 0.7, within=0.3))
        left_out = left_out_sums(z, clusters) / width
        values = pooled("share", pair_item_share(z), left_out, 0.95, sizes=np.bincount(clusters))
        holds.append(values["share_low"] <= 0.7 <= values["share_high"])
        estimates.append(values["share"])
    assert np.mean(estimates) < 0.7 - 0.8 * np.std(estimates)  # as each one's bias is
    assert np.mean(holds) > 0.9


# Questions that have answers in common are often one large cluster and many small ones.
LARGE = cluster_sizes({1: 36, 24: 1})


def test_a_mean_has_no_bias_however_unequal_its_clusters():
    values = np.random.default_rng(0).normal(size=len(LARGE))
    rows = Jackknife.of(LARGE).means(values)
    sizes = np.bincount(LARGE)
    assert without_bias(rows[0], rows[1:], sizes) == pytest.approx(rows[0], abs=1e-12)
    assert abs(without_bias(rows[0], rows[1:], np.ones(len(sizes))) - rows[0]) > 0.01


def test_a_large_cluster_does_not_pull_the_interval_of_item_share_away():
    rng, width, worlds, sizes = np.random.default_rng(0), 4, 300, np.bincount(LARGE)
    alike = np.ones(len(sizes))
    holds: dict[bool, list[bool]] = {True: [], False: []}
    for _ in range(worlds):
        z = standardised(clustered_states(rng, LARGE, 3, (1.0,) * width, 0.5, within=0.8))
        maps = pair_item_share(z), left_out_sums(z, LARGE) / width
        for sized, hits in holds.items():
            values = pooled("share", *maps, 0.95, None, sizes=sizes if sized else alike)
            hits.append(values["share_low"] <= 0.5 <= values["share_high"])
    assert np.mean(holds[True]) > np.mean(holds[False]) + 0.02
    assert np.mean(holds[True]) > 0.9


def test_a_few_items_far_from_all_others_pass_for_no_bias_of_cka():
    """Massive activations: 3% of the items are far out along one dimension, the same in all
    languages as often as not. What leaving them out changes is no bias to be taken off."""
    rng, n, spread = np.random.default_rng(0), 60, spectrum(8, 1)
    share, far = 0.03, 10.0
    massive = share * (1 - share) * far**2
    truth = ((0.5 * spread**2) ** 2).sum() + (massive / 2) ** 2
    truth /= (spread**4).sum() + massive**2
    holds: dict[str, list[bool]] = {"as it is": [], "less a bias": []}
    for _ in range(300):
        common, apart = rng.random((1, n)) < share, rng.random((3, n)) < share
        out = np.where(rng.random((3, n)) < np.sqrt(0.5), common, apart)
        states = clustered_states(rng, np.arange(n), 3, spread, 0.5)
        grams = grams_of(np.concatenate([states, far * out[..., None]], axis=2))
        centred = centred_over_clusters(grams, np.arange(n))
        maps = pair_cka(centred), cosine(left_out_hsics(centred, centred))
        for hits, sizes in zip(holds.values(), (None, np.ones(n)), strict=True):
            values = pooled("cka", *maps, 0.95, sizes=sizes)
            hits.append(values["cka_low"] <= truth <= values["cka_high"])
    assert np.mean(holds["as it is"]) > np.mean(holds["less a bias"]) + 0.05
    assert np.mean(holds["as it is"]) > 0.85
