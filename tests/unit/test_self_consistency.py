"""Agreement within and between languages in worlds whose noise is known."""

import numpy as np
import pytest
import xarray as xr
from simulated_coverage import middle_layer
from tests.simulated_states import clustered_states, parallel_states
from tests.simulated_worlds import Wordings, scores_dataset

from isogloss.errors import InputError
from isogloss.measures.behaviour import behaviour, ranks, standardised_ranks
from isogloss.measures.self_consistency import agreement
from isogloss.measures.statistics import Jackknife
from isogloss.measures.variance_shares import crossed_components, crossed_shares
from isogloss.measures.variant_states import variant_similarity
from isogloss.measures.variants import range_elsewhere, variants

NAMES = ["main", "plain", "labelled"]
PAIRS = {"scope": "all_pairs"}


def of_world(world, n_items=600, seed=0):
    rng = np.random.default_rng(seed)
    return variants(world.scores(rng, np.arange(n_items) // 2), NAMES[: world.n_wordings])


def test_agreement_is_the_mean_over_pairs_of_wordings_one_by_one():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(3, 2, 20, 3))
    scores[0, 1, 4] = 0  # all choices tied: no ranks
    scores[:, :, 5:9, 2] = np.nan
    n_choices = np.where((np.arange(20) >= 5) & (np.arange(20) < 9), 2, 3)
    units = standardised_ranks(ranks(scores, n_choices))
    agreed = agreement(units, Jackknife.of(np.arange(20)))
    for (a, b), rows in (((0, 0), agreed.across), ((0, 1), agreed.across)):
        pairs = [(v, w) for v in range(3) for w in range(3) if v != w]
        by_item = np.array([(units[v, a] * units[w, b]).sum(axis=-1) for v, w in pairs])
        assert rows[0, a, b] == pytest.approx(np.nanmean(by_item))
        assert rows[3, a, b] == pytest.approx(np.nanmean(np.delete(by_item, 2, axis=1)))
    same = np.array([(units[v, 0] * units[v, 1]).sum(axis=-1) for v in range(3)])
    assert agreed.same[0, 0, 1] == pytest.approx(np.nanmean(same))


def test_languages_that_differ_by_noise_alone_are_consistent_once_corrected():
    measured = of_world(Wordings(language=0.0, noise=(1.0,) * 4))
    raw = float(measured["mean_consistency_across_wordings"].sel(PAIRS))
    assert raw < 0.5
    for name in ("mean_consistency_corrected", "mean_noise_share"):
        assert float(measured[name].sel(PAIRS)) == pytest.approx(1, abs=0.1)


def test_noise_lowers_consistency_and_leaves_the_corrected_one():
    """Scores whose stable parts correlate by 0.5, whatever each language's noise.

    Not to the last digit: with much noise the stable part of ranks follows the scores themselves,
    whose correlation is a little above that of their ranks.
    """
    quiet, loud = (of_world(Wordings(1.0, 1.0, noise=noise, ability=0.0))
                   for noise in ((0.1,) * 3, (0.5, 1.0, 2.0)))  # fmt: skip
    raw, fixed = (
        [float(measured[name].sel(PAIRS)) for measured in (quiet, loud)]
        for name in ("mean_consistency_same_wording", "mean_consistency_corrected")
    )
    assert raw[0] > raw[1] + 0.1 and fixed[1] > raw[1] + 0.1
    assert abs(fixed[0] - fixed[1]) < 0.12 and abs(fixed[0] - raw[0]) < 0.03
    alone = loud["self_consistency"].values
    assert alone[0] > alone[1] > alone[2]


def test_what_a_wording_does_in_every_language_is_told_from_what_languages_share():
    """Same-wording consistency alone would take it for agreement."""
    measured = of_world(
        Wordings(shared=0.0, language=1.0, wording=1.0, noise=(0.3,) * 3, ability=0.0)
    )
    same, across = (
        float(measured[f"mean_consistency_{name}"].sel(PAIRS))
        for name in ("same_wording", "across_wordings")
    )
    assert same > 0.3 and abs(across) < 0.06
    shares = measured["rank_share"].sel(PAIRS).to_series()
    assert shares.sum() == pytest.approx(1)
    assert shares["item x wording"] > 0.3 and abs(shares["item"]) < 0.06


def test_a_language_that_contradicts_itself_has_no_corrected_consistency():
    measured = of_world(Wordings(noise=(0.5, 0.5, 500.0), ability=0.0), 120)
    assert measured["correctable"].values.tolist() == [True, True, False]
    fixed = measured["consistency_corrected"]
    assert np.isfinite(fixed.sel(language="l0", language_2="l1"))
    assert np.isnan(fixed.sel(language="l2")).all()
    assert np.isfinite(measured["mean_consistency_corrected"].sel(PAIRS))


def test_the_mean_of_the_wordings_mends_noise_and_nothing_else():
    noisy = of_world(Wordings(noise=(1.5,) * 3))
    assert float(noisy["mean_accuracy_gain_low"]) > 0.02
    assert float(noisy["mean_consistency_gain_low"].sel(PAIRS)) > 0.1
    quiet = of_world(Wordings(noise=(0.0,) * 3))
    assert float(quiet["mean_accuracy_gain"]) == 0
    assert float(quiet["mean_consistency_gain"].sel(PAIRS)) == pytest.approx(0)
    assert quiet["self_consistency"].values == pytest.approx(1)


def test_consistency_under_the_same_wording_is_that_of_behaviour():
    scores = Wordings().scores(np.random.default_rng(0), np.arange(40))
    measured = variants(scores, NAMES)["consistency_same_wording"]
    expected = np.mean([behaviour(wording)["consistency"] for wording in scores], axis=0)
    apart = ~np.eye(3, dtype=bool)
    assert measured.values[apart] == pytest.approx(expected[apart])


def test_shares_of_items_languages_and_wordings_are_those_that_were_planted():
    rng = np.random.default_rng(0)
    sizes, sd = (6, 8, 400), {(2,): 2.0, (1,): 1.0, (1, 2): 1.5, (0, 2): 1.0, (0, 1, 2): 0.5}
    values = np.zeros(sizes)
    for axes, spread in sd.items():
        values = values + spread * rng.normal(size=[n if a in axes else 1 for a, n in
                                                    enumerate(sizes)])  # fmt: skip
    item, language, wording, item_language, item_wording, both, rest = crossed_components(values)
    assert [item, item_language, item_wording, rest] == pytest.approx([4, 2.25, 1, 0.25], rel=0.2)
    assert 0.2 < language < 3 and abs(wording) < 0.1 and abs(both) < 0.1
    assert crossed_shares(values[..., None]).sum() == pytest.approx(1)
    assert np.isnan(crossed_shares(np.ones((*sizes, 1)))).all()


def test_a_language_whose_scores_spread_more_does_not_pass_for_noise():
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(3, 1, 200))
    values = np.broadcast_to(drawn - drawn.mean(), (3, 4, 200))
    loud = values * np.array([1.0, 1.0, 1.0, 50.0])[:, None]
    same, scaled = (crossed_shares(v[..., None]) for v in (values, loud))
    np.testing.assert_allclose(same, scaled, atol=1e-9)
    assert same[4] == pytest.approx(1, abs=0.02)  # a wording's effect on an item, in all languages


def test_wordings_of_other_items_are_refused():
    rng = np.random.default_rng(0)
    first, other = Wordings(n_wordings=2).scores(rng, np.arange(20))
    with pytest.raises(InputError, match="variants: item of plain is not that of main"):
        variants([first, other.isel(item=slice(5, None))], NAMES[:2])
    with pytest.raises(InputError, match="1 sets of scores for 1 wordings"):
        variants([first], NAMES[:1])


def test_states_within_a_language_are_the_ceiling_of_those_between():
    """Half of the variance is the item's, a quarter the language's, the rest the wording's."""
    rng, clusters = np.random.default_rng(0), np.arange(80) // 2
    item = clustered_states(rng, clusters, 1)
    language = clustered_states(rng, clusters, 3)
    layers = [
        np.sqrt(0.5) * item + np.sqrt(0.25) * language
        + np.sqrt(0.25) * clustered_states(rng, clusters, 3)
        for _ in range(3)
    ]  # fmt: skip
    constant = np.ones_like(layers[0])
    states = [parallel_states([constant, layer, layer], clusters) for layer in layers]
    measured = variant_similarity(states)
    assert measured["item_share_self"].sel(layer=1).values == pytest.approx(0.75, abs=0.05)
    apart = ~np.eye(3, dtype=bool)
    assert measured["item_share_across"].sel(layer=1).values[apart] == pytest.approx(0.5, abs=0.06)
    assert float(measured["item_share_corrected_middle"]) == pytest.approx(2 / 3, abs=0.05)
    assert float(measured["dissociation_noise_share"]) == pytest.approx(0.5, abs=0.08)
    shares = measured["state_share"].sel(layer=1).to_series()
    assert shares["item"] == pytest.approx(0.5, abs=0.06)
    assert shares["item x language"] == pytest.approx(0.25, abs=0.06)
    assert shares["rest"] == pytest.approx(0.25, abs=0.06)
    assert float(measured["cka_self_mean"].sel(layer=1)) > float(measured["cka_across_mean"][1])
    assert float(measured["retrieval_self"].sel(layer=1).min()) == pytest.approx(1, abs=0.02)
    assert measured["cosine_self"].sel(layer=1).values == pytest.approx(0.75, abs=0.05)
    assert np.isnan(measured["item_share_self"].sel(layer=0)).all()  # constant: no similarity


def test_states_without_noise_are_as_alike_as_their_languages():
    rng, clusters = np.random.default_rng(1), np.arange(40)
    layer = clustered_states(rng, clusters, 3, shared=0.5)
    measured = variant_similarity([parallel_states([layer] * 3, clusters)] * 2)
    assert measured["item_share_self"].values == pytest.approx(1)
    for name in ("item_share", "cka"):
        across, fixed = measured[f"{name}_across"], measured[f"{name}_corrected"]
        np.testing.assert_allclose(across, fixed, atol=1e-6)


def test_intervals_of_states_lie_around_what_is_planted_though_correlations_are_too_low():
    rng, clusters, values, centres = np.random.default_rng(4), np.arange(60) // 3, [], []
    for _ in range(8):
        stable, *noise = (
            np.sqrt(share) * clustered_states(rng, clusters, 4, (1.0,) * 100, within=0.3)
            for share in (0.7, 0.3, 0.3)
        )
        states = [middle_layer(stable + of_wording, clusters) for of_wording in noise]
        measured = variant_similarity(states)
        ends = [float(measured[f"item_share_self_middle{end}"]) for end in ("", "_low", "_high")]
        values.append(ends[0])
        centres.append((ends[1] + ends[2]) / 2)
    assert np.mean(values) < 0.698
    assert np.mean(centres) == pytest.approx(0.7, abs=0.002)


def test_less_memory_gives_the_same_values_of_wordings():
    """By blocks of languages and features; what is constant under one wording is left out."""
    rng, clusters = np.random.default_rng(3), np.arange(60) // 2
    stable = clustered_states(rng, clusters, 4, shared=0.5)
    worded = [stable + 0.5 * clustered_states(rng, clusters, 4) for _ in range(3)]
    worded[1][2] = 1.0
    states = [parallel_states([layer] * 3, clusters) for layer in worded]
    whole, in_blocks = (variant_similarity(states, memory_gb=gb) for gb in (4.0, 1e-4))
    xr.testing.assert_allclose(whole, in_blocks, atol=1e-5)
    assert np.isnan(whole["cka_self"]).sum("language").values.tolist() == [1, 1, 1]
    assert np.isfinite(whole["item_share_across_mean"]).all()


def test_two_wordings_are_enough_and_one_is_not():
    measured = of_world(Wordings(n_wordings=2), 60)
    assert measured.sizes["variant"] == 2 and measured["accuracy"].dims == ("variant", "language")
    with pytest.raises(ValueError, match="needs 2 of them"):
        agreement(np.zeros((1, 2, 5, 3)), Jackknife.of(np.arange(5)))


def test_the_mean_of_the_wordings_is_of_the_score_that_ranks_the_choices():
    """Per token: sums of a wording with longer choices would outvote the other one."""
    values = np.repeat([[[-1.0, -2.0]]], 12, axis=1).repeat(2, axis=0)
    answers, tokens = np.zeros(12, int), np.full(values.shape, 9.0)
    right = scores_dataset(values, answers)
    wrong = scores_dataset(0.9 * np.flip(values, -1), answers, lengths=tokens)
    assert variants([right, wrong], NAMES[:2])["accuracy_ensemble"].values.tolist() == [1, 1]
    assert variants([right, wrong], NAMES[:2], "sum")["accuracy_ensemble"].values.tolist() == [0, 0]


def test_wordings_that_are_equally_good_do_not_differ_by_the_noise_of_the_best_and_the_worst():
    rng, jackknife = np.random.default_rng(0), Jackknife.of(np.arange(60))
    naive, elsewhere, better = [], [], []
    for _ in range(100):
        right = (rng.random((60, 3, 4)) < 0.5).astype(float)
        naive.append(np.ptp(right.mean(axis=0), axis=0).mean())
        elsewhere.append(range_elsewhere(right, jackknife).estimate)
        right[:, 2] = rng.random((60, 4)) < 0.9
        better.append(range_elsewhere(right, jackknife).estimate)
    assert np.mean(naive) > 0.08
    assert abs(np.mean(elsewhere)) < 0.015
    assert np.mean(better) == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize("accuracies", [(0.5, 0.5, 0.5), (0.5, 0.5, 0.7)])
@pytest.mark.parametrize("clusters", [np.arange(120), np.arange(120) // 3])
def test_the_range_of_wordings_covers_and_is_hardly_wider_than_it_has_to_be(accuracies, clusters):
    """Around what wordings chosen elsewhere differ by on average over worlds."""
    rng, jackknife, made = np.random.default_rng(0), Jackknife.of(clusters), []
    for _ in range(200):
        # Items are easier in one wording than in another, in all languages.
        easier = rng.normal(0, 0.15, (clusters.max() + 1, 3, 1))[clusters]
        right = (rng.random((120, 3, 5)) < np.array(accuracies)[:, None] + easier).astype(float)
        interval = range_elsewhere(right, jackknife)
        made.append([interval.estimate, interval.low, interval.high])
    value, low, high = np.array(made).T
    covered = (low <= value.mean()) & (value.mean() <= high)
    assert covered.mean() > 0.95 - 2 * np.sqrt(0.05 * 0.95 / 200)
    assert (high - low).mean() / 2 < 1.5 * 1.96 * value.std()


def test_wordings_of_one_cluster_have_no_range():
    right = np.ones((4, 2, 3))
    assert np.isnan(range_elsewhere(right, Jackknife.of(np.zeros(4, int))).estimate)
