"""What each condition of the steered files answered, item by item, with the files checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from isogloss.errors import InputError
from isogloss.measures.behaviour import (
    LENGTHS,
    choice_scores,
    margins,
    predictions,
    rank_correlation,
    ranks,
)
from isogloss.steering.inference import Search, choose

# Scores that a steered file gives; the others need passes that are not run under steering.
STEERED_SCORES = ("token", "sum", "char", "byte")
# Conditions whose log-probabilities are of the pivot's questions.
HARM, HARM_REFERENCE = "pivot_harm", "pivot_unsteered"

# What steered files must have in common: conditions are read by their places in the first one.
OF_CONDITIONS = ("role", "method", "draw", "layer", "alpha")
SAME = ("item", "answer", "n_choices", "cluster", "fold", *OF_CONDITIONS)


@dataclass(frozen=True)
class SteeredAnswers:
    """What the same conditions gave in several languages, on the same items.

    Attributes:
        files: the steered files by language, all with the same conditions and items.
        correct: (item, language, condition) 1 where right, else 0.
        predicted: index of the predicted choice.
        margin: score of the gold choice over the best other.
        consistency: rank correlation with the pivot's unsteered choices.
    """

    files: Mapping[str, xr.Dataset]
    correct: np.ndarray
    predicted: np.ndarray
    margin: np.ndarray
    consistency: np.ndarray

    @classmethod
    def of(
        cls, files: Mapping[str, xr.Dataset], scores: xr.Dataset, score: str
    ) -> "SteeredAnswers":
        """The answers under a score.

        Args:
            files: of `checked_files`.
            scores: stored scores of the same items (language, item, choice), pivot included.
            score: one of `STEERED_SCORES`.
        """
        pivot = scores.sel(language=[scores.attrs["pivot"]])
        n_choices = scores["n_choices"].values
        pivot_ranks = ranks(choice_scores(pivot, score), n_choices)
        fields: list[list[np.ndarray]] = [[], [], [], []]
        for file in files.values():
            values = condition_scores(file, pivot.isel(language=0), score)
            predicted, answer = predictions(values), file["answer"].values
            consistency = rank_correlation(ranks(values, n_choices), pivot_ranks)
            given = (predicted == answer, predicted, margins(values, answer), consistency)
            for field, x in zip(fields, given, strict=True):
                field.append(np.asarray(x, dtype=float).T)
        return cls(files, *(np.stack(field, axis=1) for field in fields))

    @property
    def first(self) -> xr.Dataset:
        """A file: what does not depend on the language is the same in all."""
        return next(iter(self.files.values()))

    @property
    def separate_sets(self) -> bool:
        """Whether settings were chosen on a set of other items: one fold alone is evaluated."""
        return len(np.unique(self.first["fold"].values)) < 2

    @property
    def languages(self) -> list[str]:
        return list(self.files)

    def conditions(self, role: str, method: str) -> np.ndarray:
        """Indices of the conditions of a role and method."""
        first = self.first
        return np.flatnonzero((first["role"].values == role) & (first["method"].values == method))

    def labels(self, role: str) -> list[str]:
        """Methods of a role in the files' order; the pivot's harm is no control of an effect."""
        names = self.first["method"].values[self.first["role"].values == role]
        return [str(name) for name in dict.fromkeys(names.tolist()) if name != HARM]

    def mean(self, field: str, role: str, methods: Sequence[str]) -> np.ndarray:
        """(item, language, method) mean over the draws of a condition; NaN where it was not run."""
        values = getattr(self, field)
        nothing = np.full(values.shape[:2], np.nan)
        where = [self.conditions(role, method) for method in methods]
        return np.stack([values[..., i].mean(-1) if len(i) else nothing for i in where], axis=-1)

    def variable(self, name: str, role: str, methods: Sequence[str]) -> np.ndarray:
        """(language, method) a variable of the files by condition, mean over draws."""
        where = [self.conditions(role, method) for method in methods]
        nothing = np.nan
        return np.array(
            [
                [file[name].values[i].mean() if len(i) else nothing for i in where]
                for file in self.files.values()
            ]
        )

    def unsteered(self, field: str) -> np.ndarray:
        """(item, language, 1)."""
        return self.mean(field, "unsteered", ["unsteered"])

    def searched(self, method: str) -> np.ndarray:
        """Conditions that the method's settings were chosen from.

        Those of the grid; where the evaluated items took no part in the choice (separate sets for
        fit, selection and test), the chosen ones alone.
        """
        if self.separate_sets:
            return self.conditions("selected", method)
        return self.conditions("grid", method)

    def control_search(self, control: str) -> Search | None:
        """Changes by a control at every setting, and how each fold's was chosen.

        Returns:
            None where the control was run at the method's setting, in several draws, or at a
            setting that was chosen on items other than the evaluated ones.
        """
        conditions = self.conditions("control_grid", control)
        if not len(conditions) or len(np.unique(self.first["draw"].values[conditions])) > 1:
            return None
        if self.separate_sets:
            return None
        change, margin = (
            getattr(self, field)[..., conditions] - self.unsteered(field)
            for field in ("correct", "margin")
        )
        folds = self.first["fold"].values
        signs = np.ones((1, len(folds)))
        chosen = [
            choose(signs, change[:, i], margin[:, i], folds)[0] for i in range(change.shape[1])
        ]
        return Search(change, margin, folds, np.array(chosen))

    def search(self, method: str) -> Search:
        """How the method's setting was chosen in each fold."""
        conditions = self.searched(method)
        n_items, n_languages, _ = self.correct.shape
        if self.separate_sets:
            return Search.none(n_items, n_languages)
        change, margin = (
            getattr(self, field)[..., conditions] - self.unsteered(field)
            for field in ("correct", "margin")
        )
        grid = self.first.isel(condition=conditions)
        chosen = []
        for file in self.files.values():
            given = file.sel(selected_method=method)
            pairs = zip(given["selected_layer"].values, given["selected_alpha"].values, strict=True)
            chosen.append(
                [
                    int(np.flatnonzero((grid["layer"] == layer) & np.isclose(grid["alpha"], a))[0])
                    for layer, a in pairs
                ]
            )
        return Search(change, margin, self.first["fold"].values, np.array(chosen))


def condition_scores(steered: xr.Dataset, pivot_scores: xr.Dataset, score: str) -> np.ndarray:
    """Scores of the choices under every condition: (condition, item, choice).

    Args:
        steered: a steered file.
        pivot_scores: (item, choice) stored scores of the pivot: the lengths of its choices,
            for the conditions that ask the pivot's questions.
        score: one of `STEERED_SCORES`.
    """
    dims = ("language", "item", "choice")
    sums = steered["log_probability"].transpose("condition", "item", "choice").values
    on_pivot = np.isin(steered["method"].values, [HARM, HARM_REFERENCE])[:, None, None]
    counts = {}
    if LENGTHS.get(score) in steered:
        name = LENGTHS[score]
        here, there = (d[name].transpose("item", "choice").values for d in (steered, pivot_scores))
        counts[name] = (dims, np.where(on_pivot, there, here))
    labels = [f"{steered.attrs['language']}, {m}" for m in steered["method"].values]
    by_condition = xr.Dataset(
        {"sum": (dims, sums), "n_choices": ("item", steered["n_choices"].values), **counts},
        coords={"language": labels, "item": steered["item"].values},
    )
    return choice_scores(by_condition, score)


def checked_files(steered: Mapping[str, xr.Dataset], scores: xr.Dataset) -> dict[str, xr.Dataset]:
    """Files of languages other than the pivot, checked against each other and the scores.

    Raises:
        InputError: files that differ in items, conditions or pivot, or lack a condition; a cluster
            in two folds; languages or items without stored scores.
    """
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
        for key in SAME:
            if not file[key].variable.equals(first[key].variable):  # NaN equals NaN
                raise InputError(f"{where}: {key} differs from that of {name}: make both anew")
        for tag in (pivot, language):
            if tag not in scores["language"].values:
                raise InputError(f"{where}: no stored scores of {tag}: extract them")
        missing = {str(item) for item in file["item"].values} - known
        if missing:
            raise InputError(f"{where}: no stored scores of item {min(missing)!r}: extract them")
        for role in ("unsteered", "selected"):
            if role not in file["role"].values:
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
