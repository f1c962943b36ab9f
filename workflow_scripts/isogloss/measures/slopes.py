"""Change with size: slopes over the number of parameters of models that answered the same items.

The models of a family are what they are: nobody drew published checkpoints at random, and three of
them say nothing of how others would scatter around a line. What is drawn is their items, the same
for all models. So the unit of a slope is the cluster of items, left out of all models at once, and
its interval holds for other items, given these models. Where sizes were trained several times
(seeds, checkpoints), those are drawn too, and the interval holds for others of the same sizes.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit

from isogloss.measures.statistics import ROUNDING, few_variance, jackknife_variance

SMALLEST_P = 1e-12
MIN_SIZES = 3  # of a family with a slope
NOTHING = float("nan")


@dataclass(frozen=True)
class Slope:
    """Change when the number of parameters grows tenfold.

    Attributes:
        value: NaN with a `reason` where there is no slope.
        low, high: bounds over items (and seeds, where there are any), for these languages.
        crossed_low, crossed_high: bounds over languages as well.
        p: two-sided, for no change; of the interval over items.
        reason: why there is no slope, "" where there is one.
    """

    value: float = NOTHING
    low: float = NOTHING
    high: float = NOTHING
    crossed_low: float = NOTHING
    crossed_high: float = NOTHING
    p: float = NOTHING
    reason: str = ""


def slope_per_decade(
    parameters: np.ndarray,
    values: np.ndarray,
    without_cluster: np.ndarray,
    without_language: np.ndarray,
    confidence: float = 0.95,
) -> Slope:
    """Least-squares slope on log10(parameters) of models of one family.

    Args:
        parameters, values: (model,); models whose value is NaN are left out.
        without_cluster: (model, cluster) values with each cluster of items left out, the same
            clusters for all models.
        without_language: (model, language) with each language left out; a language that is NaN
            (the pivot) stands for no others.
        confidence: of the intervals.

    Source: delete-one-cluster jackknife of the slope, Efron and Stein (1981); seeds by the variance
    within sizes; degrees of freedom of Satterthwaite (1946).

    >>> sizes, values = np.array([1e8, 1e9, 1e10]), np.array([0.1, 0.3, 0.5])
    >>> moves = np.array([[-0.01, 0, 0.01], [0, 0, 0], [0.01, 0, -0.01]])
    >>> found = slope_per_decade(sizes, values, values[:, None] + moves, np.ones((3, 2)))
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.2, 0.15, 0.25)
    """
    known = np.isfinite(values) & np.isfinite(parameters)
    n_sizes = len(np.unique(parameters[known]))
    if n_sizes < MIN_SIZES:
        return Slope(reason=too_few_sizes(n_sizes))
    weights = _weights(parameters[known])
    value = float(weights @ values[known])
    by_cluster, by_language = (weights @ w[known] for w in (without_cluster, without_language))
    by_language = by_language[np.isfinite(by_language)]
    items = float(jackknife_variance(by_cluster))
    if not items > ROUNDING**2:
        return Slope(value)
    spread = float(weights @ weights)
    seeds = seed_variance(parameters[known], values[known], without_cluster[known])
    estimate = _estimate(value, items, seeds, spread, len(by_cluster) - 1)
    crossed = estimate.variance + float(few_variance(by_language))
    wide = _half_width(crossed, min(estimate.degrees, len(by_language) - 1), confidence)
    return Slope(value, *estimate.bounds(confidence), value - wide, value + wide, estimate.p)


def slope_of_estimates(
    parameters: np.ndarray,
    values: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    confidence: float = 0.95,
) -> Slope:
    """Least-squares slope on log10(parameters) of estimates that have intervals already.

    For changes by steering, whose intervals hold the search over settings, which no value without
    a cluster does. Models are taken as independent; they answered the same items, which makes the
    interval wider than it needs to be. Models of one size are drawn, as in `slope_per_decade`.

    Args:
        parameters, values, low, high: (model,); models without an interval are left out.
        confidence: of the intervals given and of the slope's.

    Returns:
        A slope without `crossed_*` bounds.

    >>> sizes, values = np.array([1e8, 1e9, 1e10]), np.array([0.3, 0.2, 0.1])
    >>> found = slope_of_estimates(sizes, values, values - 0.1, values + 0.1)
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (-0.1, -0.171, -0.029)
    """
    known = np.isfinite(values + low + high)
    n_sizes = len(np.unique(parameters[known]))
    if n_sizes < MIN_SIZES:
        return Slope(reason=too_few_sizes(n_sizes))
    weights, z = _weights(parameters[known]), float(ndtri((1 + confidence) / 2))
    value = float(weights @ values[known])
    variances = ((high - low)[known] / 2 / z) ** 2
    seeds = _spread_within_sizes(parameters[known], values[known], float(variances.mean()))
    estimate = _estimate(value, float(weights**2 @ variances), seeds, float(weights @ weights))
    return Slope(value, *estimate.bounds(confidence), p=estimate.p)


def without_flips(n_clusters: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of a change of accuracy where no answer changed, for a slope over such changes.

    No changes are no certainty, and nothing else says how sure the 0 is. But a slope that leaves
    such models out chooses them by their outcome: it is off by a seventh in simulated worlds, and
    covers .91 of .95.

    Source: one cluster more that changes either way, Bonett and Price (2012), Adjusted Wald
    confidence interval for a difference of binomial proportions based on paired data.

    >>> [round(bound, 4) for bound in without_flips(118)]
    [-0.0231, 0.0231]
    """
    half = float(ndtri((1 + confidence) / 2)) * 2**0.5 / (n_clusters + 2)
    return -half, half


def slope_over_seeds(parameters: np.ndarray, values: np.ndarray, confidence: float = 0.95) -> Slope:
    """Least-squares slope on log10(parameters) of sizes that were trained several times.

    Sizes of which a value is missing are left out whole. The interval is for other seeds of these
    sizes, on the same items: Student's t with the spread of seeds within sizes.

    Args:
        parameters, values: (model,).
        confidence: of the interval.

    Returns:
        A slope without `crossed_*` bounds; without any where every size is there once.

    >>> sizes, values = np.repeat([1e4, 1e5, 1e6], 2), np.array([0.9, 1.1, 1.9, 2.1, 2.9, 3.1])
    >>> found = slope_over_seeds(sizes, values)
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (1.0, 0.775, 1.225)
    """
    missing = np.isin(parameters, parameters[~np.isfinite(values)])
    parameters, values = parameters[~missing], values[~missing]
    n_sizes = len(np.unique(parameters))
    if n_sizes < MIN_SIZES:
        return Slope(reason=too_few_sizes(n_sizes))
    weights = _weights(parameters)
    value = float(weights @ values)
    seeds = _spread_within_sizes(parameters, values, 0.0)
    if not seeds.total > ROUNDING**2:
        return Slope(value)
    estimate = _estimate(value, 0.0, seeds, float(weights @ weights))
    return Slope(value, *estimate.bounds(confidence), p=estimate.p)


def over_seeds(
    values: np.ndarray, low: np.ndarray, high: np.ndarray, confidence: float = 0.95
) -> tuple[float, float, float, float]:
    """Mean over seeds of estimates on the same items, for other items **and** other seeds.

    Items and languages are the same for all seeds, so their noise is taken as wholly shared: it
    does not average out. Where it is not shared it stands in the seeds' spread as well, and the
    interval is wider than it needs to be, never narrower.

    Args:
        values, low, high: (seed,) estimates and the bounds of their intervals.
        confidence: of the intervals given and of this one.

    Returns:
        Mean, low, high and two-sided p, all NaN where a value has no interval.

    Source: squares of the two half-widths added, that over items and Student's t over seeds (the
    modified large-sample method of Graybill and Wang 1980). Satterthwaite's degrees of freedom
    cover .88 of .95 with two seeds.

    >>> half = np.full(3, 0.0196)
    >>> values = np.array([0.1, 0.2, 0.3])
    >>> [round(x, 3) for x in over_seeds(values, values - half, values + half)]
    [0.2, -0.049, 0.449, 0.075]
    """
    n = len(values)
    if not np.isfinite(values + low + high).all():
        return NOTHING, NOTHING, NOTHING, NOTHING
    value, between = float(values.mean()), float(values.std(ddof=1) / np.sqrt(n))
    items = float(((high - low) / 2 / ndtri((1 + confidence) / 2)).mean())

    def half_width(p: float) -> float:
        """Of the interval that leaves out p."""
        return float(np.hypot(ndtri(1 - p / 2) * items, stdtrit(n - 1, 1 - p / 2) * between))

    from scipy.optimize import brentq  # a third of a second, which reading a study need not take

    half = half_width(1 - confidence)
    p = SMALLEST_P
    if half_width(p) > abs(value):  # of the interval that ends at 0
        p = float(brentq(lambda p: half_width(p) - abs(value), SMALLEST_P, 1))
    return value, value - half, value + half, p


def too_few_sizes(n: int) -> str:
    """Why so many sizes have no slope."""
    return f"{n} size{'s' * (n != 1)}: a slope needs {MIN_SIZES}"


def _weights(parameters: np.ndarray) -> np.ndarray:
    """What each model's value counts in the slope on log10(parameters)."""
    away = np.log10(parameters)
    away -= away.mean()
    return away / (away @ away)


@dataclass(frozen=True)
class _Estimate:
    """An estimate with its variance and the degrees of freedom of Student's t behind it."""

    value: float
    variance: float
    degrees: float

    @property
    def p(self) -> float:
        """Two-sided, for 0."""
        return float(2 * stdtr(self.degrees, -abs(self.value) / np.sqrt(self.variance)))

    def bounds(self, confidence: float) -> tuple[float, float]:
        half = _half_width(self.variance, self.degrees, confidence)
        return self.value - half, self.value + half


def _estimate(
    value: float, items: float, seeds: "SeedVariance", weight: float, item_degrees: float = np.inf
) -> _Estimate:
    """An estimate whose variance is that of items and, by `weight`, that of seeds.

    Args:
        items: variance of the estimate over items.
        weight: how much of the variance of a seed is in the estimate.
        item_degrees: of freedom of the items' variance.
    """
    variance = items + seeds.beyond_items * weight
    # Satterthwaite's, of what the two variances were estimated from.
    parts = items**2 / item_degrees
    if seeds.beyond_items:
        parts += (seeds.total * weight) ** 2 / seeds.degrees
    return _Estimate(value, variance, variance**2 / parts if parts else np.inf)


def _spread_within_sizes(
    parameters: np.ndarray, values: np.ndarray, items: float
) -> "SeedVariance":
    """`seed_variance` of estimates whose variance over items is known beforehand."""
    seeds = seed_variance(parameters, values, np.zeros((len(values), 2)))
    return SeedVariance(seeds.total, max(0.0, seeds.total - items), seeds.degrees)


def _half_width(variance: float, degrees: float, confidence: float) -> float:
    """Half of a Student's t interval; NaN without a degree of freedom."""
    if not degrees > 0:
        return NOTHING
    return float(np.sqrt(variance) * stdtrit(degrees, (1 + confidence) / 2))


@dataclass(frozen=True)
class SeedVariance:
    """Variance of models of one size around their mean.

    Attributes:
        total: as they scatter.
        beyond_items: without what the items make of it, which the items' own variance holds.
        degrees: of freedom; 0 where every size is there once.
    """

    total: float
    beyond_items: float
    degrees: int


def seed_variance(
    parameters: np.ndarray, values: np.ndarray, without_cluster: np.ndarray
) -> SeedVariance:
    """How models of one size differ; no variance where every size is there once.

    Args:
        parameters, values: (model,).
        without_cluster: (model, cluster).
    """
    sizes = np.unique(parameters, return_inverse=True)[1]
    of_size = (sizes[:, None] == np.arange(sizes.max() + 1)).astype(float)
    degrees = len(values) - of_size.shape[1]
    if degrees == 0:
        return SeedVariance(0.0, 0.0, 0)
    apart = np.eye(len(values)) - (of_size / of_size.sum(axis=0)) @ of_size.T
    total = float(((apart @ values) ** 2).sum() / degrees)
    items = float(jackknife_variance((apart @ without_cluster).T).sum() / degrees)
    return SeedVariance(total, max(0.0, total - items), degrees)
