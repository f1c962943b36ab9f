"""Intervals and tests over clusters of items: hand-worked values, other tools, and coverage."""

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from isogloss.measures import statistics as s


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def clustered(rng, n_clusters=40, size=3, shared=1.0):
    """Values whose clusters share part of their noise: (item, ...) and clusters."""
    clusters = np.repeat(np.arange(n_clusters), size)
    return rng.normal(size=(n_clusters, 1))[clusters, 0] * shared + rng.normal(
        size=n_clusters * size
    ), clusters


def mean_interval(values, clusters, **settings):
    return s.Jackknife.of(clusters, **settings).mean_interval(np.asarray(values, dtype=float))


def ratio_interval(numerator, denominator, clusters):
    """Interval of sum(numerator) / sum(denominator), as every measure computes its own."""
    jackknife = s.Jackknife.of(clusters)
    return jackknife.interval(s.divide(jackknife.sums(numerator), jackknife.sums(denominator)))


# Jackknife


def test_jackknife_interval_of_a_mean_is_the_textbook_one(rng):
    values = rng.normal(size=25)
    left_out = (values.sum() - values) / 24
    interval = s.jackknife_interval(values.mean(), left_out)
    expected = stats.t.interval(0.95, 24, values.mean(), stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx(expected)


def crossed_mean(values):
    """Mean over (item, language), and with each item and each language left out."""
    total, (n, m) = values.sum(), values.shape
    items = (total - values.sum(axis=1)) / ((n - 1) * m)
    return values.mean(), items, (total - values.sum(axis=0)) / (n * (m - 1))


@pytest.mark.parametrize("n_languages", [3, 5, 10])
@pytest.mark.parametrize("item, language, both", [(1, 0.3, 1), (0.2, 1, 1), (1, 0, 0), (0, 0, 1)])
def test_two_way_jackknife_covers_items_and_languages_in_general(
    rng, n_languages, item, language, both
):
    covered = []
    for _ in range(600):
        values = item * rng.normal(size=(40, 1)) + language * rng.normal(size=n_languages)
        values = values + both * rng.normal(size=(40, n_languages))
        interval = s.two_way_jackknife(*crossed_mean(values))
        covered.append(interval.low <= 0 <= interval.high)
    assert np.mean(covered) > 0.93  # 0.95 less two Monte Carlo errors


@pytest.mark.parametrize("n_languages", [3, 5])
def test_two_way_jackknife_covers_languages_that_are_uniform_in_what_they_share(rng, n_languages):
    """A mean over pairs, in which the items hardly count: Student's t alone covers .92 and .93."""
    worlds, by_cluster = 4000, np.full((9, 1), 0.36)
    share = rng.uniform(0.3, 0.9, (n_languages, worlds))

    def over_pairs(share):
        n = len(share)
        return (share.sum(axis=0) ** 2 - (share**2).sum(axis=0)) / (n * (n - 1))

    without = np.stack([over_pairs(np.delete(share, i, axis=0)) for i in range(n_languages)])
    interval = s.two_way_jackknife(over_pairs(share), by_cluster, without)
    covered = (interval.low <= 0.6**2) & (interval.high >= 0.6**2)
    assert covered.mean() > 0.933  # the least that there should be, .93, and a Monte Carlo error


def test_two_way_jackknife_needs_two_languages(rng):
    interval = s.two_way_jackknife(np.array(0.5), rng.normal(size=9), np.array([np.nan]))
    assert np.isfinite(interval.estimate) and np.isnan(interval.low) and np.isnan(interval.high)


def test_jackknife_rows_are_the_data_and_each_cluster_left_out(rng):
    values, clusters = clustered(rng, 6, 3)
    rows = s.Jackknife.of(clusters).means(values)
    assert rows[0] == pytest.approx(values.mean())
    assert rows[1 + 2] == pytest.approx(values[clusters != 2].mean())


def test_jackknife_of_unclustered_means_is_the_t_interval(rng):
    values = rng.exponential(size=30)
    interval = s.Jackknife.of(np.arange(30)).mean_interval(values)
    expected = stats.t.interval(0.95, 29, values.mean(), stats.sem(values))
    assert [interval.low, interval.high] == pytest.approx(list(expected))


def test_jackknife_of_means_leaves_nan_and_their_clusters_out(rng):
    values, clusters = clustered(rng, 10, 2)
    values = np.stack([values, np.where(clusters < 4, values, np.nan)], axis=1)
    interval = s.Jackknife.of(clusters).mean_interval(values)
    alone = s.Jackknife.of(clusters[clusters < 4]).mean_interval(values[clusters < 4, 1])
    for end in ("estimate", "low", "high"):
        assert getattr(interval, end)[1] == pytest.approx(getattr(alone, end))


def test_jackknife_intervals_stay_within_their_limits():
    interval = s.Jackknife.of(np.arange(4)).mean_interval(np.array([1, 1, 1, 0.2]), (-1, 1))
    assert interval.high == 1 and -1 < interval.low < interval.estimate


def test_share_interval_of_unclustered_items_is_wilsons_with_t(rng):
    right = (rng.random(50) < 0.7).astype(float)
    jackknife = s.Jackknife.of(np.arange(50))
    interval = jackknife.share_interval(jackknife.means(right), 50)
    t = stats.t.ppf(0.975, 49)
    # The variance has n - 1 in its denominator, so the items count as n - 1.
    low, high = proportion_confint(right.mean() * 49, 49, 2 * stats.norm.sf(t), method="wilson")
    assert [interval.low, interval.high] == pytest.approx([low, high])


def test_share_interval_without_spread_counts_clusters():
    jackknife = s.Jackknife.of(np.repeat(np.arange(5), 4))
    interval = jackknife.share_interval(jackknife.means(np.ones(20)), 20)
    t = stats.t.ppf(0.975, 4)
    assert interval.low == pytest.approx(
        proportion_confint(5, 5, 2 * stats.norm.sf(t), "wilson")[0]
    )
    assert interval.high == 1


def test_jackknife_of_a_ratio_is_scipys_on_clusters(rng):
    values, clusters = clustered(rng)
    weights = rng.uniform(0.5, 2, size=len(values))
    tops, bottoms = np.bincount(clusters, values * weights), np.bincount(clusters, weights)
    interval = ratio_interval(values * weights, weights, clusters)
    # The delta method: residuals of the ratio, cluster by cluster.
    ratio = tops.sum() / bottoms.sum()
    error = np.sqrt(40 * np.var(tops - ratio * bottoms, ddof=1)) / bottoms.sum()
    assert interval.estimate == pytest.approx(ratio)
    assert (interval.high - interval.low) / 2 == pytest.approx(
        stats.t.ppf(0.975, 39) * error, rel=0.05
    )


def test_ratio_interval_is_where_fiellers_test_does_not_reject(rng):
    above, below = rng.normal([1.0, 0.8], 1.0, size=(40, 2)).T
    jackknife = s.Jackknife.of(np.arange(40))
    means = jackknife.means(np.column_stack([above, below]))
    interval = jackknife.ratio_interval(means[:, 0] / means[:, 1], means[:, 1])
    for bound in (interval.low, interval.high):
        assert stats.ttest_1samp(above - bound * below, 0).pvalue == pytest.approx(0.05)
    assert interval.low < interval.estimate < interval.high


def test_ratio_interval_says_nothing_where_its_denominator_may_be_zero(rng):
    jackknife = s.Jackknife.of(np.arange(40))
    means = jackknife.means(rng.normal([1.0, 0.0], 1.0, size=(40, 2)))
    interval = jackknife.ratio_interval(means[:, 0] / means[:, 1], means[:, 1], limits=(-5.0, 5.0))
    assert (interval.low, interval.high) == (-5, 5)
    constant = jackknife.ratio_interval(np.full(41, 0.5), np.ones(41))
    assert constant.low == pytest.approx(0.5) and constant.high == pytest.approx(0.5)


def test_a_constant_difference_of_trailing_entries_has_no_width(rng):
    values, clusters = clustered(rng)
    rows = s.Jackknife.of(clusters).means(np.stack([values, values + 0.25], axis=1))
    assert np.ptp(rows[:, 1] - rows[:, 0]) < 1e-12


def test_cluster_names_and_item_order_do_not_matter(rng):
    values, clusters = clustered(rng)
    order = rng.permutation(len(values))
    plain = mean_interval(values, clusters)
    shuffled = mean_interval(values[order], clusters[order] * 10 + 7)
    assert [shuffled.low, shuffled.high] == pytest.approx([float(plain.low), float(plain.high)])


def test_zero_denominator_gives_nan_and_no_interval():
    interval = ratio_interval(np.zeros((6, 2)), np.array([[0, 1]] * 6), np.arange(6))
    np.testing.assert_equal(interval.estimate, [np.nan, 0])
    np.testing.assert_equal(interval.low, [np.nan, 0])


def test_one_cluster_has_an_estimate_and_no_interval():
    interval = mean_interval(np.arange(5.0), np.zeros(5, dtype=int))
    assert interval.estimate == 2
    assert np.isnan(interval.low) and np.isnan(interval.high)


@pytest.mark.filterwarnings("error")
def test_constant_values_have_an_interval_without_width():
    interval = mean_interval(np.full(9, 0.3), np.arange(9))
    assert [interval.low, interval.high] == pytest.approx([0.3, 0.3])


def coverage(rng, interval, n_worlds=150):
    """Share of worlds of 30 clusters of 4 whose interval holds the true mean, 0."""
    covered = 0
    for _ in range(n_worlds):
        values, clusters = clustered(rng, 30, 4)
        bounds = interval(values, clusters)
        covered += bounds.low <= 0 <= bounds.high
    return covered / n_worlds


def test_cluster_intervals_cover_and_item_intervals_do_not(rng):
    def by_cluster(values, clusters):
        return mean_interval(values, clusters)

    def by_item(values, clusters):
        return mean_interval(values, np.arange(len(values)))

    assert 0.88 <= coverage(rng, by_cluster) <= 0.99
    assert coverage(rng, by_item) < 0.86


def test_holm_by_hand_keeps_shape_and_nan():
    # Sorted 0.01, 0.02, 0.03 times 3, 2, 1, then made monotone: 0.03, 0.04, 0.04.
    p = np.array([[0.03, np.nan], [0.01, 0.02]])
    np.testing.assert_allclose(s.holm(p), [[0.04, np.nan], [0.03, 0.04]])


def test_holm_is_statsmodels(rng):
    for n in (1, 2, 9, 40):
        p = rng.random(n).round(1)
        np.testing.assert_array_equal(s.holm(p), multipletests(p, method="holm")[1])
    assert s.holm(np.array([])).shape == (0,) and np.isnan(s.holm(np.array([np.nan]))).all()


def test_minimum_detectable_effect_is_detected_with_its_power(rng):
    n, sd = 60, 0.5
    differences = sd * stats.zscore(rng.normal(size=n), ddof=1)
    effect = float(s.minimum_detectable_effect(differences, np.arange(n)))
    p = [stats.ttest_1samp(rng.normal(effect, sd, n), 0).pvalue for _ in range(400)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize("rare", [1.0, 1.5, 1.9])
def test_flips_are_detected_with_their_power_however_rare_they_are(rng, rare):
    """An answer flips where something normal exceeds a bound; steering moves what is normal."""
    n, worlds = 120, 2000

    def flips(shift):
        moved = rng.normal(size=(n, worlds)) + shift
        return (moved > rare).astype(float) - (moved < -rare)

    null = flips(0.0)
    least = s.minimum_detectable_effect(null, np.arange(n), flips=s.Flips.of(null))
    effect = float(np.nanmean(least))
    shift = brentq(lambda x: norm.sf(rare - x) - norm.sf(rare + x) - effect, 0, 2)
    shares = {}
    for name, size in (("detected", shift), ("too small", 0.6 * shift)):
        detected = flips(size)
        error = detected.std(axis=0, ddof=1) / np.sqrt(n)
        shares[name] = np.mean(detected.mean(axis=0) > stats.t.ppf(0.975, n - 1) * error)
    assert 0.77 < shares["detected"] < 0.87 and shares["too small"] < 0.6
    # As if an effect flipped no further answers: .78, .71 and .58 of those promised as .80.
    plain = float(np.nanmean(s.minimum_detectable_effect(null, np.arange(n))))
    assert plain < effect


def test_other_changes_than_flips_are_none():
    assert s.Flips.of(np.array([0.5, -1.0])) is None
    flips = s.Flips.of(np.array([1.0, -1.0, 0.0, np.nan, 0.0]))
    assert (flips.share, flips.mean) == (0.5, 0)


def test_minimum_detectable_effect_from_values_knows_clusters(rng):
    values, clusters = clustered(rng, 50, 4, shared=2)
    alone = s.minimum_detectable_effect(values, np.arange(len(values)))
    quantiles = stats.t.ppf([0.975, 0.8], len(values) - 1)
    assert alone == pytest.approx(quantiles.sum() * stats.sem(values), rel=1e-9)
    assert s.minimum_detectable_effect(values, clusters) > 1.4 * alone
    # Items that repeat their cluster, in fours: the variance of the mean is four times as large.
    clusters = np.repeat(np.arange(200), 4)
    same = rng.normal(size=200)[clusters]
    apart = s.minimum_detectable_effect(same, np.arange(800))
    assert s.minimum_detectable_effect(same, clusters) == pytest.approx(2 * apart, rel=0.02)
    assert np.isnan(s.minimum_detectable_effect(np.zeros(8), np.arange(8)))


def test_the_detectable_effect_follows_from_the_width_of_the_interval():
    assert s.detectable(-1.959964, 1.959964) == pytest.approx(1.959964 + 0.841621, abs=1e-4)
    strict = s.detectable(-1.959964, 1.959964, alpha=0.01)
    assert strict == pytest.approx(2.575829 + 0.841621, abs=1e-4)
    narrow = s.detectable(-1.644854, 1.644854, confidence=0.9)
    assert narrow == pytest.approx(1.644854 + 0.841621, abs=1e-4)


def test_the_interval_of_a_correlation_excludes_nothing_where_its_test_does_not():
    rng = np.random.default_rng(0)
    for n in (19, 59, 199):
        for _ in range(60):
            permuted = rng.uniform(-1, 1, size=n).round(1)
            observed = round(rng.uniform(-1, 1), 1)
            interval = s.permuted_correlation(observed, np.append(permuted, observed))
            assert (interval.p <= 0.05) == (interval.low > 0 or interval.high < 0)
    interval = s.permuted_correlation(1.0, np.array([1.0, *np.linspace(-0.9, 0.9, 18)]))
    assert np.isnan([interval.low, interval.high]).all()  # 19 permutations leave none beyond 95%


def test_qap_finds_planted_association_and_not_node_effects(rng):
    n = 12
    x = rng.normal(size=(n, n))
    x = x + x.T
    noise = rng.normal(size=(n, n))
    r, p, *_ = s.qap_test(x, x + 0.5 * (noise + noise.T), n_perm=299)
    assert r > 0.7 and p <= 0.01
    # Both matrices are driven by nodes, by different ones: entries are not independent.
    p_null = []
    for _ in range(40):
        a, b = rng.normal(size=(2, n))
        p_null.append(s.qap_test(a[:, None] + a, b[:, None] + b, n_perm=99)[1])
    assert np.mean(np.array(p_null) <= 0.05) <= 0.15


def test_qap_correlation_skips_diagonal_and_nan(rng):
    x, y = rng.normal(size=(2, 5, 5))
    expected = stats.pearsonr(x[~np.eye(5, dtype=bool)], y[~np.eye(5, dtype=bool)])[0]
    np.fill_diagonal(x, 100)
    assert s.qap_test(x, y, n_perm=9)[0] == pytest.approx(expected)
    y[0, 1] = np.nan
    assert np.isfinite(s.qap_test(x, y, n_perm=9)[0])
    assert np.isnan(s.qap_test(np.ones((5, 5)), y)[0])


def test_qap_leaves_relabellings_that_say_nothing_out_of_its_denominator(rng):
    """With missing pairs some relabellings keep fewer than three pairs: they are no evidence."""
    x, y = rng.normal(size=(2, 5, 5))
    x[1:] = np.nan  # four pairs are left
    y[:, [0, 4]] = np.nan
    defined = []
    for order in itertools.permutations(range(5)):
        r = s._matrix_correlations(x, y[np.ix_(order, order)][None])[0]
        defined += [abs(r)] if np.isfinite(r) else []
    assert len(defined) < 120
    r, p, *_ = s.qap_test(x, y, n_perm=999)
    assert p == pytest.approx(np.mean(np.array(defined) >= abs(r) - 1e-12))


def test_qap_enumerates_few_languages(rng):
    x = rng.normal(size=(4, 4))
    r, p, *_ = s.qap_test(x, x, n_perm=999)
    assert r == pytest.approx(1)
    assert p == pytest.approx(1 / 24)


@pytest.mark.parametrize(
    "call",
    [
        lambda: mean_interval(np.ones(3), np.arange(4)),
        lambda: mean_interval(np.ones(0), np.ones(0)),
        lambda: s.qap_test(np.ones((3, 3)), np.ones((4, 4))),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call):
    with pytest.raises(ValueError):
        call()
