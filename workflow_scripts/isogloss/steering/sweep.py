"""A sweep over steering conditions: the packed forward with the residual stream changed at a layer.

Conditions that steer at the same layer share everything below it: the blocks under it run once
a batch, and the conditions fan out as rows of a batch from there. A prefix computed under one
condition is never used under another. Questions of all folds share batches, so that the rows of
a batch are of about the same length; each row is changed with the vectors of its fold.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from isogloss.extraction.capture import score
from isogloss.model.decoder import Decoder
from isogloss.model.forward import last_mlp_at, run_blocks, without_blocks
from isogloss.model.packing import Batch, Tree, batches, collate
from isogloss.model.readout import Readout
from isogloss.steering.interventions import Intervention

# Conditions that share a batch: each batch of questions takes this part of the token budget.
FAN_OUT = 8
# Repetitions of what is timed.
TIMED = 3
# Bytes of unsteered states that are kept for later conditions.
KEPT = 2**30


@dataclass(frozen=True)
class Condition:
    """A setting under which questions are scored.

    Attributes:
        layer: where the residual stream is changed; 0 enters the first block.
        change: what is added; None leaves the model alone.
        alpha: strength.
        patch: (feature,) state put in place of that at the prompt's last token, and nowhere else.
    """

    layer: int
    change: Intervention | None
    alpha: float = 0.0
    patch: np.ndarray | None = None


@dataclass(frozen=True)
class Outcome:
    """What conditions gave on questions.

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


class UnsteeredStates:
    """Unsteered states of questions at the layers that are steered, computed once.

    The grid and the controls start from the same states, and of the pivot's questions so do all
    languages of a job. They lie in the host's memory, `KEPT` bytes at most; states that do not fit
    are computed whenever they are asked for.
    """

    def __init__(self, decoder: Decoder, layers: Sequence[int]) -> None:
        self._decoder, self._layers, self._room = decoder, tuple(layers), KEPT
        # By identity of the tree, which is kept so that no other takes its id.
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
            computed = _states_at(self._decoder, batch, self._layers)
            for row, tree in enumerate(trees):
                states = {layer: x[row, : len(tree)].cpu() for layer, x in computed.items()}
                self._kept[id(tree)] = (tree, states)
        kept = [self._kept[id(tree)][1] for tree in trees]
        return {
            layer: pad_sequence([states[layer] for states in kept], batch_first=True)
            for layer in self._layers
        }

    def prompt_ends(self, trees: Sequence[Tree], layer: int, budget: int) -> np.ndarray:
        """(tree, feature) float32 states at the prompts' last tokens, at one of the layers.

        Args: budget is that of the calls that keep states, so that their batches are found again.
        """
        ends: list[np.ndarray] = [np.empty(0)] * len(trees)
        for members in batches(trees, range(len(trees)), budget // FAN_OUT):
            rows = [trees[m] for m in members]
            states = self.states(collate(trees, members), rows, [layer])[layer]
            for row, (member, tree) in enumerate(zip(members, rows, strict=True)):
                ends[member] = states[row, tree.n_prompt - 1].float().cpu().numpy()
        return np.stack(ends)


def steered_scores(
    decoder: Decoder,
    readout: Readout,
    trees: Sequence[Tree],
    conditions: Sequence[Sequence[Condition]],
    *,
    positions: str = "prompt",
    unsteered: UnsteeredStates | None = None,
    budget: int = 2048,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Outcome:
    """Score questions under every condition.

    Args:
        trees: the questions.
        conditions: a list for each question, all of one length; their order is kept.
        positions: "prompt" steers all prompt tokens but the first (BOS, or the token that takes
            its place as an attention sink), "last" the prompt's last.
        unsteered: keeps the states that conditions start from, for other calls with these trees.
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
        if unsteered is None:
            start = _states_at(decoder, batch, wanted)
        else:
            start = unsteered.states(batch, [trees[m] for m in members], wanted)
        seconds += (time.perf_counter() - began) / len(seconds)
        for rows, chosen in cases(layers, max(1, budget // batch.tokens.shape[1])):
            began = time.perf_counter()
            cell = [conditions[members[row]][i] for row, i in zip(rows, chosen, strict=True)]
            states = start[cell[0].layer]
            sums, ratio = _fan_out(decoder, readout, trees, batch, states, rows, cell, positions)
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
        run_blocks(decoder, batch, at)
    return kept


def _fan_out(
    decoder: Decoder,
    readout: Readout,
    trees: Sequence[Tree],
    batch: Batch,
    start: torch.Tensor,
    rows: np.ndarray,
    conditions: Sequence[Condition],
    positions: str,
) -> tuple[list[np.ndarray], np.ndarray]:
    """One forward from the steered layer up.

    Args:
        start: (row, place, feature) the batch's states at that layer, on any device.
        rows: (case,) rows of the batch, with repeats.
        conditions: (case,) under which each of them is scored.

    Returns:
        By case: (phrase,) summed log-likelihoods; and (case,) norm ratios.
    """
    layer, index = conditions[0].layer, torch.from_numpy(rows)
    device = decoder.device_of_layer(max(0, layer - 1))  # where they leave the block below
    states = start[index.to(start.device)].to(device)
    places = {name: _steered_places(batch, name)[index].to(device) for name in {positions, "last"}}
    ratio = np.ones(len(conditions))
    for condition in {id(c): c for c in conditions}.values():
        same = [i for i, other in enumerate(conditions) if other is condition]
        chosen = places[positions if condition.patch is None else "last"][same]
        states[same], ratio[same] = steer(states[same], condition, chosen)
    members = [batch.members[row] for row in rows]
    row = np.repeat(np.arange(len(members)), [len(trees[m].predicting) for m in members])
    column = np.concatenate([trees[m].predicting for m in members])
    final: list[torch.Tensor] = []

    def at(here: int, residual: torch.Tensor) -> None:
        if here == decoder.n_layers:
            on = residual.device
            final.append(residual[torch.from_numpy(row).to(on), torch.from_numpy(column).to(on)])

    with without_blocks(decoder, range(layer)), last_mlp_at(decoder, row, column):
        run_blocks(decoder, batch, at, rows=rows.tolist(), given=(layer, states))
    by_target = score(final[0], members, trees, readout)
    sums = [
        np.bincount(trees[m].target_phrase, weights=values)
        for m, values in zip(members, by_target, strict=True)
    ]
    return sums, ratio


def _steered_places(batch: Batch, positions: str) -> torch.Tensor:
    """(row, place) bool: positions that are steered."""
    if positions == "last":
        return batch.prompt_place == batch.n_prompt[:, None] - 1
    return batch.prompt_place >= 1


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
    change, on = condition.change, states.device
    if change is None and condition.patch is None:
        return states, np.ones(len(states))
    before = states[chosen].float()
    if change is None:
        after = torch.from_numpy(condition.patch).to(on).expand_as(before)
    else:
        shift, centre, down, up = (
            torch.from_numpy(np.asarray(a, dtype=np.float32)).to(on)
            for a in (change.shift, change.centre, change.down, change.up)
        )
        after = before + condition.alpha * (shift + ((before - centre) @ down.T) @ up)
    new = states.clone()
    new[chosen] = after.to(states.dtype)
    ratio = torch.zeros(chosen.shape, device=on)
    ratio[chosen] = after.norm(dim=-1) / before.norm(dim=-1)
    return new, (ratio.sum(1) / chosen.sum(1).clamp(min=1)).cpu().numpy()


@dataclass(frozen=True)
class RunTimes:
    """What a forward and steering in it take.

    Attributes:
        forward: run time of an unsteered forward, per question [s].
        overheads: by condition, run time of the change over that of the forward.
    """

    forward: float
    overheads: list[float]


def run_times(
    decoder: Decoder,
    trees: Sequence[Tree],
    conditions: Sequence[Condition],
    positions: str,
    budget: int,
) -> RunTimes:
    """Run time of a whole forward, and what steering adds to it, each condition by itself.

    What it adds is timed apart: in a whole forward's time it is within the noise.

    Args:
        trees: questions; the first batch of them is timed.
        conditions: what is timed.
        positions: "prompt" or "last", as in `steered_scores`.
        budget: tokens of the batch.

    Returns:
        Medians. The memory that steering adds is one copy of a layer's states, of the batch.
    """
    batch = collate(trees, batches(trees, range(len(trees)), budget)[0])
    kept: dict[int, torch.Tensor] = {}

    def at(layer: int, states: torch.Tensor) -> None:
        kept[layer] = states

    forward = _median_seconds(lambda: run_blocks(decoder, batch, at))
    chosen = _steered_places(batch, positions)
    changes = [
        partial(steer, kept[c.layer], c, chosen.to(kept[c.layer].device)) for c in conditions
    ]
    overheads = [_median_seconds(change) / forward for change in changes]
    return RunTimes(forward / len(batch.members), overheads)


def _median_seconds(work: Callable[[], Any]) -> float:
    """Run time of some work, the median of `TIMED` repetitions after one that warms up."""
    seconds = []
    for _ in range(TIMED + 1):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds[1:]))
