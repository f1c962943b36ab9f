"""Lens trajectories: hand-worked kernels, and files with planted log-odds and settling layers."""

import time

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from simulated_worlds import Lens, clusters_of, lens_file

from isogloss.errors import InputError
from isogloss.measures.statistics import Jackknife
from isogloss.measures.trajectories import (
    lens_scores,
    pivot_log_odds,
    settling_index,
    settling_of_others,
    trajectories,
)
from isogloss.questions.prompts import mismatched


def noise(seed, n_layers=4, n_items=30, n_choices=4):
    return np.random.default_rng(seed).normal(-8, 1, (n_layers, n_items, 5, n_choices))


def test_settling_index_by_hand():
    predicted = np.array([[0, 1, 1, 0, 0], [3, 3, 3, 3, 3], [0, 0, 0, 0, 1], [0, 1, 0, 1, 1]])
    assert settling_index(predicted).tolist() == [3, 0, 4, 3]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_the_answer_stands_from_the_settling_layer_and_not_before(predicted):
    at = int(settling_index(np.array(predicted)))
    assert set(predicted[at:]) == {predicted[-1]}
    assert at == 0 or predicted[at - 1] != predicted[-1]


def test_settling_on_other_items_answers_by_hand():
    # Item 0 stays at 1 from layer 1 on, item 1 at 0 throughout, item 2 changes at the end; item 3
    # has another number of choices. Item 0 on the answers of 1 and 2: only at the end, 9, and at
    # 5; item 1 on 1 and 1: at the end; item 2 on 1 and 0: at the end, and from 6 on.
    predicted = np.array([[0, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]])
    at, n_choices = np.array([0.0, 5.0, 6.0, 9.0]), np.array([2, 2, 2, 3])
    settled = settling_of_others(predicted, at, n_choices, np.arange(4))
    np.testing.assert_allclose(settled, [(9 + 5) / 2, 9, (9 + 5) / 2, np.nan])
    together = settling_of_others(predicted, at, n_choices, np.array([0, 1, 0, 1]))
    np.testing.assert_allclose(together, [9, 9, 5, np.nan])


def test_a_model_that_always_prefers_one_choice_does_not_settle_earlier_than_its_baseline():
    """Predictions that ignore the item: layers agree with each other all the same."""
    rng = np.random.default_rng(0)
    habit = rng.random((300, 12)) < 0.8
    predicted = np.where(habit, 0, rng.integers(0, 4, (300, 12)))
    depth = np.linspace(0, 1, 12)
    settles = depth[settling_index(predicted)].mean()
    baseline = settling_of_others(predicted, depth, np.full(300, 4), np.arange(300)).mean()
    independent_layers = 1 - (1 / 4) / 11  # about: each layer a random order of the choices
    assert settles < independent_layers - 0.1
    assert settles == pytest.approx(baseline, abs=0.03)


def test_pivot_log_odds_by_hand():
    # Two items, each the other's mismatched one; one layer, gold answers are choice 1.
    values = np.zeros((1, 2, 5, 2))
    values[0, :, :, 1] = -100.0
    values[0, 0, 0, 1], values[0, 0, 1, 1] = -12.0, -4.0  # item 0's phrase after its own prompt
    values[0, 1, 3, 0], values[0, 1, 4, 0] = -9.0, -5.0  # and after item 1's
    values[0, 1, 0, 1], values[0, 1, 1, 1] = -8.0, -6.0
    values[0, 0, 3, 0], values[0, 0, 4, 0] = -7.0, -7.0
    counts = np.ones((2, 5, 2))
    counts[0, 0, 1], counts[0, 1, 1], counts[1, 3, 0], counts[1, 4, 0] = 3, 2, 3, 2
    odds = pivot_log_odds(lens_file("de", values, n_tokens=counts, answer=np.array([1, 1])))
    # Item 0: -4/2 - -12/3 = 2 after its prompt, -5/2 - -9/3 = 0.5 after the other's.
    assert odds.raw[0] == pytest.approx([2.0, 2.0])
    assert odds.corrected[0] == pytest.approx([2.0 - 0.5, 2.0 - 0.0])
    # First tokens are half the phrase's value here: (-2 - -6) - (-2.5 - -4.5).
    assert odds.first_token[0, 0] == pytest.approx(4.0 - 2.0)


def test_items_whose_gold_answer_is_spelled_alike_are_left_out():
    values, identical = noise(1, n_items=4), np.zeros((4, 4), bool)
    identical[1, 0] = identical[3, 2] = True  # gold of item 1; another choice of item 3
    odds = pivot_log_odds(lens_file("de", values, identical=identical))
    assert np.isfinite(odds.raw[0]).tolist() == [True, False, True, True]
    assert np.isfinite(odds.corrected[0]).tolist() == [True, False, True, True]


def test_phrases_as_likely_by_chance_are_not_taken_for_one_string():
    """Whether two phrases are one string is known from their text, not from their likelihood."""
    values = noise(1, n_items=4)
    values[:, :, 4, 0] = values[:, :, 3, 0]
    odds = pivot_log_odds(lens_file("de", values))
    assert np.isfinite(odds.corrected).all()


def test_phrases_that_no_other_prompt_was_followed_by_are_left_out():
    clusters = np.array([0, 0, 0, 1])
    partner = mismatched(clusters)  # all of cluster 0 take item 3; item 3 takes one of them
    odds = pivot_log_odds(lens_file("de", noise(2, n_items=4), cluster=clusters))
    np.testing.assert_array_equal(np.isfinite(odds.corrected[0]), np.isin(np.arange(4), partner))


def test_phrase_effects_cancel_in_the_interval_of_the_log_odds():
    """Phrases differ by 3 nat, what is sought by less: the interval must be of the latter."""
    world, rng = Lens(phrase=3.0, prompt=0.1, noise=0.5, lean=0.4), np.random.default_rng(0)
    clusters = clusters_of(60, "everyday")
    jackknife = Jackknife.of(clusters)
    intervals = [
        jackknife.mean_interval(pivot_log_odds(world.file(rng, "l1", clusters)).corrected[-1])
        for _ in range(400)
    ]
    assert 0.93 <= np.mean([i.low <= 0.4 <= i.high for i in intervals]) <= 0.99
    # As wide as the estimate varies, not as phrases do: those make it 3.92 * 3 * sqrt(2 / 60).
    width = np.mean([i.high - i.low for i in intervals])
    assert width < 1.25 * 3.92 * np.std([i.estimate for i in intervals]) < 0.6


def test_log_odds_of_questions_with_few_answers_are_not_taken_from_the_right_answer():
    """400 yes-or-no questions: the right answer, and no other, leans to the pivot by 0.4."""
    rng = np.random.default_rng(0)
    answer = rng.integers(0, 2, 400)
    phrase = np.array([2.0, -1.0])  # how much likelier each word is in the pivot, after any prompt
    values = rng.normal(-8, 1, (1, 400, 5, 2))
    lean = phrase + 0.4 * (np.arange(2) == answer[:, None]) + 0.1 * rng.normal(size=(400, 2))
    values[0, :, 1] = values[0, :, 0] + lean
    estimates = []
    for answers in ([], [answer]):
        partner = mismatched(np.arange(400), answers)
        other = answer[partner]
        values[0, :, 3, 0] = values[0, np.arange(400), 0, other]
        values[0, :, 4, 0] = values[0, np.arange(400), 1, other]
        file = lens_file("de", values, answer=answer)
        file["mismatched_item"] = ("item", partner)
        estimates.append(np.nanmean(pivot_log_odds(file).corrected))
    assert estimates == pytest.approx([0.2, 0.4], abs=0.03)


def test_a_language_without_log_odds_says_why():
    alike = np.ones((6, 4), bool)
    lens = {
        "en": lens_file("en", noise(0, n_items=6)),
        "de": lens_file("de", noise(1, n_items=6)),
        "es": lens_file("es", noise(2, n_items=6), identical=alike),
        "fr": lens_file("fr", noise(3, n_items=6)),
    }
    nobody = ("item", np.full(6, -1))
    lens["fr"] = lens["fr"].assign(mismatched_item=nobody)
    result = trajectories(lens)
    assert result["pivot_log_odds_items"].values.tolist() == [0, 6, 0, 0]
    assert result["pivot_log_odds_reason"].values.tolist() == [
        "these are the pivot's own prompts",
        "",
        "all right choices are spelled as in the pivot",
        "no item of another cluster has another right choice",
    ]


def test_the_pivots_own_prompts_have_no_log_odds():
    assert np.isnan(pivot_log_odds(lens_file("en", noise(0))).raw).all()


def test_lens_scores_divide_by_tokens_and_leave_out_absent_choices():
    file = lens_file("de", np.full((1, 1, 5, 3), -6.0), n_tokens=np.full((1, 5, 3), 2))
    file["n_choices"] = ("item", [2])
    assert np.allclose(lens_scores(file)[0, 0, 0], [-3, -3, np.nan], equal_nan=True)
    assert np.allclose(lens_scores(file, "sum")[0, 0, 0], [-6, -6, np.nan], equal_nan=True)


@pytest.fixture(scope="module")
def planted():
    """Gold wins from layer 2 on; at layer 1 the pivot is 1.5 nat likelier, beyond a forced 3."""
    files = {}
    for seed, language in enumerate(["en", "de"]):
        values = noise(seed, n_items=60) * 0.1
        values[:2, :, :3, 1] += 5
        values[2:, :, :3, 0] += 9
        values[:, :, [1, 4]] += 3
        values[1, :, 1, 0] += 1.5
        files[language] = lens_file(language, values)
    return trajectories(files)


def test_planted_settling_layer_is_found(planted):
    assert (planted["settles_at"].sel(language="de", latent="prompt") == 6).all()
    assert planted["settling_layer"].sel(language="de", latent="prompt") == 6
    assert planted["settling_depth"].sel(language="de", latent="prompt") == pytest.approx(2 / 3)
    # All items give the same answer from layer 2 on: other items' final answers settle there too.
    assert planted["settling_layer_shuffled"].sel(language="de", latent="prompt") == 6


def test_planted_accuracy_rises_where_the_gold_answer_wins(planted):
    accuracy = planted["latent_accuracy"].sel(language="de", latent="prompt")
    assert accuracy.values.tolist() == [0, 0, 1, 1]
    high = planted["latent_accuracy_high"].sel(language="de", latent="prompt")
    assert 0 < high[0] < 0.1  # no certainty from 60 items, all wrong


def test_accuracy_of_the_choices_alone_is_that_of_the_embedding(planted):
    alone = planted.sel(language="de", latent="pivot")["latent_accuracy_choices_only"]
    assert alone == planted["latent_accuracy"].sel(language="de", latent="pivot", layer=0)
    later = {
        name: lens_file(name, noise(i)).isel(layer=[1, 2, 3]) for i, name in enumerate(["en", "de"])
    }
    assert np.isnan(trajectories(later)["latent_accuracy_choices_only"]).all()


def test_contrasts_of_latent_accuracy_are_paired():
    """The pivot is right wherever the prompt's language is, and on ten items more."""
    files = {}
    for name in ("en", "de", "sw"):
        values = noise(7, n_layers=2, n_items=60) * 1e-3
        values[:, :30, :3, 0] += 5
        values[:, 30:, :3, 1] += 5
        if name != "en":
            values[1, 30:40, 1, 0] += 9
        files[name] = lens_file(name, values)
    curves = trajectories(files).sel(contrast="pivot_prompt")
    change = curves["latent_accuracy_contrast"].sel(language="de")
    np.testing.assert_allclose(change, [0, 1 / 6])
    assert curves["latent_accuracy_contrast_low"].sel(language="de")[1] > 0.05
    assert np.isnan(curves["latent_accuracy_contrast"].sel(language="en")).all()
    np.testing.assert_allclose(curves["mean_latent_accuracy_contrast"], [0, 1 / 6])
    items = (
        curves["mean_latent_accuracy_contrast_high"] - curves["mean_latent_accuracy_contrast_low"]
    )
    crossed = curves["mean_latent_accuracy_contrast_crossed_high"]
    crossed = crossed - curves["mean_latent_accuracy_contrast_crossed_low"]
    assert (crossed[1:] > items[1:]).all()


def test_without_a_control_language_its_contrast_is_unknown():
    files = {}
    for i, name in enumerate(["en", "de"]):
        values = noise(i)
        values[:, :, 2] = np.nan
        files[name] = lens_file(name, values)
    curves = trajectories(files)["mean_latent_accuracy_contrast"]
    assert np.isfinite(curves.sel(contrast="pivot_prompt")).all()
    assert np.isnan(curves.sel(contrast="pivot_control")).all()


def test_planted_log_odds_stand_clear_of_the_forced_part(planted):
    odds = planted.sel(language="de")
    assert np.allclose(odds["pivot_log_odds"], [0, 1.5, 0, 0], atol=0.15)
    assert odds["pivot_log_odds_low"][1] < 1.5 < odds["pivot_log_odds_high"][1]
    assert np.allclose(odds["pivot_log_odds_raw"], [3, 4.5, 3, 3], atol=0.15)
    assert odds["pivot_share"][1] == pytest.approx(1 / (1 + np.exp(-odds["pivot_log_odds"][1])))
    assert odds["pivot_log_odds_items"] == 60


def test_the_pivot_has_no_values_against_itself(planted):
    pivot = planted.sel(language="en")
    for name in ("latent_consistency", "pivot_log_odds", "pivot_log_odds_low", "pivot_share"):
        assert np.isnan(pivot[name]).all(), name
    absent = pivot.sel(latent="pivot")
    for name in ("latent_accuracy", "latent_accuracy_high", "settling_layer", "settles_at"):
        assert np.isnan(absent[name]).all(), name
    assert np.isfinite(pivot["latent_accuracy"].sel(latent="prompt")).all()


def test_consistency_is_one_for_equal_ranks_and_minus_one_for_reversed():
    values = noise(3)
    files = {"en": lens_file("en", values)}
    files["de"] = lens_file("de", values * 2)
    files["sw"] = lens_file("sw", -values)
    curves = trajectories(files)["latent_consistency"]
    assert np.allclose(curves.sel(language="de"), 1)
    assert np.allclose(curves.sel(language="sw"), -1)


def test_distinct_consistency_leaves_out_items_with_a_choice_spelled_alike():
    values, identical = noise(4), np.zeros((30, 4), bool)
    other = noise(5)
    other[:, :15] = values[:, :15]
    identical[:15, 3] = True
    files = {"en": lens_file("en", values), "de": lens_file("de", other, identical=identical)}
    curves = trajectories(files).sel(language="de")
    assert (curves["latent_consistency"] > 0.35).all()
    assert (np.abs(curves["latent_consistency_distinct"]) < 0.35).all()


def test_settling_depends_on_the_score():
    values = np.full((2, 10, 5, 2), -9.0)
    values[:, :, :, 0] = -4.0
    counts = np.ones((10, 5, 2))
    counts[:, :, 1] = 3
    values[0, :, :, 1] = -13.0  # per token -4.33: choice 0 wins; at the last layer -3: choice 1
    files = {name: lens_file(name, values, n_tokens=counts) for name in ("en", "de")}
    by_score = trajectories(files)["settling_layer_by_score"]
    assert by_score.sel(language="de", latent="prompt").values.tolist() == [3, 0]


def test_layers_in_any_order_give_the_same():
    files = {name: lens_file(name, noise(i)) for i, name in enumerate(["en", "de"])}
    turned = {name: file.isel(layer=[2, 0, 3, 1]) for name, file in files.items()}
    xr.testing.assert_identical(trajectories(files), trajectories(turned))


def test_files_that_do_not_fit_are_refused_by_name():
    files = {name: lens_file(name, noise(0)) for name in ("en", "de")}
    with pytest.raises(InputError, match="score"):
        trajectories(files, score="pmi")
    with pytest.raises(InputError, match="pivot en"):
        trajectories({"de": files["de"]})
    with pytest.raises(InputError, match="lens of de: item differs"):
        trajectories({**files, "de": files["de"].assign_coords(item=np.arange(30))})
    with pytest.raises(InputError, match="lens of de: its pivot is zh"):
        trajectories({**files, "de": files["de"].assign_attrs(pivot="zh")})


def test_every_variable_says_what_it_is(planted):
    for name, variable in planted.data_vars.items():
        assert variable.attrs["long_name"] and variable.attrs["units"], name


def test_a_study_of_usual_size_takes_seconds():
    names = ["en", "de", "es", "ru", "zh", "ar", "hi", "id", "tr", "sw"]
    files = {n: lens_file(n, noise(i, 19, 120)) for i, n in enumerate(names)}
    began = time.process_time()
    trajectories(files)
    assert time.process_time() - began < 10
