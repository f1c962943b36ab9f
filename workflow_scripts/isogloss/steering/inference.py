"""Tests and intervals of paired differences at a setting that was chosen on the same data.

Layer and strength of a fold are chosen on the items of the other folds. That search is part of
the procedure, so it is run again under every sign pattern: a test that takes the chosen settings
as given rejects too often, and its interval is too narrow.

The interval and the p of a claim are made of one statistic, the mean over its cluster-robust
standard error, and of one critical value. The interval excludes 0 exactly where p is at most
1 - confidence.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import stdtr, stdtrit

from isogloss.measures.statistics import ROUNDING, Interval, cluster_codes, divide, sum_by_cluster

# Up to this many clusters that are not zero, all sign patterns are enumerated (4096).
EXACT_CLUSTERS = 12
# Numbers of a block of sign patterns times clusters, in memory at once.
BLOCK = 2_000_000


@dataclass(frozen=True)
class Search:
    """What the choice of each fold's setting rests on.

    Attributes:
        change: (item, language, setting) right answers steered less unsteered.
        margin: (item, language, setting) change of the gold choice's margin; it settles ties.
        folds: (item,) numbered from 0.
        chosen: (language, fold) index of the setting that was chosen.
    """

    change: np.ndarray
    margin: np.ndarray
    folds: np.ndarray
    chosen: np.ndarray

    @property
    def n_settings(self) -> int:
        return int(self.change.shape[2])

    @classmethod
    def none(cls, n_items: int, n_languages: int) -> "Search":
        """A single setting, or settings chosen on other items than these."""
        nothing = np.zeros((n_items, n_languages, 1))
        chosen = np.zeros((n_languages, 1), dtype=int)
        return cls(nothing, nothing, np.zeros(n_items, dtype=int), chosen)


@dataclass(frozen=True)
class Claim:
    """Estimates of one shape with what a test and an interval need.

    Attributes:
        estimate: mean difference.
        error: its cluster-robust standard error.
        p: two-sided.
        critical: the interval's half-width in standard errors.
    """

    estimate: np.ndarray
    error: np.ndarray
    p: np.ndarray
    critical: np.ndarray

    def without_test(self, untested: np.ndarray) -> "Claim":
        """The same estimates, with neither test nor bounds where said; untested (...)."""
        parts = (np.where(untested, np.nan, x) for x in (self.error, self.p, self.critical))
        return Claim(self.estimate, *parts)

    @property
    def interval(self) -> Interval:
        """NaN bounds where nothing varies: no flips say nothing about how sure that is."""
        half = self.critical * np.where(self.error > ROUNDING, self.error, np.nan)
        return Interval(self.estimate, self.estimate - half, self.estimate + half)


def flip_claims(
    differences: np.ndarray,
    search: Search,
    clusters: np.ndarray,
    *,
    n_perm: int = 9999,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[Claim, Claim]:
    """Mean differences at the chosen settings, by language and in the mean over languages.

    The signs of whole clusters are flipped, the same in all languages and settings, and settings
    are chosen anew each time. The reference distribution is never lighter in its tails than
    Student's t, since with few flipped items few sign patterns differ.

    Args:
        differences: (item, language, setting) paired differences; NaN entries are left out.
        search: how settings were chosen; its last axis is that of the differences.
        clusters: (item,) labels; folds consist of whole clusters.
        n_perm: random sign patterns; all patterns where at most 12 clusters have any difference.
        seed: of the patterns.
        confidence: of the intervals.

    Returns:
        Claims of shape (language,) and (); NaN for a language without values, and the mean is
        over the others.

    Source: sign-flip test of a studentised mean (the wild cluster bootstrap with the null
    imposed: Cameron, Gelbach and Miller 2008); the search in every pattern is our choice.
    """
    codes = cluster_codes(clusters)
    folds = np.zeros(int(codes.max()) + 1, dtype=int)
    folds[codes] = search.folds
    present = np.isfinite(differences)
    totals, counts, change, margin = (
        sum_by_cluster(x, codes).astype(float)
        for x in (np.where(present, differences, 0.0), present, search.change, search.margin)
    )
    languages: list[int] = np.flatnonzero(present.any(axis=(0, 2))).tolist()
    moved = (np.abs(totals) > ROUNDING).any(axis=2) | (np.abs(change) > ROUNDING).any(axis=2)
    claims = np.full((4, differences.shape[1] + 1), np.nan)
    for place, members in [(i, [i]) for i in languages] + [(-1, languages)]:
        if not members:
            continue
        statistics = [
            _statistics(signs, totals, counts, change, margin, folds, search.chosen, members, first)
            for first, signs in sign_patterns(moved[:, members].any(axis=1), n_perm, seed)
        ]
        estimate, error = (np.concatenate(x) for x in zip(*statistics, strict=True))
        degrees = (counts[:, members].sum(axis=(1, 2)) > 0).sum() - 1
        claims[:, place] = _claim(estimate, error, int(degrees), confidence)
    return Claim(*claims[:, :-1]), Claim(*claims[:, -1])


def swap_claims(
    first: Search,
    second: Search,
    clusters: np.ndarray,
    *,
    n_perm: int = 9999,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[Claim, Claim]:
    """Right answers of one treatment less those of another, each at settings chosen for itself.

    If the two do alike, their answers to a cluster can be swapped, the same in all languages and at
    all settings. Both choose their settings anew under every pattern of swaps: two choices on the
    same items, taken as given, reject a true null in .11 of worlds at .05.

    Args:
        first, second: changes at the same settings, and how each treatment's were chosen.
        clusters, n_perm, seed, confidence: as in `flip_claims`.

    Returns:
        Claims of shape (language,) and ().

    Source: permutation test of a studentised paired mean (Janssen 1997); the search in every
    pattern is our choice.
    """
    codes = cluster_codes(clusters)
    folds = np.zeros(int(codes.max()) + 1, dtype=int)
    folds[codes] = first.folds
    sizes = np.bincount(codes).astype(float)
    # Clusters of the first treatment, then the same clusters of the second.
    change, margin = (
        np.concatenate([sum_by_cluster(x, codes) for x in both])
        for both in ((first.change, second.change), (first.margin, second.margin))
    )
    apart = np.abs(change[: len(folds)] - change[len(folds) :]) > ROUNDING
    languages = range(change.shape[1])
    claims = np.full((4, len(languages) + 1), np.nan)
    for place, members in [(i, [i]) for i in languages] + [(-1, list(languages))]:
        statistics = [
            _swapped(signs, change, margin, sizes, folds, (first, second), members, is_first)
            for is_first, signs in sign_patterns(apart[:, members].any((1, 2)), n_perm, seed)
        ]
        estimate, error = (np.concatenate(x) for x in zip(*statistics, strict=True))
        claims[:, place] = _claim(estimate, error, len(folds) - 1, confidence)
    return Claim(*claims[:, :-1]), Claim(*claims[:, -1])


def _swapped(
    signs: np.ndarray,
    change: np.ndarray,
    margin: np.ndarray,
    sizes: np.ndarray,
    folds: np.ndarray,
    observed: tuple[Search, Search],
    languages: list[int],
    first: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over languages and its cluster-robust standard error, answers swapped by signs of -1.

    Args: change, margin (2 cluster, language, setting) sums; sizes, folds (cluster,); `first`: the
    first pattern is the data's.
    Returns: (pattern,) twice.
    """
    n, n_items = len(folds), sizes.sum()
    as_is, swapped = (1 + signs) / 2, (1 - signs) / 2
    weights = [np.concatenate(pair, axis=1) for pair in ((as_is, swapped), (swapped, as_is))]
    estimate, influence = np.zeros(len(signs)), np.zeros(signs.shape)
    rows = np.arange(n)
    for language in languages:
        values = change[:, language]
        total = np.zeros(signs.shape)
        for weight, search, side in zip(weights, observed, (1.0, -1.0), strict=True):
            chosen = choose(weight, values, margin[:, language], np.tile(folds, 2))
            if first:
                chosen[0] = search.chosen[language]
            at = chosen[:, folds]
            both = weight[:, :n] * values[rows, at] + weight[:, n:] * values[rows + n, at]
            total += side * both
        mean = total.sum(axis=1, keepdims=True) / n_items
        estimate += mean[:, 0] / len(languages)
        influence += (total - mean * sizes) / n_items / len(languages)
    variance = divide(n * (influence**2).sum(axis=1), np.asarray(n - 1.0))
    return estimate, np.sqrt(variance)


def sign_patterns(moved: np.ndarray, n_perm: int, seed: int) -> Iterator[tuple[bool, np.ndarray]]:
    """Blocks (pattern, cluster) of signs, the data's (all 1) first; whether it is the first block.

    Args: moved (cluster,) whether flipping the cluster changes anything.

    >>> [signs.tolist() for _, signs in sign_patterns(np.array([True, False]), 99, 0)]
    [[[1.0, 1.0], [-1.0, 1.0]]]
    """
    n, where = len(moved), np.flatnonzero(moved)
    size = max(1, BLOCK // n)
    if len(where) <= EXACT_CLUSTERS:
        signs = np.ones((2 ** len(where), n))
        signs[:, where] = np.array(list(product([1.0, -1.0], repeat=len(where))))
        blocks = np.split(signs, range(size, len(signs), size))
        yield from ((i == 0, block) for i, block in enumerate(blocks))
        return
    rng = np.random.default_rng(seed)
    yield True, np.ones((1, n))
    for start in range(0, n_perm, size):
        yield False, rng.choice([1.0, -1.0], size=(min(size, n_perm - start), n))


def choose(
    signs: np.ndarray, change: np.ndarray, margin: np.ndarray, folds: np.ndarray
) -> np.ndarray:
    """Setting of each fold under sign patterns: most right on the other folds, then the margin.

    Args:
        signs: (pattern, cluster).
        change, margin: (cluster, setting) sums of differences from the unsteered model.
        folds: (cluster,).

    Returns:
        (pattern, fold).
    """
    chosen = np.zeros((len(signs), int(folds.max()) + 1), dtype=int)
    if change.shape[1] == 1:
        return chosen
    for fold in range(chosen.shape[1]):
        others = folds != fold
        right = signs[:, others] @ change[others]
        best = right >= right.max(axis=1, keepdims=True) - ROUNDING
        ties = signs[:, others] @ margin[others]
        chosen[:, fold] = np.where(best, ties, -np.inf).argmax(axis=1)
    return chosen


def _statistics(
    signs: np.ndarray,
    totals: np.ndarray,
    counts: np.ndarray,
    change: np.ndarray,
    margin: np.ndarray,
    folds: np.ndarray,
    observed: np.ndarray,
    languages: list[int],
    first: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over languages, and its cluster-robust standard error, under each sign pattern.

    Args: sums (cluster, language, setting); `first`: the first pattern is the data's.
    Returns: (pattern,) twice.
    """
    cluster = np.arange(len(folds))
    estimate, influence = np.zeros(len(signs)), np.zeros(signs.shape)
    for language in languages:
        chosen = choose(signs, change[:, language], margin[:, language], folds)
        if first:
            chosen[0] = observed[language]
        at = chosen[:, folds]
        total, count = signs * totals[cluster, language, at], counts[cluster, language, at]
        n_items = count.sum(axis=1, keepdims=True)
        mean = divide(total.sum(axis=1, keepdims=True), n_items)
        estimate += mean[:, 0] / len(languages)
        influence += divide(total - mean * count, n_items) / len(languages)
    n = int((counts[:, languages].sum(axis=(1, 2)) > 0).sum())
    variance = divide(n * (influence**2).sum(axis=1), np.asarray(n - 1.0))
    return estimate, np.sqrt(variance)


def _claim(
    estimate: np.ndarray, error: np.ndarray, degrees: int, confidence: float
) -> tuple[float, float, float, float]:
    """Estimate, error, p and critical value of the first pattern, the data's, among all."""
    if degrees < 1 or not np.isfinite(estimate[0]):
        return float(estimate[0]), np.nan, np.nan, np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        sizes = np.abs(np.nan_to_num(estimate / error, nan=0.0, posinf=np.inf, neginf=np.inf))
    sizes[np.abs(estimate) <= ROUNDING] = 0.0
    reached = (sizes >= sizes[0] * (1 - 1e-9)).mean()
    p = max(float(reached), 2 * float(stdtr(degrees, -sizes[0])))
    # The largest size whose p would be above alpha: 0 is then in the interval if p is.
    rank = int(np.floor((1 - confidence) * len(sizes) + 1e-9))
    by_signs = np.sort(sizes)[::-1][min(rank, len(sizes) - 1)]
    by_signs *= 1 + 2e-9  # so that a bound that is 0 is not rounded away from it
    critical = max(float(by_signs), float(stdtrit(degrees, (1 + confidence) / 2)))
    return float(estimate[0]), float(error[0]), min(p, 1.0), critical
