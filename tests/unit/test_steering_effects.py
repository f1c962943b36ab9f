"""Steering effects: hand-worked kernels, and steered files with planted flips."""

import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import cohen_kappa_score

from isogloss.errors import InputError
from isogloss.measures.statistics import Resampling, paired_proportion_interval
from isogloss.steering.effects import (
    at_least,
    crossed_interval,
    difference_interval,
    kappa_rows,
    least_bounds,
    mean_rows,
    pooled_contributions,
    pooled_rows,
    rank_p,
    steering_effects,
    transfer_rows,
)

N_ITEMS, N_CHOICES = 40, 4
ANSWER = np.arange(N_ITEMS) % N_CHOICES
CLUSTER = np.arange(N_ITEMS) // 2
DIMS = ("language", "item", "choice")
# A dictionary, since `method` is also an argument of xarray's `sel`.
DE_DEFAULT = {"language": "de", "method": "mean_difference"}


def scores_of(predicted):
    """Log-probabilities (item, choice) that make each item's `predicted` choice the best."""
    away = (np.arange(N_CHOICES) - np.asarray(predicted)[:, None]) % N_CHOICES
    return -2.0 - 2.0 * away


def answers_with(right):
    """Predictions that are right where `right` holds, else the choice after the gold one."""
    return np.where(right, ANSWER, (ANSWER + 1) % N_CHOICES)


def first_right(n):
    return np.arange(N_ITEMS) < n


def stored_scores(right_by_language):
    languages = list(right_by_language)
    sums = np.stack([scores_of(answers_with(r)) for r in right_by_language.values()])
    ones = (DIMS, np.ones_like(sums))
    return xr.Dataset(
        {
            "sum": (DIMS, sums),
            "n_tokens": ones,
            "n_characters": ones,
            "n_bytes": ones,
            "identical_to_pivot": (DIMS, np.zeros(sums.shape, bool)),
            "answer": ("item", ANSWER),
            "n_choices": ("item", np.full(N_ITEMS, N_CHOICES)),
            "cluster": ("item", CLUSTER),
        },
        coords={"language": languages, "item": [f"i{i}" for i in range(N_ITEMS)]},
        attrs={"pivot": "en"},
    )


def steered_file(language, rows):
    """A steered file from rows (role, method, depth, alpha, draw, right)."""
    roles, methods, depths, alphas, draws, rights = zip(*rows, strict=True)
    sums = np.stack([scores_of(answers_with(r)) for r in rights])
    selected = list(
        dict.fromkeys(m for r, m in zip(roles, methods, strict=True) if r == "selected")
    )
    ones = (("item", "choice"), np.ones((N_ITEMS, N_CHOICES)))
    setting = (("selected_method", "selected_fold"), np.full((len(selected), 5), 3.0))
    return xr.Dataset(
        {
            "log_probability": (("condition", "item", "choice"), sums),
            "n_tokens": ones,
            "n_characters": ones,
            "n_bytes": ones,
            "fold": ("item", CLUSTER % 5),
            "answer": ("item", ANSWER),
            "n_choices": ("item", np.full(N_ITEMS, N_CHOICES)),
            "cluster": ("item", CLUSTER),
            "norm_ratio": ("condition", np.linspace(1, 2, len(rows))),
            "seconds": ("condition", np.arange(len(rows)) + 2.0),
            "overhead": ("selected_method", np.full(len(selected), 0.25)),
            "selected_depth": setting,
            "selected_layer": setting,
            "selected_alpha": setting,
        },
        coords={
            "role": ("condition", list(roles)),
            "method": ("condition", list(methods)),
            "relative_depth": ("condition", list(depths)),
            "alpha": ("condition", list(alphas)),
            "draw": ("condition", list(draws)),
            "selected_method": selected,
            "item": [f"i{i}" for i in range(N_ITEMS)],
        },
        attrs={"language": language, "pivot": "en", "score": "token"},
    )


def planted_rows(before, after, harmed=30):
    """Unsteered, a 2 x 2 grid, two methods selected, and controls, by numbers of right items."""
    nan = np.nan
    grid = [
        ("grid", "mean_difference", depth, alpha, 0, first_right(before + gain))
        for depth, alpha, gain in ((0.25, 0.5, 0), (0.25, 1.0, 2), (0.5, 0.5, 4), (0.5, 1.0, -4))
    ]
    random = [
        ("control", "random", nan, nan, draw, first_right(before + draw - 1)) for draw in range(3)
    ]
    return [
        ("unsteered", "unsteered", nan, 0.0, 0, first_right(before)),
        *grid,
        ("selected", "mean_difference", nan, nan, 0, first_right(after)),
        ("selected", "shared_projection", nan, nan, 0, first_right(before)),
        ("control", "zero", nan, nan, 0, first_right(before)),
        ("control", "reverse", nan, nan, 0, first_right(before - 2)),
        *random,
        ("unsteered", "pivot_unsteered", nan, 0.0, 0, first_right(32)),
        ("control", "pivot_harm", nan, nan, 0, first_right(harmed)),
    ]


STEERED = {"de": planted_rows(20, 30), "sw": planted_rows(12, 16, harmed=32)}


@pytest.fixture(scope="module")
def scores():
    return stored_scores({"en": first_right(32), "de": first_right(20), "sw": first_right(12)})


@pytest.fixture(scope="module")
def found(scores):
    files = {language: steered_file(language, rows) for language, rows in STEERED.items()}
    return steering_effects(files, scores, n_boot=400, n_perm=999)


def test_effect_and_flips_are_the_planted_ones(found):
    method = {"method": "mean_difference"}
    assert found["effect"].sel(method).values.tolist() == [0.25, 0.1]
    assert found["flipped_right"].sel(method).values.tolist() == [10, 4]
    assert found["flipped_wrong"].sel(method).values.tolist() == [0, 0]
    assert found["net"].sel(method).values.tolist() == [10, 4]
    assert found["pooled_effect"].sel(method) == pytest.approx(0.175)
    assert found["accuracy_unsteered"].values.tolist() == [0.5, 0.3]
    assert found["accuracy_steered"].sel(method).values.tolist() == [0.75, 0.4]


def test_effect_interval_is_the_cluster_bootstrap_of_paired_differences(found):
    change = first_right(30).astype(float) - first_right(20)
    drawn = Resampling.of(CLUSTER, n_boot=400)
    expected = drawn.interval(drawn.sums(change) / drawn.sums(np.ones(len(change))))
    one = found.sel(DE_DEFAULT)
    assert one["effect_low"] == pytest.approx(float(expected.low))
    assert one["effect_high"] == pytest.approx(float(expected.high))
    assert 0 < one["effect_low"] < 0.25 < one["effect_high"]


def test_p_values_are_exact_sign_flips_of_clusters_and_holm_covers_the_family(found):
    # de: 5 clusters flip by 2 each: 2 of 32 patterns are as extreme; sw: 2 clusters, 2 of 4.
    assert found["primary_p"].values.tolist() == [2 / 32, 2 / 4]
    assert found["primary_p_holm"].values.tolist() == [4 / 32, 2 / 4]
    assert found["primary_net"].values.tolist() == [10, 4]
    assert found["p"].sel({"method": "shared_projection"}).values.tolist() == [1, 1]
    assert found["p_holm"].sel(DE_DEFAULT) == pytest.approx(8 / 32)


def test_no_flips_is_no_certainty(found):
    one = found.sel(DE_DEFAULT | {"method": "shared_projection"})
    assert one["effect"] == 0
    assert one["effect_low"] < 0 < one["effect_high"]
    assert np.isnan(one["minimum_detectable_effect"])
    least = found["primary_minimum_detectable_effect"].sel(language="de")
    family = found["minimum_detectable_effect"].sel(DE_DEFAULT)
    assert 0 < least < family  # four tests ask for more than two


def test_transfer_changes_by_hand(found):
    # The pivot is right on the first 32 items, de on the first 20, then 30: all of them shared.
    one = found.sel(DE_DEFAULT)
    assert one["transfer_to_change"] == pytest.approx(30 / 32 - 20 / 32)
    assert one["transfer_from_change"] == pytest.approx(0)
    assert one["transfer_to_lift_change"] == pytest.approx(10 / 32 - 10 / 40)


def test_consistency_change_by_hand(found):
    # Agreeing items have rho 1. One position off, ranks (1,2,3,4) against (2,3,4,1) or its
    # inverse: rho -0.2. Items 20 to 29 turn from -0.2 to 1.
    one = found.sel(DE_DEFAULT)
    assert one["consistency_change"] == pytest.approx(10 * 1.2 / 40)
    assert one["consistency_change_distinct"] == pytest.approx(10 * 1.2 / 40)
    assert one["consistency_change_low"] > 0
    assert one["consistency_change_p"] == pytest.approx(2 / 32)
    pivot, before, after = (answers_with(first_right(n)) for n in (32, 20, 30))
    expected = cohen_kappa_score(pivot, after) - cohen_kappa_score(pivot, before)
    assert one["kappa_change"] == pytest.approx(expected)


def test_controls_and_what_the_default_method_adds_to_them(found):
    effect = found["control_effect"].sel(language="de")
    assert effect.sel(control="reverse") == pytest.approx(-2 / 40)
    assert effect.sel(control="random") == pytest.approx(0)
    over = found["effect_over_control"].sel(language="de")
    assert over.sel(control="reverse") == pytest.approx(12 / 40)
    assert "pivot_harm" not in found["control"]
    draws = found["random_draws"].sel(language="de")
    assert np.allclose(draws, [-1 / 40, 0, 1 / 40])
    assert found["p_random"].values.tolist() == [1 / 4, 1 / 4]
    assert found["pooled_p_random"] == 1 / 4


def test_surface_and_selection(found):
    surface = found["surface"].sel(DE_DEFAULT)
    assert np.allclose(surface.transpose("relative_depth", "alpha"), [[0, 0.05], [0.1, -0.1]])
    consistency = found["surface_consistency"].sel(DE_DEFAULT)
    assert np.allclose(consistency, [[0, 0.06], [0.12, -0.12]])
    assert np.isnan(found["surface"].sel({"method": "shared_projection"})).all()
    assert (found["selected_layer"] == 3).all()
    assert found["selected_layer"].dims == ("language", "method", "fold")


def test_pivot_harm_uses_the_pivots_own_reference_and_lengths(scores):
    # With the pivot's own token counts its wrong choice wins per token on the last 10 items.
    counts = np.ones((N_ITEMS, N_CHOICES))
    last = np.arange(N_ITEMS) >= 22
    counts[last, (ANSWER[last] + 1) % N_CHOICES] = 4  # -4 / 4 beats -2
    longer = scores.copy(deep=True)
    longer["n_tokens"].loc[{"language": "en"}] = counts
    files = {"de": steered_file("de", STEERED["de"])}
    plain = steering_effects(files, scores, n_boot=100, n_perm=99)
    token = steering_effects(files, longer, n_boot=100, n_perm=99)
    assert plain["pivot_harm"].sel(language="de") == pytest.approx(-2 / 40)
    assert token["pivot_harm"].sel(language="de") == 0
    assert token["effect"].sel(DE_DEFAULT) == 0.25


def test_checks_and_costs(found):
    assert (found["zero_max_abs_difference"] == 0).all()
    assert (found["unsteered_max_abs_difference"] == 0).all()
    one = found.sel(DE_DEFAULT)
    assert one["overhead"] == 0.25
    assert one["norm_ratio"] == pytest.approx(1 + 5 / 13)


def test_near_chance_is_marked(found):
    assert found["chance"] == 0.25
    assert found["near_chance"].values.tolist() == [False, True]


def test_every_variable_says_what_it_is_and_languages_are_kept_in_order(found):
    assert found["language"].values.tolist() == ["de", "sw"]
    assert found.attrs["default_method"] == "mean_difference"
    for name, variable in found.data_vars.items():
        assert variable.attrs["long_name"] and variable.attrs["units"], name


def test_a_file_of_the_pivot_changes_nothing(found, scores):
    files = {language: steered_file(language, rows) for language, rows in STEERED.items()}
    files["en"] = steered_file("en", STEERED["de"])
    xr.testing.assert_identical(steering_effects(files, scores, n_boot=400, n_perm=999), found)


def test_a_study_without_controls_leaves_their_numbers_out(scores):
    rows = [row for row in STEERED["de"] if row[0] in ("grid", "selected") or row[1] == "unsteered"]
    bare = steering_effects({"de": steered_file("de", rows)}, scores, n_boot=100, n_perm=99)
    assert not {"control", "draw"} & set(bare.dims)
    assert not {"control_effect", "p_random"} & set(bare.data_vars)
    for name in ("pivot_harm", "pivot_harm_p", "zero_max_abs_difference"):
        assert np.isnan(bare[name]).all(), name
    assert bare["effect"].sel(DE_DEFAULT) == 0.25


def test_a_cluster_in_two_folds_is_an_item_on_both_sides(scores):
    file = steered_file("de", STEERED["de"])
    file["fold"] = ("item", np.arange(N_ITEMS) % 5)
    with pytest.raises(InputError, match="cluster 0 is in more than one fold"):
        steering_effects({"de": file}, scores)


def test_files_that_do_not_fit_are_refused_by_name(scores):
    files = {language: steered_file(language, rows) for language, rows in STEERED.items()}
    with pytest.raises(InputError, match="'letter'"):
        steering_effects(files, scores, score="letter")
    with pytest.raises(InputError, match="other than the pivot"):
        steering_effects({"en": files["de"]}, scores)
    moved = files["sw"].assign_coords(item=[f"x{i}" for i in range(N_ITEMS)])
    with pytest.raises(InputError, match="steered file of sw: item differs"):
        steering_effects({**files, "sw": moved}, scores)
    with pytest.raises(InputError, match="no stored scores of sw"):
        steering_effects(files, scores.sel(language=["en", "de"]))
    with pytest.raises(InputError, match="no stored scores of item 'i0'"):
        steering_effects(files, scores.isel(item=slice(1, None)))
    bare = files["de"].isel(condition=files["de"]["role"].values != "selected")
    with pytest.raises(InputError, match="role 'selected'"):
        steering_effects({"de": bare}, scores)


def test_pooled_contributions_average_to_the_mean_of_means():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 3, 2))
    values[:10, 0] = np.nan
    values[:, 2, 1] = np.nan
    expected = [values[:, :, 0], values[:, :2, 1]]
    expected = [np.nanmean(np.nanmean(v, axis=0)) for v in expected]
    assert np.allclose(pooled_contributions(values).mean(axis=0), expected)
    rows = mean_rows(values, Resampling.of(np.arange(30), n_boot=20))
    assert np.allclose(pooled_rows(rows)[0], expected)


def test_resampling_languages_too_widens_the_interval():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(60, 6)) + np.linspace(-3, 3, 6)
    resampling = Resampling.of(np.arange(60), n_boot=500)
    rows = mean_rows(values, resampling)
    items = resampling.interval(pooled_rows(rows))
    both = crossed_interval(rows, resampling, seed=0)
    assert both.estimate == pytest.approx(float(items.estimate))
    assert both.high - both.low > 3 * (items.high - items.low)
    assert np.isnan(crossed_interval(rows[:, :1], resampling, seed=0).low)


def test_differences_that_are_all_alike_fall_back_to_agresti_min():
    resampling = Resampling.of(CLUSTER, n_boot=100)
    differences = np.zeros((N_ITEMS, 2))
    differences[:, 1] = -1
    interval = difference_interval(differences, resampling)
    nothing = np.zeros(20, bool)
    expected = paired_proportion_interval(nothing, nothing)
    assert interval.low[0] == expected.low and interval.high[0] == expected.high
    assert interval.low[1] == -1 < interval.high[1] < -0.7


def test_no_flips_in_any_language_is_no_certainty_about_their_mean(found):
    method, control = {"method": "shared_projection"}, {"control": "zero"}
    for name, at in (("effect", method), ("control_effect", control)):
        assert found[f"pooled_{name}"].sel(at) == 0
        for kind in ("", "_crossed"):
            low, high = (found[f"pooled_{name}{kind}_{end}"].sel(at) for end in ("low", "high"))
            assert low == pytest.approx(float(found[f"{name}_low"].sel(at)[0]))
            assert high == pytest.approx(float(found[f"{name}_high"].sel(at)[0]))


def test_a_method_that_does_what_its_control_does_is_not_surely_the_same(scores):
    rows = {tag: planted_rows(20, 20) for tag in ("de", "sw")}
    same = steering_effects({t: steered_file(t, r) for t, r in rows.items()}, scores, n_boot=99)
    for name in ("effect_over_control", "pooled_effect_over_control"):
        low, high = (same[f"{name}_{end}"].sel(control="zero") for end in ("low", "high"))
        assert (low < 0).all() and (high > 0).all(), name


def test_bounds_of_a_mean_are_limited_where_flips_cancel_in_every_item():
    resampling = Resampling.of(np.arange(40), n_boot=200)
    flips = np.where(np.arange(40) % 4 == 0, 1.0, 0.0)
    both = np.stack([flips, -flips], axis=1)
    own = difference_interval(both, resampling)
    least = least_bounds(both, own)
    assert least.low == pytest.approx(own.low.mean()) and least.low < 0 < least.high
    plain = resampling.interval(pooled_rows(mean_rows(both, resampling)))
    assert plain.low == plain.high == 0
    wider = at_least(plain, least)
    assert (wider.low, wider.high) == (least.low, least.high)
    vary = least_bounds(both[:, :1], difference_interval(both[:, :1], resampling))
    assert np.isnan(vary.low) and at_least(plain, vary).low == 0


def test_results_are_the_same_in_any_order_of_languages(found, scores):
    files = {tag: steered_file(tag, STEERED[tag]) for tag in ("sw", "de")}
    other = steering_effects(files, scores, n_boot=400, n_perm=999).sel(language=["de", "sw"])
    xr.testing.assert_allclose(other, found, rtol=1e-12)


def test_transfer_needs_ten_items_and_is_directed():
    resampling = Resampling.of(np.arange(40), n_boot=50)
    nine, many = first_right(9).astype(float), first_right(30).astype(float)
    assert np.isnan(transfer_rows(nine, many, resampling)).all()
    assert transfer_rows(many, nine, resampling)[0] == pytest.approx(9 / 30)


def test_kappa_agrees_with_scikit_learn_and_is_nan_without_variety():
    rng = np.random.default_rng(2)
    first, second = rng.integers(0, 3, (2, 50)).astype(float)
    resampling = Resampling.of(np.arange(50), n_boot=10)
    expected = cohen_kappa_score(first, second)
    assert kappa_rows(first, second, resampling)[0] == pytest.approx(expected)
    same = np.ones(50)
    assert np.isnan(kappa_rows(same, same, resampling)[0])


def test_rank_among_random_draws():
    draws = np.array([[0.1, 0.1], [0.2, np.nan], [0.3, np.nan]])
    assert rank_p(np.array([0.25, 0.25]), draws).tolist() == [2 / 4, 1 / 2]
    assert np.isnan(rank_p(np.array(0.1), np.zeros(0)))
