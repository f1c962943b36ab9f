"""Lens trajectories: hand-worked kernels, and files with planted log-odds and settling layers."""

import time

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from isogloss.errors import InputError
from isogloss.measures.trajectories import (
    lens_scores,
    pivot_log_odds,
    same_phrase,
    settling_index,
    shuffled_settling,
    trajectories,
)

LATENTS = ["prompt", "pivot", "control", "prompt_mismatched", "pivot_mismatched"]


def lens_file(
    language, log_probability, *, n_tokens=None, answer=None, identical=None, cluster=None
):
    """A lens file from log-probabilities (layer, item, latent, choice); pivot en."""
    n_layers, n_items, _, n_choices = log_probability.shape
    values = np.array(log_probability, dtype=float)
    if language == "en":
        values[:, :, [1, 4]] = np.nan
    counts = np.ones((n_items, 5, n_choices)) if n_tokens is None else n_tokens
    same = np.zeros((n_items, n_choices), bool) if identical is None else identical
    return xr.Dataset(
        {
            "log_probability": (("layer", "item", "latent", "choice"), values),
            "first_token": (("layer", "item", "latent", "choice"), values / 2),
            "n_tokens": (("item", "latent", "choice"), counts),
            "answer": ("item", np.zeros(n_items, int) if answer is None else answer),
            "n_choices": ("item", np.full(n_items, n_choices)),
            "cluster": ("item", np.arange(n_items) if cluster is None else cluster),
            "identical_to_pivot": (("item", "choice"), same),
        },
        coords={
            "layer": np.arange(n_layers) * 3,
            "relative_depth": ("layer", np.linspace(0, 1, n_layers)),
            "item": [f"i{i}" for i in range(n_items)],
            "latent": LATENTS,
        },
        attrs={"language": language, "pivot": "en", "control": "es"},
    )


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


@pytest.mark.parametrize("n_choices", [2, 4])
def test_shuffled_settling_is_what_random_choices_give(n_choices):
    positions = np.array([0.0, 5.0, 6.0, 9.0])
    drawn = np.random.default_rng(0).integers(0, n_choices, (200_000, 4))
    simulated = positions[settling_index(drawn)].mean()
    expected = shuffled_settling(positions, np.array([n_choices]))[0]
    assert abs(expected - simulated) < 0.03


def test_pivot_log_odds_by_hand():
    values = np.zeros((1, 1, 5, 2))
    values[0, 0, :, 1] = -100  # the gold answer, choice 1, except in the mismatched rows
    values[0, 0, 0, 1], values[0, 0, 1, 1] = -12.0, -4.0
    values[0, 0, 3, 0], values[0, 0, 4, 0] = -9.0, -5.0
    counts = np.ones((1, 5, 2))
    counts[0, 0, 1], counts[0, 1, 1], counts[0, 3, 0] = 3, 2, 3
    odds = pivot_log_odds(lens_file("de", values, n_tokens=counts, answer=np.array([1])))
    # raw: -4/2 - -12/3; mismatched: -5/1 - -9/3
    assert odds.raw.item() == pytest.approx(2.0)
    assert odds.corrected.item() == pytest.approx(2.0 - (-2.0))
    # first tokens are half the phrase's value here: (-2 - -6) - (-2.5 - -4.5)
    assert odds.first_token.item() == pytest.approx(4.0 - 2.0)


def test_identical_gold_leaves_both_and_identical_mismatched_answers_only_the_correction():
    values = noise(1, n_items=4)
    values[:, 2, 3, 0] = values[:, 2, 4, 0]
    identical = np.zeros((4, 4), bool)
    identical[1, 0] = identical[3, 2] = True  # gold of item 1; another choice of item 3
    odds = pivot_log_odds(lens_file("de", values, identical=identical))
    assert np.isfinite(odds.raw[0]).tolist() == [True, False, True, True]
    assert np.isfinite(odds.corrected[0]).tolist() == [True, False, False, True]


def test_the_pivots_own_prompts_have_no_log_odds():
    assert np.isnan(pivot_log_odds(lens_file("en", noise(0))).raw).all()


def test_phrases_that_part_at_one_layer_are_not_the_same():
    first = np.array([[-1.0, -2.0, -3.0], [-1.0, -2.0, -3.0]])
    second = first + np.array([[0, 0, 0], [0, 0.5, 0]])
    assert same_phrase(first, second, np.ones(3), np.array([1, 1, 2])).tolist() == [
        True,
        False,
        False,
    ]


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
    shuffled = planted["settling_layer_shuffled"].sel(language="de", latent="prompt")
    assert 6 < shuffled < 9


def test_planted_accuracy_rises_where_the_gold_answer_wins(planted):
    accuracy = planted["latent_accuracy"].sel(language="de", latent="prompt")
    assert accuracy.values.tolist() == [0, 0, 1, 1]
    high = planted["latent_accuracy_high"].sel(language="de", latent="prompt")
    assert 0 < high[0] < 0.1  # no certainty from 60 items, all wrong


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
    found = trajectories(files)["latent_consistency"]
    assert np.allclose(found.sel(language="de"), 1)
    assert np.allclose(found.sel(language="sw"), -1)


def test_distinct_consistency_leaves_out_items_with_a_choice_spelled_alike():
    values, identical = noise(4), np.zeros((30, 4), bool)
    other = noise(5)
    other[:, :15] = values[:, :15]
    identical[:15, 3] = True
    files = {"en": lens_file("en", values), "de": lens_file("de", other, identical=identical)}
    found = trajectories(files).sel(language="de")
    assert (found["latent_consistency"] > 0.35).all()
    assert (np.abs(found["latent_consistency_distinct"]) < 0.35).all()


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
