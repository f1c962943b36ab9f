"""Numbers over pairs of languages: a table of them with intervals, and their means by scope.

Items and languages are crossed (METHOD 8), so a mean over pairs has two intervals: one for these
languages, with clusters of items drawn anew, and one for languages like these, with both drawn.
"""

from collections.abc import Iterable

import numpy as np
import xarray as xr

from isogloss.measures.statistics import Interval, Resampling, cluster_counts, divide

# Ordered pairs: all of them, those with the pivot on either side, and each side of those.
SCOPES = ("all_pairs", "pivot_pairs", "from_pivot", "to_pivot")


class PairTable:
    """Collects named variables with their intervals, and the means of the pairwise ones.

    Attributes:
        variables: what was added, by name, with `long_name` and `units`.
        resampling: of the items; its rows lead every array that is added as pairs.
        scopes: of `pair_scopes`.
        language_weights: of `language_draws`.
    """

    def __init__(self, languages: list[str], pivot: str, resampling: Resampling, seed: int) -> None:
        self.variables: dict[str, xr.Variable] = {}
        self.resampling = resampling
        self.scopes = pair_scopes(languages, pivot)
        self.language_weights = language_draws(
            len(languages),
            languages.index(pivot) if pivot in languages else None,
            resampling.n_boot,
            seed,
        )

    def add(
        self, name: str, dims: Iterable[str], values: np.ndarray, long_name: str, units: str = "1"
    ) -> None:
        attributes = {"long_name": long_name, "units": units}
        self.variables[name] = xr.Variable(tuple(dims), values, attributes)

    def add_interval(
        self, name: str, dims: Iterable[str], interval: Interval, long_name: str
    ) -> None:
        level = f"{self.resampling.confidence:.0%} interval over clusters of items"
        self.add(name, dims, interval.estimate, long_name)
        self.add(f"{name}_low", dims, interval.low, f"{long_name}, lower bound, {level}")
        self.add(f"{name}_high", dims, interval.high, f"{long_name}, upper bound, {level}")

    def add_pairs(
        self, name: str, rows: list[np.ndarray], long_name: str, relative: tuple[bool, ...] = ()
    ) -> None:
        """A variable over pairs, from one array (row, language, language), or from one a sign.

        Beside it `mean_<name>`: means over pairs, with intervals over clusters of items
        (`_low`, `_high`) and over clusters and languages at once (`_crossed_low`, `_crossed_high`).
        Where an entry is `relative` to the study's other languages, its mean over all targets is 0
        whatever the model does: those means are NaN.
        """
        sign = ("sign",) if len(rows) > 1 else ()
        matrices = [self.resampling.interval(r) for r in rows]
        self.add_interval(name, (*sign, "language", "language_2"), _stack(matrices), long_name)
        means = [self.resampling.interval(pair_means(r, self.scopes)) for r in rows]
        crossed = [self._crossed(r) for r in rows]
        for index in np.flatnonzero(relative):
            means[index], crossed[index] = map(_to_pivot_only, (means[index], crossed[index]))
        mean_name, dims = f"mean_{name}", (*sign, "scope")
        long_name += ", mean over pairs"
        self.add_interval(mean_name, dims, _stack(means), long_name)
        level = f"{self.resampling.confidence:.0%} interval over clusters of items and languages"
        both = _stack(crossed)
        self.add(f"{mean_name}_crossed_low", dims, both.low, f"{long_name}, lower bound, {level}")
        self.add(f"{mean_name}_crossed_high", dims, both.high, f"{long_name}, upper bound, {level}")

    def _crossed(self, rows: np.ndarray) -> Interval:
        """Percentile interval of the means over pairs when items and languages are both drawn."""
        draws = rows[-self.resampling.n_boot :]
        drawn = pair_means(draws, self.scopes, rows[0], self.language_weights)
        tail = (1 - self.resampling.confidence) / 2
        usable = np.isfinite(drawn).sum(axis=0) * 2 >= len(drawn)
        bounds = np.full((2, len(self.scopes)), np.nan)
        bounds[:, usable] = np.nanquantile(drawn[:, usable], [tail, 1 - tail], axis=0)
        return Interval(pair_means(rows[:1], self.scopes)[0], *bounds)


def _stack(intervals: list[Interval]) -> Interval:
    """Intervals along a new first axis; a single one as it is."""
    if len(intervals) == 1:
        return intervals[0]
    return Interval(
        np.stack([i.estimate for i in intervals]),
        np.stack([i.low for i in intervals]),
        np.stack([i.high for i in intervals]),
    )


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


def language_draws(n: int, pivot: int | None, n_boot: int, seed: int) -> np.ndarray:
    """How often each bootstrap draw holds each language: (scope, draw, language).

    The pivot is no sample of anything: scopes around it keep it and draw the other languages.
    """
    stream = (seed, 1)  # not the stream that draws the clusters of items
    free = cluster_counts(n, n_boot, stream)
    if pivot is None or n < 2:
        return np.stack([free] * len(SCOPES))
    around = np.insert(cluster_counts(n - 1, n_boot, stream), pivot, 1, axis=1)
    return np.stack([free, around, around, around])


def pair_means(
    rows: np.ndarray,
    scopes: np.ndarray,
    estimate: np.ndarray | None = None,
    language_weights: np.ndarray | None = None,
) -> np.ndarray:
    """Means over the pairs of each scope that have a value on the data.

    Args:
        rows: (row, language, language), the data first unless `estimate` is given.
        scopes: (scope, language, language) bool.
        estimate: (language, language) on the data.
        language_weights: (scope, row, language) how often each row holds each language.

    Returns:
        (row, scope); NaN where no pair is left.
    """
    on_data = np.isfinite(rows[0] if estimate is None else estimate)
    present = np.isfinite(rows)
    filled = np.where(present, rows, 0.0)
    means = []
    for index, scope in enumerate(scopes):
        used = (scope & on_data).astype(float)
        if language_weights is None:
            total = np.einsum("rlm,lm->r", filled, used)
            weight = np.einsum("rlm,lm->r", present, used)
        else:
            w = language_weights[index].astype(float)
            total = np.einsum("rl,rlm,rm->r", w, filled * used, w, optimize=True)
            weight = np.einsum("rl,rlm,rm->r", w, present * used, w, optimize=True)
        means.append(divide(total, weight))
    return np.stack(means, axis=1)
