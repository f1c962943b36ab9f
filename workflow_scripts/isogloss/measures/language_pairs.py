"""Numbers over pairs of languages: a table of them with intervals, and their means by scope.

Items and languages are crossed, so a mean over pairs has two intervals: one for these languages,
over clusters of items like these, and one for languages like these too.
"""

from collections.abc import Iterable

import numpy as np
import xarray as xr

from isogloss.measures.statistics import (
    Interval,
    Jackknife,
    divide,
    stacked,
    two_way_jackknife,
    within,
)
from isogloss.measures.variables import crossed_bounds, interval_variables, variable

# Ordered pairs: all of them, those with the pivot on either side, and each side of those.
SCOPES = ("all_pairs", "pivot_pairs", "from_pivot", "to_pivot")
# Whose means models are compared on: they are kept without each cluster and each language, too.
COMPARED = ("consistency", "lift_independent", "lift_difficulty")
SHARES, CORRELATIONS = (0.0, 1.0), (-1.0, 1.0)


class PairTable:
    """Collects named variables with their intervals, and the means of the pairwise ones.

    Attributes:
        variables: what was added, by name, with `long_name` and `units`.
        jackknife: of the items; its rows lead every array that is added as pairs.
        scopes: of `pair_scopes`.
    """

    def __init__(self, languages: list[str], pivot: str, jackknife: Jackknife) -> None:
        self.variables: dict[str, xr.Variable] = {}
        self.jackknife = jackknife
        self.scopes = pair_scopes(languages, pivot)
        self.is_pivot = np.array([language == pivot for language in languages])

    def add(
        self, name: str, dims: Iterable[str], values: np.ndarray, long_name: str, units: str = "1"
    ) -> None:
        self.variables[name] = variable(tuple(dims), values, long_name, units)

    def add_interval(
        self, name: str, dims: Iterable[str], interval: Interval, long_name: str
    ) -> None:
        confidence = self.jackknife.confidence
        self.variables |= interval_variables(
            name, tuple(dims), interval, long_name, confidence=confidence
        )

    def add_crossed(
        self, name: str, dims: Iterable[str], interval: Interval, long_name: str
    ) -> None:
        """Bounds of `name` for other items and other languages."""
        confidence = self.jackknife.confidence
        self.variables |= crossed_bounds(name, tuple(dims), interval, long_name, confidence)

    def add_pairs(
        self,
        name: str,
        rows: list[np.ndarray],
        long_name: str,
        relative: tuple[bool, ...] = (),
        n_items: list[np.ndarray] | None = None,
        behind: np.ndarray | None = None,
        scales: list[np.ndarray] | None = None,
        limits: tuple[float, float] = CORRELATIONS,
    ) -> None:
        """A variable over pairs, from one array (row, language, language), or from one per sign.

        Beside it `mean_<name>`: means over pairs, with intervals over clusters of items
        (`_low`, `_high`) and over clusters and languages at once (`_crossed_low`, `_crossed_high`).
        Where an entry is `relative` to the study's other languages, its mean over all targets is 0
        whatever the model does: those means are NaN.

        Args:
            n_items: items behind the values, where these are shares; else they lie in -1 .. 1.
            behind: (item, language, language) bool, items that a value is of, where not all.
            scales: like rows, noisy denominators of the values, where they have one.
            limits: the smallest and the largest value that there can be, where it is no share.
        """
        limits = limits if n_items is None else SHARES
        sign = ("sign",) if len(rows) > 1 else ()
        if scales is not None:
            pairs = zip(rows, scales, strict=True)
            matrices = [self.jackknife.ratio_interval(r, s, limits) for r, s in pairs]
        elif n_items is None:
            matrices = [self.jackknife.interval(r, limits, behind) for r in rows]
        else:
            matrices = [
                self.jackknife.share_interval(r, n) for r, n in zip(rows, n_items, strict=True)
            ]
        self.add_interval(name, (*sign, "language", "language_2"), _by_sign(matrices), long_name)
        by_scope = [pair_means(r, self.scopes) for r in rows]
        of_scopes = None if behind is None else np.einsum("ilm,slm->is", behind, self.scopes)
        if scales is None:
            means = [self.jackknife.interval(m, limits, of_scopes) for m in by_scope]
        else:
            means = [
                self.jackknife.ratio_interval(m, self._mean_scale(r, s), limits)
                for r, m, s in zip(rows, by_scope, scales, strict=True)
            ]
        crossed = [self._crossed(r, m, limits) for r, m in zip(rows, by_scope, strict=True)]
        for index in np.flatnonzero(relative):
            means[index], crossed[index] = map(_to_pivot_only, (means[index], crossed[index]))
        mean_name, dims = f"mean_{name}", (*sign, "scope")
        long_name += ", mean over pairs"
        self.add_interval(mean_name, dims, _by_sign(means), long_name)
        self.add_crossed(mean_name, dims, _by_sign(crossed), long_name)
        if name in COMPARED:
            for what, values in (
                ("cluster", [m[1:].T for m in by_scope]),
                ("language", [self._without_language(r[0]) for r in rows]),
            ):
                stacked = np.stack(values) if len(rows) > 1 else values[0]
                text = f"{long_name}, each {what} left out"
                self.add(f"{mean_name}_without_{what}", (*dims, what), stacked, text)

    def _mean_scale(self, rows: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Means of denominators over the pairs of each scope that have a value: (row, scope)."""
        return pair_means(np.where(np.isfinite(rows[0]), scale, np.nan), self.scopes)

    def _without_language(self, matrix: np.ndarray) -> np.ndarray:
        """Means over the pairs of each scope without each language: (scope, language).

        NaN for the pivot where the scope is around it: it is no sample of anything.
        """
        means = np.stack([without_language(matrix, scope) for scope in self.scopes])
        means[1:, self.is_pivot] = np.nan
        return means

    def _crossed(
        self, rows: np.ndarray, means: np.ndarray, limits: tuple[float, float]
    ) -> Interval:
        """Interval of the means over pairs, over clusters of items and languages.

        The pivot is no sample of anything: it stays in every scope around it.

        Args: rows (row, language, language), means (row, scope) of them.
        """
        intervals = []
        for index, scope in enumerate(self.scopes):
            used = scope & np.isfinite(rows[0])
            # A language without a value is in no mean, and no unit of its spread.
            drawn = used.any(axis=0) | used.any(axis=1)
            drawn &= True if index == 0 else ~self.is_pivot
            without = without_language(rows[0], scope)[drawn]
            at, confidence = means[:, index], self.jackknife.confidence
            crossed = two_way_jackknife(at[0], at[1:], without, confidence)
            intervals.append(within(crossed, limits))
        return stacked(intervals)


def _by_sign(intervals: list[Interval]) -> Interval:
    """Intervals along a first axis of signs; a single one as it is."""
    return stacked(intervals) if len(intervals) > 1 else intervals[0]


def _to_pivot_only(interval: Interval) -> Interval:
    """Means by scope with all but those towards the pivot set to NaN."""
    kept = np.array(SCOPES) == "to_pivot"
    return Interval(
        np.where(kept, interval.estimate, np.nan),
        np.where(kept, interval.low, np.nan),
        np.where(kept, interval.high, np.nan),
    )


def pair_scopes(languages: list[str], pivot: str) -> np.ndarray:
    """Which ordered pairs each scope holds: (scope, language, language) bool."""
    is_pivot = np.array([language == pivot for language in languages])
    apart = ~np.eye(len(languages), dtype=bool)
    source, target = is_pivot[:, None] & apart, is_pivot[None, :] & apart
    return np.stack([apart, source | target, source, target])


def pair_means(rows: np.ndarray, scopes: np.ndarray) -> np.ndarray:
    """Means over the pairs of each scope that have a value on the data.

    Args:
        rows: (row, language, language), the data first.
        scopes: (scope, language, language) bool.

    Returns:
        (row, scope); NaN where no pair is left.
    """
    present = np.isfinite(rows)
    used = (scopes & present[0]).astype(float)
    total = np.einsum("rlm,slm->rs", np.where(present, rows, 0.0), used)
    return divide(total, np.einsum("rlm,slm->rs", present, used))


def without_language(matrix: np.ndarray, scope: np.ndarray) -> np.ndarray:
    """(language,) means over the pairs of a scope that each language has no part in.

    Args: matrix (language, language) on the data, NaN left out; scope (language, language) bool.
    """
    used = scope & np.isfinite(matrix)
    values = np.where(used, matrix, 0.0)
    total, count = (x.sum() - x.sum(axis=0) - x.sum(axis=1) for x in (values, used.astype(int)))
    return divide(total, count)
