"""The steered file: what every condition gave on the questions of one language."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr

from isogloss.measures.behaviour import choice_scores, margins, predictions
from isogloss.steering.design import Design
from isogloss.steering.plan import Label, Plan, best_settings, select_settings
from isogloss.steering.sweep import Outcome, RunTimes

LENGTHS = ("n_tokens", "n_characters", "n_bytes")
FROM_SCORES = (*LENGTHS, "answer", "n_choices", "cluster")


class SteeredTable:
    """Outcomes by condition, and the steered file that they make.

    Args:
        plan: what was tried.
        scores: stored unsteered scores (item, choice) of the language: counts and answers.
        design: of the items.
    """

    def __init__(self, plan: Plan, scores: xr.Dataset, design: Design) -> None:
        self.plan, self.scores, self.design = plan, scores, design
        self._log_probability: dict[Label, np.ndarray] = {}
        self._norm_ratio: dict[Label, dict[int, float]] = {}
        self._seconds: dict[Label, float] = {}
        self._n_items: dict[Label, int] = {}
        self._cosine: dict[Label, float] = {}

    def add(self, labels: Sequence[Label], outcome: Outcome, items: np.ndarray) -> None:
        """Put what conditions gave on some items (their places) into the table."""
        shape = (len(self.design.folds), self.scores.sizes["choice"])
        folds = self.design.folds[items]
        norms = {
            int(fold): outcome.mean_norm_ratio(np.flatnonzero(folds == fold))
            for fold in np.unique(folds)
        }
        for i, label in enumerate(labels):
            row = self._log_probability[label] = np.full(shape, np.nan)
            values = outcome.log_probability[i]
            row[items, : values.shape[1]] = values
            self._n_items[label], self._seconds[label] = len(items), outcome.seconds[i]
            self._norm_ratio[label] = {fold: float(norm[i]) for fold, norm in norms.items()}

    def add_cosines(self, labels: Sequence[Label], cosines: Mapping[int, Sequence[float]]) -> None:
        """Cosines with the first method's change, by fold: kept as means over items."""
        weights = [int((self.design.folds == fold).sum()) for fold in cosines]
        means = np.average(np.array(list(cosines.values())), axis=0, weights=weights)
        self._cosine |= dict(zip(labels, means.tolist(), strict=True))

    def select(self) -> np.ndarray:
        """(method, fold) index of the setting that other folds choose."""
        settings = [label for label in self._log_probability if label.role == "grid"]
        values = self._scores_of(settings)
        answers = self.scores["answer"].values
        correct = predictions(values) == answers
        return select_settings(self.plan, margins(values, answers), correct, self.design.folds)

    def add_searched_controls(self, cosine: Callable[[str, int, int, int], float]) -> None:
        """Rows of the controls that chose their own setting, each fold on the other folds.

        Args: cosine: of (control, draw, fold, layer) with the first method.
        """
        for name, draw in self.plan.searched_controls():
            settings = [
                label
                for label in self._log_probability
                if (label.role, label.method, label.draw) == ("control_grid", name, draw)
            ]
            values, answers = self._scores_of(settings), self.scores["answer"].values
            correct = predictions(values) == answers
            best = best_settings(margins(values, answers), correct, self.design.folds)
            chosen = {fold: settings[best[fold]] for fold in self.design.reported}
            label = Label("control", name, draw=draw)
            self._put_together(label, chosen)
            weights = [int((self.design.folds == fold).sum()) for fold in chosen]
            cosines = [cosine(name, draw, fold, at.layer) for fold, at in chosen.items()]
            self._cosine[label] = float(np.average(cosines, weights=weights))

    def _scores_of(self, labels: Sequence[Label]) -> np.ndarray:
        """Scores (condition, item, choice) of some conditions."""
        return choice_scores(self._as_scores(labels), self.plan.score)

    def _as_scores(self, labels: Sequence[Label]) -> xr.Dataset:
        """Conditions in the place of languages, as `choice_scores` takes them."""
        dims = ("language", "item", "choice")
        sums = np.stack([self._log_probability[label] for label in labels])
        counts = {name: (dims, np.broadcast_to(self.scores[name], sums.shape)) for name in LENGTHS}
        return xr.Dataset(
            {"sum": (dims, sums), **counts, "n_choices": ("item", self.scores["n_choices"].values)}
        )

    def _add_selected(self, chosen: np.ndarray) -> None:
        """Rows put together from each fold's selected setting."""
        grid = self.plan.grid()
        for m, method in enumerate(self.plan.methods):
            sources = {f: Label("grid", *grid[chosen[m, f]]) for f in self.design.reported}
            self._put_together(Label("selected", method), sources)

    def _put_together(self, label: Label, sources: Mapping[int, Label]) -> None:
        """A row of the conditions that each fold was given, by fold."""
        row = np.full_like(next(iter(self._log_probability.values())), np.nan)
        norms, seconds = {}, 0.0
        for fold, source in sources.items():
            items = self.design.folds == fold
            row[items] = self._log_probability[source][items]
            norms[fold] = self._norm_ratio[source][fold]
            seconds += items.sum() / self._n_items[source] * self._seconds[source]
        self._log_probability[label], self._n_items[label] = row, len(self.design.evaluated)
        self._norm_ratio[label], self._seconds[label] = norms, seconds

    def _mean_norm_ratio(self, label: Label) -> float:
        """Mean over the items of the folds that a condition was run on."""
        by_fold = self._norm_ratio[label]
        weights = [int((self.design.folds == fold).sum()) for fold in by_fold]
        return float(np.average(list(by_fold.values()), weights=weights))

    def dataset(self, chosen: np.ndarray, times: RunTimes, seconds: float) -> xr.Dataset:
        """The steered file of the evaluated items.

        Args:
            chosen: (method, fold) index of the selected setting.
            times: of a forward, and what the methods add to it.
            seconds: run time of the language's whole evaluation.
        """
        self._add_selected(chosen)
        labels, grid = list(self._log_probability), self.plan.grid()
        depth = dict(zip(self.plan.layers, self.plan.depths, strict=True))
        settings = [[grid[i] for i in row] for row in chosen[:, list(self.design.reported)]]
        by_fold = ("selected_method", "selected_fold")
        sums = np.stack([self._log_probability[label] for label in labels]).astype(np.float32)
        data = xr.Dataset(
            {
                "log_probability": (("condition", "item", "choice"), sums),
                "norm_ratio": ("condition", [self._mean_norm_ratio(label) for label in labels]),
                "seconds": ("condition", [self._seconds[label] for label in labels]),
                "cosine": ("condition", [self._cosine.get(label, np.nan) for label in labels]),
                "fold": ("item", self.design.folds),
                "selected_layer": (by_fold, [[layer for _, layer, _ in s] for s in settings]),
                "selected_alpha": (by_fold, [[alpha for _, _, alpha in s] for s in settings]),
                "selected_depth": (
                    by_fold,
                    [[depth[layer] for _, layer, _ in s] for s in settings],
                ),
                "overhead": ("selected_method", list(times.overheads)),
                "forward_seconds": ((), times.forward),
                "evaluation_seconds": ((), seconds),
                **{n: (self.scores[n].dims, self.scores[n].values) for n in FROM_SCORES},
            },
            coords={
                "role": ("condition", [label.role for label in labels]),
                "method": ("condition", [label.method for label in labels]),
                "layer": ("condition", [label.layer for label in labels]),
                "relative_depth": ("condition", [depth.get(b.layer, np.nan) for b in labels]),
                "alpha": ("condition", [label.alpha for label in labels]),
                "draw": ("condition", [label.draw for label in labels]),
                "selected_method": list(self.plan.methods),
                "item": self.scores["item"].values,
            },
        )
        for name, (long_name, units) in DESCRIBED.items():
            data[name].attrs = {"long_name": long_name, "units": units}
        return data.isel(item=self.design.evaluated)


DESCRIBED = {
    "log_probability": ("log-likelihood of the choice under the condition", "nat"),
    "norm_ratio": ("norm of the steered states over that before", "1"),
    "seconds": ("run time of the condition", "s"),
    "cosine": ("cosine of a control's change with the first method's, at the mean state", "1"),
    "fold": ("fold in which the item is evaluated", "1"),
    "selected_layer": ("layer selected on the other folds", "1"),
    "selected_alpha": ("strength selected on the other folds", "1"),
    "selected_depth": ("relative depth selected on the other folds", "1"),
    "overhead": ("run time that steering adds to a forward, share of it", "1"),
    "forward_seconds": ("run time of an unsteered forward, per question", "s"),
    "evaluation_seconds": ("run time of the language's whole steered evaluation", "s"),
    "n_tokens": ("tokens of the choice", "1"),
    "n_characters": ("code points of the choice", "1"),
    "n_bytes": ("UTF-8 bytes of the choice", "1"),
    "answer": ("index of the gold choice", "1"),
    "n_choices": ("choices of the item", "1"),
    "cluster": ("cluster of the item", "1"),
}
