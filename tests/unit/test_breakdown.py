"""Breakdowns: planted groups that differ are told apart, groups that do not are not."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from simulated_states import parallel_states
from tests.unit.test_steering_effects import STEERED, steered_file, stored_scores

from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.behaviour import behaviour
from isogloss.measures.breakdown import MEASURES, breakdown, middle_item_shares
from isogloss.measures.groups import GROUPINGS, MIN_CLUSTERS, groups_of
from isogloss.measures.item_share import pair_item_share
from isogloss.measures.similarity import similarity
from isogloss.measures.states import standardised
from isogloss.measures.statistics import Jackknife
from isogloss.questions.languages import RESOURCE_CLASSES, canonical_tag
from isogloss.steering.breakdown import steering_breakdown
from isogloss.steering.effects import steering_effects

LANGUAGES = ("en", "de", "es", "ru", "sw")
OTHERS = LANGUAGES[1:]
CULTURES = ("agnostic", "sensitive")


def scores_in(rng, n_clusters=40, size=3, accuracies=(0.8, 0.5), cluster_spread=0.0):
    """Questions of two categories, right with one chance in each, clusters of one category."""
    codes = np.repeat(np.arange(n_clusters), size)
    category = codes % 2
    easy = cluster_spread * rng.normal(size=(n_clusters, 1))
    chance = np.array(accuracies)[category] + easy[codes, 0]
    right = rng.uniform(size=(len(LANGUAGES), len(codes))) < chance
    answers = rng.integers(4, size=len(codes))
    sums = rng.normal(size=(len(LANGUAGES), len(codes), 4))
    np.put_along_axis(
        sums, np.broadcast_to(answers[:, None], (len(LANGUAGES), len(codes), 1)), -9, 2
    )
    best = np.where(right, 9.0, -9.0)[..., None]
    np.put_along_axis(sums, np.broadcast_to(answers[:, None], best.shape), best, 2)
    dims = ("language", "item", "choice")
    data = {"sum": (dims, sums), "spelling": (dims, np.arange(sums.size).reshape(sums.shape))}
    data |= {name: (dims, np.ones(sums.shape)) for name in ("n_tokens", "n_characters", "n_bytes")}
    data |= {"identical_to_pivot": (dims, np.zeros(sums.shape, bool))}
    data |= {"answer": ("item", answers), "n_choices": ("item", np.full(len(codes), 4))}
    coords = {"language": list(LANGUAGES), "item": [f"i{i}" for i in range(len(codes))]}
    table = xr.Dataset(data | {"cluster": ("item", codes)}, coords, {"pivot": "en"})
    return table, [CULTURES[c] for c in category]


def states_in(rng, scores, shared=(1.0, 1.0), width=16):
    """States that languages share by as much as their items' category says."""
    n = scores.sizes["item"]
    size = np.array(shared)[scores["cluster"].values % 2][:, None]
    common = size * rng.normal(size=(n, width))
    values = [common + rng.normal(size=(n, width)) for _ in LANGUAGES]
    x = np.stack(values).astype(np.float32)
    lengths = np.full(x.shape[:2], 9)
    depths = np.linspace(0, 1, 3)
    items = tuple(map(str, scores["item"].values))
    return ParallelStates(LANGUAGES, items, scores["cluster"].values, depths, lengths, lambda _: x)


def broken_down(seed=0, shared=(1.0, 1.0), groupings=GROUPINGS, **world):
    rng = np.random.default_rng(seed)
    scores, categories = scores_in(rng, **world)
    groups = [g for g in groups_of(categories, OTHERS) if g.grouping in groupings]
    return breakdown(scores, states_in(rng, scores, shared), groups), scores, groups


def test_groups_are_what_languages_and_items_say():
    groups = {(g.grouping, g.name): g for g in groups_of(["", "b"], ["de", "ru", "qu"])}
    assert list(groups) == [
        ("all", "all"), ("category", "b"), ("category", "not known"),
        ("script", "Cyrillic"), ("script", "Latin"),
        ("family", "Indo-European"), ("family", "not known"),
        ("resource", "class 5"), ("resource", "class 4"), ("resource", "class 1"),
    ]  # fmt: skip
    assert groups["script", "Latin"].languages.tolist() == [True, False, True]
    assert groups["script", "Latin"].items.all()
    assert groups["category", "b"].items.tolist() == [False, True]
    assert not [g for g in groups_of(["", ""], ["de"]) if g.grouping == "category"]


def test_every_tag_of_the_resource_classes_is_the_one_used_here_and_is_there_once():
    tags = [tag for tags in RESOURCE_CLASSES.values() for tag in tags.split()]
    assert len(set(tags)) == len(tags)
    assert [tag for tag in tags if canonical_tag(tag) != tag] == []


def test_numbers_over_all_are_those_of_behaviour_and_similarity():
    table, scores, _ = broken_down()
    whole = behaviour(scores)
    at = {"language": "en", "language_2": list(OTHERS)}
    expected = {
        "accuracy": whole["accuracy"].sel(language=list(OTHERS)),
        "consistency": whole["consistency"].sel(at),
        "transfer": whole["transfer"].sel(at | {"sign": "positive"}),
        "transfer_lift": whole["lift_independent"].sel(at | {"sign": "positive"}),
    }
    for name, values in expected.items():
        of_all = table[f"{name}_language"].sel(group="all")
        np.testing.assert_allclose(of_all, values, atol=1e-12)
    rng = np.random.default_rng(0)
    made, _ = scores_in(rng)
    share = similarity(states_in(rng, made), "en", permutations=19, map_permutations=19)
    expected = share["item_share_middle"].sel(language="en", language_2=list(OTHERS))
    np.testing.assert_allclose(table["item_share_language"].sel(group="all"), expected, atol=1e-5)


def test_item_share_without_a_cluster_is_that_of_leaving_it_out():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(40), 3)
    common = rng.normal(size=(120, 12)) + rng.normal(size=(40, 12))[clusters]
    x = np.stack([common + rng.normal(size=(120, 12)) for _ in range(2)])
    jackknife = Jackknife.of(clusters)
    states = replace(parallel_states([x], clusters), depths=np.array([0.5]))
    rows = middle_item_shares(states, ["en"], [np.ones(120, bool)], jackknife)[0, 0, :, 1]
    without = [pair_item_share(standardised(x[:, clusters != c])) for c in range(40)]
    exact = np.array([share[0, 1] for share in without])
    np.testing.assert_allclose(rows[1:], exact, atol=1e-6)


def test_planted_groups_differ_and_others_do_not():
    table, _, _ = broken_down(shared=(2.0, 0.3))
    agnostic, sensitive = (table.sel(group=f"category: {name}") for name in CULTURES)
    assert float(agnostic["accuracy"]) == pytest.approx(0.8, abs=0.08)
    assert float(sensitive["accuracy"]) == pytest.approx(0.5, abs=0.08)
    assert float(agnostic["item_share"]) > 0.7 and float(sensitive["item_share"]) < 0.25
    for name in ("accuracy", "item_share", "consistency"):
        assert float(agnostic[f"{name}_difference_low"]) > 0
        assert float(sensitive[f"{name}_difference_high"]) < 0
    cyrillic = table.sel(group="script: Cyrillic")
    assert cyrillic["languages"] == "ru" and np.isnan(cyrillic["accuracy_crossed_low"])
    latin = table.sel(group="script: Latin")
    assert latin["accuracy_crossed_low"] < latin["accuracy_low"]
    assert np.isnan(table["accuracy_difference"].sel(group="all"))


def test_intervals_of_groups_and_differences_cover():
    """Clustered items, no difference between categories: each interval holds the truth in .95."""
    covered = {"accuracy": [], "accuracy_difference": [], "item_share_difference": []}
    for seed in range(60):
        world = {"n_clusters": 20, "accuracies": (0.5, 0.5), "cluster_spread": 0.25}
        table, _, _ = broken_down(seed, groupings=("all", "category"), **world)
        at = table.sel(group="category: agnostic")
        for name, hits in covered.items():
            truth = 0.5 if name == "accuracy" else 0.0
            hits.append(float(at[f"{name}_low"]) <= truth <= float(at[f"{name}_high"]))
    error = np.sqrt(0.05 * 0.95 / 60)
    assert all(np.mean(hits) > 0.95 - 2.5 * error for hits in covered.values()), covered


def test_other_languages_too_are_never_surer_than_these_alone():
    """A group of three clusters has two degrees of freedom, however many the others have."""
    rng = np.random.default_rng(0)
    scores, _ = scores_in(rng)
    categories = ["rare" if c < 3 else "usual" for c in scores["cluster"].values]
    table = breakdown(scores, states_in(rng, scores), groups_of(categories, OTHERS))
    for name in MEASURES:
        of_groups = table.isel(group=np.isfinite(table[f"{name}_crossed_low"]))
        assert (of_groups[f"{name}_crossed_low"] <= of_groups[f"{name}_low"] + 1e-12).all()
        assert (of_groups[f"{name}_crossed_high"] >= of_groups[f"{name}_high"] - 1e-12).all()
    at = table.sel(group="category: rare")
    assert np.isfinite(at["consistency_crossed_low"])


def test_small_groups_are_marked_and_shown():
    rng = np.random.default_rng(0)
    scores, categories = scores_in(rng)
    categories = ["rare" if c < 4 else "usual" for c in scores["cluster"].values]
    table = breakdown(scores, states_in(rng, scores), groups_of(categories, OTHERS))
    assert table["few"].sel(group=["category: rare", "category: usual"]).values.tolist() == [1, 0]
    assert table["n_clusters"].sel(group="category: rare") == 4 < MIN_CLUSTERS
    assert np.isfinite(table["accuracy"]).all()
    assert set(MEASURES) <= set(table.data_vars)


def test_a_few_items_that_are_all_wrong_are_no_certainty():
    rng = np.random.default_rng(0)
    scores, _ = scores_in(rng)
    rare = scores["cluster"].values < 2
    gold = np.arange(4) == scores["answer"].values[:, None]
    scores["sum"] = scores["sum"].where(~(gold & rare[:, None]), -99.0)
    categories = np.where(rare, "rare", "usual").tolist()
    table = breakdown(scores, states_in(rng, scores), groups_of(categories, OTHERS))
    at = table.sel(group="category: rare")
    assert at["accuracy"] == 0 and (at["accuracy_language"] == 0).all()
    for name in ("accuracy", "accuracy_crossed", "accuracy_language", "accuracy_difference"):
        assert np.isnan([at[f"{name}_{end}"].values for end in ("low", "high")]).all(), name
    assert np.isfinite(table.sel(group="category: usual")["accuracy_difference_low"])


@pytest.fixture
def planted():
    """Steering that turns German items 20 to 29 right, and Swahili ones 12 to 15."""
    right = {"en": 32, "de": 20, "sw": 12}
    scores = stored_scores({tag: np.arange(40) < n for tag, n in right.items()})
    files = {tag: steered_file(tag, rows) for tag, rows in STEERED.items()}
    return files, scores


def test_steering_is_that_of_its_effects_in_every_group(planted):
    files, scores = planted
    languages = ["de", "sw"]
    categories = ["turned" if 20 <= i < 30 else "other" for i in range(40)]
    groups = groups_of(categories, languages)
    table = steering_breakdown({"x": files}, scores, groups, languages, n_perm=99).assign_coords(
        group=[g.name if g.grouping != "resource" else f"r {g.name}" for g in groups]
    )
    whole = steering_effects(files, scores, n_perm=99)
    first = whole.attrs["default_method"]
    at = table.isel(fitted=0)
    for tag in languages:
        expected = whole["effect"].sel({"language": tag, "method": first})
        assert (
            at["steering_effect_language"].isel(group=0, language=languages.index(tag)) == expected
        )
    assert at["steering_effect"].isel(group=0) == pytest.approx(
        float(whole["pooled_effect"].sel({"method": first}))
    )
    both = at["steering_effect"].sel(group=["turned", "other"]).values
    assert both.tolist() == pytest.approx([1 / 2, 4 / 30 / 2])
    # The setting is that of the whole, so groups add up to it.
    assert both @ [10, 30] / 40 == pytest.approx(float(at["steering_effect"].isel(group=0)))
    german, swahili = at["steering_effect_language"].sel(group="turned").values
    assert (german, swahili) == (1, 0)
    german = at["steering_effect_language"].sel(group="Indo-European")
    assert np.isfinite(german[0]) and np.isnan(german[1])
    assert (at["steering_effect_p_holm"].fillna(1) >= at["steering_effect_p"].fillna(0)).all()


def test_groups_are_few_by_the_items_that_steering_was_evaluated_on(planted):
    """With sets apart, a group of many clusters may have few of them in the set for tests."""
    files, scores = planted
    tested = np.arange(16, 40)
    groups = groups_of(["turned" if i < 20 else "other" for i in range(40)], ["de", "sw"])
    part = {tag: file.isel(item=tested) for tag, file in files.items()}
    few = {}
    for name, of in (("all", files), ("part", part)):
        table = steering_breakdown({"x": of}, scores, groups, ["de", "sw"], n_perm=99)
        few[name] = table["steering_few"].isel(fitted=0).values[: len(groups)].tolist()
    names = [group.name for group in groups]
    assert {n for n, is_few in zip(names, few["all"], strict=True) if is_few} == set()
    assert {n for n, is_few in zip(names, few["part"], strict=True) if is_few} == {"turned"}


def test_where_a_language_is_right_everywhere_there_is_no_lift_and_it_is_said_why():
    """Not a lift of 0 that looks certain: nothing is left to compare with."""
    rng = np.random.default_rng(1)
    scores, _ = scores_in(rng)
    sensitive = np.array([c % 2 for c in scores["cluster"].values], bool)
    right_choice = np.arange(4) == scores["answer"].values[:, None]
    sums = scores["sum"].values
    sums[0] = np.where(sensitive[:, None], np.where(right_choice, 9.0, -9.0), sums[0])
    sums[1] = np.where(~sensitive[:, None], np.where(right_choice, 9.0, -9.0), sums[1])
    scores["sum"] = (scores["sum"].dims, sums)
    groups = groups_of([CULTURES[int(s)] for s in sensitive], OTHERS)
    table = breakdown(scores, states_in(rng, scores), groups)
    of_pivot = table.sel(group="category: sensitive")
    for name in ("transfer_lift", "transfer_lift_low", "transfer_lift_difference"):
        assert np.isnan(of_pivot[name]), name
    assert of_pivot["transfer_lift_reason"] == "all items are right in the pivot"
    assert of_pivot["transfer"] == pytest.approx(float(of_pivot["accuracy"]))
    german = table.sel(group="category: agnostic")
    assert np.isnan(german["transfer_lift_language"].sel(language="de"))
    assert np.isfinite(german["transfer_lift"]) and german["transfer_lift_reason"] == ""
    # The mean of the others is compared with the mean of the same others.
    others = table["transfer_lift_language"].sel(language=list(OTHERS[1:])).mean("language")
    apart = others.sel(group="category: agnostic") - others.sel(group="all")
    assert german["transfer_lift_difference"] == pytest.approx(float(apart))
