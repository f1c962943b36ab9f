"""Slopes over size in worlds of items, languages and seeds; none where there can be none."""

import numpy as np
import pytest

from isogloss.measures.slopes import (
    Slope,
    over_seeds,
    seed_variance,
    slope_of_estimates,
    slope_per_decade,
    without_flips,
)

SIZES = np.array([2.7e8, 1e9, 4e9])
N_CLUSTERS = 40


def measured(rng, parameters, slope=0.0, item=1.0, seed=0.0):
    """Values of models on the same clusters of items, and without each; and without a language.

    Args:
        item: spread of a cluster's value in one model; all models have as much in common.
        seed: spread of models of one size.
    """
    truth = slope * np.log10(parameters) + seed * rng.normal(size=len(parameters))
    clusters = item * rng.normal(size=N_CLUSTERS) + item * rng.normal(size=(len(truth), N_CLUSTERS))
    clusters += truth[:, None]
    total = clusters.sum(axis=1, keepdims=True)
    return total[:, 0] / N_CLUSTERS, (total - clusters) / (N_CLUSTERS - 1), np.ones((len(truth), 3))


def fits(rng, parameters, n=500, **world):
    return [slope_per_decade(parameters, *measured(rng, parameters, **world)) for _ in range(n)]


def within_two_errors(share, expected, n=500):
    return abs(share - expected) < 2 * np.sqrt(expected * (1 - expected) / n)


def test_three_sizes_have_a_slope_whose_interval_covers_and_whose_test_holds():
    rng = np.random.default_rng(0)
    slopes = fits(rng, SIZES, slope=0.2)
    assert within_two_errors(np.mean([f.low <= 0.2 <= f.high for f in slopes]), 0.95)
    null = fits(rng, SIZES)
    assert within_two_errors(np.mean([f.p <= 0.05 for f in null]), 0.05)


def test_item_noise_alone_decides_what_three_sizes_can_show():
    # A line through three models has one degree of freedom: its t test finds this in .21 of worlds.
    slopes = fits(np.random.default_rng(0), SIZES, slope=0.65)
    assert np.mean([f.p <= 0.05 for f in slopes]) > 0.8


def test_points_on_a_line_are_no_surer_than_their_items():
    rng = np.random.default_rng(0)
    values, without_cluster, without_language = measured(rng, SIZES, item=1)
    line = 0.1 + 0.02 * np.log10(SIZES)
    moved = without_cluster + (line - values)[:, None]
    slope = slope_per_decade(SIZES, line, moved, without_language)
    assert slope.value == pytest.approx(0.02) and slope.p > 0.5 and slope.low < 0 < slope.high


def test_what_all_models_share_of_an_item_does_not_widen_a_slope():
    rng = np.random.default_rng(0)
    values, without_cluster, without_language = measured(rng, SIZES)
    shared = 100 * rng.normal(size=N_CLUSTERS)
    slopes = [
        slope_per_decade(SIZES, values, without_cluster + more, without_language)
        for more in (0, shared)
    ]
    assert slopes[1].high - slopes[1].low == pytest.approx(slopes[0].high - slopes[0].low)


@pytest.mark.parametrize("n_seeds", [2, 4])
@pytest.mark.parametrize("item, seed", [(0.3, 0.5), (1, 0.2), (1, 0)])
def test_seeds_are_the_top_level_where_there_are_any(n_seeds, item, seed):
    rng = np.random.default_rng(0)
    slopes = fits(rng, np.repeat(SIZES, n_seeds), slope=0.2, item=item, seed=seed)
    covered = np.mean([f.low <= 0.2 <= f.high for f in slopes])
    assert 0.95 - 2 * np.sqrt(0.05 * 0.95 / 500) < covered < 0.98


def test_one_seed_hides_that_another_gives_another_slope():
    rng = np.random.default_rng(0)
    alone = fits(rng, SIZES, slope=0.2, item=0.3, seed=0.5)
    assert np.mean([f.low <= 0.2 <= f.high for f in alone]) < 0.5


def test_languages_widen_the_crossed_interval_alone():
    rng = np.random.default_rng(0)
    values, without_cluster, _ = measured(rng, SIZES)
    same = slope_per_decade(SIZES, values, without_cluster, np.ones((3, 5)))
    languages = values[:, None] + 0.3 * rng.normal(size=(3, 5))
    languages[:, 0] = np.nan  # the pivot
    slope = slope_per_decade(SIZES, values, without_cluster, languages)
    assert (slope.low, slope.high, slope.p) == (same.low, same.high, same.p)
    assert slope.crossed_low < slope.low and slope.crossed_high > slope.high


@pytest.mark.parametrize(
    "parameters, values, why",
    [
        ([1e8], [0.1], "1 size: a slope needs 3"),
        ([1e8, 1e9], [0.1, 0.2], "2 sizes: a slope needs 3"),
        ([1e8, 1e8, 1e9], [0.1, 0.2, 0.3], "2 sizes: a slope needs 3"),
        ([1e8, 1e9, 1e10], [0.1, np.nan, 0.3], "2 sizes: a slope needs 3"),
    ],
)
def test_fewer_than_three_sizes_have_no_slope_and_say_why(parameters, values, why):
    units = np.ones((len(values), 4))
    slope = slope_per_decade(np.array(parameters), np.array(values), units, units)
    assert slope.reason == why and np.isnan([slope.value, slope.low, slope.high, slope.p]).all()


def test_values_that_no_item_changes_have_no_interval():
    slope = slope_per_decade(SIZES, np.arange(3.0), np.ones((3, 9)), np.ones((3, 3)))
    assert isinstance(slope, Slope) and np.isfinite(slope.value)
    assert np.isnan([slope.low, slope.high, slope.p]).all() and slope.reason == ""


def test_seed_variance_is_that_within_sizes_less_that_of_items():
    sizes, values = np.repeat([1e8, 1e9], 3), np.array([1, 2, 3, 10, 12, 14.0])
    without_cluster = np.repeat(values[:, None], 4, axis=1)
    variance = seed_variance(sizes, values, without_cluster)
    assert (variance.total, variance.beyond_items, variance.degrees) == (
        pytest.approx(2.5),
        variance.total,
        4,
    )
    without_cluster[0, 0] += 2
    # In one model: 3/4 of 4 less its mean's square, and 2/3 of it apart from its size's mean.
    expected = 2.5 - 3 / 4 * (4 - 4 * 0.25) * (2 / 3) / 4
    assert seed_variance(sizes, values, without_cluster).beyond_items == pytest.approx(expected)
    assert seed_variance(SIZES, np.arange(3.0), np.ones((3, 4))).degrees == 0


def test_a_slope_of_estimates_covers_and_holds_its_level():
    rng, errors = np.random.default_rng(0), np.array([0.02, 0.03, 0.05])
    for slope in (0.0, -0.1):
        slopes = []
        for _ in range(500):
            values = slope * np.log10(SIZES) + errors * rng.normal(size=3)
            half = 1.959964 * errors
            slopes.append(slope_of_estimates(SIZES, values, values - half, values + half))
        assert within_two_errors(np.mean([f.low <= slope <= f.high for f in slopes]), 0.95)
        excluded = [not f.low <= 0 <= f.high for f in slopes]
        assert [f.p <= 0.05 for f in slopes] == excluded


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
@pytest.mark.parametrize("shared, apart, seed", [(1, 0, 0.3), (0.5, 0.5, 1), (1, 0, 3), (0, 1, 0)])
def test_over_seeds_covers_whatever_seeds_and_items_add(n_seeds, shared, apart, seed):
    """Item noise of variance 1 in each seed's estimate, of which `shared` is that of all seeds."""
    rng, covered, rejected = np.random.default_rng(0), [], []
    for _ in range(1000):
        noise = np.sqrt(shared) * rng.normal() + np.sqrt(apart) * rng.normal(size=n_seeds)
        values = noise + seed * rng.normal(size=n_seeds)
        _, low, high, p = over_seeds(values, values - 1.959964, values + 1.959964)
        covered.append(low <= 0 <= high)
        rejected.append(p <= 0.05)
    assert np.mean(covered) > 0.95 - 2 * np.sqrt(0.05 * 0.95 / 1000)
    assert rejected == [not c for c in covered]
    alone = [abs(v) <= 1.96 for v in np.random.default_rng(0).normal(0, np.hypot(1, seed), 1000)]
    assert seed < 1 or np.mean(alone) < 0.87  # one seed, taken for the model, covers less


@pytest.mark.parametrize("n_seeds", [2, 4])
def test_a_slope_of_estimates_takes_seeds_as_drawn(n_seeds):
    rng, sizes, covered = np.random.default_rng(0), np.repeat(SIZES, n_seeds), {0: [], 0.1: []}
    for seed, hits in covered.items():
        for _ in range(500):
            values = 0.03 * rng.normal(size=len(sizes)) + seed * rng.normal(size=len(sizes))
            half = 1.959964 * 0.03
            slope = slope_of_estimates(sizes, values, values - half, values + half)
            hits.append(slope.low <= 0 <= slope.high)
        assert np.mean(hits) > 0.95 - 2 * np.sqrt(0.05 * 0.95 / 500)


def test_estimates_without_an_interval_have_no_place_in_a_slope():
    values = np.array([0.1, 0.2, 0.3])
    low, high = values - 0.1, np.array([0.2, 0.3, np.nan])
    slope = slope_of_estimates(SIZES, values, low, high)
    assert slope.reason == "2 sizes: a slope needs 3" and np.isnan(slope.value)


def test_a_slope_over_steering_is_free_of_bias_if_models_without_a_change_stay():
    """240 questions in one language, four sizes; the largest often change no answer."""
    rng, sizes, n = np.random.default_rng(0), 10.0 ** np.arange(8, 12), 240
    gains, losses = np.array([0.08, 0.04, 0.004, 0.002]), np.array([0.02, 0.01, 0.001, 0.001])
    truth = np.polyfit(np.log10(sizes), gains - losses, 1)[0]
    slopes = {"out": [], "kept": []}
    for _ in range(1000):
        drawn = rng.random((n, len(sizes)))
        changes = (drawn < gains) * 1.0 - ((drawn >= gains) & (drawn < gains + losses))
        mean, error = changes.mean(axis=0), changes.std(axis=0, ddof=1) / np.sqrt(n)
        half, none = 1.959964 * error, error == 0
        for how, of_none in (("out", np.nan), ("kept", without_flips(n)[1])):
            reach = np.where(none, of_none, half)
            slopes[how].append(slope_of_estimates(sizes, mean, mean - reach, mean + reach))
    bias = {how: np.nanmean([s.value for s in made]) - truth for how, made in slopes.items()}
    assert abs(bias["kept"]) < 0.0006 < 0.001 < abs(bias["out"])
    covers = [s.low <= truth <= s.high for s in slopes["kept"]]
    assert within_two_errors(np.mean(covers), 0.95, 1000)
