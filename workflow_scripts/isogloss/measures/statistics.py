"""Intervals and tests whose unit is the cluster of items.

Everything that is a function of sums over items goes through `Jackknife`: the statistic on the
data and with each cluster left out, for all languages and pairs at once, so that differences stay
paired. Its spread over the clusters is the standard error, with Student's t behind the interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from math import factorial
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

# Sums of the same numbers in another order differ in the last bits: within this they are equal.
ROUNDING = 1e-12
QAP_BLOCK = 2**20  # entries of relabelled matrices that are correlated at a time
POWER = 0.8  # with which a detectable effect is found
NO_LIMITS = (-np.inf, np.inf)
EVERY = slice(None)  # first languages of pairs, where not some of them


class Interval(NamedTuple):
    """An estimate and its interval; the three arrays have one shape."""

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray


def stacked(intervals: Sequence[Interval]) -> Interval:
    """Intervals along a new first axis."""
    return Interval(*(np.stack(ends) for ends in zip(*intervals, strict=True)))


def mean_present(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean over what has a value along an axis; NaN where nothing has."""
    present = np.isfinite(values)
    return divide(np.where(present, values, 0.0).sum(axis=axis), present.sum(axis=axis))


def cluster_codes(clusters: np.ndarray) -> np.ndarray:
    """Clusters numbered 0, 1, ... in the order of their identifiers.

    >>> cluster_codes(np.array([7, 3, 7]))
    array([1, 0, 1])
    """
    return np.unique(np.asarray(clusters), return_inverse=True)[1]


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """numerator / denominator, NaN (and no warning) where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator == 0, np.nan, numerator / denominator)


@dataclass(frozen=True)
class Jackknife:
    """Sums over items on the data and with each cluster left out; intervals from their spread.

    "Row" below means: the data first, then one row per cluster, without it.

    Attributes:
        codes: (item,) number of each item's cluster.
        confidence: of the intervals.
    """

    codes: np.ndarray
    confidence: float = 0.95

    @classmethod
    def of(cls, clusters: np.ndarray, confidence: float = 0.95) -> "Jackknife":
        codes = cluster_codes(clusters)
        if not codes.size:
            raise ValueError("no items to leave out")
        return cls(codes, confidence)

    @property
    def n_clusters(self) -> int:
        return int(self.codes.max()) + 1

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums over items: (item, ...) to (row, ...)."""
        values = np.asarray(values, dtype=float)
        if len(values) != len(self.codes):
            raise ValueError(f"{len(values)} values for {len(self.codes)} items")
        by_cluster = sum_by_cluster(values, self.codes)
        total = by_cluster.sum(axis=0, keepdims=True)
        return np.concatenate([total, total - by_cluster])

    def means(self, values: np.ndarray) -> np.ndarray:
        """Means over items, NaN entries left out: (item, ...) to (row, ...)."""
        present = np.isfinite(values)
        return divide(self.sums(np.where(present, values, 0.0)), self.sums(present))

    def interval(
        self,
        rows: np.ndarray,
        limits: tuple[float, float] = NO_LIMITS,
        behind: np.ndarray | None = None,
        biased: bool = False,
    ) -> Interval:
        """Interval of a statistic computed from each row's sums: (row, ...) to (...).

        Clusters without an item behind the statistic give no degree of freedom.

        Args:
            rows: the statistic on each row.
            limits: the smallest and the largest value that it can have.
            behind: (item, ...) bool, items that it is of, where not all.
            biased: whether the interval lies around the statistic less its bias, see
                `without_bias`; it holds the statistic itself.
        """
        every = np.ones(len(self.codes), bool) if behind is None else behind
        sizes = sum_by_cluster(every.astype(float), self.codes)
        n = (sizes > 0).sum(axis=0)
        # The other clusters' rows are the data's, and add nothing to either sum.
        away = rows[1:] - rows[0]
        squares = (away**2).sum(axis=0) - divide(away.sum(axis=0) ** 2, n)
        variance = divide((n - 1) * squares.clip(min=0), n)
        centre = without_bias(rows[0], rows[1:], sizes) if biased else rows[0]
        interval = within(_t_interval(centre, variance, n - 1, self.confidence), limits)
        return holding(rows[0], interval) if biased else interval

    def mean_interval(
        self, values: np.ndarray, limits: tuple[float, float] = NO_LIMITS
    ) -> Interval:
        """Interval of the mean over items, NaN entries left out: (item, ...) to (...).

        For means the jackknife is the cluster-robust standard error.
        """
        return self.interval(self.means(values), limits, np.isfinite(values))

    def ratio_interval(
        self, rows: np.ndarray, scale: np.ndarray, limits: tuple[float, float] = NO_LIMITS
    ) -> Interval:
        """Interval of a statistic that is a ratio with a noisy denominator (Fieller's).

        The ratio r = a / b is skewed, and its standard error is small just where its estimate is
        too large. a - r b is neither: the interval holds each r at which it is within t standard
        errors of 0. Where b itself is, that is every r, or all but a gap: the limits then.

        Args:
            rows: (row, ...) the ratio.
            scale: (row, ...) its denominator.

        Source: Fieller (1954), Some problems in interval estimation.
        """
        n, share = self.n_clusters, (self.n_clusters - 1) / self.n_clusters
        numerator = rows * scale
        top, bottom = (x[1:] - x[1:].mean(axis=0) for x in (numerator, scale))
        t2 = _t_quantile(n - 1, self.confidence) ** 2 * share
        a = scale[0] ** 2 - t2 * (bottom**2).sum(axis=0)
        b = numerator[0] * scale[0] - t2 * (top * bottom).sum(axis=0)
        c = numerator[0] ** 2 - t2 * (top**2).sum(axis=0)
        root = np.sqrt(np.maximum(b**2 - a * c, 0))
        interval = Interval(rows[0], divide(b - root, a), divide(b + root, a))
        known = np.isfinite(interval.low) & np.isfinite(rows[0])
        low, high = (
            np.where(known, np.where(a > 0, bound, limit), np.nan)
            for bound, limit in zip(interval[1:], limits, strict=True)
        )
        return within(Interval(rows[0], low, high), limits)

    def drawn_interval(self, rows: np.ndarray) -> Interval:
        """Interval of a statistic that jumps: on the data, then on clusters drawn anew (row, ...).

        Source: Efron (1979), the bootstrap's standard error; Student's t.
        """
        return _t_interval(
            rows[0], rows[1:].var(axis=0, ddof=1), self.n_clusters - 1, self.confidence
        )

    def share_interval(self, rows: np.ndarray, n_items: np.ndarray | float) -> Interval:
        """Interval of a share of items: Wilson's, with as many items as its spread is worth.

        Where the share does not vary over clusters (all right, say), nothing can be estimated:
        the items then count as under the largest design effect that the clusters allow.

        Args:
            rows: (row, ...) shares.
            n_items: (...) items behind the share.

        """
        flat = np.asarray(n_items) / largest_design_effect(self.codes)
        return wilson_interval(rows[0], rows[1:], flat, self.confidence)


def sum_by_cluster(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Sums of (item, ...) within clusters numbered by `codes`: (cluster, ...)."""
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(int(codes.max()) + 1))
    return np.add.reduceat(np.asarray(values)[order], starts, axis=0)


def jackknife_variance(left_out: np.ndarray) -> np.ndarray:
    """Variance of an estimate from its values with each unit left out: (unit, ...) to (...).

    NaN with fewer than two units.

    Source: Efron and Stein (1981).

    >>> sample = np.array([1.0, 2.0, 6.0])
    >>> bool(np.isclose(jackknife_variance((sample.sum() - sample) / 2), sample.var(ddof=1) / 3))
    True
    """
    n = len(left_out)
    if n < 2:
        return np.full(left_out.shape[1:], np.nan)
    return (n - 1) / n * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)


def few_variance(left_out: np.ndarray) -> np.ndarray:
    """Variance of an estimate over few units that are not normal, such as languages.

    `jackknife_variance` by n / (n - 1), which of many units is the same. With Student's t on n - 1
    degrees of freedom, five values that are uniform are covered .949 of .95 (.935 without it), the
    mean of the products of their pairs .943 (.928), five that are normal .964.

    Source: HC3 of MacKinnon and White (1985), the jackknife that leaves (n - 1) / n out.

    >>> sample = np.array([1.0, 2.0, 6.0])
    >>> bool(np.isclose(few_variance((sample.sum() - sample) / 2), sample.var(ddof=1) / 2))
    True
    """
    n = len(left_out)
    return jackknife_variance(left_out) * n / max(n - 1, 1)


def without_bias(estimate: np.ndarray, left_out: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """An estimate (...) less its bias, as its values with each unit left out (unit, ...) show it.

    A mean has none. A correlation r of n items is about r (1 - r^2) / 2n too near 0, little beside
    its own error, but much beside that of a mean over many dimensions, which are all off alike.

    Args:
        sizes: (unit, ...) items of each unit: without a large one the estimate moves more, which is
            no bias; 0 where the estimate rests on none of its items, and is the same without it.

    Source: Quenouille (1956); units of other sizes, Busing, Meijer and van der Leeden (1999),
    Delete-m jackknife for unequal m; of correlations, Olkin and Pratt (1958).

    >>> sample = np.array([1.0, 2.0, 6.0])
    >>> left_out = np.array([np.delete(sample, i).var() for i in range(3)])
    >>> bool(np.isclose(without_bias(sample.var(), left_out, np.ones(3)), sample.var(ddof=1)))
    True
    """
    sizes = sizes.reshape(sizes.shape + (1,) * (left_out.ndim - sizes.ndim))
    others = 1 - divide(sizes, sizes.sum(axis=0))
    return np.asarray(len(left_out) * estimate - np.einsum("u...,u...->...", others, left_out))


def jackknife_interval(
    estimate: np.ndarray, left_out: np.ndarray, confidence: float = 0.95
) -> Interval:
    """Interval of an estimate (...) from its values with each unit left out (unit, ...).

    Student's t with one degree of freedom fewer than units; NaN where any value is.
    """
    return _t_interval(estimate, jackknife_variance(left_out), len(left_out) - 1, confidence)


def wilson_interval(
    share: np.ndarray, left_out: np.ndarray, flat: np.ndarray | float, confidence: float = 0.95
) -> Interval:
    """Wilson's interval of a share of as many items as its jackknife spread is worth.

    Near 0 and 1 the spread is small just where the share is too far out: Student's t around a share
    of .99 covers .90 of .95.

    Args:
        share: (...).
        left_out: (unit, ...) with each unit left out.
        flat: items that count where the share does not vary over units.
        confidence: of the interval, with Student's t.

    Source: Wilson (1927), with the effective sample size of Korn and Graubard (1998).
    """
    variance = jackknife_variance(left_out)
    n = np.where(variance > ROUNDING, divide(share * (1 - share), variance), flat)
    t = _t_quantile(len(left_out) - 1, confidence)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = (share + t**2 / (2 * n)) / (1 + t**2 / n)
        half = t / (1 + t**2 / n) * np.sqrt(share * (1 - share) / n + (t / (2 * n)) ** 2)
    usable = np.isfinite(share) & (n > 0)
    low, high = np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)
    return Interval(share, np.where(usable, low, np.nan), np.where(usable, high, np.nan))


def two_way_jackknife(
    estimate: np.ndarray,
    without_cluster: np.ndarray,
    without_language: np.ndarray,
    confidence: float = 0.95,
) -> Interval:
    """Interval for other items **and** other languages, which are crossed.

    The variance is the sum of both jackknives'. What is neither the items' nor the languages'
    alone is in both, so where it prevails the interval is too wide, never too narrow. Student's t
    has the languages' degrees of freedom, the fewer: a percentile bootstrap over both covers .83
    of .95 at five languages. That of languages is `few_variance`.

    Args:
        estimate: (...).
        without_cluster: (cluster, ...) with each cluster of items left out.
        without_language: (language, ...) with each language left out, those alone that stand for
            others (around a pivot, all but the pivot).
        confidence: of the interval.

    Returns:
        Interval of shape (...); NaN bounds with one language or cluster, or where a value is NaN.

    Source: the two variances of Cameron, Gelbach and Miller (2011), Robust inference with multiway
    clustering, without their third, which may leave a negative sum.
    """
    fewest = min(len(without_cluster), len(without_language)) - 1
    variance = jackknife_variance(without_cluster) + few_variance(without_language)
    return _t_interval(estimate, variance, fewest, confidence)


def known_width(interval: Interval) -> Interval:
    """The interval, without bounds where nothing varied: no changes are no certainty."""
    known = interval.high - interval.low > ROUNDING
    low, high = (np.where(known, x, np.nan) for x in interval[1:])
    return Interval(interval.estimate, low, high)


def within(interval: Interval, limits: tuple[float, float]) -> Interval:
    """An interval cut at the smallest and the largest value that its quantity can have."""
    low, high = (np.clip(bound, *limits) for bound in interval[1:])
    return Interval(interval.estimate, low, high)


def holding(estimate: np.ndarray, interval: Interval) -> Interval:
    """The interval of an estimate, widened as far as it: around a value without its bias, an
    interval may leave out the very number that it stands beside."""
    low, high = np.minimum(interval.low, estimate), np.maximum(interval.high, estimate)
    return Interval(np.asarray(estimate, dtype=float), low, high)


def _t_interval(
    estimate: np.ndarray, variance: np.ndarray, degrees: np.ndarray | int, confidence: float
) -> Interval:
    """Estimate and Student's t bounds, NaN without a degree of freedom."""
    estimate = np.asarray(estimate, dtype=float)
    half = np.sqrt(variance) * _t_quantile(degrees, confidence)
    return Interval(estimate, estimate - half, estimate + half)


def _t_quantile(degrees: np.ndarray | int, confidence: float) -> np.ndarray:
    """Quantile of Student's t for a two-sided interval; NaN without a degree of freedom."""
    degrees = np.asarray(degrees, dtype=float)
    quantile = stdtrit(np.maximum(degrees, 1), (1 + confidence) / 2)
    return np.where(degrees >= 1, quantile, np.nan)


def _at_least(values: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Where |values| reaches |observed|, up to rounding."""
    return np.abs(values) >= np.abs(observed) - ROUNDING * np.maximum(1, np.abs(observed))


def significant(p: np.ndarray | float, confidence: float) -> np.ndarray:
    """Where p is at most 1 - confidence, up to rounding: 1 - 0.9 is less than 0.1 in binary.

    >>> [bool(significant(*test)) for test in ((0.05, 0.95), (0.1, 0.9), (0.11, 0.9))]
    [True, True, False]
    """
    return np.asarray(p) <= 1 - confidence + ROUNDING


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm-adjusted p values over one family (any shape); NaN are no tests and stay NaN.

    >>> holm(np.array([0.01, 0.04, np.nan]))
    array([0.02, 0.04,  nan])
    """
    p_values = np.asarray(p_values, dtype=float)
    adjusted = np.full_like(p_values, np.nan)
    tested = np.flatnonzero(np.isfinite(p_values))
    order = tested[np.argsort(p_values.flat[tested])]
    multiplied = p_values.flat[order] * np.arange(len(order), 0, -1)
    adjusted.flat[order] = np.minimum(np.maximum.accumulate(multiplied), 1)
    return adjusted


@dataclass(frozen=True)
class Flips:
    """How many answers changed: what the spread of a change of accuracy follows from.

    A larger effect flips more answers, so it is less sure than what was observed. The product of
    the shares flipped right and flipped wrong is taken as fixed (a shift of the odds), so that the
    share of flips at an effect d is sqrt(f^2 + d^2), f the share where there is no effect.

    Attributes:
        share: (...) of answers that changed.
        mean: (...) flipped right less flipped wrong.
    """

    share: np.ndarray
    mean: np.ndarray

    @classmethod
    def of(cls, changes: np.ndarray, axis: int | tuple[int, ...] = 0) -> "Flips | None":
        """Of changes that are -1, 0 or 1 (NaN left out); None where they are others."""
        if not np.isin(changes[np.isfinite(changes)], (-1, 0, 1)).all():
            return None
        n = np.isfinite(changes).sum(axis=axis)
        total, moved = np.nansum(changes, axis=axis), np.nansum(np.abs(changes), axis=axis)
        return cls(divide(moved, n), divide(total, n))

    def variance_ratio(self, effect: np.ndarray) -> np.ndarray:
        """Variance of a change where the effect is this large, over that observed."""
        without = (self.share**2 - self.mean**2).clip(min=0)
        return divide(np.sqrt(without + effect**2) - effect**2, self.share - self.mean**2)


def minimum_detectable_effect(
    differences: np.ndarray,
    clusters: np.ndarray,
    alpha: float = 0.05,
    *,
    wider: np.ndarray | float = 1.0,
    flips: Flips | None = None,
) -> np.ndarray:
    """Smallest mean difference that a two-sided test at `alpha` finds with POWER.

    Args:
        differences: (item, ...) paired differences, whose cluster-robust standard error is taken.
        clusters: (item,).
        wider: (...) the test's critical value over Student's t, where a search makes it larger;
            the estimate varies as much more.
        flips: the answers that changed, of differences that are such changes or means of them.

    Returns:
        (...) in the unit of the differences; NaN where they do not vary, since nothing then says
        what could have been detected.

    Source: (t(1 - alpha/2) + t(power)) standard errors, with clusters - 1 degrees of freedom;
    those of flips at the effect that is sought (our choice, see `Flips`).

    >>> flips = np.tile([0.45, -0.45], 60)
    >>> round(float(minimum_detectable_effect(flips, np.arange(120))), 3)
    0.117
    """
    jackknife = Jackknife.of(clusters)
    means = jackknife.means(np.asarray(differences, dtype=float))
    error, degrees = np.sqrt(jackknife_variance(means[1:])), max(jackknife.n_clusters - 1, 1)
    quantiles = (stdtrit(degrees, 1 - alpha / 2) + stdtrit(degrees, POWER)) * wider
    least = at_observed = np.where(error > ROUNDING, quantiles * error, np.nan)
    if flips is not None:
        for _ in range(100):  # to the effect whose own standard error it is a multiple of
            least = np.minimum(at_observed * np.sqrt(flips.variance_ratio(least)), 1.0)
    return least


def detectable(
    low: np.ndarray | float,
    high: np.ndarray | float,
    confidence: float = 0.95,
    alpha: float | None = None,
) -> np.ndarray:
    """Smallest effect that a two-sided test finds with POWER, from the width of an interval.

    Args:
        low, high: (...) bounds of the interval at `confidence`.
        alpha: level of the test; 1 - confidence where it is not given.

    Source: normal approximation, (z of the test + z of the power) standard errors.

    >>> round(float(detectable(-0.0196, 0.0196)), 4)
    0.028
    """
    alpha = 1 - confidence if alpha is None else alpha
    error = (np.asarray(high) - np.asarray(low)) / 2 / ndtri((1 + confidence) / 2)
    return np.asarray((ndtri(1 - alpha / 2) + ndtri(POWER)) * error)


def largest_design_effect(codes: np.ndarray) -> float:
    """Design effect when all items of a cluster agree: the mean size of an item's cluster."""
    sizes = np.bincount(codes)
    return float((sizes**2).sum() / sizes.sum())


class Correlation(NamedTuple):
    """A correlation with its two-sided p and the bounds of its interval."""

    value: float
    p: float
    low: float
    high: float


NO_CORRELATION = Correlation(*[float("nan")] * 4)


def permuted_correlation(
    observed: float, permuted: np.ndarray, confidence: float = 0.95
) -> Correlation:
    """p and interval of a correlation from its values under permutations.

    On Fisher's z scale the interval reaches as far to both sides as permutations do with
    `confidence`, so it excludes 0 exactly where p is at most 1 - confidence. Correlations of 1 and
    -1, where z is infinite, have it on their own scale.

    Args:
        observed: the correlation.
        permuted: (permutation,) finite correlations, that of the data among them.
        confidence: of the interval; its bounds are NaN with too few permutations for it.

    >>> found = permuted_correlation(0.9, np.array([0.9, *np.linspace(-0.5, 0.5, 99)]))
    >>> found.p, round(found.low, 2), round(found.high, 2)
    (0.01, 0.74, 0.96)
    """
    p = float(_at_least(permuted, np.asarray(observed)).mean())
    rank = int(np.floor((1 - confidence) * len(permuted) + 1e-9))
    if rank == 0:
        return Correlation(observed, p, float("nan"), float("nan"))
    # The largest size whose p would be above 1 - confidence.
    critical = np.sort(np.abs(permuted))[::-1][rank] + 2 * ROUNDING
    if abs(observed) > 1 - 1e-9:
        low, high = np.clip([observed - critical, observed + critical], -1, 1)
    else:
        centre, half = fisher_z(observed), fisher_z(critical)
        low, high = np.tanh([centre - half, centre + half])
    return Correlation(observed, p, float(low), float(high))


def fisher_z(correlation: float | np.ndarray) -> np.ndarray:
    """Fisher's transform, finite at correlations of 1 and -1."""
    return np.arctanh(np.clip(correlation, ROUNDING - 1, 1 - ROUNDING))


def qap_test(
    x: np.ndarray, y: np.ndarray, n_perm: int = 999, seed: int = 0, confidence: float = 0.95
) -> Correlation:
    """Correlation of two matrices over pairs of languages, its two-sided p and its interval.

    Args:
        x, y: (language, language); the diagonal is left out, and so are pairs with NaN in either.
        n_perm: random relabellings of y's languages; all of them instead where there are no more.

    Returns:
        Pearson's correlation; NaN where fewer than three pairs are left or one is constant.

    Source: quadratic assignment procedure, Krackhardt (1988); interval: our choice.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    n = len(x)
    if x.shape != (n, n) or y.shape != (n, n):
        raise ValueError(f"qap_test needs two square matrices, got {x.shape} and {y.shape}")
    observed = float(_matrix_correlations(x, y[None])[0])
    if not np.isfinite(observed):
        return NO_CORRELATION
    exact = factorial(n) <= n_perm + 1 if n < 20 else False
    rng = np.random.default_rng(seed)
    labels = np.arange(n)
    drawn = permutations(labels) if exact else [rng.permutation(n) for _ in range(n_perm)]
    orders = np.array(list(drawn))
    parts = np.array_split(orders, -(-len(orders) * n**2 // QAP_BLOCK))
    relabelled = (y[part[:, :, None], part[:, None, :]] for part in parts)
    permuted = np.concatenate([_matrix_correlations(x, ys) for ys in relabelled])
    # Where pairs are missing, a relabelling can leave too few: it then says nothing.
    permuted = permuted[np.isfinite(permuted)]
    if not exact:  # all relabellings hold the data's
        permuted = np.append(permuted, observed)
    return permuted_correlation(observed, permuted, confidence)


def _matrix_correlations(x: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """(draw,) Pearson correlations over the off-diagonal entries that x and a y both have."""
    used = np.isfinite(x) & np.isfinite(ys) & ~np.eye(len(x), dtype=bool)
    pairs = (1, 2)
    count = used.sum(pairs, keepdims=True)

    def centred(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The values less their mean, and their sum of squares with it."""
        known = np.where(used, values, 0)
        mean = known.sum(pairs, keepdims=True) / np.maximum(count, 1)
        return np.where(used, known - mean, 0), (known**2).sum(pairs)

    (a, size), (b, size_of_ys) = centred(x), centred(ys)
    scale = np.sqrt((a**2).sum(pairs) * (b**2).sum(pairs))
    known = (count[:, 0, 0] >= 3) & (scale > ROUNDING * np.sqrt(size * size_of_ys))
    return np.where(known, (a * b).sum(pairs) / np.where(known, scale, 1), np.nan)
