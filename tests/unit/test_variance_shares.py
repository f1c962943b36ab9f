"""Variance shares: planted ones, by hand, and what they do not see."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogloss.measures.variance_shares import variance_share_sums


def variance_shares(states):
    """Means over the dimensions that vary; NaN where none does."""
    sums, n_features = variance_share_sums(states)
    return sums / n_features if n_features else np.full(3, np.nan)


def test_variance_shares_are_those_planted():
    rng = np.random.default_rng(0)
    states = (
        np.sqrt(3.0) * rng.normal(size=(1, 60, 50))
        + np.sqrt(2.0) * rng.normal(size=(8, 1, 50))
        + np.sqrt(2.0) * rng.normal(size=(8, 60, 50))
    )
    np.testing.assert_allclose(variance_shares(states), np.array([3, 2, 2]) / 7, atol=0.04)


@given(st.integers(0, 10**6))
def test_variance_shares_sum_to_1_and_do_not_see_the_scale_of_dimensions(seed):
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(3, 6, 4)) + rng.normal(size=(3, 1, 4))
    shares = variance_shares(states)
    assert shares.sum() == pytest.approx(1)
    scaled = variance_shares(states * np.array([1, 1e4, 1e-3, 7]) + 50)
    np.testing.assert_allclose(scaled, shares, atol=1e-6)


def test_variance_shares_by_hand():
    # One dimension, 2 x 2: cells 0, 2 / 2, 8. Means 1, 5, spreads 1, 3, pooled sqrt(5):
    # deviations -1, 1 in both, offsets -2, 2 over sqrt(5). MS item 4, language 3.2, rest 0.
    states = np.array([[[0.0], [2.0]], [[2.0], [8.0]]])
    np.testing.assert_allclose(variance_shares(states), [5 / 9, 4 / 9, 0], atol=1e-12)


def test_variance_shares_do_not_see_how_widely_a_language_spreads():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(30, 6))
    z = z - z.mean(axis=0)
    np.testing.assert_allclose(variance_shares(np.stack([z, 5 * z])), [1, 0, 0], atol=0.01)
    # Offsets count by the pooled spread: the root of the mean of 1 and 25.
    alike, unlike = (np.stack([z, n * z + 2 * np.sqrt((1 + n**2) / 2)]) for n in (1, 5))
    np.testing.assert_allclose(variance_shares(unlike), variance_shares(alike), atol=1e-9)
    assert 0.2 < variance_shares(alike)[1] < 0.8


def test_dimensions_constant_in_one_language_have_no_part_in_the_shares():
    states = np.random.default_rng(0).normal(size=(3, 20, 4))
    states[1, :, 2] = 7.0
    np.testing.assert_allclose(variance_shares(states), variance_shares(states[..., [0, 1, 3]]))


def test_variance_shares_of_what_does_not_vary_are_no_number():
    assert np.isnan(variance_shares(np.ones((3, 5, 2)))).all()
    with pytest.raises(ValueError, match="2 languages"):
        variance_shares(np.ones((1, 5, 2)))
