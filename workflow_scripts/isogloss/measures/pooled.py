"""Means over pairs of languages, with intervals for other items and for other languages."""

import numpy as np

from isogloss.measures.statistics import (
    holding,
    jackknife_interval,
    two_way_jackknife,
    wilson_interval,
    within,
    without_bias,
)

# What a mean's interval holds for, by the end of its variables' names.
BOUNDS = {
    "low": "lower bound over items",
    "high": "upper bound over items",
    "crossed_low": "lower bound over items and languages",
    "crossed_high": "upper bound over items and languages",
    "without_cluster": "each cluster of items left out",
    "without_language": "each language left out",
}

CORRELATIONS, SHARES = (-1.0, 1.0), (0.0, 1.0)  # the least and the most there can be

Values = dict[str, np.ndarray]


def mean_over_pairs(matrix: np.ndarray, row: int | None = None) -> np.ndarray:
    """Mean over ordered pairs of languages (the last two axes), or over those with one of them.

    NaN where any of them is: a mean over what is left would be one of other languages.
    """
    n = matrix.shape[-1]
    if row is None:
        return np.asarray(matrix[..., ~np.eye(n, dtype=bool)].mean(axis=-1))
    others = [i for i in range(n) if i != row]
    both = matrix[..., row, others], matrix[..., others, row]
    return np.asarray((both[0].mean(axis=-1) + both[1].mean(axis=-1)) / 2)


def means_without_language(matrix: np.ndarray, row: int | None = None) -> np.ndarray:
    """`mean_over_pairs` with each language left out: (language,).

    NaN where fewer than two languages are left, and for the one whose pairs the mean is over: it
    stands for no others.
    """
    n = len(matrix)
    means = np.full(n, np.nan)
    for language in range(n) if n > 2 else ():
        if language != row:
            kept = np.delete(np.arange(n), language)
            at = None if row is None else int(np.flatnonzero(kept == row)[0])
            means[language] = mean_over_pairs(matrix[np.ix_(kept, kept)], at)
    return means


def centre_of(
    value: np.ndarray, without_cluster: np.ndarray, sizes: np.ndarray | None
) -> np.ndarray:
    """What the interval of a value (...) lies around: where sizes are given, itself less its bias.

    Item share is a mean over hundreds of dimensions, which varies too little for the bias of each
    one's correlation to be left in. Debiased CKA has hardly any; where a few items are far from all
    others, what leaving them out changes would pass for one.

    Args: without_cluster (cluster, ...), sizes (cluster,) as of `without_bias`.
    """
    return value if sizes is None else without_bias(value, without_cluster, sizes)


def with_bounds(
    name: str,
    value: np.ndarray,
    without_cluster: np.ndarray,
    confidence: float,
    limits: tuple[float, float] = CORRELATIONS,
    sizes: np.ndarray | None = None,
) -> Values:
    """A value with its interval over items, as `name`, `name_low` and `name_high`.

    Args:
        limits: the smallest and the largest value that there can be; shares have Wilson's.
        sizes: (cluster,) items of each cluster where the interval is to lie around the value
            without its bias, see `centre_of`.
    """
    if limits == SHARES:
        interval = wilson_interval(value, without_cluster, len(without_cluster), confidence)
    else:
        centre = centre_of(value, without_cluster, sizes)
        around = within(jackknife_interval(centre, without_cluster, confidence), limits)
        interval = holding(value, around)
    return {
        name: np.asarray(value, dtype=float),
        f"{name}_low": interval.low,
        f"{name}_high": interval.high,
    }


def pooled(
    name: str,
    pairs: np.ndarray,
    without_cluster: np.ndarray,
    confidence: float,
    row: int | None = None,
    limits: tuple[float, float] = CORRELATIONS,
    sizes: np.ndarray | None = None,
) -> Values:
    """The mean of a map over pairs of languages, with the ends of BOUNDS.

    Args:
        name: of the mean.
        pairs: (language, language).
        without_cluster: (cluster, language, language), the map with each cluster left out.
        confidence: of the intervals.
        row: the language whose pairs alone the mean is over; the others stand for more of them.
        limits: the smallest and the largest value that there can be.
        sizes: (cluster,) as of `with_bounds`.
    """
    mean, by_cluster = mean_over_pairs(pairs, row), mean_over_pairs(without_cluster, row)
    by_language = means_without_language(pairs, row)
    others = np.arange(len(pairs)) != row
    centre = centre_of(mean, by_cluster, sizes)
    crossed = two_way_jackknife(centre, by_cluster, by_language[others], confidence)
    crossed = holding(mean, within(crossed, limits))
    return with_bounds(name, mean, by_cluster, confidence, limits, sizes) | {
        f"{name}_crossed_low": crossed.low,
        f"{name}_crossed_high": crossed.high,
        f"{name}_without_cluster": by_cluster,
        f"{name}_without_language": by_language,
    }
