"""Associations over pairs of languages: what competence alone drives, and what belongs to pairs."""

import numpy as np
import pytest

from isogloss.measures.associations import symmetric, without_language_effects
from isogloss.measures.statistics import qap_test

N = 10


def pairs(rng, competence, pair=None, noise=0.3):
    """A matrix over pairs: both languages' competence, something of the pair, and noise."""
    shared = 0 if pair is None else pair
    return competence[:, None] + competence + shared + symmetric(noise * rng.normal(size=(N, N)))


def rejected(rng, with_pairs, adjust):
    """Share of worlds in which similarity and behaviour are found to go together."""
    small = []
    for seed in range(150):
        competence, noise = rng.normal(size=N), symmetric(0.4 * rng.normal(size=(N, N)))
        both = [pairs(rng, competence, noise if with_pairs else None) for _ in range(2)]
        if adjust:
            both = [without_language_effects(matrix) for matrix in both]
        small.append(qap_test(*both, n_perm=99, seed=seed)[1] <= 0.05)
    return np.mean(small)


def test_competence_drives_the_raw_association_and_not_the_adjusted_one():
    rng = np.random.default_rng(0)
    assert rejected(rng, with_pairs=False, adjust=False) > 0.95
    assert rejected(rng, with_pairs=False, adjust=True) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 150)


def test_what_pairs_have_in_common_is_found_after_language_effects():
    assert rejected(np.random.default_rng(0), with_pairs=True, adjust=True) > 0.8


def test_the_interval_of_an_adjusted_association_covers():
    """Pairs correlate at .4, over effects of languages that have nothing to do with each other."""
    rng, covered = np.random.default_rng(0), []
    for seed in range(150):
        x, rest = (symmetric(rng.normal(size=(N, N))) for _ in range(2))
        y = 0.4 * x + np.sqrt(1 - 0.4**2) * rest
        both = [pairs(rng, 2 * rng.normal(size=N), pair=matrix, noise=0) for matrix in (x, y)]
        test = qap_test(*map(without_language_effects, both), n_perm=99, seed=seed)
        covered.append(test.low <= 0.4 <= test.high)
    assert np.mean(covered) > 0.95 - 3 * np.sqrt(0.05 * 0.95 / 150)


def test_language_effects_leave_nothing_of_an_additive_matrix_and_all_of_the_rest():
    rng = np.random.default_rng(0)
    effect, rest = rng.normal(size=N), without_language_effects(symmetric(rng.normal(size=(N, N))))
    adjusted = without_language_effects(2 + effect[:, None] + effect + rest)
    np.testing.assert_allclose(adjusted, rest, atol=1e-12)
    np.testing.assert_allclose(np.nansum(adjusted, axis=0), 0, atol=1e-9)
    assert np.isnan(np.diag(adjusted)).all()


def test_missing_pairs_are_left_out():
    rng = np.random.default_rng(0)
    effect = rng.normal(size=N)
    matrix = effect[:, None] + effect
    matrix[2, 5] = matrix[5, 2] = np.nan
    adjusted = without_language_effects(matrix)
    assert np.isnan(adjusted[2, 5]) and abs(adjusted[2, 4]) < 1e-12


@pytest.mark.parametrize("n", [2, 3])
def test_few_languages_leave_nothing_to_go_by(n):
    assert np.isnan(without_language_effects(np.random.default_rng(0).normal(size=(n, n)))).all()


@pytest.mark.parametrize("n", [7, 122])
def test_what_language_effects_explain_wholly_has_no_association(n):
    """Of 122 languages rounding alone gave accuracy one, with a narrow interval."""
    rng = np.random.default_rng(0)
    near = without_language_effects(symmetric(rng.uniform(size=(n, n))))
    accuracy = rng.integers(0, 900, n) / 900
    left = without_language_effects((accuracy[:, None] + accuracy) / 2)
    assert np.isnan(qap_test(near, left, 19)).all()
    assert np.isnan(qap_test(near, np.full((n, n), 100 / 3), 19)).all()
