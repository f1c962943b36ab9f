"""Tests and intervals of effects whose setting was searched: worlds of known truth, brute force."""

from itertools import product

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import stdtr
from simulated_worlds import Flips, clusters_of

from isogloss.questions.items import folds
from isogloss.steering.inference import Search, flip_claims, swap_claims

N_ITEMS = 120
CLUSTERS = clusters_of(N_ITEMS, "everyday")
FOLDS = folds(CLUSTERS, 5)


def search_of(change, margin, fold=FOLDS):
    """(item, setting) twice: the search of one language, chosen as the steered file's is."""
    chosen = []
    for k in range(fold.max() + 1):
        others = fold != k
        order = np.lexsort((margin[others].mean(0), change[others].mean(0).round(9)))
        chosen.append(order[-1])
    return Search(change[:, None], margin[:, None], fold, np.array([chosen]))


def worlds(n, flips):
    for seed in range(n):
        rng = np.random.default_rng(seed)
        change, margin = flips.draw(rng, CLUSTERS)
        yield seed, change, search_of(change, margin)


def selected(change, search):
    return change[np.arange(len(change)), search.chosen[0][search.folds]]


def test_a_searched_setting_does_not_pass_for_a_given_one():
    """With the settings taken as given, nothing is found significant far too often."""
    n, given, searched = 400, 0, 0
    for seed, change, search in worlds(n, Flips(0.1, (0.0,) * 12)):
        as_given = selected(change, search)[:, None, None], Search.none(N_ITEMS, 1)
        given += flip_claims(*as_given, CLUSTERS, n_perm=199, seed=seed)[0].p[0] <= 0.05
        claim, _ = flip_claims(change[:, None], search, CLUSTERS, n_perm=199, seed=seed)
        searched += claim.p[0] <= 0.05
    error = np.sqrt(0.05 * 0.95 / n)
    assert given / n > 0.05 + 2 * error
    assert searched / n <= 0.05 + 2 * error


@pytest.mark.parametrize("effects", [(0.0,) * 6, (-0.04, 0.0, 0.0, 0.02, 0.04, 0.04)])
def test_intervals_cover_the_effect_of_the_settings_that_were_chosen(effects):
    n, covered = 300, 0
    for seed, change, search in worlds(n, Flips(0.1, effects)):
        claim, _ = flip_claims(change[:, None], search, CLUSTERS, n_perm=199, seed=seed)
        truth = np.asarray(effects)[search.chosen[0][FOLDS]].mean()
        covered += claim.interval.low[0] <= truth <= claim.interval.high[0]
    assert covered / n >= 0.93 - 2 * np.sqrt(0.07 * 0.93 / n)


@pytest.mark.parametrize("rate", [0.06, 0.10, 0.14])
def test_intervals_of_few_flips_cover(rate):
    n, covered = 400, 0
    flips = Flips(rate, (0.02,))
    for seed, change, _ in worlds(n, flips):
        fixed = Search.none(N_ITEMS, 1)
        claim, _ = flip_claims(change[:, None], fixed, CLUSTERS, n_perm=199, seed=seed)
        covered += claim.interval.low[0] <= 0.02 <= claim.interval.high[0]
    assert covered / n >= 0.93 - 2 * np.sqrt(0.07 * 0.93 / n)


def test_interval_and_test_never_contradict_each_other():
    outside = 0
    for n_settings, rate, effect in product((1, 6), (0.02, 0.05, 0.1), (0.0, 0.02)):
        for seed, change, search in worlds(25, Flips(rate, (effect,) * n_settings)):
            claim, _ = flip_claims(change[:, None], search, CLUSTERS, n_perm=199, seed=seed)
            interval = claim.interval
            excluded = bool(interval.low[0] > 0 or interval.high[0] < 0)
            assert excluded == bool(claim.p[0] <= 0.05)
            outside += excluded
    assert outside > 20


def test_three_flips_one_way_are_no_finding_in_either():
    """-5 points: a bootstrap interval left 0 beside a sign-flip p of .25."""
    change = np.zeros((60, 1, 1))
    change[[5, 20, 40]] = -1
    claim, _ = flip_claims(change, Search.none(60, 1), np.arange(60))
    assert claim.p[0] == 0.25
    assert claim.interval.low[0] < -0.1 and claim.interval.high[0] >= 0


def test_a_given_setting_has_the_cluster_robust_t_as_its_interval():
    rng = np.random.default_rng(0)
    change = rng.choice([-1.0, 0.0, 1.0], p=[0.2, 0.5, 0.3], size=(90, 1, 1))
    clusters = np.arange(90) // 3
    claim, _ = flip_claims(change, Search.none(90, 1), clusters, n_perm=999)
    fit = sm.OLS(change[:, 0, 0], np.ones(90)).fit(
        cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": False}, use_t=True
    )
    assert claim.error[0] == pytest.approx(fit.bse[0] * np.sqrt(30 / 29))
    low, high = fit.conf_int()[0] - fit.params[0]
    width = (high - low) * np.sqrt(30 / 29)
    assert claim.interval.high[0] - claim.interval.low[0] == pytest.approx(width, rel=0.08)


def brute_force(change, margin, fold, clusters, observed):
    """p by all sign patterns of clusters, every step in plain loops."""
    numbers = np.unique(clusters)
    sizes = []
    for signs in product([1, -1], repeat=len(numbers)):
        flip = np.array([signs[list(numbers).index(c)] for c in clusters])
        values = np.empty(len(change))
        for k in np.unique(fold):
            others = fold != k
            score = [
                (round((flip * change[:, g])[others].sum(), 6), (flip * margin[:, g])[others].sum())
                for g in range(change.shape[1])
            ]
            best = max(range(len(score)), key=lambda g: score[g])
            if all(s == 1 for s in signs):
                best = observed[k]
            values[fold == k] = (flip * change[:, best])[fold == k]
        residual = [(values - values.mean())[clusters == c].sum() for c in numbers]
        n = len(numbers)
        error = np.sqrt(n / (n - 1) * np.sum(np.square(residual))) / len(values)
        sizes.append(0.0 if values.mean() == 0 else abs(values.mean()) / error)
    return np.mean(np.array(sizes) >= sizes[0] - 1e-9)


def test_p_is_that_of_all_sign_patterns_with_the_search_in_each():
    rng = np.random.default_rng(3)
    clusters = np.arange(20) // 2
    fold = clusters % 2
    change = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.4, 0.5], size=(20, 3))
    margin = change + rng.normal(size=change.shape)
    search = search_of(change, margin, fold)
    claim, _ = flip_claims(change[:, None], search, clusters)
    expected = brute_force(change, margin, fold, clusters, search.chosen[0])
    assert claim.p[0] >= expected - 1e-12
    assert 0.002 < expected < 0.5 and claim.p[0] == pytest.approx(expected, abs=0.06)


def test_no_flips_are_no_certainty():
    claim, pooled = flip_claims(np.zeros((40, 2, 1)), Search.none(40, 2), np.arange(40) // 2)
    assert (claim.estimate == 0).all() and (claim.p == 1).all() and pooled.p == 1
    assert np.isnan([claim.interval.low, claim.interval.high]).all()


def test_the_mean_over_languages_is_that_of_those_with_values():
    rng = np.random.default_rng(1)
    change = rng.choice([-1.0, 0.0, 1.0], size=(40, 3, 1))
    change[:10, 0] = np.nan
    change[:, 2] = np.nan
    claim, pooled = flip_claims(change, Search.none(40, 3), np.arange(40) // 2, n_perm=99)
    assert np.isnan(claim.estimate[2]) and np.isnan(claim.p[2])
    means = [change[10:, 0].mean(), change[:, 1].mean()]
    np.testing.assert_allclose(claim.estimate[:2], means)
    assert pooled.estimate == pytest.approx(np.mean(means))


def test_flips_that_cancel_between_languages_leave_the_mean_at_0_without_bounds():
    flips = np.where(np.arange(40) % 4 == 0, 1.0, 0.0)[:, None]
    change = np.stack([flips, -flips], axis=1)
    claim, pooled = flip_claims(change, Search.none(40, 2), np.arange(40), n_perm=99)
    assert pooled.estimate == 0 and np.isnan(pooled.interval.low)
    assert claim.interval.low[0] > 0 > claim.interval.high[1]


def rivals(seed, effects=(0.0,) * 6, others=(0.0,) * 6, n_languages=2):
    """Two treatments in two languages, each with settings of its own choice."""
    rng, made = np.random.default_rng(seed), []
    for of_treatment in (effects, others):
        drawn = [Flips(0.1, of_treatment).draw(rng, CLUSTERS) for _ in range(n_languages)]
        change, margin = (np.stack(x, axis=1) for x in zip(*drawn, strict=True))
        each = [search_of(change[:, i], margin[:, i]).chosen[0] for i in range(n_languages)]
        made.append(Search(change, margin, FOLDS, np.array(each)))
    return made


def at_chosen(search):
    item, language = np.ogrid[: len(search.change), : search.change.shape[1]]
    return search.change[item, language, search.chosen.T[search.folds]]


def test_two_searches_on_the_same_items_do_not_pass_for_a_difference():
    """Where both treatments do alike, few tests reject; taken as given, too many do."""
    n, given, swapped, covered = 300, 0, np.zeros(2), np.zeros(2)
    for seed in range(n):
        first, second = rivals(seed)
        over = (at_chosen(first) - at_chosen(second))[..., None]
        fixed = flip_claims(over, Search.none(N_ITEMS, 2), CLUSTERS, n_perm=99, seed=seed)
        given += fixed[1].p <= 0.05
        claims = swap_claims(first, second, CLUSTERS, n_perm=99, seed=seed)
        for i, claim in enumerate(claims):
            swapped[i] += np.mean(claim.p <= 0.05)
            covered[i] += np.mean((claim.interval.low <= 0) & (0 <= claim.interval.high))
    error = np.sqrt(0.05 * 0.95 / n)
    assert given / n > 0.05 + 2 * error
    assert (swapped / n <= 0.05 + 2 * error).all()
    assert (covered / n >= 0.93 - 2 * error).all()


def test_a_treatment_that_does_better_is_found_better():
    found = 0
    for seed in range(40):
        first, second = rivals(seed, effects=(0.06, 0.06, 0.0, 0.0, 0.0, 0.0), n_languages=4)
        claim = swap_claims(first, second, CLUSTERS, n_perm=99, seed=seed)[1]
        found += claim.p <= 0.05 and claim.estimate > 0
    assert found > 20


def test_swaps_are_those_of_brute_force():
    """Five clusters of two items, all 32 swaps, each with the choice made from scratch."""
    rng, clusters = np.random.default_rng(1), np.repeat(np.arange(5), 2)
    fold = clusters % 3
    change = rng.integers(-1, 2, (2, 10, 1, 3)).astype(float)
    margin = rng.normal(size=(2, 10, 1, 3))

    def chosen(x, by_margin):
        others = [(x[fold != k].sum(0), by_margin[fold != k].sum(0)) for k in range(3)]
        return np.array([np.lexsort((m, r))[-1] for r, m in others])

    statistics = []
    for signs in product([1, -1], repeat=5):
        swap = np.array(signs)[clusters] < 0
        pair, margins = change[:, :, 0].copy(), margin[:, :, 0].copy()
        pair[:, swap], margins[:, swap] = pair[::-1, swap], margins[::-1, swap]
        settings = [chosen(x, m)[fold] for x, m in zip(pair, margins, strict=True)]
        over = pair[0][np.arange(10), settings[0]] - pair[1][np.arange(10), settings[1]]
        by_cluster = np.add.reduceat(over - over.mean(), np.arange(0, 10, 2))
        error = np.sqrt(5 / 4 * (by_cluster**2).sum()) / 10
        statistics.append(0 if abs(over.mean()) < 1e-12 else abs(over.mean()) / error)
    first, second = (
        Search(x, m, fold, chosen(x[:, 0], m[:, 0])[None])
        for x, m in zip(change, margin, strict=True)
    )
    claim, pooled = swap_claims(first, second, clusters)
    by_swaps = np.mean(np.array(statistics) >= statistics[0] - 1e-9)
    assert claim.p[0] == pooled.p == max(by_swaps, 2 * stdtr(4, -statistics[0]))
    assert abs(claim.estimate[0] / claim.error[0]) == pytest.approx(statistics[0])
