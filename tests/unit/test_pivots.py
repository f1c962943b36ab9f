"""Every language as pivot: the study's own is as ever, a planted hub stands out."""

import numpy as np
import pytest
from tests.unit.test_breakdown import LANGUAGES, OTHERS, scores_in, states_in

from isogloss.errors import InputError
from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.behaviour import behaviour
from isogloss.measures.breakdown import breakdown
from isogloss.measures.groups import groups_of
from isogloss.measures.pivots import MEASURES, pivots


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(3)
    scores, _ = scores_in(rng)
    return scores, states_in(rng, scores)


def test_around_the_studys_pivot_numbers_are_those_of_the_breakdown_over_all(world):
    scores, states = world
    around = pivots(scores, states, LANGUAGES).sel(pivot="en")
    whole = breakdown(scores, states, groups_of([""] * 120, OTHERS)).sel(group="all")
    for name in ("consistency", "transfer", "transfer_lift", "item_share"):
        for end in ("", "_low", "_high", "_crossed_low", "_crossed_high"):
            assert around[name + end] == pytest.approx(float(whole[name + end])), name + end


def test_around_another_pivot_numbers_are_those_of_a_study_with_it(world):
    scores, states = world
    around = pivots(scores, states, ["sw", "de"])
    whole = behaviour(scores.assign_attrs(pivot="sw"))
    for name, variable, scope in (
        ("consistency", "mean_consistency", "pivot_pairs"),
        ("transfer_lift", "mean_lift_independent", "from_pivot"),
        ("transfer_to_lift", "mean_lift_independent", "to_pivot"),
    ):
        expected = whole[variable].sel(scope=scope)
        expected = expected.sel(sign="positive") if "sign" in expected.dims else expected
        assert around[name].sel(pivot="sw") == pytest.approx(float(expected)), name
    assert around["pivot"].values.tolist() == ["sw", "de"]
    assert np.isnan(around["item_share_language"].sel(pivot="sw", language="sw"))


def test_a_hub_stands_out_and_nothing_else():
    """Every language shares its own part of each item with Spanish alone."""
    rng = np.random.default_rng(0)
    scores, _ = scores_in(rng)
    parts = rng.normal(size=(len(LANGUAGES), 120, 8))
    hub = LANGUAGES.index("es")
    x = np.stack([np.where(np.arange(40) // 8 == i, 3.0, 0.0) for i in range(5)])[:, None]
    noise = rng.normal(size=(5, 120, 40))
    values = noise + np.tile(parts.transpose(1, 0, 2).reshape(120, 40), (5, 1, 1)) * (
        (x > 0) | (np.arange(5) == hub)[:, None, None]
    )
    made = states_in(rng, scores)
    states = ParallelStates(
        LANGUAGES, made.item_ids, made.clusters, made.depths, made.n_tokens,
        lambda _: values.astype(np.float32),
    )  # fmt: skip
    lowest = pivots(scores, states, LANGUAGES)["item_share_difference_low"]
    assert (lowest > 0).sel(pivot="es") and not (lowest > 0).drop_sel(pivot="es").any()
    assert set(MEASURES) <= set(pivots(scores, states, ["es"]).data_vars)


def test_a_pivot_without_scores_is_refused(world):
    with pytest.raises(InputError, match="pivots: fr is not one of the languages en, de"):
        pivots(*world, ["fr"])


def test_a_pivot_that_is_right_everywhere_has_no_lift_and_others_keep_theirs(world):
    scores, states = world
    sums = scores["sum"].values.copy()
    sums[LANGUAGES.index("es")] = 9.0 * (np.arange(4) == scores["answer"].values[:, None])
    table = pivots(scores.assign(sum=(scores["sum"].dims, sums)), states, LANGUAGES)
    spanish, others = table.sel(pivot="es"), table.sel(pivot=["en", "de", "sw"])
    for name in ("transfer_lift", "transfer_lift_low", "transfer_to_lift"):
        assert np.isnan(spanish[name]) and np.isfinite(others[name]).all(), name
    assert spanish["transfer_lift_reason"] == "all items are right in the pivot"
    assert (others["transfer_lift_reason"] == "").all()
    assert np.isfinite(others["transfer_lift_difference"]).all()
