"""Steering effects: what steering changed, in whom, and against which controls.

Everything is a paired difference from the unsteered model over the same items. The setting behind
an effect was selected on other folds than the item's own, so no item has chosen its own treatment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from isogloss.errors import InputError
from isogloss.measures.behaviour import LENGTHS, choice_scores, predictions, rank_correlation, ranks
from isogloss.measures.statistics import (
    Interval,
    Resampling,
    accuracy_from,
    cluster_counts,
    divide,
    holm,
    minimum_detectable_effect,
    paired_proportion_interval,
    sign_flip_test,
)
from isogloss.measures.transfer import MIN_ITEMS
from isogloss.measures.variables import interval_variables, variable

# Scores that a steered file holds; the others need passes that are not run under steering.
STEERED_SCORES = ("token", "sum", "char", "byte")
# Conditions whose log-probabilities are of the pivot's own questions.
HARM, HARM_REFERENCE = "pivot_harm", "pivot_unsteered"
EQUAL = 1e-9


# Kernels


def difference_interval(differences: np.ndarray, resampling: Resampling) -> Interval:
    """Interval of the mean of paired differences of right/wrong answers, (item, ...).

    The cluster bootstrap; where all differences are the same, so that it has no width, Agresti-Min
    with one item a cluster.
    """
    interval = resampling.interval(mean_rows(differences, resampling))
    low, high = np.array(interval.low), np.array(interval.high)
    alike = np.ptp(differences, axis=0) <= EQUAL  # False where NaN
    for cell in np.argwhere(alike):
        at = tuple(cell)
        change = np.full(resampling.n_clusters, float(differences[(0, *at)]))
        bounds = paired_proportion_interval(
            change > EQUAL, change < -EQUAL, confidence=resampling.confidence
        )
        low[at], high[at] = bounds.low, bounds.high
    return Interval(interval.estimate, low, high)


def least_bounds(differences: np.ndarray, by_language: Interval) -> Interval:
    """The narrowest that an interval of the mean over languages may be; NaN where no limit is.

    Where each item adds the same, draws of items do not vary: the bounds are then the means of
    the languages' own, as wide as theirs, since the languages are asked the same items.

    Args:
        differences: (item, language, ...) paired, of right/wrong answers.
        by_language: of `difference_interval`, (language, ...).

    Returns:
        Interval of shape (...).

    Source: our choice.
    """
    contributions = pooled_contributions(differences)
    alike = np.ptp(contributions, axis=0) <= EQUAL  # False where NaN
    low, high = (pooled_rows(bound[None])[0] for bound in (by_language.low, by_language.high))
    estimate = contributions.mean(axis=0)
    return Interval(estimate, np.where(alike, low, np.nan), np.where(alike, high, np.nan))


def at_least(interval: Interval, least: Interval) -> Interval:
    """An interval, widened to `least` where that has bounds; NaN bounds of its own stay."""
    low = np.where(np.isnan(least.low), interval.low, np.minimum(interval.low, least.low))
    high = np.where(np.isnan(least.high), interval.high, np.maximum(interval.high, least.high))
    return Interval(interval.estimate, low, high)


def mean_rows(values: np.ndarray, resampling: Resampling) -> np.ndarray:
    """Means over items on every row of a resampling, NaN left out: (item, ...) to (row, ...)."""
    present = np.isfinite(values)
    return divide(resampling.sums(np.where(present, values, 0.0)), resampling.sums(present))


def transfer_rows(source: np.ndarray, target: np.ndarray, resampling: Resampling) -> np.ndarray:
    """Share of the items right in `source` that are right in `target`, on every row.

    Args: source, target (item, ...) float 0 or 1, NaN where not evaluated.
    Returns: (row, ...), NaN where fewer than `MIN_ITEMS` items of the data are right in `source`.
    """
    right = resampling.sums(source)
    rows = divide(resampling.sums(source * target), right)
    return np.where(right[0] >= MIN_ITEMS, rows, np.nan)


def kappa_rows(first: np.ndarray, second: np.ndarray, resampling: Resampling) -> np.ndarray:
    """Cohen's kappa of two predictions on every row: (item, ...) twice to (row, ...).

    NaN where a prediction is NaN, and where chance alone would make all agree.
    """
    first, second = np.broadcast_arrays(first, second)
    n_items = resampling.sums(np.ones_like(first))
    agreed = resampling.sums(first == second) / np.where(n_items == 0, np.nan, n_items)
    expected = np.zeros_like(agreed)
    for choice in np.unique(second[np.isfinite(second)]):
        shares = [divide(resampling.sums(x == choice), n_items) for x in (first, second)]
        expected += shares[0] * shares[1]
    kappa = divide(agreed - expected, np.where(1 - expected < EQUAL, 0, 1 - expected))
    return np.where(np.isfinite(first).all(axis=0), kappa, np.nan)


def pooled_rows(rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Means over the languages that have a value on the data.

    Args:
        rows: (row, language, ...), the data first.
        weights: (row, language) how often each row holds each language; None: once.

    Returns:
        (row, ...).
    """
    used = np.isfinite(rows) & np.isfinite(rows[0])
    if weights is None:
        weights = np.ones(rows.shape[:2])
    weighted = weights.reshape(*rows.shape[:2], *[1] * (rows.ndim - 2)) * used
    return divide((weighted * np.where(used, rows, 0.0)).sum(axis=1), weighted.sum(axis=1))


def crossed_interval(rows: np.ndarray, resampling: Resampling, seed: int) -> Interval:
    """Percentile interval of the mean over languages, clusters and languages both resampled.

    Args: rows (row, language, ...). Returns (...); NaN bounds with fewer than two languages.
    """
    n_languages, n_boot = rows.shape[1], resampling.n_boot
    estimate = pooled_rows(rows[:1])[0]
    nothing = np.full_like(estimate, np.nan)
    if n_languages < 2:
        return Interval(estimate, nothing, nothing)
    drawn = cluster_counts(n_languages, n_boot, seed + 1).astype(float)
    weights = np.concatenate([np.ones((1, n_languages)), drawn])
    draws = pooled_rows(np.concatenate([rows[:1], rows[-n_boot:]]), weights)[1:]
    usable = 2 * np.isfinite(draws).sum(axis=0) >= n_boot
    tail = (1 - resampling.confidence) / 2
    filled = np.where(usable, draws, 0.0)
    low, high = np.nanquantile(filled, [tail, 1 - tail], axis=0)
    return Interval(estimate, np.where(usable, low, np.nan), np.where(usable, high, np.nan))


def pooled_contributions(differences: np.ndarray) -> np.ndarray:
    """What each item adds to the mean over languages of means over items, times the item count.

    Their mean over items is the pooled estimate, so that tests of means apply to it.

    Args: differences (item, language, ...), NaN left out. Returns (item, ...).
    """
    present = np.isfinite(differences)
    n = present.sum(axis=0)
    scale = divide(np.full(n.shape, float(len(differences))), n * (n > 0).sum(axis=0))
    added = np.where(present, differences, 0.0) * np.nan_to_num(scale)
    return np.where((n > 0).any(axis=0), added.sum(axis=1), np.nan)


def rank_p(effect: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """One-sided p of an effect among draws of a random control: (...) and (draw, ...) to (...).

    >>> float(rank_p(np.array(0.3), np.array([0.1, 0.3, 0.0, -0.2])))
    0.4
    """
    present = np.isfinite(draws)
    reached = ((draws >= effect - EQUAL) & present).sum(axis=0)
    p = (1 + reached) / (1 + present.sum(axis=0))
    return np.where(np.isfinite(effect) & present.any(axis=0), p, np.nan)


# One language's conditions


@dataclass(frozen=True)
class Evaluated:
    """What the conditions of one language gave, item by item.

    Attributes:
        file: the steered file.
        correct: (condition, item) 1 where right, else 0.
        predicted: (condition, item) index of the predicted choice, float.
        consistency: (condition, item) rank correlation with the pivot's unsteered choices.
    """

    file: xr.Dataset
    correct: np.ndarray
    predicted: np.ndarray
    consistency: np.ndarray

    def rows(self, role: str, method: str) -> np.ndarray:
        """Indices of the conditions of a role and method."""
        same = (self.file["role"].values == role) & (self.file["method"].values == method)
        return np.flatnonzero(same)

    def mean(self, field: str, role: str, method: str) -> np.ndarray:
        """(item,) mean over the conditions of a role and method (the draws); NaN without any."""
        values = getattr(self, field)[self.rows(role, method)]
        return values.mean(axis=0) if len(values) else np.full(self.correct.shape[1], np.nan)


def condition_scores(steered: xr.Dataset, pivot_scores: xr.Dataset, score: str) -> np.ndarray:
    """Scores of the choices under every condition: (condition, item, choice).

    Args:
        steered: a steered file.
        pivot_scores: (item, choice) stored scores of the pivot: the lengths of its choices,
            for the conditions that ask the pivot's own questions.
        score: one of `STEERED_SCORES`.
    """
    dims = ("language", "item", "choice")
    sums = steered["log_probability"].transpose("condition", "item", "choice").values
    on_pivot = np.isin(steered["method"].values, [HARM, HARM_REFERENCE])[:, None, None]
    counts = {}
    if LENGTHS.get(score) in steered:
        name = LENGTHS[score]
        own, other = (d[name].transpose("item", "choice").values for d in (steered, pivot_scores))
        counts[name] = (dims, np.where(on_pivot, other, own))
    labels = [f"{steered.attrs['language']}, {m}" for m in steered["method"].values]
    by_condition = xr.Dataset(
        {"sum": (dims, sums), "n_choices": ("item", steered["n_choices"].values), **counts},
        coords={"language": labels, "item": steered["item"].values},
    )
    return choice_scores(by_condition, score)


def evaluated(steered: xr.Dataset, scores: xr.Dataset, score: str) -> Evaluated:
    """Right answers and consistency with the pivot, condition by condition.

    Args:
        steered: a steered file.
        scores: stored scores of the same items (language, item, choice), the pivot among them.
        score: what ranks the choices.
    """
    n_choices, pivot = steered["n_choices"].values, scores.attrs["pivot"]
    values = condition_scores(steered, scores.sel(language=pivot), score)
    predicted = predictions(values)
    pivot_ranks = ranks(choice_scores(scores.sel(language=[pivot]), score), n_choices)
    return Evaluated(
        steered,
        (predicted == steered["answer"].values).astype(float),
        predicted.astype(float),
        rank_correlation(ranks(values, n_choices), pivot_ranks),
    )


@dataclass(frozen=True)
class _Answers:
    """Fields of `Evaluated` side by side: (item, language, condition), NaN where not run."""

    correct: np.ndarray
    predicted: np.ndarray
    consistency: np.ndarray

    @classmethod
    def of(cls, conditions: Sequence[Evaluated], role: str, methods: Sequence[str]) -> "_Answers":
        n_items = conditions[0].correct.shape[1]
        shape = (n_items, len(conditions), len(methods))
        fields = ("correct", "predicted", "consistency")
        stacked = (
            [[c.mean(field, role, method) for method in methods] for c in conditions]
            for field in fields
        )
        return cls(*(np.moveaxis(np.array(x), -1, 0).reshape(shape) for x in stacked))


# The whole


class _Table:
    """Collects variables: by language, and pooled over languages."""

    def __init__(
        self,
        resampling: Resampling,
        clusters: np.ndarray,
        languages: Sequence[str],
        n_perm: int,
        seed: int,
    ):
        self.variables: dict[str, xr.Variable] = {}
        # Languages are drawn by their place: in the order of tags, that of the files is no matter.
        self.by_tag = np.argsort(languages)
        self.resampling, self.clusters = resampling, clusters
        self.n_perm, self.seed = n_perm, seed

    def add(
        self,
        name: str,
        dims: Sequence[str],
        values: np.ndarray | float,
        text: str,
        units: str = "1",
    ) -> None:
        self.variables[name] = variable(dims, values, text, units)

    def add_interval(
        self, name: str, dims: Sequence[str], interval: Interval, text: str, units: str = "1"
    ) -> None:
        level = self.resampling.confidence
        self.variables |= interval_variables(name, dims, interval, text, units, level)

    def add_rows(self, name: str, dims: Sequence[str], rows: np.ndarray, text: str) -> None:
        """A quantity from its rows (row, language, ...), and `pooled_<name>` over languages."""
        self.add_interval(name, dims, self.resampling.interval(rows), text)
        self._add_pooled(name, dims, rows, text)

    def _add_pooled(
        self,
        name: str,
        dims: Sequence[str],
        rows: np.ndarray,
        text: str,
        least: Interval | None = None,
    ) -> None:
        """`pooled_<name>` with both kinds of intervals, not narrower than `least`."""
        pooled = self.resampling.interval(pooled_rows(rows))
        crossed = crossed_interval(rows[:, self.by_tag], self.resampling, self.seed)
        if least is not None:
            pooled, crossed = at_least(pooled, least), at_least(crossed, least)
        text = f"{text}, mean over languages"
        self.add_interval(f"pooled_{name}", dims[1:], pooled, text)
        level = f"{self.resampling.confidence:.0%} interval over clusters of items and languages"
        for bound, word in (("low", "lower"), ("high", "upper")):
            values = getattr(crossed, bound)
            note = f"{text}, {word} bound, {level}"
            self.add(f"pooled_{name}_crossed_{bound}", dims[1:], values, note)

    def add_differences(
        self, name: str, dims: Sequence[str], differences: np.ndarray, text: str
    ) -> None:
        """Mean paired differences (item, language, ...) of right answers."""
        interval = difference_interval(differences, self.resampling)
        self.add_interval(name, dims, interval, text)
        rows = mean_rows(differences, self.resampling)
        self._add_pooled(name, dims, rows, text, least_bounds(differences, interval))

    def add_test(
        self, prefix: str, dims: Sequence[str], differences: np.ndarray, text: str
    ) -> np.ndarray:
        """Sign-flip p over the family of all entries, and what could have been detected.

        Args: differences (item, ...), all entries of one family. Returns: p (...).
        """
        p = sign_flip_test(differences, self.clusters, self.n_perm, self.seed)
        tests = max(int(np.isfinite(p).sum()), 1)
        alpha = (1 - self.resampling.confidence) / tests
        least = minimum_detectable_effect(differences, self.clusters, alpha=alpha)
        self.add(f"{prefix}p", dims, p, f"{text}: two-sided cluster sign-flip p")
        if dims:
            note = f"{text}: p adjusted by Holm over {tests} tests ({', '.join(dims)})"
            self.add(f"{prefix}p_holm", dims, holm(p), note)
        note = f"{text}: minimum detectable effect, 80% power at alpha {alpha:.2g}"
        self.add(f"{prefix}minimum_detectable_effect", dims, least, note)
        return p


def steering_effects(
    steered: Mapping[str, xr.Dataset],
    scores: xr.Dataset,
    score: str = "token",
    n_boot: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    n_perm: int = 9999,
) -> xr.Dataset:
    """Effects of steering by language and pooled over languages, with their controls and tests.

    Args:
        steered: steered files by language, of the same items; a file of the pivot is left out.
        scores: of `activations.open_scores`: stored unsteered scores, the pivot's and those of
            the steered languages, of at least the same items.
        score: what ranks the choices: "token", "sum", "char" or "byte".
        n_boot, seed, confidence: of the cluster bootstrap, the same draws for all languages.
        n_perm: sign patterns of the tests.

    Returns:
        Dataset over language, method, control, draw, fold, relative_depth and alpha; the names
        are in docs/measures. The first selected method is the default one (`default_method`):
        controls, `primary_*` and `p_random` are its. What the files hold no control for is left
        out.

    Raises:
        InputError: unknown score, missing conditions, or files that differ in their items.
    """
    if score not in STEERED_SCORES:
        known = ", ".join(STEERED_SCORES)
        raise InputError(f"score: steered files have no {score!r}: use one of {known}")
    files = _checked(steered, scores)
    first = next(iter(files.values()))
    own_scores = scores.sel(item=first["item"].values)
    conditions = [evaluated(file, own_scores, score) for file in files.values()]
    clusters = first["cluster"].values
    resampling = Resampling.of(clusters, n_boot=n_boot, seed=seed, confidence=confidence)
    table = _Table(resampling, clusters, list(files), n_perm, seed)
    methods, controls = _labels(conditions, "selected"), _labels(conditions, "control")
    pivot_right = _pivot_right(own_scores, score)
    before = _Answers.of(conditions, "unsteered", ["unsteered"])
    after = _Answers.of(conditions, "selected", methods)
    _add_unsteered(table, before, first)
    _add_effect(table, before, after)
    _add_consistency(table, before, after, conditions, own_scores, score)
    _add_transfer(table, before, after, pivot_right)
    _add_harm(table, conditions)
    _add_checks(table, conditions, own_scores)
    _add_costs(table, conditions, methods)
    coordinates: dict[str, Any] = {"language": list(files), "method": methods}
    coordinates |= _add_surface(table, conditions) | _add_selection(table, files, methods)
    if controls:
        coordinates |= _add_controls(table, conditions, before, after, controls)
    if "random" in controls:
        coordinates |= _add_random(table, conditions, after)
    settings = {"score": score, "n_boot": n_boot, "seed": seed, "confidence": confidence}
    settings |= {"n_perm": n_perm, "min_items": MIN_ITEMS, "pivot": scores.attrs["pivot"]}
    settings |= {"default_method": methods[0], "n_items": first.sizes["item"]}
    return xr.Dataset(table.variables, coordinates, settings)


def _checked(steered: Mapping[str, xr.Dataset], scores: xr.Dataset) -> dict[str, xr.Dataset]:
    """Files of languages other than the pivot, checked against each other and the scores."""
    pivot = scores.attrs["pivot"]
    files = {language: file for language, file in steered.items() if language != pivot}
    if not files:
        raise InputError(f"steered: no file of a language other than the pivot {pivot}: make one")
    name, first = next(iter(files.items()))
    known = {str(item) for item in scores["item"].values}
    for language, file in files.items():
        where = f"steered file of {language}"
        if file.attrs["pivot"] != pivot:
            other = file.attrs["pivot"]
            raise InputError(f"{where}: its pivot is {other}, the scores' is {pivot}: make it anew")
        for key in ("item", "answer", "n_choices", "cluster", "fold"):
            if not np.array_equal(file[key].values, first[key].values):
                raise InputError(f"{where}: {key} differs from that of {name}: make both anew")
        for tag in (pivot, language):
            if tag not in scores["language"].values:
                raise InputError(f"{where}: no stored scores of {tag}: extract them")
        missing = {str(item) for item in file["item"].values} - known
        if missing:
            raise InputError(f"{where}: no stored scores of item {min(missing)!r}: extract them")
        for role, method in (("unsteered", "unsteered"), ("selected", None)):
            found = file["role"].values == role
            found &= True if method is None else file["method"].values == method
            if not found.any():
                raise InputError(f"{where}: no condition with role {role!r}: make it anew")
    _check_folds(first)
    return files


def _check_folds(file: xr.Dataset) -> None:
    """Refuse a cluster in two folds: its items would be steered with what was fitted on it."""
    pairs = np.unique(np.stack([file["cluster"].values, file["fold"].values]), axis=1)
    clusters, count = np.unique(pairs[0], return_counts=True)
    if (count > 1).any():
        raise InputError(
            f"steered file: cluster {clusters[count > 1][0]} is in more than one fold, so it was "
            "fitted and evaluated on: fold whole clusters"
        )


def _labels(conditions: Sequence[Evaluated], role: str) -> list[str]:
    """Methods of a role in the order of the files; the pivot's harm is no control of the effect."""
    found = [
        str(method)
        for c in conditions
        for method in c.file["method"].values[c.file["role"].values == role]
    ]
    return [label for label in dict.fromkeys(found) if label != HARM]


def _pivot_right(scores: xr.Dataset, score: str) -> np.ndarray:
    """(item, 1, 1) whether the pivot, unsteered, is right."""
    values = choice_scores(scores.sel(language=[scores.attrs["pivot"]]), score)[0]
    return (predictions(values) == scores["answer"].values).astype(float)[:, None, None]


def _add_unsteered(table: _Table, before: _Answers, first: xr.Dataset) -> None:
    """Where the languages start from."""
    accuracy = accuracy_from(before.correct[..., 0], table.resampling)
    chance = float(np.mean(1 / first["n_choices"].values))
    table.add_interval("accuracy_unsteered", ("language",), accuracy, "accuracy, unsteered")
    table.add("chance", (), chance, "accuracy of guessing")
    near = ~(accuracy.low > chance)
    text = "unsteered accuracy's interval does not lie above chance"
    table.add("near_chance", ("language",), near, text)
    rows = mean_rows(before.consistency[..., 0], table.resampling)
    text = "consistency with the pivot, unsteered"
    table.add_rows("consistency_unsteered", ("language",), rows, text)


def _add_effect(table: _Table, before: _Answers, after: _Answers) -> None:
    """Accuracy at the selected setting: the change, its tests, and the items flipped."""
    dims = ("language", "method")
    change = after.correct - before.correct
    rows = mean_rows(after.correct, table.resampling)
    table.add_rows("accuracy_steered", dims, rows, "accuracy at the selected setting")
    text = "accuracy change at the selected setting"
    table.add_differences("effect", dims, change, text)
    table.add_test("", dims, change, text)
    pooled = pooled_contributions(change)
    table.add_test("pooled_", ("method",), pooled, f"{text}, mean over languages")
    default = change[:, :, 0]
    text = "items flipped right less items flipped wrong"
    table.add_test("primary_", ("language",), default, f"accuracy change, default method ({text})")
    table.add("primary_net", ("language",), default.sum(axis=0), f"{text}, default method", "items")
    table.add_test("pooled_primary_", (), pooled[:, 0], "accuracy change, default method, pooled")
    absent = np.isnan(change).any(axis=0)
    for name, flipped, note in (
        ("flipped_right", change > 0, "items flipped from wrong to right"),
        ("flipped_wrong", change < 0, "items flipped from right to wrong"),
    ):
        table.add(name, dims, np.where(absent, np.nan, flipped.sum(axis=0)), note, "items")
    table.add("net", dims, change.sum(axis=0), text, "items")


def _add_consistency(
    table: _Table,
    before: _Answers,
    after: _Answers,
    conditions: Sequence[Evaluated],
    scores: xr.Dataset,
    score: str,
) -> None:
    """Consistency with the unsteered pivot: Spearman's rho, and Cohen's kappa beside it."""
    dims, text = ("language", "method"), "change of consistency with the pivot"
    change = after.consistency - before.consistency
    rows = mean_rows(change, table.resampling)
    table.add_rows("consistency_change", dims, rows, text)
    table.add_test("consistency_change_", dims, change, text)
    pooled = pooled_contributions(change)
    table.add_test("pooled_consistency_change_", ("method",), pooled, f"{text}, pooled")
    same = scores["identical_to_pivot"].transpose("language", "item", "choice")
    same = same.sel(language=[c.file.attrs["language"] for c in conditions])
    exists = np.arange(same.sizes["choice"]) < scores["n_choices"].values[:, None]
    distinct = ~np.any(same.values.astype(bool) & exists, axis=-1).T[..., None]
    rows = mean_rows(np.where(distinct, change, np.nan), table.resampling)
    note = f"{text}, items without a choice spelled alike"
    table.add_rows("consistency_change_distinct", dims, rows, note)
    values = choice_scores(scores.sel(language=[scores.attrs["pivot"]]), score)[0]
    pivot = predictions(values).astype(float)[:, None, None]
    kappa = [kappa_rows(a.predicted, pivot, table.resampling) for a in (after, before)]
    note = "change of Cohen's kappa of predictions with the pivot's"
    table.add_rows("kappa_change", dims, kappa[0] - kappa[1], note)


def _add_transfer(
    table: _Table, before: _Answers, after: _Answers, pivot_right: np.ndarray
) -> None:
    """Positive transfer with the unsteered pivot, both ways."""
    dims, resampling = ("language", "method"), table.resampling
    to = [transfer_rows(pivot_right, a.correct, resampling) for a in (after, before)]
    table.add_rows("transfer_to_change", dims, to[0] - to[1], "change of transfer from the pivot")
    accuracy = mean_rows(after.correct - before.correct, resampling)
    text = "change of transfer from the pivot, above the change of accuracy"
    table.add_rows("transfer_to_lift_change", dims, to[0] - to[1] - accuracy, text)
    back = [transfer_rows(a.correct, pivot_right, resampling) for a in (after, before)]
    table.add_rows(
        "transfer_from_change", dims, back[0] - back[1], "change of transfer to the pivot"
    )


def _add_controls(
    table: _Table,
    conditions: Sequence[Evaluated],
    before: _Answers,
    after: _Answers,
    controls: list[str],
) -> dict[str, Any]:
    """The controls' own changes, and how far the default method is above each; their coordinate."""
    dims = ("language", "control")
    control = _Answers.of(conditions, "control", controls)
    change = control.correct - before.correct
    table.add_differences("control_effect", dims, change, "accuracy change of the control")
    rows = mean_rows(control.consistency - before.consistency, table.resampling)
    text = "change of consistency with the pivot of the control"
    table.add_rows("control_consistency_change", dims, rows, text)
    over = after.correct[:, :, :1] - control.correct
    text = "accuracy change of the default method less the control's"
    table.add_differences("effect_over_control", dims, over, text)
    table.add_test("effect_over_control_", dims, over, text)
    norms = _by_condition(conditions, "norm_ratio", "control", controls)
    text = "norm of the steered states over that before, control"
    table.add("control_norm_ratio", dims, norms, text)
    return {"control": controls}


def _add_random(table: _Table, conditions: Sequence[Evaluated], after: _Answers) -> dict[str, Any]:
    """The random control draw by draw, the default effect's rank among them; the coordinate."""
    rows = [c.rows("control", "random") for c in conditions]
    numbers = [c.file["draw"].values[r].astype(int) for c, r in zip(conditions, rows, strict=True)]
    draws = sorted({int(n) for own in numbers for n in own})
    effects = np.full((len(draws), len(conditions)), np.nan)
    base = np.array([c.mean("correct", "unsteered", "unsteered").mean() for c in conditions])
    for language, (c, own, number) in enumerate(zip(conditions, rows, numbers, strict=True)):
        for row, draw in zip(own, number, strict=True):
            effects[draws.index(draw), language] = c.correct[row].mean() - base[language]
    effect = after.correct[:, :, 0].mean(axis=0) - base
    dims, text = ("language", "draw"), "accuracy change of a draw of the random control"
    table.add("random_draws", dims, effects.T, text)
    note = "one-sided rank p of the default effect among random draws, at least 1 / (draws + 1)"
    table.add("p_random", ("language",), rank_p(effect, effects), note)
    both = np.isfinite(effect) & np.isfinite(effects).all(axis=0)
    pooled = np.full(len(draws), np.nan)
    if both.any():
        pooled = effects[:, both].mean(axis=1)
    of_these = effect[both].mean() if both.any() else np.nan
    table.add("pooled_p_random", (), rank_p(np.asarray(of_these), pooled), f"{note}, pooled")
    return {"draw": draws}


def _add_harm(table: _Table, conditions: Sequence[Evaluated]) -> None:
    """What each language's steering does to the pivot's own questions."""
    change = np.stack(
        [
            c.mean("correct", "control", HARM) - c.mean("correct", "unsteered", HARM_REFERENCE)
            for c in conditions
        ],
        axis=1,
    )
    text = "accuracy change of the pivot's own questions, steered as this language's"
    table.add_differences("pivot_harm", ("language",), change, text)
    table.add_test("pivot_harm_", ("language",), change, text)


def _add_checks(table: _Table, conditions: Sequence[Evaluated], scores: xr.Dataset) -> None:
    """How far the zero control and the unsteered rows are from what they must equal."""
    zero, stored, same_batch = np.full((3, len(conditions)), np.nan)
    for i, c in enumerate(conditions):
        sums = c.file["log_probability"].transpose("condition", "item", "choice").values
        plain = sums[c.rows("unsteered", "unsteered")[0]]
        rows = c.rows("control", "zero")
        if len(rows):
            zero[i] = np.nanmax(np.abs(sums[rows] - plain))
        own = scores["sum"].sel(language=c.file.attrs["language"]).transpose("item", "choice")
        stored[i] = np.nanmax(np.abs(own.values - plain))
        same_batch[i] = c.file.attrs.get("zero_same_batch_difference", np.nan)
    for name, values, text in (
        ("zero_max_abs_difference", zero, "zero control less unsteered, largest over choices"),
        ("zero_same_batch_difference", same_batch, "the same within one batch"),
        ("unsteered_max_abs_difference", stored, "unsteered less stored scores, largest"),
    ):
        table.add(name, ("language",), values, text, "nat")


def _by_condition(
    conditions: Sequence[Evaluated], name: str, role: str, labels: Sequence[str]
) -> np.ndarray:
    """A variable of the steered files by language and condition, mean over draws; NaN if absent."""
    values = [[c.file[name].values[c.rows(role, label)] for label in labels] for c in conditions]
    return np.array([[v.mean() if v.size else np.nan for v in own] for own in values], dtype=float)


def _add_costs(table: _Table, conditions: Sequence[Evaluated], methods: list[str]) -> None:
    """Norms and run times."""
    dims = ("language", "method")
    norms = _by_condition(conditions, "norm_ratio", "selected", methods)
    table.add("norm_ratio", dims, norms, "norm of the steered states over that before")
    overhead = [c.file["overhead"].sel(selected_method=methods).values for c in conditions]
    text = "run time of a steered forward above an unsteered one, share of it"
    table.add("overhead", dims, np.array(overhead), text)


def _add_surface(table: _Table, conditions: Sequence[Evaluated]) -> dict[str, Any]:
    """Changes over the whole grid of layers and strengths; gives the grid's coordinates."""
    methods = _labels(conditions, "selected")
    grids = [c.file["role"].values == "grid" for c in conditions]
    axes = {
        name: sorted(
            {
                float(v)
                for c, g in zip(conditions, grids, strict=True)
                for v in c.file[name].values[g]
            }
        )
        for name in ("relative_depth", "alpha")
    }
    shape = (len(conditions), len(methods), *(len(axis) for axis in axes.values()))
    surfaces = {name: np.full(shape, np.nan) for name in ("correct", "consistency", "norm")}
    for i, (c, grid) in enumerate(zip(conditions, grids, strict=True)):
        plain = c.rows("unsteered", "unsteered")[0]
        for row in np.flatnonzero(grid):
            if c.file["method"].values[row] not in methods:
                continue
            place = [axis.index(float(c.file[name].values[row])) for name, axis in axes.items()]
            at = (i, methods.index(c.file["method"].values[row]), *place)
            surfaces["correct"][at] = (c.correct[row] - c.correct[plain]).mean()
            surfaces["consistency"][at] = _finite_mean(c.consistency[row] - c.consistency[plain])
            surfaces["norm"][at] = c.file["norm_ratio"].values[row]
    dims = ("language", "method", *axes)
    table.add("surface", dims, surfaces["correct"], "accuracy change")
    text = "change of consistency with the pivot"
    table.add("surface_consistency", dims, surfaces["consistency"], text)
    text = "norm of the steered states over that before"
    table.add("surface_norm_ratio", dims, surfaces["norm"], text)
    return axes


def _finite_mean(values: np.ndarray) -> float:
    """Mean of what is finite; NaN where nothing is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def _add_selection(
    table: _Table, files: Mapping[str, xr.Dataset], methods: list[str]
) -> dict[str, Any]:
    """The setting that each fold was given; gives the folds' coordinate."""
    n_folds = max(file.sizes["selected_fold"] for file in files.values())
    folds = np.arange(n_folds)
    for name, text in (
        ("selected_layer", "layer selected on the other folds"),
        ("selected_alpha", "strength selected on the other folds"),
        ("selected_depth", "relative depth selected on the other folds"),
    ):
        chosen = [
            file[name]
            .transpose("selected_method", "selected_fold")
            .assign_coords(selected_fold=np.arange(file.sizes["selected_fold"]))
            .reindex(selected_method=methods, selected_fold=folds)
            .values
            for file in files.values()
        ]
        table.add(name, ("language", "method", "fold"), np.stack(chosen).astype(float), text)
    return {"fold": folds}
