"""The page of agreements with other tools: what is beyond its bound is seen and named."""

import numpy as np
import pytest
from verification.agreements import Agreement, compared, guarded, markdown
from verification.numbers import clustered_hsic, rank_c, song_hsic


def agreement(**other):
    known = {"what": "scores", "against": "a tool", "n": 3, "difference": 2e-4, "bound": 1e-3}
    return Agreement("choices", **(known | other))


def test_the_largest_difference_counts_and_what_only_one_has_is_beyond_every_bound():
    row = compared("choices", "x", "tool", [1, 2, np.nan], [1, 2.5, np.nan], 0.1)
    assert (row.n, row.difference, row.holds) == (2, 0.5, False)
    lacking = compared("choices", "x", "tool", [1.0, 2.0], [1.0, np.nan], 0.1)
    assert not lacking.holds
    assert not compared("choices", "x", "tool", [np.nan], [np.nan], 0.1).holds  # nothing
    with pytest.raises(ValueError, match="not the same"):
        compared("choices", "x", "tool", [1.0, 2.0], [1.0], 0.1)


def test_a_tool_that_is_not_there_is_one_line_and_no_agreement():
    def compare():
        raise ImportError("No module named 'tool'")

    (row,) = guarded("lens", "tool", compare)
    assert not row.holds and row.note == "not compared: No module named 'tool'"
    text = markdown([agreement(), row], {"date": "today"})
    assert "- nothing, tool: not compared: No module named 'tool'" in text


def test_the_page_names_what_is_beyond_its_bound():
    text = markdown([agreement(), agreement(what="states", difference=0.5)], {"date": "today"})
    assert "- states, a tool: 0.5, 0.001 is allowed" in text and "within bounds" not in text
    assert "| scores | a tool | 3 | 2.0e-04 | 0.001 |" in text
    informs = agreement(bound=None, difference=3.0, note="other ids: q1/0 +3.00")
    text = markdown([agreement(), informs], {"date": "today"})
    assert "All 1 comparisons are within bounds." in text and "- other ids: q1/0 +3.00" in text


def test_definitions_that_isogloss_is_compared_with_by_hand():
    rng = np.random.default_rng(0)
    k, m = (x @ x.T for x in rng.normal(size=(2, 6, 3)))
    assert clustered_hsic(k, m, np.arange(6)) == pytest.approx(song_hsic(k, m))
    assert rank_c(np.array([3.0, 2]), np.array([1.0, 2])) == pytest.approx(1 / (1 + np.e))
