"""Numbers over pairs of languages: a table of them with intervals, and their means by scope.

Items and languages are crossed, so a mean over pairs has two intervals: one for these languages,
over clusters of items like these, and one for languages like these too.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from isogloss.measures.statistics import (
    EVERY,
    Interval,
    Jackknife,
    divide,
    known_width,
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
PAIR_ITEMS_AT_ONCE = 1_000_000  # items times pairs whose numbers are in memory together


class PairTable:
    """Collects named variables with their intervals, and the means of the pairwise ones.

    Numbers over pairs with every item left out are many: they may be added for some first
    languages at a time (`parts`), in their order. The last of them makes the variable.

    Attributes:
        variables: what was added, by name, with `long_name` and `units`.
        jackknife: of the items; its rows lead every array that is added as pairs.
        scopes: of `pair_scopes`.
        parts: first languages of pairs, so many at a time as take little memory.
    """

    def __init__(self, languages: list[str], pivot: str, jackknife: Jackknife) -> None:
        self.variables: dict[str, xr.Variable] = {}
        self.jackknife = jackknife
        self.scopes = pair_scopes(languages, pivot)
        self.is_pivot = np.array([language == pivot for language in languages])
        n, n_items = len(languages), len(jackknife.codes)
        step = max(1, PAIR_ITEMS_AT_ONCE // (n * n_items))
        self.parts = [slice(start, min(start + step, n)) for start in range(0, n, step)]
        self._values: dict[str, list[np.ndarray]] = {}
        self._pairs: dict[str, list[_Pairs]] = {}

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
        first: slice = EVERY,
    ) -> None:
        """A variable over pairs, from one array (row, first language, language), or one per sign.

        Beside it `mean_<name>`: means over pairs, with intervals over clusters of items
        (`_low`, `_high`) and over clusters and languages at once (`_crossed_low`, `_crossed_high`).
        Where nothing varies over items, as if two languages agree on each, nothing says how far the
        bounds are: they are NaN.
        Where an entry is `relative` to the study's other languages, its mean over all targets is 0
        whatever the model does: those means are NaN.

        Args:
            n_items: items behind the values, where these are shares; else they lie in -1 .. 1.
            behind: (item, first language, language) bool, items that a value is of, where not all.
            scales: like rows, noisy denominators of the values, where they have one.
            limits: the smallest and the largest value that there can be, where it is no share.
            first: the first languages of these pairs; variables are made with the last of them.
        """
        limits = limits if n_items is None else SHARES
        signs = self._pairs.setdefault(name, [_Pairs() for _ in rows])
        for sign, pairs in enumerate(signs):
            at, scale = rows[sign], None if scales is None else scales[sign]
            if scale is not None:
                matrix = self.jackknife.ratio_interval(at, scale, limits)
            elif n_items is not None:
                matrix = self.jackknife.share_interval(at, n_items[sign])
            else:
                matrix = known_width(self.jackknife.interval(at, limits, behind))
            pairs.add(matrix, at, self.scopes[:, first], behind, scale)
        if self._is_last(first):
            self._finish(name, self._pairs.pop(name), long_name, relative, limits)

    def add_values(
        self, name: str, values: list[np.ndarray], long_name: str, first: slice = EVERY
    ) -> None:
        """A variable over pairs without more, from one array (first language, language) per sign.

        Args: first, as in `add_pairs`.
        """
        parts = self._values.setdefault(name, [])
        parts.append(np.stack(values))
        if self._is_last(first):
            whole = np.concatenate(self._values.pop(name), axis=1)
            if len(values) > 1:
                self.add(name, ("sign", "language", "language_2"), whole, long_name)
            else:
                self.add(name, ("language", "language_2"), whole[0], long_name)

    def _is_last(self, first: slice) -> bool:
        n = len(self.is_pivot)
        return first.indices(n)[1] == n

    def _finish(
        self,
        name: str,
        signs: list["_Pairs"],
        long_name: str,
        relative: tuple[bool, ...],
        limits: tuple[float, float],
    ) -> None:
        """The variables of `add_pairs` once all pairs are there."""
        sign = ("sign",) if len(signs) > 1 else ()
        matrices = [pairs.matrix() for pairs in signs]
        self.add_interval(name, (*sign, "language", "language_2"), _by_sign(matrices), long_name)
        by_scope = [pairs.means() for pairs in signs]
        means = [
            known_width(self.jackknife.interval(mean, limits, pairs.behind))
            if pairs.scales is None
            else self.jackknife.ratio_interval(mean, divide(*pairs.scales), limits)
            for mean, pairs in zip(by_scope, signs, strict=True)
        ]
        estimates = [matrix.estimate for matrix in matrices]
        crossed = [self._crossed(e, m, limits) for e, m in zip(estimates, by_scope, strict=True)]
        for index in np.flatnonzero(relative):
            means[index], crossed[index] = map(_to_pivot_only, (means[index], crossed[index]))
        mean_name, dims = f"mean_{name}", (*sign, "scope")
        long_name += ", mean over pairs"
        self.add_interval(mean_name, dims, _by_sign(means), long_name)
        self.add_crossed(mean_name, dims, _by_sign(crossed), long_name)
        if name in COMPARED:
            for what, values in (
                ("cluster", [m[1:].T for m in by_scope]),
                ("language", [self._without_language(e) for e in estimates]),
            ):
                stacked = np.stack(values) if len(values) > 1 else values[0]
                text = f"{long_name}, each {what} left out"
                self.add(f"{mean_name}_without_{what}", (*dims, what), stacked, text)

    def _without_language(self, matrix: np.ndarray) -> np.ndarray:
        """Means over the pairs of each scope without each language: (scope, language).

        NaN for the pivot where the scope is around it: it is no sample of anything.
        """
        means = np.stack([without_language(matrix, scope) for scope in self.scopes])
        means[1:, self.is_pivot] = np.nan
        return means

    def _crossed(
        self, matrix: np.ndarray, means: np.ndarray, limits: tuple[float, float]
    ) -> Interval:
        """Interval of the means over pairs, over clusters of items and languages.

        The pivot is no sample of anything: it stays in every scope around it.

        Args: matrix (language, language) on the data, means (row, scope).
        """
        intervals = []
        for index, scope in enumerate(self.scopes):
            used = scope & np.isfinite(matrix)
            # A language without a value is in no mean, and no unit of its spread.
            drawn = used.any(axis=0) | used.any(axis=1)
            drawn &= True if index == 0 else ~self.is_pivot
            without = without_language(matrix, scope)[drawn]
            at, confidence = means[:, index], self.jackknife.confidence
            crossed = two_way_jackknife(at[0], at[1:], without, confidence)
            intervals.append(known_width(within(crossed, limits)))
        return stacked(intervals)


@dataclass
class _Pairs:
    """A variable over pairs of one sign, from the first languages that were added.

    Attributes:
        matrices: intervals (first language, language).
        sums: over the pairs of each scope, and how many they are, (row, scope) each.
        scales: the same of denominators; None where there are none.
        behind: (item, scope) bool, items that means are of; None where all.
    """

    matrices: list[Interval] = field(default_factory=list)
    sums: list[np.ndarray] | None = None
    scales: list[np.ndarray] | None = None
    behind: np.ndarray | None = None

    def add(
        self,
        matrix: Interval,
        rows: np.ndarray,
        scopes: np.ndarray,
        behind: np.ndarray | None,
        scale: np.ndarray | None,
    ) -> None:
        """Add pairs (row, first language, language), of which scopes (scope, first, language)."""
        # The estimate is a view of its rows, which are not to stay in memory.
        self.matrices.append(matrix._replace(estimate=matrix.estimate.copy()))
        self.sums = _added(self.sums, pair_sums(rows, scopes))
        if scale is not None:  # of the pairs that have a value
            known = np.where(np.isfinite(rows[0]), scale, np.nan)
            self.scales = _added(self.scales, pair_sums(known, scopes))
        if behind is not None:
            there = np.einsum("ilm,slm->is", behind, scopes)
            self.behind = there if self.behind is None else self.behind | there

    def matrix(self) -> Interval:
        """Intervals (language, language)."""
        return Interval(*(np.concatenate(ends) for ends in zip(*self.matrices, strict=True)))

    def means(self) -> np.ndarray:
        """Means over the pairs of each scope: (row, scope)."""
        assert self.sums is not None
        return divide(*self.sums)


def _added(before: list[np.ndarray] | None, more: list[np.ndarray]) -> list[np.ndarray]:
    return more if before is None else [a + b for a, b in zip(before, more, strict=True)]


def _by_sign(intervals: list[Interval]) -> Interval:
    """Intervals along a first axis of signs; a single one as it is."""
    return stacked(intervals) if len(intervals) > 1 else intervals[0]


def _to_pivot_only(interval: Interval) -> Interval:
    """Means by scope with all but those towards the pivot set to NaN."""
    kept = np.array(SCOPES) == "to_pivot"
    return Interval(*(np.where(kept, values, np.nan) for values in interval))


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
    return divide(*pair_sums(rows, scopes))


def pair_sums(rows: np.ndarray, scopes: np.ndarray) -> list[np.ndarray]:
    """Sums over the pairs of each scope that have a value on the data, and how many those are.

    Args: as of `pair_means`, the first languages all or some.
    Returns: two arrays (row, scope).
    """
    present = np.isfinite(rows)
    used = (scopes & present[0]).astype(float)
    total = np.einsum("rlm,slm->rs", np.where(present, rows, 0.0), used)
    return [total, np.einsum("rlm,slm->rs", present, used)]


def without_language(matrix: np.ndarray, scope: np.ndarray) -> np.ndarray:
    """(language,) means over the pairs of a scope that each language has no part in.

    Args: matrix (language, language) on the data, NaN left out; scope (language, language) bool.
    """
    used = scope & np.isfinite(matrix)
    values = np.where(used, matrix, 0.0)
    total, count = (x.sum() - x.sum(axis=0) - x.sum(axis=1) for x in (values, used.astype(int)))
    return divide(total, count)
