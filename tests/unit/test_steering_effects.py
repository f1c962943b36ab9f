"""Steering effects: hand-worked kernels, and steered files with planted flips."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from isogloss.errors import InputError
from isogloss.measures.behaviour import cohens_kappa
from isogloss.measures.statistics import Flips, Jackknife, mean_present, minimum_detectable_effect
from isogloss.measures.transfer import transfer_rows
from isogloss.steering.effect_table import (
    EffectTable,
    at_chosen_settings,
    over_languages,
    pooled_differences,
    without_each_language,
)
from isogloss.steering.effects import rank_p, steering_effects
from isogloss.steering.inference import Search, choose, flip_claims, swap_claims

N_ITEMS, N_CHOICES = 40, 4
ANSWER = np.arange(N_ITEMS) % N_CHOICES
CLUSTER = np.arange(N_ITEMS) // 2
DIMS = ("language", "item", "choice")
# A dictionary, since `method` is also an argument of xarray's `sel`.
DE_DEFAULT = {"language": "de", "method": "mean_difference"}
ZERO = {"control": "zero"}


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
    """A steered file from rows (role, method, depth, alpha, draw, right).

    All folds are given the setting of depth 0.5 and strength 0.5: the third of the grid.
    """
    roles, methods, depths, alphas, draws, rights = zip(*rows, strict=True)
    sums = np.stack([scores_of(answers_with(r)) for r in rights])
    selected = list(
        dict.fromkeys(m for r, m in zip(roles, methods, strict=True) if r == "selected")
    )
    ones = (("item", "choice"), np.ones((N_ITEMS, N_CHOICES)))
    given = np.full((len(selected), 5), 0.5)
    setting = (("selected_method", "selected_fold"), given)
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
            "cosine": ("condition", np.linspace(-1, 1, len(rows))),
            "overhead": ("selected_method", np.full(len(selected), 0.25)),
            "forward_seconds": ((), 0.5),
            "evaluation_seconds": ((), 60.0),
            "selected_depth": setting,
            "selected_layer": (setting[0], 8 * given),
            "selected_alpha": setting,
        },
        coords={
            "role": ("condition", list(roles)),
            "method": ("condition", list(methods)),
            "layer": ("condition", 8 * np.nan_to_num(depths, nan=-1 / 8)),
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
    settings = ((0.25, 0.5), (0.25, 1.0), (0.5, 0.5), (0.5, 1.0))
    grid = [
        ("grid", method, depth, alpha, 0, first_right(before + gain))
        for method, gains in (
            ("mean_difference", (0, 2, after - before, -4)),
            ("shared_projection", (0, 0, 0, 0)),
        )
        for (depth, alpha), gain in zip(settings, gains, strict=True)
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
def effects(scores):
    files = {language: steered_file(language, rows) for language, rows in STEERED.items()}
    return steering_effects(files, scores, n_perm=999)


def test_effect_and_flips_are_the_planted_ones(effects):
    method = {"method": "mean_difference"}
    assert effects["effect"].sel(method).values.tolist() == [0.25, 0.1]
    assert effects["flipped_right"].sel(method).values.tolist() == [10, 4]
    assert effects["flipped_wrong"].sel(method).values.tolist() == [0, 0]
    assert effects["net"].sel(method).values.tolist() == [10, 4]
    assert effects["pooled_effect"].sel(method) == pytest.approx(0.175)
    assert effects["accuracy_unsteered"].values.tolist() == [0.5, 0.3]
    assert effects["accuracy_steered"].sel(method).values.tolist() == [0.75, 0.4]


def test_intervals_and_p_are_those_of_flips_with_the_search(effects):
    """By language, and in the mean over languages, whose claim is of the same flips."""
    grid = [first_right(n).astype(float) for n in (20, 22, 30, 16)]
    grid += [first_right(n).astype(float) for n in (12, 14, 16, 8)]
    change = np.array(grid).reshape(2, 4, N_ITEMS).transpose(2, 0, 1)
    change = change - np.stack([first_right(20), first_right(12)], axis=1)[..., None]
    search = Search(change, 8 * change, CLUSTER % 5, np.full((2, 5), 2))
    claim, pooled = flip_claims(change, search, CLUSTER, n_perm=999)
    method = {"method": "mean_difference"}
    np.testing.assert_allclose(effects["p"].sel(method), claim.p)
    np.testing.assert_allclose(effects["effect_low"].sel(method), claim.interval.low)
    np.testing.assert_allclose(effects["effect_high"].sel(method), claim.interval.high)
    np.testing.assert_allclose(effects["pooled_p"].sel(method), pooled.p)
    np.testing.assert_allclose(effects["pooled_effect_low"].sel(method), pooled.interval.low)
    assert (effects["primary_p"] == effects["p"].sel(method)).all()
    assert effects["primary_net"].values.tolist() == [10, 4]
    assert 0 < claim.p[0] < 0.2 < claim.p[1]


def test_controls_that_search_have_their_search_in_their_interval(scores):
    """`reverse` does best at the third setting on any four folds, where it turns 8 items right."""
    settings = ((0.25, 0.5), (0.25, 1.0), (0.5, 0.5), (0.5, 1.0))
    gains = (0, -2, 8, -4)
    rows = [row for row in STEERED["de"] if row[1] != "reverse"]
    rows.append(("control", "reverse", np.nan, np.nan, 0, first_right(28)))
    rows += [
        ("control_grid", "reverse", *setting, 0, first_right(20 + gain))
        for setting, gain in zip(settings, gains, strict=True)
    ]
    plain = steered_file("de", rows)
    files = {"de": plain.assign_attrs(controls_search=1)}
    effects = steering_effects(files, scores, n_perm=999)
    right = np.stack([first_right(20 + gain).astype(float) for gain in gains], 1)
    change = (right - first_right(20)[:, None])[:, None]
    search = Search(change, 8 * change, CLUSTER % 5, np.full((1, 5), 2))
    claim, _ = flip_claims(change, search, CLUSTER, n_perm=999)
    at = {"control": "reverse", "language": "de"}
    assert effects["control_effect"].sel(at) == 8 / 40
    for end in ("low", "high"):
        bound = getattr(claim.interval, end)[0]
        assert effects[f"control_effect_{end}"].sel(at) == pytest.approx(bound)
    given = steering_effects({"de": plain}, scores, n_perm=999)
    width = [
        float((t["control_effect_high"] - t["control_effect_low"]).sel(at))
        for t in (effects, given)
    ]
    assert width[0] > width[1]
    # Both chose on the same items, so both choose anew when their answers are swapped.
    right = np.stack([first_right(n).astype(float) for n in (20, 22, 30, 16)], axis=1)
    steered = (right - first_right(20)[:, None])[:, None]
    method = Search(steered, 8 * steered, CLUSTER % 5, np.full((1, 5), 2))
    over, _ = swap_claims(method, search, CLUSTER, n_perm=999)
    assert effects["effect_over_control"].sel(at) == pytest.approx(2 / 40)
    assert effects["effect_over_control_p"].sel(at) == over.p[0]
    assert effects["effect_over_control_low"].sel(at) == over.interval.low[0]
    note = effects["effect_over_control_p"].attrs["long_name"]
    assert "each at its own setting" in note and "chosen anew under every pattern" in note
    # Draws are at a setting each: the rank among them is the test.
    random = effects.sel({"control": "random", "language": "de"})
    assert np.isfinite(random["effect_over_control"]) and np.isfinite(random["p_random"])
    assert np.isnan(random["effect_over_control_p"]) and np.isnan(random["effect_over_control_low"])
    zero = effects.sel({"language": "de"} | ZERO)
    assert zero["effect_over_control"] == effects["effect"].sel(DE_DEFAULT)
    assert zero["effect_over_control_p"] == effects["p"].sel(DE_DEFAULT)
    assert (effects.attrs["controls_search"], given.attrs["controls_search"]) == (1, 0)


def test_holm_covers_each_family(effects):
    p = effects["p"].sel({"method": "mean_difference"}).values
    assert effects["primary_p_holm"].values.tolist() == pytest.approx([min(1, 2 * p[0]), p[1]])
    assert effects["p"].sel({"method": "shared_projection"}).values.tolist() == [1, 1]
    assert effects["p_holm"].sel(DE_DEFAULT) == pytest.approx(min(1, 4 * p[0]))


def test_a_test_says_whether_its_settings_were_chosen_anew(effects):
    for name in ("p", "primary_p", "pooled_consistency_change_p"):
        assert "chosen anew under every pattern" in effects[name].attrs["long_name"], name
    for name in ("effect_over_control_p", "pivot_harm_p", "pooled_pivot_harm_p"):
        assert "settings taken as given" in effects[name].attrs["long_name"], name


def test_a_search_makes_the_detectable_effect_larger_as_it_does_the_interval():
    """Without that, effects of that size were detected with a power of .5 to .7."""
    rng = np.random.default_rng(0)
    flips = rng.choice([-1.0, 0.0, 1.0], size=(60, 1, 6), p=[0.2, 0.6, 0.2])
    folds, clusters = np.arange(60) % 5, np.arange(60)
    chosen = choose(np.ones((1, 60)), flips[:, 0], flips[:, 0], folds)
    answers = SimpleNamespace(first=xr.Dataset({"cluster": ("item", clusters)}))
    table = EffectTable(answers, n_perm=999, seed=0, confidence=0.95)
    search = Search(flips, flips, folds, chosen)
    claim, _ = table.add_change("effect", "", [(flips, search)], "change", tests="")
    at = at_chosen_settings(flips, search)[:, 0]
    wider = claim.critical.item() / stats.t.ppf(0.975, 59)
    assert wider > 1.1
    expected = minimum_detectable_effect(at, clusters, wider=wider, flips=Flips.of(at))
    assert table.variables["minimum_detectable_effect"].item() == pytest.approx(expected)
    assert expected > 1.05 * minimum_detectable_effect(at, clusters)


def test_no_flips_is_no_certainty(effects):
    german = effects.sel(DE_DEFAULT | {"method": "shared_projection"})
    assert german["effect"] == 0
    assert np.isnan(german["effect_low"]) and np.isnan(german["effect_high"])
    assert np.isnan(german["minimum_detectable_effect"])
    least = effects["primary_minimum_detectable_effect"].sel(language="de")
    family = effects["minimum_detectable_effect"].sel(DE_DEFAULT)
    assert 0 < least < family  # four tests ask for more than two
    for name, at in (("effect", {"method": "shared_projection"}), ("control_effect", ZERO)):
        assert effects[f"pooled_{name}"].sel(at) == 0
        for kind in ("", "_crossed"):
            assert np.isnan(effects[f"pooled_{name}{kind}_low"].sel(at))


def test_transfer_changes_by_hand(effects):
    # The pivot is right on the first 32 items, de on the first 20, then 30: all of them shared.
    german = effects.sel(DE_DEFAULT)
    assert german["transfer_to_change"] == pytest.approx(30 / 32 - 20 / 32)
    assert german["transfer_from_change"] == pytest.approx(0)
    assert german["transfer_to_lift_change"] == pytest.approx(10 / 32 - 10 / 40)


def test_consistency_change_by_hand(effects):
    # Agreeing items have rho 1. One position off, ranks (1,2,3,4) against (2,3,4,1) or its
    # inverse: rho -0.2. Items 20 to 29 turn from -0.2 to 1.
    german = effects.sel(DE_DEFAULT)
    assert german["consistency_change"] == pytest.approx(10 * 1.2 / 40)
    assert german["consistency_change_distinct"] == pytest.approx(10 * 1.2 / 40)
    assert german["consistency_change_low"] > 0
    pivot, before, after = (answers_with(first_right(n)) for n in (32, 20, 30))
    expected = cohen_kappa_score(pivot, after) - cohen_kappa_score(pivot, before)
    assert german["kappa_change"] == pytest.approx(expected)


def test_controls_and_what_the_default_method_adds_to_them(effects):
    effect = effects["control_effect"].sel(language="de")
    assert effect.sel(control="reverse") == pytest.approx(-2 / 40)
    assert effect.sel(control="random") == pytest.approx(0)
    over = effects["effect_over_control"].sel(language="de")
    assert over.sel(control="reverse") == pytest.approx(12 / 40)
    assert "pivot_harm" not in effects["control"]
    draws = effects["random_draws"].sel(language="de")
    assert np.allclose(draws, [-1 / 40, 0, 1 / 40])
    assert effects["p_random"].values.tolist() == [1 / 4, 1 / 4]
    assert effects["pooled_p_random"] == 1 / 4


def test_surface_and_selection(effects):
    surface = effects["surface"].sel(DE_DEFAULT)
    assert np.allclose(surface.transpose("relative_depth", "alpha"), [[0, 0.05], [0.25, -0.1]])
    consistency = effects["surface_consistency"].sel(DE_DEFAULT)
    assert np.allclose(consistency, [[0, 0.06], [0.3, -0.12]])
    assert (effects["surface"].sel({"method": "shared_projection"}) == 0).all()
    assert (effects["selected_layer"] == 4).all()
    assert effects["selected_layer"].dims == ("language", "method", "fold")


def test_pivot_harm_uses_the_pivots_own_reference_and_lengths(scores):
    # With the pivot's own token counts its wrong choice wins per token on the last 10 items.
    counts = np.ones((N_ITEMS, N_CHOICES))
    last = np.arange(N_ITEMS) >= 22
    counts[last, (ANSWER[last] + 1) % N_CHOICES] = 4  # -4 / 4 beats -2
    longer = scores.copy(deep=True)
    longer["n_tokens"].loc[{"language": "en"}] = counts
    files = {"de": steered_file("de", STEERED["de"])}
    plain = steering_effects(files, scores, n_perm=99)
    token = steering_effects(files, longer, n_perm=99)
    assert plain["pivot_harm"].sel(language="de") == pytest.approx(-2 / 40)
    assert token["pivot_harm"].sel(language="de") == 0
    assert token["effect"].sel(DE_DEFAULT) == 0.25


def test_checks_and_costs(effects):
    assert (effects["zero_max_abs_difference"] == 0).all()
    assert (effects["unsteered_max_abs_difference"] == 0).all()
    german = effects.sel(DE_DEFAULT)
    assert german["overhead"] == 0.25
    assert german["forward_seconds"] == 0.5 and german["evaluation_seconds"] == 60
    assert german["norm_ratio"] == pytest.approx(1 + 9 / 17)
    cosine = effects["control_cosine"].sel(language="de")
    assert cosine.sel(control="zero") == pytest.approx(-1 + 2 * 11 / 17)
    assert cosine.sel(control="random") == pytest.approx(-1 + 2 * 14 / 17)  # of three draws


def test_flips_of_rounding_are_counted_beside_those_of_the_method(scores):
    """In a narrow type `zero` is in another batch than the unsteered rows, and rounds otherwise."""
    rounded = first_right(20)
    rounded[[3, 30]] = ~rounded[[3, 30]]
    rows = [(*r[:5], rounded) if r[1] == "zero" else r for r in STEERED["de"]]
    files = {"de": steered_file("de", rows), "sw": steered_file("sw", STEERED["sw"])}
    effects = steering_effects(files, scores, n_perm=99)
    assert effects["zero_flipped_right"].values.tolist() == [1, 0]
    assert effects["zero_flipped_wrong"].values.tolist() == [1, 0]
    zero = effects.sel(ZERO)
    assert zero["control_effect"].values.tolist() == [0, 0]
    assert zero["control_effect_low"].values[0] < 0  # it did move
    assert np.isnan(zero["control_effect_low"].values[1])  # nothing did: 0, and no bounds


def test_near_chance_is_marked(effects):
    assert effects["chance"] == 0.25
    assert effects["near_chance"].values.tolist() == [False, True]


def test_every_variable_says_what_it_is_and_languages_are_kept_in_order(effects):
    assert effects["language"].values.tolist() == ["de", "sw"]
    assert effects.attrs["default_method"] == "mean_difference"
    for name, variable in effects.data_vars.items():
        assert variable.attrs["long_name"] and variable.attrs["units"], name


def test_a_file_of_the_pivot_changes_nothing(effects, scores):
    files = {language: steered_file(language, rows) for language, rows in STEERED.items()}
    files["en"] = steered_file("en", STEERED["de"])
    xr.testing.assert_identical(steering_effects(files, scores, n_perm=999), effects)


def test_a_study_without_controls_leaves_their_numbers_out(scores):
    rows = [row for row in STEERED["de"] if row[0] in ("grid", "selected") or row[1] == "unsteered"]
    bare = steering_effects({"de": steered_file("de", rows)}, scores, n_perm=99)
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
    # Conditions are read by their places in the first file: others would pass for its settings.
    for name, scale in (("alpha", 2), ("layer", 3)):
        other = files["sw"].assign_coords({name: scale * files["sw"][name]})
        with pytest.raises(InputError, match=f"steered file of sw: {name} differs from that of de"):
            steering_effects({**files, "sw": other}, scores, n_perm=99)
    with pytest.raises(InputError, match="no stored scores of sw"):
        steering_effects(files, scores.sel(language=["en", "de"]))
    with pytest.raises(InputError, match="no stored scores of item 'i0'"):
        steering_effects(files, scores.isel(item=slice(1, None)))
    fewer = {**files, "sw": files["sw"].isel(condition=slice(None, -1))}
    with pytest.raises(InputError, match="steered file of sw: role differs from that of de"):
        steering_effects(fewer, scores)
    bare = files["de"].isel(condition=files["de"]["role"].values != "selected")
    with pytest.raises(InputError, match="role 'selected'"):
        steering_effects({"de": bare}, scores)


def test_pooled_differences_average_to_the_mean_of_means():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 3, 2))
    values[:10, 0] = np.nan
    values[:, 2, 1] = np.nan
    expected = [values[:, :, 0], values[:, :2, 1]]
    expected = [np.nanmean(np.nanmean(v, axis=0)) for v in expected]
    assert np.allclose(pooled_differences(values).mean(axis=0), expected)
    rows = Jackknife.of(np.arange(30)).means(values)
    assert np.allclose(mean_present(rows, axis=1)[0], expected)


def test_each_language_is_left_out_of_the_mean_over_those_with_values():
    estimates = np.array([1.0, 2.0, np.nan, 6.0])
    assert without_each_language(estimates).tolist() == [4, 3.5, 3, 1.5]


def test_languages_without_a_value_are_no_units_of_the_crossed_interval():
    """A unit that never moves the mean would give a degree of freedom for nothing."""
    rows = np.random.default_rng(0).normal(size=(31, 3, 1)) / 100 + np.array([[[1], [2], [6]]])
    gap = np.full((31, 2, 1), np.nan)
    both = np.concatenate([np.concatenate([rows, gap], axis=1), np.ones((31, 5, 1))], axis=2)
    interval, alone = over_languages(both, 0.95), over_languages(rows, 0.95)
    assert (interval.low[0], interval.high[0]) == pytest.approx((alone.low[0], alone.high[0]))
    spread = np.sqrt(rows[0, :, 0].var(ddof=1) / 3)
    assert alone.high[0] - alone.estimate[0] >= stats.t.ppf(0.975, 2) * spread


def test_languages_that_differ_widen_the_crossed_interval():
    rows = [planted_rows(20, 20 + gain) for gain in (2, 4, 16, 8, 12)]
    tags = ["de", "es", "id", "sw", "zh"]
    scores = stored_scores({"en": first_right(32)} | {tag: first_right(20) for tag in tags})
    files = {tag: steered_file(tag, r) for tag, r in zip(tags, rows, strict=True)}
    effects = steering_effects(files, scores, n_perm=99).sel({"method": "mean_difference"})
    gains = np.array([2, 4, 16, 8, 12]) / 40
    languages = 2.776 * gains.std(ddof=1) / np.sqrt(5)
    assert effects["pooled_effect"] - effects["pooled_effect_crossed_low"] > languages
    alone = steering_effects({"de": files["de"]}, scores, n_perm=99)
    assert np.isnan(alone["pooled_effect_crossed_low"]).all()


def test_a_method_that_does_what_its_control_does_is_not_surely_the_same(scores):
    rows = {tag: planted_rows(20, 20) for tag in ("de", "sw")}
    same = steering_effects({t: steered_file(t, r) for t, r in rows.items()}, scores, n_perm=99)
    for name in ("effect_over_control", "pooled_effect_over_control"):
        assert (same[name].sel(control="zero") == 0).all()
        assert np.isnan(same[f"{name}_low"].sel(control="zero")).all(), name


def test_settings_chosen_on_a_set_of_its_own_are_taken_as_given(scores):
    """The evaluated items took no part in the choice: there is no search to run again."""
    files = {tag: steered_file(tag, rows) for tag, rows in STEERED.items()}
    for tag, file in files.items():
        file = file.isel(selected_fold=[0])
        files[tag] = file.assign(fold=("item", np.ones(N_ITEMS, int)))
    effects = steering_effects(files, scores, n_perm=999).sel(DE_DEFAULT)
    assert effects.attrs["separate_sets"] == 1
    change = (first_right(30) * 1.0 - first_right(20))[:, None, None]
    claim, _ = flip_claims(change, Search.none(N_ITEMS, 1), CLUSTER, n_perm=999)
    assert effects["p"] == pytest.approx(claim.p[0]) and effects["effect"] == 0.25


def test_results_are_the_same_in_any_order_of_languages(effects, scores):
    files = {tag: steered_file(tag, STEERED[tag]) for tag in ("sw", "de")}
    other = steering_effects(files, scores, n_perm=999).sel(language=["de", "sw"])
    xr.testing.assert_allclose(other, effects, rtol=1e-12)


def test_transfer_needs_ten_items_and_is_directed():
    jackknife = Jackknife.of(np.arange(40))
    nine, many = first_right(9).astype(float), first_right(30).astype(float)
    assert np.isnan(transfer_rows(nine, many, jackknife)).all()
    assert transfer_rows(many, nine, jackknife)[0] == pytest.approx(9 / 30)


def test_kappa_agrees_with_scikit_learn_and_is_nan_without_variety():
    rng = np.random.default_rng(2)
    first, second = rng.integers(0, 3, (2, 50)).astype(float)
    jackknife, alike = Jackknife.of(np.arange(50)), np.full(50, 3)
    expected = cohen_kappa_score(first, second)
    assert cohens_kappa(first, second, alike, jackknife)[0] == pytest.approx(expected)
    n_choices = np.repeat([2, 3], 25)
    of_groups = [np.mean(first[g] == second[g]) for g in (slice(25), slice(25, None))]
    chance = [
        sum(np.mean(first[g] == c) * np.mean(second[g] == c) for c in range(3))
        for g in (slice(25), slice(25, None))
    ]
    apart = (np.mean(of_groups) - np.mean(chance)) / (1 - np.mean(chance))
    assert cohens_kappa(first, second, n_choices, jackknife)[0] == pytest.approx(apart)
    same = np.ones(50)
    assert np.isnan(cohens_kappa(same, same, alike, jackknife)[0])


def test_rank_among_random_draws():
    draws = np.array([[0.1, 0.1], [0.2, np.nan], [0.3, np.nan]])
    assert rank_p(np.array([0.25, 0.25]), draws).tolist() == [2 / 4, 1 / 2]
    assert np.isnan(rank_p(np.array(0.1), np.zeros(0)))
