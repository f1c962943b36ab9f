"""Steered evaluation: the packed forward, with the residual stream changed at one layer.

Conditions that steer at the same layer share everything below it: the blocks under it run once
a batch, and the conditions fan out as rows of a batch from there. A prefix computed under one
condition is never used under another (METHOD 7). Questions of all folds share batches, so that
the rows of a batch are of about the same length; each row is changed with its own fold's vectors.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch.nn.utils.rnn import pad_sequence

from isogloss.errors import InputError
from isogloss.extraction.capture import score
from isogloss.measures.behaviour import choice_scores, margins, predictions
from isogloss.model.decoder import Decoder
from isogloss.model.forward import last_mlp_at, run, without_blocks
from isogloss.model.packing import Batch, Tree, batches, collate
from isogloss.model.readout import Readout
from isogloss.steering.vectors import Intervention, control, intervention

# Conditions that share a batch: each batch of questions takes this part of the token budget.
FAN_OUT = 8
# Repetitions of what is timed.
TIMED = 3
# Bytes of unsteered states that are kept for later conditions.
KEPT = 2**30


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
        norm_ratio: (condition, question) norm of a steered state over that before, mean over
            the question's steered states.
        n_steered: (question,) how many these are.
        seconds: (condition,) run time, shared work divided among those that share it.
    """

    log_probability: np.ndarray
    norm_ratio: np.ndarray
    n_steered: np.ndarray
    seconds: np.ndarray

    def without_first(self) -> "Outcome":
        """The same without the first condition."""
        of_rest = (self.log_probability[1:], self.norm_ratio[1:])
        return Outcome(*of_rest, self.n_steered, self.seconds[1:])

    def of(self, questions: np.ndarray) -> "Outcome":
        """The same for some of the questions, with their share of the run time."""
        return Outcome(
            self.log_probability[:, questions],
            self.norm_ratio[:, questions],
            self.n_steered[questions],
            self.seconds * len(questions) / len(self.n_steered),
        )

    def mean_norm_ratio(self, questions: np.ndarray | slice = slice(None)) -> np.ndarray:
        """(condition,) mean over the steered states of some questions."""
        weights = self.n_steered[questions]
        return self.norm_ratio[:, questions] @ weights / max(1, weights.sum())


class Below:
    """Unsteered states of questions at the layers that are steered, computed once.

    The grid and the controls start from the same ones, and of the pivot's questions so do all
    languages of a job. They lie in the host's memory, `KEPT` bytes at most; states that do not fit
    are computed whenever they are asked for.
    """

    def __init__(self, decoder: Decoder, layers: Sequence[int]) -> None:
        self._decoder, self._layers, self._room = decoder, tuple(layers), KEPT
        # By identity of the tree, which is held so that its id stays its own.
        self._kept: dict[int, tuple[Tree, dict[int, torch.Tensor]]] = {}

    def states(
        self, batch: Batch, trees: Sequence[Tree], wanted: Sequence[int]
    ) -> dict[int, torch.Tensor]:
        """(row, place, feature) states of a batch, by layer; `trees` are those of its rows."""
        if not all(id(tree) in self._kept for tree in trees):
            weight = self._decoder.head.weight
            size = batch.tokens.numel() * self._decoder.width * weight.element_size()
            if (size := size * len(self._layers)) > self._room:
                return _states_at(self._decoder, batch, wanted)
            self._room -= size
            found = _states_at(self._decoder, batch, self._layers)
            for row, tree in enumerate(trees):
                own = {layer: states[row, : len(tree)].cpu() for layer, states in found.items()}
                self._kept[id(tree)] = (tree, own)
        kept = [self._kept[id(tree)][1] for tree in trees]
        return {
            layer: pad_sequence([own[layer] for own in kept], batch_first=True)
            for layer in self._layers
        }


def steered_scores(
    decoder: Decoder,
    readout: Readout,
    trees: Sequence[Tree],
    conditions: Sequence[Sequence[Condition]],
    *,
    positions: str = "prompt",
    below: Below | None = None,
    budget: int = 2048,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Outcome:
    """Score questions under every condition.

    Args:
        decoder, readout: the model.
        trees: the questions.
        conditions: ways of steering, a list for each question, all as long; their order is kept.
        positions: "prompt" steers all prompt tokens but the first (BOS, or the token that takes
            its place as an attention sink), "last" the prompt's last.
        below: keeps the states that conditions start from, for other calls with these trees.
        budget: tokens of a batch, the fan-out counted.
        progress: wraps the iteration over batches of questions.

    Returns:
        Scores, norms and times, a condition each.
    """
    n_phrases = max(int(t.target_phrase.max()) + 1 for t in trees)
    shape = (len(conditions[0]), len(trees))
    scores, ratios = np.full((*shape, n_phrases), np.nan), np.ones(shape)
    seconds = np.zeros(len(conditions[0]))
    for members in progress(batches(trees, range(len(trees)), budget // FAN_OUT)):
        began = time.perf_counter()
        batch = collate(trees, members)
        layers = np.array([[c.layer for c in conditions[m]] for m in members])
        wanted = np.unique(layers).tolist()
        if below is None:
            lower = _states_at(decoder, batch, wanted)
        else:
            lower = below.states(batch, [trees[m] for m in members], wanted)
        seconds += (time.perf_counter() - began) / len(seconds)
        for rows, chosen in cases(layers, max(1, budget // batch.tokens.shape[1])):
            began = time.perf_counter()
            ways = [conditions[members[row]][i] for row, i in zip(rows, chosen, strict=True)]
            states = lower[ways[0].layer]
            sums, ratio = _fan_out(decoder, readout, trees, batch, states, rows, ways, positions)
            for row, i, values in zip(rows, chosen, sums, strict=True):
                scores[i, members[row], : len(values)] = values
            ratios[chosen, np.array(members)[rows]] = ratio
            np.add.at(seconds, chosen, (time.perf_counter() - began) / len(chosen))
    n_steered = np.array([1 if positions == "last" else t.n_prompt - 1 for t in trees])
    return Outcome(scores, ratios, n_steered, seconds)


def cases(layers: np.ndarray, most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of a batch and their conditions, for forwards of at most `most` rows.

    Cases of a forward have the same layer, and the first condition's rows come first, the
    second's next: as a batch leaves room for more conditions than two, they share a forward.

    Args:
        layers: (row, condition) layer of each case.

    >>> [[r.tolist(), c.tolist()] for r, c in cases(np.array([[2, 2, 5], [2, 2, 5]]), 3)]
    [[[0, 1], [0, 0]], [[0, 1], [1, 1]], [[0, 1], [2, 2]]]
    """
    for layer in np.unique(layers):
        condition, row = np.nonzero(layers.T == layer)
        for part in np.array_split(np.arange(len(row)), -(-len(row) // most)):
            yield row[part], condition[part]


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
    rows: np.ndarray,
    ways: Sequence[Condition],
    positions: str,
) -> tuple[list[np.ndarray], np.ndarray]:
    """One forward from the steered layer up.

    Args:
        below: (row, place, feature) the batch's states at that layer, on any device.
        rows: (case,) rows of the batch, with repeats.
        ways: how each of them is steered.

    Returns:
        By case: (phrase,) summed log-likelihoods; and (case,) norm ratios.
    """
    layer, index = ways[0].layer, torch.from_numpy(rows)
    device = decoder.device_of_layer(max(0, layer - 1))  # where they leave the block below
    states = below[index.to(below.device)].to(device)
    chosen = _steered_places(batch, positions)[index].to(device)
    ratio = np.ones(len(ways))
    for way in {id(way): way for way in ways}.values():
        own = [i for i, other in enumerate(ways) if other is way]
        states[own], ratio[own] = steer(states[own], way, chosen[own])
    members = [batch.members[row] for row in rows]
    row = np.repeat(np.arange(len(members)), [len(trees[m].predicting) for m in members])
    column = np.concatenate([trees[m].predicting for m in members])
    final: list[torch.Tensor] = []

    def at(here: int, found: torch.Tensor) -> torch.Tensor | None:
        found = states if here == layer else found
        if here == decoder.n_layers:
            on = found.device
            final.append(found[torch.from_numpy(row).to(on), torch.from_numpy(column).to(on)])
        return found if here == layer else None

    with without_blocks(decoder, range(layer)), last_mlp_at(decoder, row, column):
        run(decoder, batch, at, rows=rows.tolist())
    by_target = score(final[0], members, trees, readout)
    sums = [
        np.bincount(trees[m].target_phrase, weights=values)
        for m, values in zip(members, by_target, strict=True)
    ]
    return sums, ratio


def _steered_places(batch: Batch, positions: str) -> torch.Tensor:
    """(row, place) bool: positions that are steered."""
    place = torch.arange(batch.tokens.shape[1])
    if positions == "last":
        return place == batch.n_prompt[:, None] - 1
    return (place >= 1) & (place < batch.n_prompt[:, None])


@torch.inference_mode()
def steer(
    states: torch.Tensor, condition: Condition, chosen: torch.Tensor
) -> tuple[torch.Tensor, np.ndarray]:
    """Steered states, and for each row the mean ratio of their norms to those before.

    Args:
        states: (row, place, feature) residual stream.
        condition: how it is changed; computed in float32.
        chosen: (row, place) bool, which positions are.
    """
    if condition.change is None:
        return states, np.ones(len(states))
    change, on = condition.change, states.device
    shift, centre, down, up = (
        torch.from_numpy(np.asarray(a, dtype=np.float32)).to(on)
        for a in (change.shift, change.centre, change.down, change.up)
    )
    before = states[chosen].float()
    after = before + condition.alpha * (shift + ((before - centre) @ down.T) @ up)
    new = states.clone()
    new[chosen] = after.to(states.dtype)
    ratio = torch.zeros(chosen.shape, device=on)
    ratio[chosen] = after.norm(dim=-1) / before.norm(dim=-1)
    return new, (ratio.sum(1) / chosen.sum(1).clamp(min=1)).cpu().numpy()


def run_time_overheads(
    decoder: Decoder,
    trees: Sequence[Tree],
    conditions: Sequence[Condition],
    positions: str,
    budget: int,
) -> list[float]:
    """What steering adds to the run time of a whole forward, each condition by itself.

    It is timed apart: in a whole forward's time it is within the noise.

    Args:
        decoder: the model.
        trees: questions; the first batch of them is timed.
        conditions: ways of steering.
        positions: "prompt" or "last", as in `steered_scores`.
        budget: tokens of the batch.

    Returns:
        By condition: median run time of the change, over that of a forward without. The memory
        that steering adds is one copy of a layer's states, of the batch.
    """
    batch = collate(trees, batches(trees, range(len(trees)), budget)[0])
    kept: dict[int, torch.Tensor] = {}

    def at(layer: int, states: torch.Tensor) -> None:
        kept[layer] = states

    forward = _median_seconds(lambda: run(decoder, batch, at))
    chosen = _steered_places(batch, positions)
    changes = [
        partial(steer, kept[c.layer], c, chosen.to(kept[c.layer].device)) for c in conditions
    ]
    return [_median_seconds(change) / forward for change in changes]


def _median_seconds(work: Callable[[], Any]) -> float:
    """Run time of some work, the median of `TIMED` repetitions after one that warms up."""
    seconds = []
    for _ in range(TIMED + 1):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds[1:]))


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


@dataclass(frozen=True)
class Pivot:
    """The pivot's own questions, unsteered: what all languages of a job share.

    Attributes:
        trees: the questions.
        below: keeps the states that conditions start from.
        unsteered: one condition's scores.
    """

    trees: Sequence[Tree]
    below: Below
    unsteered: Outcome


def unsteered_pivot(
    decoder: Decoder,
    readout: Readout,
    plan: Plan,
    trees: Sequence[Tree],
    *,
    budget: int = 2048,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Pivot:
    """Score the pivot's own questions, once for all languages that are steered towards it.

    Args: as `evaluate`.
    """
    below = Below(decoder, plan.layers)
    found = steered_scores(
        decoder,
        readout,
        trees,
        [[Condition(max(plan.layers), None)]] * len(trees),
        positions=plan.positions,
        below=below,
        budget=budget,
        progress=progress,
    )
    return Pivot(trees, below, found)


def evaluate(
    decoder: Decoder,
    readout: Readout,
    vectors: xr.Dataset,
    plan: Plan,
    language: str,
    trees: Sequence[Tree],
    pivot: Pivot,
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
        trees: the questions with their own choices.
        pivot: of `unsteered_pivot`, the same questions in the pivot.
        scores: stored unsteered scores of this language (item, choice), as `open_scores` gives
            them for one language: counts, answers and what the selection needs.
        folds: (item,) fold of each item, for the selection.
        vector_folds: (item,) fold whose vectors an item is steered with; ALL_ITEMS where the
            vectors are another dataset's, or a separate set's.
        reported: folds that are evaluated at their selected settings, all by default; the
            items of the others are only selected on.
        budget: tokens of a batch.
        progress: wraps the iteration over batches: of the grid, the controls, the pivot.

    Returns:
        The steered file's dataset (dimensions condition, item, choice, method, fold).
    """
    table, n_folds = _Table(plan, scores, folds), int(folds.max()) + 1
    work = _Work(decoder, readout, vectors, plan, language, budget, progress)
    vectors_of = [int(vector_folds[folds == fold][0]) for fold in range(n_folds)]
    names, by_fold = work.grid(vectors_of)
    below = Below(decoder, plan.layers)
    found = work.run(trees, [by_fold[fold] for fold in folds], below)
    table.add(names, found, np.arange(len(folds)))
    chosen = table.select()
    told = list(range(n_folds) if reported is None else reported)
    mine = np.flatnonzero(np.isin(folds, told))
    settings = {fold: (vectors_of[fold], *plan.grid()[chosen[0, fold]][1:]) for fold in told}
    names, controls = work.controls(settings)
    found = work.run(
        [trees[i] for i in mine.tolist()], [controls[f] for f in folds[mine].tolist()], below
    )
    zero = _difference_of_zero(names, found)
    table.add(names[1:], found.without_first(), mine)
    table.add([Name("unsteered", "pivot_unsteered", alpha=0.0)], pivot.unsteered.of(mine), mine)
    names, harm = work.harm(settings)
    own = [pivot.trees[i] for i in mine.tolist()]
    table.add(names, work.run(own, [harm[f] for f in folds[mine].tolist()], pivot.below), mine)
    return (
        table.dataset(chosen, told, work.overheads(trees, vectors_of[told[-1]]))
        .isel(item=mine)
        .assign_attrs(
            language=language,
            pivot=vectors.attrs["pivot"],
            score=plan.score,
            zero_same_batch_difference=zero,
        )
    )


def _difference_of_zero(names: Sequence["Name"], found: Outcome) -> float:
    """The largest difference of the control `zero` from the unsteered rows, which come first."""
    zero = [i for i, name in enumerate(names) if name.method == "zero"]
    difference = found.log_probability[zero] - found.log_probability[0]
    return float(np.nanmax(np.abs(difference), initial=0.0))


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
    """One language's conditions: their names, and what they are in each fold."""

    decoder: Decoder
    readout: Readout
    vectors: xr.Dataset
    plan: Plan
    language: str
    budget: int
    progress: Callable[[Iterable], Iterable]

    def run(
        self, trees: Sequence[Tree], conditions: Sequence[Sequence[Condition]], below: Below
    ) -> Outcome:
        return steered_scores(
            self.decoder,
            self.readout,
            trees,
            conditions,
            positions=self.plan.positions,
            below=below,
            budget=self.budget,
            progress=self.progress,
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

    def grid(self, vectors_of: Sequence[int]) -> tuple[list[Name], list[list[Condition]]]:
        """Unsteered, then every setting; by fold, each with the vectors of its own."""
        names = [Name("unsteered", "unsteered", alpha=0.0)]
        names += [Name("grid", *setting) for setting in self.plan.grid()]
        # At the last layer, up to which the blocks run unsteered anyway.
        unsteered, by_vectors = Condition(max(self.plan.layers), None), {}
        for fold in set(vectors_of):
            by_vectors[fold] = [unsteered]
            for method in self.plan.methods:
                for layer in self.plan.layers:
                    change = self._change(method, fold, layer)
                    ways = [Condition(layer, change, alpha) for alpha in self.plan.strengths]
                    by_vectors[fold] += ways
        return names, [by_vectors[fold] for fold in vectors_of]

    def controls(
        self, settings: dict[int, tuple[int, int, float]]
    ) -> tuple[list[Name], dict[int, list[Condition]]]:
        """Unsteered, then the controls, at the selected setting; by fold.

        Args:
            settings: by fold: whose vectors, and the selected layer and strength.
        """
        names, ways = [], {}
        for fold, (vectors_of, layer, alpha) in settings.items():
            wanted = controls_at(self.vectors, self.plan, self.language, vectors_of, layer)
            names = [Name("control", name, draw=draw) for name, draw, _ in wanted]
            ways[fold] = [Condition(layer, None)]
            ways[fold] += [Condition(layer, change, alpha) for _, _, change in wanted]
        return [Name("unsteered", "unsteered", alpha=0.0), *names], ways

    def harm(
        self, settings: dict[int, tuple[int, int, float]]
    ) -> tuple[list[Name], dict[int, list[Condition]]]:
        """The pivot's own questions, steered as this language's are; by fold."""
        ways = {}
        for fold, (vectors_of, layer, alpha) in settings.items():
            change = self._change(self.plan.methods[0], vectors_of, layer)
            ways[fold] = [Condition(layer, change, alpha)]
        return [Name("control", "pivot_harm")], ways

    def overheads(self, trees: Sequence[Tree], fold: int) -> list[float]:
        """Run time that each method adds to a forward at the middle layer of the grid."""
        layer = self.plan.layers[len(self.plan.layers) // 2]
        changes = [self._change(method, fold, layer) for method in self.plan.methods]
        conditions = [Condition(layer, change, 1.0) for change in changes]
        budget = self.budget // FAN_OUT
        return run_time_overheads(self.decoder, trees, conditions, self.plan.positions, budget)


class _Table:
    """Outcomes of all folds, by condition."""

    def __init__(self, plan: Plan, scores: xr.Dataset, folds: np.ndarray) -> None:
        self.plan, self.scores, self.folds = plan, scores, folds
        self.rows: dict[Name, np.ndarray] = {}
        self.norms: dict[Name, float] = {}  # summed over items; divided by how many at the end
        self.items: dict[Name, int] = {}
        self.seconds: dict[Name, float] = {}

    def add(self, names: Sequence[Name], found: Outcome, mine: np.ndarray) -> None:
        """Put what some conditions gave at its items' places."""
        n_items, n_choices = len(self.folds), self.scores.sizes["choice"]
        by_fold = [np.flatnonzero(self.folds[mine] == fold) for fold in np.unique(self.folds[mine])]
        norms = np.sum([len(own) * found.mean_norm_ratio(own) for own in by_fold], axis=0)
        for i, name in enumerate(names):
            row = self.rows[name] = np.full((n_items, n_choices), np.nan)
            values = found.log_probability[i]
            row[mine, : values.shape[1]] = values
            self.items[name], self.seconds[name] = len(mine), found.seconds[i]
            self.norms[name] = norms[i]

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
    "overhead": ("run time that steering adds to a forward, share of it", "1"),
    "n_tokens": ("tokens of the choice", "1"),
    "n_characters": ("code points of the choice", "1"),
    "n_bytes": ("UTF-8 bytes of the choice", "1"),
    "answer": ("index of the gold choice", "1"),
    "n_choices": ("choices of the item", "1"),
    "cluster": ("cluster of the item", "1"),
}
