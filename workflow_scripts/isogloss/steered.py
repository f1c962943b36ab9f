"""Steered evaluation: the packed forward, with the residual stream changed at one layer.

Conditions that steer at the same layer share everything below it: the blocks under it run once
a batch, and the conditions fan out as rows of a batch from there. A prefix computed under one
condition is never used under another (METHOD 7).
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

from isogloss.behaviour import choice_scores, margins, predictions
from isogloss.errors import InputError
from isogloss.extraction import Captured, score
from isogloss.forward import run, without_blocks
from isogloss.models import Decoder
from isogloss.packing import Batch, Tree, batches, collate
from isogloss.readout import Readout
from isogloss.vectors import Intervention, control, intervention

# Conditions that share a batch: each batch of questions takes this part of the token budget.
FAN_OUT = 4
# Repetitions of a timed forward.
TIMED = 5


@dataclass(frozen=True)
class Condition:
    """One way of steering.

    Attributes:
        layer: where the residual stream is changed; 0 enters the first block.
        change: what is added; None leaves the model alone.
        alpha: strength.
    """

    layer: int
    change: Intervention | None
    alpha: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What some conditions gave on some questions.

    Attributes:
        log_probability: (condition, question, phrase) summed log-likelihoods [nat], NaN padded.
        norm_ratio: (condition,) norm of a steered state over that before, mean over states.
        seconds: (condition,) run time, shared work divided among those that share it.
    """

    log_probability: np.ndarray
    norm_ratio: np.ndarray
    seconds: np.ndarray


def steered_scores(
    decoder: Decoder,
    readout: Readout,
    trees: Sequence[Tree],
    conditions: Sequence[Condition],
    *,
    positions: str = "prompt",
    budget: int = 2048,
) -> Outcome:
    """Score questions under every condition.

    Args:
        decoder, readout: the model.
        trees: the questions.
        conditions: ways of steering; their order is kept.
        positions: "prompt" steers all prompt tokens but the first (BOS, or the token that takes
            its place as an attention sink), "last" the prompt's last.
        budget: tokens of a batch, the fan-out counted.

    Returns:
        Scores, norms and times, a condition each.
    """
    n_phrases = max(int(t.target_phrase.max()) + 1 for t in trees)
    scores = np.full((len(conditions), len(trees), n_phrases), np.nan)
    ratios, seconds = np.zeros((2, len(conditions)))
    layers = sorted({c.layer for c in conditions})
    n_steered = np.array([1 if positions == "last" else t.n_prompt - 1 for t in trees])
    for members in batches(trees, range(len(trees)), budget // FAN_OUT):
        began = time.perf_counter()
        batch = collate(trees, members)
        below = _states_at(decoder, batch, layers)
        seconds += (time.perf_counter() - began) / len(conditions)
        for layer in layers:
            here = [i for i, c in enumerate(conditions) if c.layer == layer]
            fan = max(1, budget // batch.tokens.numel())
            for start in range(0, len(here), fan):
                chosen = here[start : start + fan]
                began = time.perf_counter()
                found, ratio = _fan_out(
                    decoder, readout, trees, batch, below[layer],
                    [conditions[i] for i in chosen], positions,
                )  # fmt: skip
                for i, by_tree in zip(chosen, found, strict=True):
                    for member, values in zip(members, by_tree, strict=True):
                        scores[i, member, : len(values)] = values
                share = n_steered[members].sum() / n_steered.sum()
                ratios[chosen] += share * np.asarray(ratio)
                seconds[chosen] += (time.perf_counter() - began) / len(chosen)
    return Outcome(scores, ratios, seconds)


def _states_at(decoder: Decoder, batch: Batch, layers: Sequence[int]) -> dict[int, torch.Tensor]:
    """The unsteered residual stream at some layers; blocks above the last are not run."""
    kept: dict[int, torch.Tensor] = {}

    def at(layer: int, states: torch.Tensor) -> None:
        if layer in layers:
            kept[layer] = states

    with without_blocks(decoder, range(max(layers), decoder.n_layers)):
        run(decoder, batch, at)
    return kept


def _fan_out(
    decoder: Decoder,
    readout: Readout,
    trees: Sequence[Tree],
    batch: Batch,
    below: torch.Tensor,
    conditions: Sequence[Condition],
    positions: str,
) -> tuple[list[list[np.ndarray]], list[float]]:
    """One forward from the steered layer up, each condition a copy of the batch's rows.

    Returns:
        By condition, by tree: (phrase,) summed log-likelihoods; and norm ratios.
    """
    n_rows, layer = len(batch.members), conditions[0].layer
    place = torch.arange(batch.tokens.shape[1])
    if positions == "last":
        chosen = place == batch.n_prompt[:, None] - 1
    else:
        chosen = (place >= 1) & (place < batch.n_prompt[:, None])
    steered = [steer(below, c, chosen.to(below.device)) for c in conditions]
    members = list(batch.members) * len(conditions)
    row = np.repeat(np.arange(len(members)), [len(trees[m].predicting) for m in members])
    column = np.concatenate([trees[m].predicting for m in members])
    final: list[torch.Tensor] = []

    def at(here: int, states: torch.Tensor) -> torch.Tensor | None:
        if here == layer:
            states = torch.cat([s for s, _ in steered])
        if here == decoder.n_layers:
            on = states.device
            final.append(states[torch.from_numpy(row).to(on), torch.from_numpy(column).to(on)])
        return states if here == layer else None

    with without_blocks(decoder, range(layer)):
        run(decoder, batch, at, rows=list(range(n_rows)) * len(conditions))
    nothing = torch.empty(0)
    by_target = score(Captured(nothing, nothing, nothing, final[0]), members, trees, readout)
    sums = [
        np.bincount(trees[m].target_phrase, weights=values)
        for m, values in zip(members, by_target, strict=True)
    ]
    by_condition = [sums[i : i + n_rows] for i in range(0, len(sums), n_rows)]
    return by_condition, [ratio for _, ratio in steered]


def steer(
    states: torch.Tensor, condition: Condition, chosen: torch.Tensor
) -> tuple[torch.Tensor, float]:
    """Steered states, and the mean ratio of their norms to those before.

    Args:
        states: (row, place, feature) residual stream.
        condition: how it is changed; computed in float32.
        chosen: (row, place) bool, which positions are.
    """
    if condition.change is None:
        return states, 1.0
    change, on = condition.change, states.device
    shift, centre, down, up = (
        torch.from_numpy(np.asarray(a, dtype=np.float32)).to(on)
        for a in (change.shift, change.centre, change.down, change.up)
    )
    before = states[chosen].float()
    after = before + condition.alpha * (shift + ((before - centre) @ down.T) @ up)
    new = states.clone()
    new[chosen] = after.to(states.dtype)
    return new, float((after.norm(dim=-1) / before.norm(dim=-1)).mean())


def run_time_overheads(
    decoder: Decoder, trees: Sequence[Tree], conditions: Sequence[Condition], budget: int
) -> list[float]:
    """What steering adds to the run time of a whole forward, each condition by itself.

    Args:
        decoder: the model.
        trees: questions; the first batch of them is timed.
        conditions: ways of steering all prompt positions but the first.
        budget: tokens of the batch.

    Returns:
        By condition: median run time over `TIMED` alternating repetitions, over that of the
        same forward without steering, less 1. The memory that steering adds is one copy of a
        layer's states, of the batch.
    """
    batch = collate(trees, batches(trees, range(len(trees)), budget)[0])
    place = torch.arange(batch.tokens.shape[1])
    chosen = (place >= 1) & (place < batch.n_prompt[:, None])
    seconds = np.zeros((TIMED, len(conditions) + 1))
    for repetition in range(-1, TIMED):  # the first one warms up
        for i, condition in enumerate([None, *conditions]):

            def at(
                layer: int, states: torch.Tensor, how: Condition | None = condition
            ) -> torch.Tensor | None:
                if how is None or layer != how.layer:
                    return None
                return steer(states, how, chosen.to(states.device))[0]

            began = time.perf_counter()
            run(decoder, batch, at)
            if repetition >= 0:
                seconds[repetition, i] = time.perf_counter() - began
    medians = np.median(seconds, axis=0)
    return [float(m / medians[0] - 1) for m in medians[1:]]


@dataclass(frozen=True)
class Plan:
    """What a steered evaluation tries.

    Attributes:
        methods: the first is the one that controls are run for.
        layers: layer indices of the grid.
        depths: their relative depths.
        strengths: alphas of the grid.
        controls: of `isogloss.steering_names.CONTROLS`, at the selected setting.
        draws: of the control `random`.
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

    @property
    def pooling(self) -> str:
        """The states that vectors come from: those of the positions steered."""
        return "prompt_last" if self.positions == "last" else "prompt_mean"

    def grid(self) -> list[tuple[str, int, float]]:
        """(method, layer, alpha) of every setting."""
        return [(m, i, a) for m in self.methods for i in self.layers for a in self.strengths]


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
    chosen = np.empty((len(plan.methods), int(folds.max()) + 1), dtype=int)
    for m, method in enumerate(plan.methods):
        own = np.array([i for i, (name, _, _) in enumerate(grid) if name == method])
        for fold in range(chosen.shape[1]):
            others = folds != fold
            accuracy = correct[own][:, others].mean(1).round(9)
            order = np.lexsort((gold_margin[own][:, others].mean(1), accuracy))
            chosen[m, fold] = own[order[-1]]
    return chosen


def controls_at(
    vectors: xr.Dataset, plan: Plan, language: str, fold: int, layer: int
) -> list[tuple[str, int, Intervention]]:
    """(control, draw, intervention) of every control of the first method at one layer."""
    where: dict[str, Any] = {"language": language, "fold": fold, "layer": layer}
    made = []
    # "zero" first: it then shares a batch with the unsteered rows that it must equal.
    for name in sorted(plan.controls, key=lambda name: name != "zero"):
        for draw in range(plan.draws if name == "random" else 1):
            change = control(
                vectors, name, method=plan.methods[0], pooling=plan.pooling, draw=draw, **where
            )
            made.append((name, draw, change))
    return made


def evaluate(
    decoder: Decoder,
    readout: Readout,
    vectors: xr.Dataset,
    plan: Plan,
    language: str,
    trees: Sequence[Tree],
    pivot_trees: Sequence[Tree],
    scores: xr.Dataset,
    folds: np.ndarray,
    vector_folds: np.ndarray,
    *,
    reported: Sequence[int] | None = None,
    budget: int = 2048,
    progress: Callable[[Iterable], Iterable] = iter,
) -> xr.Dataset:
    """Steer one language's questions: the grid, the selected settings, and their controls.

    Args:
        decoder, readout: the model.
        vectors: from `fit_vectors`.
        plan: what is tried.
        language: of the questions; its vectors are used.
        trees, pivot_trees: the questions with their own choices, and the pivot's.
        scores: stored unsteered scores of this language (item, choice), as `open_scores` gives
            them for one language: counts, answers and what the selection needs.
        folds: (item,) fold of each item, for the selection.
        vector_folds: (item,) fold whose vectors an item is steered with; ALL_ITEMS where the
            vectors are another dataset's, or a separate set's.
        reported: folds that are evaluated at their selected settings, all by default; the
            items of the others are only selected on.
        budget: tokens of a batch.
        progress: wraps the iteration over folds, twice.

    Returns:
        The steered file's dataset (dimensions condition, item, choice, method, fold).
    """
    table = _Table(plan, scores, folds)
    work = _Work(decoder, readout, vectors, plan, language, budget)
    steps = [np.flatnonzero(folds == fold) for fold in range(int(folds.max()) + 1)]
    for mine in progress(steps):
        table.add(*work.grid([trees[i] for i in mine], int(vector_folds[mine[0]])), mine)
    chosen = table.select()
    zero = 0.0
    told = list(range(len(steps)) if reported is None else reported)
    for mine in progress([steps[fold] for fold in told]):
        _, layer, alpha = plan.grid()[chosen[0, folds[mine[0]]]]
        at = (int(vector_folds[mine[0]]), layer, alpha)
        names, found, difference = work.controls([trees[i] for i in mine], *at)
        table.add(names, found, mine)
        table.add(*work.harm([pivot_trees[i] for i in mine], *at), mine)
        zero = max(zero, difference)
    last = steps[told[-1]].tolist()
    overheads = work.overheads([trees[i] for i in last], int(vector_folds[last[0]]))
    return (
        table.dataset(chosen, told, overheads)
        .isel(item=np.isin(folds, told))
        .assign_attrs(
            language=language,
            pivot=vectors.attrs["pivot"],
            score=plan.score,
            zero_same_batch_difference=zero,
        )
    )


def check_unsteered(found: xr.Dataset, scores: xr.Dataset, dtype: str) -> None:
    """Refuse steered scores whose unsteered rows are not the stored ones.

    Args:
        found: of `evaluate`.
        scores: stored scores of the same language.
        dtype: of the model. In narrower types kernels of different shapes round differently:
            how much is reported with the effects.

    Raises:
        InputError: in float32, unsteered or zero rows that are off by more than 1e-4 a token.
    """
    if dtype != "torch.float32":
        return
    stored = scores["sum"].sel(item=found["item"]).transpose("item", "choice").values
    names = ("unsteered", "zero")
    rows = found["log_probability"].isel(condition=np.isin(found["method"].values, names))
    off = np.abs(rows.transpose("condition", "item", "choice").values - stored)
    difference = float(np.nanmax(off / found["n_tokens"].transpose("item", "choice").values))
    if not difference <= 1e-4:
        raise InputError(
            f"steering {found.attrs['language']}: unsteered scores differ from the stored ones by "
            f"{difference:.2g} nat a token, 1e-4 is allowed: delete the activation files of this "
            "model and extract anew"
        )


@dataclass(frozen=True)
class Name:
    """What a condition is called in the steered file."""

    role: str
    method: str
    layer: int = -1
    alpha: float = np.nan
    draw: int = 0


@dataclass(frozen=True)
class _Work:
    """One language's conditions on the questions of one fold."""

    decoder: Decoder
    readout: Readout
    vectors: xr.Dataset
    plan: Plan
    language: str
    budget: int

    def _run(self, trees: Sequence[Tree], conditions: Sequence[Condition]) -> Outcome:
        return steered_scores(
            self.decoder,
            self.readout,
            trees,
            conditions,
            positions=self.plan.positions,
            budget=self.budget,
        )

    def _change(self, method: str, fold: int, layer: int) -> Intervention:
        return intervention(
            self.vectors,
            method,
            language=self.language,
            fold=fold,
            layer=layer,
            pooling=self.plan.pooling,
        )

    def grid(self, trees: Sequence[Tree], fold: int) -> tuple[list[Name], Outcome]:
        """Unsteered, then every setting."""
        names = [Name("unsteered", "unsteered", alpha=0.0)]
        conditions = [Condition(self.plan.layers[0], None)]
        for method, layer, alpha in self.plan.grid():
            names.append(Name("grid", method, layer, alpha))
            conditions.append(Condition(layer, self._change(method, fold, layer), alpha))
        return names, self._run(trees, conditions)

    def controls(
        self, trees: Sequence[Tree], fold: int, layer: int, alpha: float
    ) -> tuple[list[Name], Outcome, float]:
        """The controls, and how far `zero` is from the unsteered rows of its own batch."""
        wanted = controls_at(self.vectors, self.plan, self.language, fold, layer)
        conditions = [Condition(layer, None)]
        conditions += [Condition(layer, change, alpha) for _, _, change in wanted]
        found = self._run(trees, conditions)
        names = [Name("control", name, draw=draw) for name, draw, _ in wanted]
        zero = [i for i, name in enumerate(names) if name.method == "zero"]
        difference = found.log_probability[[i + 1 for i in zero]] - found.log_probability[0]
        largest = float(np.nanmax(np.abs(difference), initial=0.0))
        return names, _without_first(found), largest

    def overheads(self, trees: Sequence[Tree], fold: int) -> list[float]:
        """Run time that each method adds to a forward at the middle layer of the grid."""
        layer = self.plan.layers[len(self.plan.layers) // 2]
        changes = [self._change(method, fold, layer) for method in self.plan.methods]
        conditions = [Condition(layer, change, 1.0) for change in changes]
        return run_time_overheads(self.decoder, trees, conditions, self.budget)

    def harm(
        self, pivot_trees: Sequence[Tree], fold: int, layer: int, alpha: float
    ) -> tuple[list[Name], Outcome]:
        """The pivot's own questions, unsteered and steered as this language's are."""
        change = self._change(self.plan.methods[0], fold, layer)
        names = [
            Name("unsteered", "pivot_unsteered", alpha=0.0),
            Name("control", "pivot_harm"),
        ]
        conditions = [Condition(layer, None), Condition(layer, change, alpha)]
        return names, self._run(pivot_trees, conditions)


def _without_first(found: Outcome) -> Outcome:
    return Outcome(found.log_probability[1:], found.norm_ratio[1:], found.seconds[1:])


class _Table:
    """Outcomes of all folds, by condition."""

    def __init__(self, plan: Plan, scores: xr.Dataset, folds: np.ndarray) -> None:
        self.plan, self.scores, self.folds = plan, scores, folds
        self.rows: dict[Name, np.ndarray] = {}
        self.norms: dict[Name, float] = {}  # summed over items; divided by how many at the end
        self.items: dict[Name, int] = {}
        self.seconds: dict[Name, float] = {}

    def add(self, names: Sequence[Name], found: Outcome, mine: np.ndarray) -> None:
        """Put what one fold gave at its items' places."""
        n_items, n_choices = len(self.folds), self.scores.sizes["choice"]
        for i, name in enumerate(names):
            row = self.rows.setdefault(name, np.full((n_items, n_choices), np.nan))
            values = found.log_probability[i]
            row[mine, : values.shape[1]] = values
            self.items[name] = self.items.get(name, 0) + len(mine)
            self.norms[name] = self.norms.get(name, 0.0) + len(mine) * found.norm_ratio[i]
            self.seconds[name] = self.seconds.get(name, 0.0) + found.seconds[i]

    def select(self) -> np.ndarray:
        """(method, fold) index of the setting that other folds choose."""
        settings = [name for name in self.rows if name.role == "grid"]
        found = choice_scores(self._as_scores(settings), self.plan.score)
        answers = self.scores["answer"].values
        correct = predictions(found) == answers
        return select_settings(self.plan, margins(found, answers), correct, self.folds)

    def _as_scores(self, names: Sequence[Name]) -> xr.Dataset:
        """Conditions in the place of languages, as `choice_scores` takes them."""
        sums = np.stack([self.rows[name] for name in names])
        counts = {
            name: (("language", "item", "choice"), np.broadcast_to(self.scores[name], sums.shape))
            for name in ("n_tokens", "n_characters", "n_bytes")
        }
        return xr.Dataset(
            {"sum": (("language", "item", "choice"), sums), **counts},
        ).assign(n_choices=("item", self.scores["n_choices"].values))

    def _add_selected(self, chosen: np.ndarray, told: Sequence[int]) -> None:
        """Rows put together from each fold's selected setting."""
        for m, method in enumerate(self.plan.methods):
            name = Name("selected", method)
            self.rows[name] = np.full_like(next(iter(self.rows.values())), np.nan)
            self.norms[name] = self.seconds[name] = 0.0
            self.items[name] = int(np.isin(self.folds, told).sum())
            for fold in told:
                source = Name("grid", *self.plan.grid()[chosen[m, fold]])
                mine = self.folds == fold
                share = mine.sum() / self.items[source]
                self.rows[name][mine] = self.rows[source][mine]
                self.norms[name] += share * self.norms[source]
                self.seconds[name] += share * self.seconds[source]

    def dataset(
        self, chosen: np.ndarray, told: Sequence[int], overheads: Sequence[float]
    ) -> xr.Dataset:
        """The steered file.

        Args:
            chosen: (method, fold) index of the selected setting.
            told: folds that are evaluated at their selected settings.
            overheads: (method,) run time that steering adds.
        """
        self._add_selected(chosen, told)
        chosen = chosen[:, list(told)]
        names, grid = list(self.rows), self.plan.grid()
        depth = dict(zip(self.plan.layers, self.plan.depths, strict=True))
        data = xr.Dataset(
            {
                "log_probability": (
                    ("condition", "item", "choice"),
                    np.stack([self.rows[n] for n in names]).astype(np.float32),
                ),
                "norm_ratio": ("condition", [self.norms[n] / self.items[n] for n in names]),
                "seconds": ("condition", [self.seconds[n] for n in names]),
                "fold": ("item", self.folds),
                "selected_layer": (("selected_method", "selected_fold"), _pick(grid, chosen, 1)),
                "selected_alpha": (("selected_method", "selected_fold"), _pick(grid, chosen, 2)),
                "selected_depth": (
                    ("selected_method", "selected_fold"),
                    np.vectorize(depth.get, otypes=[float])(_pick(grid, chosen, 1)),
                ),
                "overhead": ("selected_method", overheads),
                **{
                    name: (self.scores[name].dims, self.scores[name].values)
                    for name in (
                        "n_tokens",
                        "n_characters",
                        "n_bytes",
                        "answer",
                        "n_choices",
                        "cluster",
                    )
                },
            },
            coords={
                "role": ("condition", [n.role for n in names]),
                "method": ("condition", [n.method for n in names]),
                "layer": ("condition", [n.layer for n in names]),
                "relative_depth": ("condition", [depth.get(n.layer, np.nan) for n in names]),
                "alpha": ("condition", [n.alpha for n in names]),
                "draw": ("condition", [n.draw for n in names]),
                "selected_method": list(self.plan.methods),
                "item": self.scores["item"].values,
            },
        )
        for name, (long_name, units) in DESCRIBED.items():
            data[name].attrs = {"long_name": long_name, "units": units}
        return data


def _pick(grid: Sequence[tuple], chosen: np.ndarray, field: int) -> np.ndarray:
    """(method, fold) one field of the selected settings."""
    return np.array([[grid[setting][field] for setting in row] for row in chosen])


DESCRIBED = {
    "log_probability": ("log-likelihood of the choice under the condition", "nat"),
    "norm_ratio": ("norm of the steered states over that before", "1"),
    "seconds": ("run time of the condition", "s"),
    "fold": ("fold in which the item is evaluated", "1"),
    "selected_layer": ("layer selected on the other folds", "1"),
    "selected_alpha": ("strength selected on the other folds", "1"),
    "selected_depth": ("relative depth selected on the other folds", "1"),
    "overhead": ("run time of a steered forward above an unsteered one, share of it", "1"),
    "n_tokens": ("tokens of the choice", "1"),
    "n_characters": ("code points of the choice", "1"),
    "n_bytes": ("UTF-8 bytes of the choice", "1"),
    "answer": ("index of the gold choice", "1"),
    "n_choices": ("choices of the item", "1"),
    "cluster": ("cluster of the item", "1"),
}
