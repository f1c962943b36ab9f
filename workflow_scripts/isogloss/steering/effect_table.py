"""Variables of steering effects: estimates, intervals and tests, by language and pooled."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import stdtrit

from isogloss.measures.statistics import (
    Flips,
    Interval,
    Jackknife,
    divide,
    holm,
    known_width,
    mean_present,
    minimum_detectable_effect,
    two_way_jackknife,
)
from isogloss.measures.variables import crossed_bounds, interval_variables, variable
from isogloss.steering.answers import SteeredAnswers
from isogloss.steering.inference import Claim, Search, flip_claims, swap_claims


def without_each_language(estimates: np.ndarray) -> np.ndarray:
    """Means over languages with each one left out: (language, ...) to (language, ...)."""
    present = np.isfinite(estimates)
    total, n = np.where(present, estimates, 0.0), present.sum(axis=0)
    return divide(total.sum(axis=0) - total, n - present)


def over_languages(rows: np.ndarray, confidence: float) -> Interval:
    """Interval of the mean over languages, for other items and other languages.

    A language without a value is in no mean, and no unit of its spread.

    Args: rows (row, language, ...). Returns (...).
    """
    means, apart = mean_present(rows, axis=1), without_each_language(rows[0])
    bounds = np.full((2, *means.shape[1:]), np.nan)
    for at in np.ndindex(means.shape[1:]):
        at_place = (slice(None), *at)
        some = apart[at_place][np.isfinite(rows[0][at_place])]
        interval = two_way_jackknife(means[at_place][0], means[at_place][1:], some, confidence)
        bounds[at_place] = interval.low, interval.high
    return Interval(means[0], *bounds)


# Differences (item, language, setting) with the search that chose the setting; or two searches,
# whose treatments are compared, each at the settings chosen for itself.
Entry = tuple[np.ndarray, Search] | tuple[Search, Search]


class EffectTable:
    """Collects variables: by language, and pooled over languages.

    Differences are given as one `Entry` per method or control, the second dimension.

    Args:
        answers: of the steered files.
        n_perm, seed: sign patterns of the tests.
        confidence: of the intervals.
    """

    def __init__(self, answers: SteeredAnswers, n_perm: int, seed: int, confidence: float) -> None:
        self.variables: dict[str, xr.Variable] = {}
        self.answers, self.n_perm, self.seed = answers, n_perm, seed
        self.clusters = answers.first["cluster"].values
        self.jackknife = Jackknife.of(self.clusters, confidence)

    @property
    def confidence(self) -> float:
        return self.jackknife.confidence

    def add(
        self,
        name: str,
        dims: Sequence[str],
        values: np.ndarray | float,
        text: str,
        units: str = "1",
    ) -> None:
        self.variables[name] = variable(dims, values, text, units)

    def add_interval(self, name: str, dims: Sequence[str], interval: Interval, text: str) -> None:
        level = self.confidence
        self.variables |= interval_variables(name, dims, interval, text, "1", level)

    def add_rows(
        self,
        name: str,
        dims: Sequence[str],
        rows: np.ndarray,
        text: str,
        interval: Interval | None = None,
    ) -> None:
        """A quantity from its rows (row, language, ...), and `pooled_<name>` over languages.

        Its interval is the jackknife's, the settings as chosen, unless another is given.
        """
        interval = known_width(self.jackknife.interval(rows)) if interval is None else interval
        self.add_interval(name, dims, interval, text)
        pooled = mean_present(rows, axis=1)
        self._add_pooled(name, dims, rows, text, known_width(self.jackknife.interval(pooled)))

    def _add_pooled(
        self, name: str, dims: Sequence[str], rows: np.ndarray, text: str, pooled: Interval
    ) -> None:
        """`pooled_<name>`, for these languages and (`_crossed`) for languages like these."""
        text = f"{text}, mean over languages"
        self.add_interval(f"pooled_{name}", dims[1:], pooled, text)
        crossed = known_width(over_languages(rows, self.confidence))
        self.variables |= crossed_bounds(f"pooled_{name}", dims[1:], crossed, text, self.confidence)

    def claims(self, entries: Sequence[Entry]) -> tuple[Claim, Claim]:
        """Claims (language, entry) and (entry,) of differences, or of two searches."""
        made = [self._tested(entry) for entry in entries]
        fields = ("estimate", "error", "p", "critical")
        by_language, pooled = zip(*made, strict=True)
        return (
            Claim(*(np.stack([getattr(c, f) for c in by_language], axis=-1) for f in fields)),
            Claim(*(np.stack([getattr(c, f) for c in pooled], axis=-1) for f in fields)),
        )

    def _tested(self, entry: Entry) -> tuple[Claim, Claim]:
        """The claims of one entry."""
        first, search = entry
        how: dict[str, Any] = {"n_perm": self.n_perm, "seed": self.seed}
        how["confidence"] = self.confidence
        if isinstance(first, Search):
            return swap_claims(first, search, self.clusters, **how)
        return flip_claims(first, search, self.clusters, **how)

    def add_change(
        self,
        name: str,
        entry: str,
        entries: Sequence[Entry],
        text: str,
        tests: str | None = None,
        untested: Sequence[bool] = (),
    ) -> tuple[Claim, Claim]:
        """Mean paired differences with intervals, and their tests under the prefix `tests`.

        Args:
            entry: the second dimension, empty where there is one entry alone.
            untested: entries that have neither test nor bounds; all have them where it is empty.

        Returns:
            The claims (language, entry) and (entry,).
        """
        by_language, pooled = self.claims(entries)
        chosen = np.stack([chosen_differences(entry) for entry in entries], axis=-1)
        if any(untested):
            by_language, pooled = (
                c.without_test(np.array(untested)) for c in (by_language, pooled)
            )
            chosen = np.where(untested, np.nan, chosen)
        dims = ("language", entry) if entry else ("language",)
        parts = [by_language, pooled]
        if not entry:
            chosen = chosen[..., 0]
            parts = [first_entry(part) for part in parts]
        self.add_interval(name, dims, parts[0].interval, text)
        self._add_pooled(name, dims, self.jackknife.means(chosen), text, parts[1].interval)
        if tests is not None:
            searched = any(search.n_settings > 1 for _, search in entries)
            self.add_tests(tests, dims, parts[0], chosen, text, searched)
            note = f"{text}, mean over languages"
            self.add_tests(f"pooled_{tests}", dims[1:], parts[1], chosen, note, searched)
        return by_language, pooled

    def add_tests(
        self,
        prefix: str,
        dims: Sequence[str],
        claim: Claim,
        differences: np.ndarray,
        text: str,
        searched: bool,
    ) -> None:
        """p over the family of all entries, and what could have been detected.

        Args:
            differences: (item, language, ...) at the chosen settings; those of claims on the mean
                over languages too.
            searched: whether settings are chosen anew under every sign pattern.
        """
        tests = max(int(np.isfinite(claim.p).sum()), 1)
        alpha = (1 - self.confidence) / tests
        # As much larger as the search makes the interval: the setting is not known beforehand.
        degrees = max(self.jackknife.n_clusters - 1, 1)
        wider = claim.critical / stdtrit(degrees, (1 + self.confidence) / 2)
        pooled = claim.p.ndim < differences.ndim - 1
        least = minimum_detectable_effect(
            pooled_differences(differences) if pooled else differences,
            self.clusters,
            alpha=alpha,
            wider=wider,
            flips=Flips.of(differences, (0, 1) if pooled else 0),
        )
        how = "chosen anew under every pattern" if searched else "taken as given"
        note = f"two-sided cluster sign-flip p, settings {how}"
        self.add(f"{prefix}p", dims, claim.p, f"{text}: {note}")
        if dims:
            note = f"{text}: p adjusted by Holm over {tests} tests ({', '.join(dims)})"
            self.add(f"{prefix}p_holm", dims, holm(claim.p), note)
        note = f"{text}: minimum detectable effect, 80% power at alpha {alpha:.2g}"
        self.add(f"{prefix}minimum_detectable_effect", dims, least, note)


def chosen_differences(entry: Entry) -> np.ndarray:
    """(item, language) differences at the settings that were chosen, of one treatment or of two."""
    first, search = entry
    if isinstance(first, Search):
        return at_chosen_settings(first.change, first) - at_chosen_settings(search.change, search)
    return at_chosen_settings(first, search)


def at_chosen_settings(differences: np.ndarray, search: Search) -> np.ndarray:
    """(item, language) differences at the setting that each item's fold was given."""
    item, language = np.ogrid[: differences.shape[0], : differences.shape[1]]
    return differences[item, language, search.chosen.T[search.folds]]


def first_entry(claim: Claim) -> Claim:
    """A claim without its last axis, of which there is one entry."""
    return Claim(
        claim.estimate[..., 0], claim.error[..., 0], claim.p[..., 0], claim.critical[..., 0]
    )


def pooled_differences(differences: np.ndarray) -> np.ndarray:
    """What each item adds to the mean over languages, times the item count.

    Its mean over items is the mean over languages of their means over items.

    Args: differences (item, language, ...), NaN left out. Returns (item, ...).
    """
    present = np.isfinite(differences)
    n = present.sum(axis=0)
    scale = divide(np.full(n.shape, float(len(differences))), n * (n > 0).sum(axis=0))
    added = np.where(present, differences, 0.0) * np.nan_to_num(scale)
    return np.where((n > 0).any(axis=0), added.sum(axis=1), np.nan)
