"""Verdicts in planted worlds: every claim true, every claim reversed, and nothing there at all."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm
from tests.unit.test_scale import CLUSTERS, N, result, with_ends

from isogloss.figures.verdicts import verdict_section
from isogloss.measures.associations import symmetric
from isogloss.measures.model_results import ModelResult
from isogloss.measures.scale import OTHER_PAIRS, scale
from isogloss.measures.statistics import detectable
from isogloss.measures.verdicts import (
    CLAIMS,
    CONTRADICTED,
    LONG_NAMES,
    OVER_SEEDS,
    SIGN_FLIPS,
    SIGN_FLIPS_ALONE,
    STEERING,
    SUPPORTED,
    UNDECIDED,
    decide,
    detectable_correlation,
    verdicts,
)
from isogloss.steering.inference import Search, flip_claims

SIZES = {"small": 1e8, "middle": 1e9, "large": 1e10}
STEERED = ["de", "sw"]
BY_SIZE = {"size_dissociation", "size_transfer", "steering_size"}


def model(rng: np.random.Generator, slug: str, sign: int) -> ModelResult:
    """A model of one family in a world where the claims are true (1), reversed (-1), or not (0)."""
    decades = np.log10(SIZES[slug]) - 9
    made = result(slug, "a", SIZES[slug], 0.5)
    near, other = (symmetric(rng.uniform(size=(N, N))) for _ in range(2))
    shared = (near.sum(axis=1) - np.diag(near)) / N
    accuracy = 0.5 + 0.3 * (sign * shared if sign else rng.uniform(size=N))
    pairs = ("language", "language_2")
    similarity = made.similarity.assign(item_share_middle=(pairs, near))
    apart = with_ends("dissociation", (), 0.5 + 0.1 * sign * decades, rng)
    behaviour = made.behaviour.assign(
        consistency=(pairs, sign * near if sign else other), accuracy=("language", accuracy)
    )
    lift = np.full((2, 4), 0.1 + 0.1 * sign * decades)
    lifts = with_ends("mean_lift_independent", ("sign", "scope"), lift, rng)
    return ModelResult(
        slug, "a", SIZES[slug], similarity.assign(apart), behaviour.assign(lifts), made.scores
    )


def steering(rng: np.random.Generator, slug: str, sign: int) -> xr.Dataset:
    """Effects of steering 200 clusters of two items, in the small model the largest."""
    size = 0.25 - 0.1 * (np.log10(SIZES[slug]) - 9)
    clusters = np.repeat(np.arange(200), 2)
    flipped = rng.uniform(size=(400, len(STEERED), 1)) < max(size, 0.1)
    direction = sign if sign else rng.choice([-1, 1], size=flipped.shape)
    search = Search.none(400, len(STEERED))
    changes = np.where(flipped, direction, 0.0)
    data = {"near_chance": ("language", [0, 1])}
    for name, p in STEERING.values():
        claim = flip_claims(changes, search, clusters, n_perm=399)[1]
        low, high = claim.interval.low, claim.interval.high
        values = {name: claim.estimate, f"{name}_low": low, f"{name}_high": high, p: claim.p}
        # The second method would decide otherwise: it must not be read.
        data |= {key: ("method", [float(v), 0.0]) for key, v in values.items()}
    coords = {"language": STEERED, "method": ["mean_difference", "linear_map"]}
    attrs = {"default_method": "mean_difference", "n_items": 400, "n_clusters": 200}
    return xr.Dataset(data, coords, attrs)


@cache
def world(sign: int, sizes=tuple(SIZES)) -> tuple[xr.Dataset, dict[str, xr.Dataset]]:
    rng = np.random.default_rng(0)
    models = [model(rng, slug, sign) for slug in sizes]
    return scale(models, permutations=399), {slug: steering(rng, slug, sign) for slug in sizes}


@pytest.fixture(scope="module")
def tables() -> dict[int, xr.Dataset]:
    made = {sign: verdicts(*world(sign)) for sign in (1, -1, 0)}
    return {s: t.assign_attrs(dataset="everyday", fitted="everyday") for s, t in made.items()}


def rows(table: xr.Dataset, claim: str) -> xr.Dataset:
    return table.isel(row=np.flatnonzero(table["claim"] == claim))


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("sign, verdict", [(1, SUPPORTED), (-1, CONTRADICTED), (0, UNDECIDED)])
def test_every_claim_gets_every_verdict_where_it_is_due(tables, claim, sign, verdict):
    of_claim = rows(tables[sign], claim)
    assert of_claim["subject"].values.tolist() == (["a"] if claim in BY_SIZE else list(SIZES))
    assert of_claim["verdict"].values.tolist() == [verdict] * of_claim.sizes["row"]
    assert np.isfinite(of_claim["effect"]).all() and (of_claim["missing"] == "").all()
    assert (of_claim["effect_low"] < of_claim["effect_high"]).all()
    assert (
        (of_claim["effect_low"] <= of_claim["effect"])
        & (of_claim["effect"] <= of_claim["effect_high"])
    ).all()
    if verdict == UNDECIDED:
        assert (of_claim["minimum_detectable_effect"] > 0).all()


def test_the_table_is_one_family_of_tests(tables):
    table = tables[1]
    assert table.sizes["row"] == table.attrs["n_tests"] == 5 * 3 + 3
    assert float(table["p_holm"].min()) == pytest.approx(18 * float(table["p"].min()))
    assert set(table.data_vars) == set(LONG_NAMES)


def test_samples_are_those_of_the_test(tables):
    names = ("n_models", "n_languages", "n_near_chance", "n_items", "n_clusters")
    sizes = {c: [int(rows(tables[1], c)[n][0]) for n in names] for c in CLAIMS}
    assert sizes["accuracy_similarity"] == [1, N, 1, 20, len(CLUSTERS)]
    assert sizes["size_transfer"] == [3, N, 1, 20, len(CLUSTERS)]
    # sw is near chance unsteered in all models, de in none.
    assert sizes["steering_accuracy"] == [1, 2, 0, 400, 200]
    assert sizes["steering_size"] == [3, 2, 0, 400, 200]


def seeded(sign: int, n_seeds: int = 3, seed_spread: float = 0.0) -> xr.Dataset:
    """Verdicts on three sizes with several seeds of each, whose steering differs by a spread."""
    rng = np.random.default_rng(5)
    models, effects = [], {}
    for slug in SIZES:
        for seed in range(n_seeds):
            made = model(rng, slug, sign)
            models.append(replace(made, slug=f"{slug}-{seed}", seed=seed))
            effects[f"{slug}-{seed}"] = steering(rng, slug, sign)
            for name, _ in STEERING.values():
                moved = seed_spread * rng.normal()
                for end in ("", "_low", "_high"):
                    effects[f"{slug}-{seed}"][f"{name}{end}"] += moved
    return verdicts(scale(models, permutations=399), effects)


def test_seeds_are_one_subject_and_the_top_level_of_its_interval():
    table = seeded(1)
    for claim in CLAIMS:
        of_claim = rows(table, claim)
        assert (of_claim["verdict"] == SUPPORTED).all(), claim
        size = {"n_models": 9} if claim in BY_SIZE else {"n_models": 3}
        assert (of_claim["n_models"] == size["n_models"]).all()
        if claim not in BY_SIZE:
            assert of_claim.sizes["row"] == 3
            assert of_claim["subject"][0] == "small-0, small-1, small-2: 3 seeds"
    assert table.attrs["n_tests"] == 5 * 3 + 3
    apart = seeded(1, seed_spread=1.0)
    for claim in STEERING:
        assert (rows(apart, claim)["verdict"] == UNDECIDED).all()
    section = verdict_section(
        table.assign_attrs(dataset="x", fitted="x"), {"small-0": "small-0 (4-bit)"}
    )
    assert "| small-0 (4-bit), small-1, small-2: 3 seeds |" in section
    # No test of a single seed is behind these numbers.
    over_seeds = ~np.isin(table["claim"].values, list(BY_SIZE))
    assert set(table["test"].values[over_seeds]) == {OVER_SEEDS}
    assert section.count(OVER_SEEDS) == over_seeds.sum() and SIGN_FLIPS not in section


def test_settings_chosen_on_a_set_of_its_own_are_not_said_to_be_chosen_anew():
    of_scale, effects = world(1)
    alone = {slug: of.assign_attrs(separate_sets=1) for slug, of in effects.items()}
    for steered, test in ((effects, SIGN_FLIPS), (alone, SIGN_FLIPS_ALONE)):
        found = rows(verdicts(of_scale, steered), "steering_accuracy")
        assert set(found["test"].values) == {test}


def test_a_seed_of_which_no_answer_changes_is_one_of_the_seeds():
    rng = np.random.default_rng(0)
    models = [replace(model(rng, "small", 1), slug=f"s{n}", seed=n) for n in range(3)]
    effects = {made.slug: steering(rng, "small", 1) for made in models}
    values = {f"pooled_effect{end}": np.nan for end in ("_low", "_high")} | {"pooled_effect": 0.0}
    unmoved = {name: ("method", [value, value]) for name, value in values.items()}
    some = effects | {"s1": effects["s1"].assign(unmoved)}
    measured = scale(models, permutations=99)
    found = rows(verdicts(measured, some), "steering_accuracy")
    mean = sum(float(effects[slug]["pooled_effect"][0]) for slug in ("s0", "s2")) / 3
    assert found["missing"] == "" and float(found["effect"][0]) == pytest.approx(mean)
    assert found["effect_low"] < 0 < found["effect_high"]  # seeds differ as much as they can
    none = {slug: made.assign(unmoved) for slug, made in effects.items()}
    said = rows(verdicts(measured, none), "steering_accuracy")["missing"].item()
    assert "no answer changed" in said


def test_models_of_one_size_without_seeds_are_put_to_the_claims_one_by_one():
    rng = np.random.default_rng(0)
    models = [replace(model(rng, "small", 1), slug=slug) for slug in ("base", "instruct")]
    table = verdicts(scale(models, permutations=99), {})
    assert rows(table, "accuracy_similarity")["subject"].values.tolist() == ["base", "instruct"]


def test_two_sizes_leave_every_claim_about_size_undecided_and_no_other():
    table = verdicts(*world(1, ("small", "large")))
    for claim in CLAIMS:
        of_claim = rows(table, claim)
        if claim not in BY_SIZE:
            assert (of_claim["verdict"] == SUPPORTED).all()
            continue
        assert of_claim["verdict"].values.tolist() == [UNDECIDED]
        assert of_claim["missing"].values.tolist() == ["2 sizes: a claim about size needs 3"]
        assert np.isnan(of_claim["effect"]).all() and np.isnan(of_claim["p_holm"]).all()
    assert table.attrs["n_tests"] == 5 * 2


def test_a_model_that_a_slope_leaves_out_is_not_in_its_sample():
    """Where no answer changes there is no interval, and where states are alike no dissociation."""
    scale, effects = world(1)
    again = [scale.assign_coords(model=[f"{slug}-again" for slug in SIZES]), scale]
    twice = xr.concat(again, "model", data_vars="minimal").assign(
        slope=scale["slope"], n_sizes=scale["n_sizes"]
    )
    lost = {"model": "middle-again", "measure": "dissociation"}
    twice["value"] = twice["value"].copy()
    twice["value"].loc[lost] = np.nan
    steered = effects | {f"{slug}-again": made for slug, made in effects.items()}
    ends = [f"pooled_effect{end}" for end in ("_low", "_high")]
    nothing = effects["large"].assign({name: np.nan * effects["large"][name] for name in ends})
    table = verdicts(twice, steered | {"large-again": nothing})
    n_models = {claim: int(rows(table, claim)["n_models"][0]) for claim in BY_SIZE}
    assert n_models == {"size_dissociation": 5, "size_transfer": 6, "steering_size": 5}


def test_a_size_at_which_no_answer_changes_stays_in_the_slope():
    measured, effects = world(1)
    values = [f"pooled_effect{end}" for end in ("", "_low", "_high")]
    large = effects["large"].assign({name: np.nan * effects["large"][name] for name in values})
    large["pooled_effect"] = ("method", [0.0, 0.0])
    found = rows(verdicts(measured, effects | {"large": large}), "steering_size")
    change = [float(of["pooled_effect"][0]) for of in (effects["small"], effects["middle"], large)]
    assert found["missing"] == "" and found["n_models"] == 3
    assert float(found["effect"][0]) == pytest.approx((change[2] - change[0]) / 2)
    assert found["effect_low"] < found["effect"] < found["effect_high"]


def test_what_is_not_steered_is_missing_and_no_test():
    table = verdicts(world(1)[0], {})
    for claim in (*STEERING, "steering_size"):
        of_claim = rows(table, claim)
        assert (of_claim["verdict"] == UNDECIDED).all()
        assert (of_claim["missing"] == "nothing is steered on this dataset").all()
    assert table.attrs["n_tests"] == 3 * 2 + 2


def test_five_languages_are_too_few_for_an_association():
    measured, effects = world(1)
    few = effects | {
        slug: table_of_model.isel(language=[0]) for slug, table_of_model in effects.items()
    }
    table = verdicts(measured.isel(language=slice(5)), few)
    for claim in ("consistency_similarity", "accuracy_similarity"):
        missing = set(rows(table, claim)["missing"].values)
        assert missing == {"5 languages: an association over languages needs 6"}


def without_similarity(made: ModelResult, tag: str) -> ModelResult:
    """The model, the states of one language degenerate."""
    similarity, other = made.similarity, made.similarity["language"] != tag
    alike = similarity["item_share_middle"].where(other)
    alike = alike.where(other.rename(language="language_2"))
    by_language = similarity["dissociation_by_language"].where(other)
    changed = similarity.assign(item_share_middle=alike, dissociation_by_language=by_language)
    return replace(made, similarity=changed)


def test_a_language_without_similarity_is_in_no_association_and_costs_the_others_nothing():
    made = without_similarity(model(np.random.default_rng(0), "small", 1), "th")
    table = verdicts(scale([made], permutations=399), {})
    for claim in ("consistency_similarity", "accuracy_similarity"):
        row = rows(table, claim)
        assert row["missing"] == "" and np.isfinite(row["effect"]) and row["n_languages"] == N - 1
    five = without_similarity(made, "ja")
    table = verdicts(scale([five], permutations=399), {})
    for claim in ("consistency_similarity", "accuracy_similarity"):
        row = rows(table, claim)
        assert row["missing"].item().startswith("5 languages: an association")
        assert np.isnan(row["effect"]) and row["n_languages"] == N - 2


def test_where_nothing_varies_that_is_said():
    measured, effects = world(1)
    measured, small = measured.copy(deep=True), effects["small"].copy(deep=True)
    measured["association_adjusted"][:] = np.nan
    measured["accuracy_association_low"][:] = np.nan
    measured["slope_low"][:] = np.nan
    small["pooled_effect_low"][:] = np.nan
    table = verdicts(measured, effects | {"small": small})
    said = {claim: str(rows(table, claim)["missing"].values[0]) for claim in CLAIMS}
    assert "does not vary" in said["consistency_similarity"]
    assert "similarity.permutations" in said["accuracy_similarity"]
    assert "nothing varies" in said["size_transfer"]
    assert "no answer changed" in said["steering_accuracy"]
    assert said["steering_size"] == "2 sizes: a slope needs 3"
    assert (rows(table, "steering_transfer")["verdict"] == SUPPORTED).all()


def test_what_is_missing_of_a_slope_is_what_the_scale_says():
    measured, effects = world(1)
    reason = xr.full_like(measured["slope"], OTHER_PAIRS, dtype=object)
    table = verdicts(measured.assign(slope=measured["slope"] * np.nan, reason=reason), effects)
    assert set(rows(table, "size_transfer")["missing"].values) == {OTHER_PAIRS}


def test_what_correction_leaves_open_is_undecided_though_its_interval_excludes_nothing():
    low, high, p = np.full(4, 0.1), np.full(4, 0.5), np.full(4, 0.02)
    verdict, adjusted = decide(low, high, p, np.ones(4))
    assert (verdict == UNDECIDED).all() and (adjusted == 0.08).all()
    assert decide(low[:2], high[:2], p[:2], np.array([1, -1]))[0].tolist() == [
        SUPPORTED,
        CONTRADICTED,
    ]


@pytest.mark.parametrize("confidence, p", [(0.95, 0.05), (0.9, 0.1), (0.8, 0.2), (0.99, 0.01)])
def test_a_p_at_its_level_is_a_verdict_at_every_confidence(confidence, p):
    """Intervals exclude 0 there, and 1 - 0.9 is less than 0.1 by rounding."""
    ends = np.array([0.1]), np.array([0.3])
    assert decide(*ends, np.array([p]), np.ones(1), confidence)[0] == SUPPORTED
    assert decide(*ends, np.array([p + 1e-4]), np.ones(1), confidence)[0] == UNDECIDED


def test_tables_of_nothing_seldom_hold_a_verdict():
    rng = np.random.default_rng(0)
    wrong = []
    for _ in range(1000):
        effect = rng.normal(size=8)
        verdicts, _ = decide(effect - 1.96, effect + 1.96, 2 * norm.sf(np.abs(effect)), np.ones(8))
        wrong.append((verdicts != UNDECIDED).any())
    assert np.mean(wrong) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1000)


def test_the_detectable_effect_is_detected_with_its_power():
    rng = np.random.default_rng(0)
    least = float(detectable(-1.96, 1.96, 0.95, 0.05 / 8))
    effect = rng.normal(least, size=4000)
    assert np.mean(2 * norm.sf(np.abs(effect)) <= 0.05 / 8) == pytest.approx(0.8, abs=0.02)
    bounds = np.tanh(np.array([-0.3, 0.3]))
    smallest = float(detectable_correlation(*bounds, 0.95, 0.05))
    assert smallest == pytest.approx(np.tanh(0.3 * (1.959964 + 0.841621) / 1.959964), abs=1e-5)


def test_the_section_says_every_row_in_a_sentence(tables):
    text = verdict_section(tables[1], {"small": "small (4-bit)"})
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(lines) == 18 and all("**supported**" in line for line in lines)
    row = rows(tables[1], "steering_accuracy").isel(row=0)
    value, low, high = (100 * float(row[n]) for n in ("effect", "effect_low", "effect_high"))
    said = f"Change of accuracy, mean over languages: +{value:.1f} [+{low:.1f}, +{high:.1f}] points"
    steered = next(line for line in lines if line.startswith("| Steering raises accuracy |"))
    assert "| small (4-bit) |" in steered and f"{said}, over 2 languages" in steered
    assert "400 questions in 200 clusters; p = " in steered
    assert "with vectors of everyday" in text and "the 18 tests of this table" in text
    assert "Steering raises consistency with English" in text


def test_the_section_says_what_would_have_been_detected_or_what_is_missing(tables):
    text = verdict_section(tables[0], {})
    assert text.count("would have been detected with 80% power.") == 18
    table = verdicts(*world(1, ("small", "large"))).assign_attrs(dataset="x", fitted="x")
    text = verdict_section(table, {})
    assert text.count("| **undecided** | Not tested: 2 sizes: a claim about size needs 3. |") == 3


def test_an_interval_that_excludes_0_and_no_verdict_is_explained(tables):
    table = tables[0].copy(deep=True)
    table["p"][0], table["p_holm"][0] = 0.02, 0.3
    text = verdict_section(table, {})
    assert text.count("The interval leaves out 0, but not after correction for 18 tests.") == 1


def test_names_from_data_are_no_markup(tables):
    table = tables[0].assign_attrs(dataset="a|b", fitted="*c*")
    text = verdict_section(table, {"small": "<i>|small"})
    assert r"&lt;i>\|small" in text and r"on a\|b" in text and r"\*c\*" in text
