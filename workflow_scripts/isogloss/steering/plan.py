"""What a steered evaluation tries: the grid of settings, the one selected, and its controls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from isogloss.steering.interventions import Intervention, control, cosine_at_mean, intervention
from isogloss.steering.sweep import Condition
from isogloss.study.steering_methods import UNSEARCHED


@dataclass(frozen=True)
class Plan:
    """What a steered evaluation tries.

    Attributes:
        methods: the first is the one that controls are run for.
        layers: layer indices of the grid.
        depths: their relative depths.
        strengths: alphas of the grid.
        controls: of `isogloss.study.steering_methods.CONTROLS`, at the selected setting.
        draws: of the control `random`.
        controls_search: whether controls choose their own setting, as methods do.
        positions: "prompt" or "last".
        score: how choices are ranked when a setting is selected.
    """

    methods: tuple[str, ...]
    layers: tuple[int, ...]
    depths: tuple[float, ...]
    strengths: tuple[float, ...]
    controls: tuple[str, ...]
    draws: int
    positions: str
    score: str
    controls_search: bool = False

    @classmethod
    def of(cls, steering: Mapping[str, Any], score: str, vectors: xr.Dataset) -> "Plan":
        """The plan of a study's settings, at the layers of its vectors."""
        return cls(
            methods=tuple(steering["methods"]),
            layers=tuple(int(layer) for layer in vectors["layer"].values),
            depths=tuple(float(depth) for depth in vectors["relative_depth"].values),
            strengths=tuple(steering["strengths"]),
            controls=tuple(steering["controls"]),
            draws=steering["random_draws"],
            positions=steering["positions"],
            score=score,
            controls_search=steering.get("controls_search", False),
        )

    @property
    def pooling(self) -> str:
        """The states that vectors come from: those of the positions steered."""
        return "prompt_last" if self.positions == "last" else "prompt_mean"

    def grid(self) -> list[tuple[str, int, float]]:
        """(method, layer, alpha) of every setting."""
        return [(m, i, a) for m in self.methods for i in self.layers for a in self.strengths]

    def searched_controls(self) -> list[tuple[str, int]]:
        """(control, draw) of those that choose their own setting; none without that search."""
        names = [name for name in self.controls if name not in UNSEARCHED and self.controls_search]
        return [(n, d) for n in names for d in range(self.draws if n == "random" else 1)]


def select_settings(
    plan: Plan, gold_margin: np.ndarray, correct: np.ndarray, folds: np.ndarray
) -> np.ndarray:
    """For each method and fold, the setting that does best on the items of the other folds.

    Args:
        plan: its grid gives the settings' order.
        gold_margin: (setting, item) score of the gold choice over the best other.
        correct: (setting, item) bool.
        folds: (item,).

    Returns:
        (method, fold) index into the grid: highest accuracy, ties by the mean margin.
    """
    grid = plan.grid()
    chosen = []
    for method in plan.methods:
        settings = np.array([i for i, (name, _, _) in enumerate(grid) if name == method])
        best = best_settings(gold_margin[settings], correct[settings], folds)
        chosen.append(settings[best])
    return np.stack(chosen)


def best_settings(gold_margin: np.ndarray, correct: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """For each fold, the setting that does best on the items of the other folds.

    Args: as `select_settings`, of the settings to choose from.
    Returns: (fold,) index of a setting.
    """
    chosen = []
    for fold in range(int(folds.max()) + 1):
        others = folds != fold
        accuracy = correct[:, others].mean(1).round(9)
        chosen.append(int(np.lexsort((gold_margin[:, others].mean(1), accuracy))[-1]))
    return np.array(chosen)


@dataclass(frozen=True)
class Label:
    """What a condition is called in the steered file."""

    role: str
    method: str
    layer: int = -1
    alpha: float = np.nan
    draw: int = 0


PATCH = "patch"
UNSTEERED = Label("unsteered", "unsteered", alpha=0.0)


@dataclass(frozen=True)
class Setting:
    """Where the items of a fold are steered: the fold of their vectors, layer and strength."""

    vectors_of: int
    layer: int
    alpha: float


@dataclass(frozen=True)
class LanguageConditions:
    """The conditions of one language's questions: their labels, and what they are in each fold."""

    vectors: xr.Dataset
    plan: Plan
    language: str

    def grid(self, vectors_of: Sequence[int]) -> tuple[list[Label], list[list[Condition]]]:
        """Unsteered, then every setting.

        Args: vectors_of (fold,): fold of the vectors that steer each fold's items.
        Returns: labels, and by fold the conditions.
        """
        labels = [UNSTEERED, *(Label("grid", *setting) for setting in self.plan.grid())]
        # At the last layer, up to which the blocks run unsteered anyway.
        unsteered, by_vectors = Condition(max(self.plan.layers), None), {}
        for fold in set(vectors_of):
            by_vectors[fold] = [unsteered]
            for method in self.plan.methods:
                for layer in self.plan.layers:
                    change = self.change(method, fold, layer)
                    by_vectors[fold] += [Condition(layer, change, a) for a in self.plan.strengths]
        return labels, [by_vectors[fold] for fold in vectors_of]

    def controls(
        self, settings: Mapping[int, Setting]
    ) -> tuple[list[Label], dict[int, list[Condition]], dict[int, list[float]]]:
        """Unsteered, then the controls, at each fold's selected setting.

        Returns: labels; by fold the conditions, and their cosines with the first method's change.
        """
        labels, conditions, cosines = [], {}, {}
        for fold, at in settings.items():
            made = self.controls_at(at.vectors_of, at.layer)
            labels = [Label("control", name, draw=draw) for name, draw, _ in made]
            conditions[fold] = [Condition(at.layer, None)]
            conditions[fold] += [Condition(at.layer, change, at.alpha) for _, _, change in made]
            method = self.change(self.plan.methods[0], at.vectors_of, at.layer)
            cosines[fold] = [np.nan]
            where = self._where(at.vectors_of, at.layer)
            cosines[fold] += [
                cosine_at_mean(self.vectors, change, method, **where) for _, _, change in made
            ]
        return [UNSTEERED, *labels], conditions, cosines

    def controls_at(self, fold: int, layer: int) -> list[tuple[str, int, Intervention]]:
        """(control, draw, intervention) of every control of the first method at one layer.

        But for `patch`, which is another state for each question (`patches`), and for controls
        that choose their own layer (`control_grid`).
        """
        apart = {PATCH, *(name for name, _ in self.plan.searched_controls())}
        names = [name for name in self.plan.controls if name not in apart]
        return [
            (name, draw, self.control(name, draw, fold, layer))
            # "zero" first: it then shares a batch with the unsteered rows that it must equal.
            for name in sorted(names, key=lambda name: name != "zero")
            for draw in range(self.plan.draws if name == "random" else 1)
        ]

    def control_grid(self, vectors_of: Sequence[int]) -> tuple[list[Label], list[list[Condition]]]:
        """Every setting of every control that chooses its own; labels, and by fold conditions.

        Args: vectors_of (fold,): fold of the vectors that steer each fold's items.
        """
        controls, layers = self.plan.searched_controls(), self.plan.layers
        labels = [
            Label("control_grid", name, layer, alpha, draw)
            for name, draw in controls
            for layer in layers
            for alpha in self.plan.strengths
        ]
        by_vectors: dict[int, list[Condition]] = {}
        for fold in set(vectors_of):
            by_vectors[fold] = []
            for name, draw in controls:
                for layer in layers:
                    change = self.control(name, draw, fold, layer)
                    by_vectors[fold] += [Condition(layer, change, a) for a in self.plan.strengths]
        return labels, [by_vectors[fold] for fold in vectors_of]

    def control(self, name: str, draw: int, fold: int, layer: int) -> Intervention:
        """A control of the first method with the vectors of a fold."""
        method = self.plan.methods[0]
        return control(self.vectors, name, method=method, draw=draw, **self._where(fold, layer))

    def cosine(self, name: str, draw: int, fold: int, layer: int) -> float:
        """Cosine of a control's change with the first method's at the same layer."""
        change = self.control(name, draw, fold, layer)
        method = self.change(self.plan.methods[0], fold, layer)
        return cosine_at_mean(self.vectors, change, method, **self._where(fold, layer))

    def harm(
        self, settings: Mapping[int, Setting]
    ) -> tuple[list[Label], dict[int, list[Condition]]]:
        """The pivot's questions, steered as this language's are; by fold."""
        method = self.plan.methods[0]
        conditions = {
            fold: [Condition(at.layer, self.change(method, at.vectors_of, at.layer), at.alpha)]
            for fold, at in settings.items()
        }
        return [Label("control", "pivot_harm")], conditions

    def timed(self, fold: int) -> list[Condition]:
        """Each method at the middle layer of the grid."""
        layer = self.plan.layers[len(self.plan.layers) // 2]
        return [
            Condition(layer, self.change(method, fold, layer), 1.0) for method in self.plan.methods
        ]

    def change(self, method: str, fold: int, layer: int) -> Intervention:
        """A method's intervention with the vectors of a fold."""
        return intervention(self.vectors, method, **self._where(fold, layer))

    def _where(self, fold: int, layer: int) -> dict[str, Any]:
        where = {"language": self.language, "fold": fold, "layer": layer}
        return where | {"pooling": self.plan.pooling}


def patches(
    settings: Mapping[int, Setting], states: Mapping[int, np.ndarray], folds: np.ndarray
) -> list[Condition]:
    """The oracle of each question: its state in the pivot, at the layer that its fold was given.

    Args:
        settings: by fold.
        states: by layer, (question, feature) at the last tokens of the pivot's prompts.
        folds: (question,).
    """
    layers = [settings[fold].layer for fold in folds]
    return [Condition(layer, None, 1.0, patch=states[layer][i]) for i, layer in enumerate(layers)]
