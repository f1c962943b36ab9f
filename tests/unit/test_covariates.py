"""Covariates of languages: tokens per character, rank correlations with their permutation p."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import spearmanr

from isogloss.measures.covariates import rank_correlation, tokens_per_character


def test_tokens_per_character_counts_what_there_is():
    scores = xr.Dataset(
        {
            "n_tokens": (("language", "item", "choice"), [[[2.0, np.nan], [4.0, 3.0]]]),
            "n_characters": (("language", "item", "choice"), [[[5.0, np.nan], [6.0, 7.0]]]),
        }
    )
    assert float(tokens_per_character(scores)[0]) == pytest.approx(9 / 18)


def test_rank_correlation_is_spearmans_and_calibrated():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 9))
    y[2] = y[3]
    assert rank_correlation(x, y)[0] == pytest.approx(spearmanr(x, y).statistic)
    small = [
        rank_correlation(*rng.normal(size=(2, 8)), n_perm=99, seed=i)[1] <= 0.1 for i in range(300)
    ]
    assert 0.05 < np.mean(small) < 0.16


def test_rank_correlation_of_too_few_languages_or_a_constant_is_no_number():
    x = np.arange(8.0)
    assert np.isnan(rank_correlation(x, np.ones(8))).all()
    assert np.isnan(rank_correlation(x, np.where(x < 4, x, np.nan))).all()
