"""One batch's forward: the states that are wanted of it, and the scores of its questions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from isogloss.model.decoder import Decoder
from isogloss.model.forward import run_blocks
from isogloss.model.packing import (
    Batch,
    Tree,
    collate_rows,
    joined_batches,
    packed_batches,
    predicting_places,
)
from isogloss.model.readout import Readout
from isogloss.model.token_scores import token_log_probabilities


@dataclass(frozen=True)
class Captured:
    """What one batch's forward left behind, in the batch's order of members.

    Attributes:
        last: (member, layer, feature) float32 state at the prompt's end.
        mean: (member, layer, feature) float32 mean over the prompt without its first position.
        lens: (state, lens_layer, feature) states that predict a scored token.
        final: (state, feature) the same at the last layer.
    """

    last: torch.Tensor
    mean: torch.Tensor
    lens: torch.Tensor
    final: torch.Tensor


def capture(
    decoder: Decoder, batch: Batch, trees: Sequence[Tree], layers: Sequence[int]
) -> Captured:
    """Run one batch and keep the states that are wanted.

    The first position (BOS, or where a model has none the token that takes its place as an
    attention sink) is left out of the mean: on Gemma 3 270M its norm carries most of the mean's
    variance.
    """
    device = decoder.input_device
    row, column = predicting_places(batch, trees)
    row_at, column_at = torch.from_numpy(row).to(device), torch.from_numpy(column).to(device)
    of_row, slot, weights = (t.to(device) for t in _mean_weights(batch))
    ends = (batch.start + batch.n_prompt - 1).to(device)
    last, mean, lens, final = [], [], {}, []

    def at(layer: int, states: torch.Tensor) -> None:
        here = states.device
        last.append(states[of_row.to(here), ends.to(here)].float().cpu())
        means = torch.bmm(weights.to(here), states.float())
        mean.append(means[of_row.to(here), slot.to(here)].cpu())
        if layer in layers or layer == decoder.n_layers:
            wanted = states[row_at.to(here), column_at.to(here)]
            if layer in layers:
                lens[layer] = wanted.to(decoder.dtype).cpu()
            if layer == decoder.n_layers:
                final.append(wanted)

    run_blocks(decoder, batch, at)
    kept = [lens[layer] for layer in layers]
    stacked = torch.stack(kept, 1) if kept else torch.zeros(len(row), 0, decoder.width)
    return Captured(torch.stack(last, 1), torch.stack(mean, 1), stacked, final[0])


def _mean_weights(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What makes means over prompts of a batch's states, by one product a layer.

    Returns:
        Row and slot of each member among the trees of its row, (member,); weights (row, slot,
        place), zero but for the prompt without its first position.
    """
    slot = torch.arange(len(batch.row)) - torch.searchsorted(batch.row, batch.row)
    n_rows, length = batch.tokens.shape
    place = torch.arange(length)
    first, end = batch.start + 1, batch.start + batch.n_prompt
    inside = (place >= first[:, None]) & (place < end[:, None])
    weights = torch.zeros(n_rows, int(slot.max()) + 1, length)
    weights[batch.row, slot] = inside / inside.sum(1, keepdim=True).clamp(min=1)
    return batch.row, slot, weights


def score(
    final: torch.Tensor, members: Sequence[int], trees: Sequence[Tree], readout: Readout
) -> list[np.ndarray]:
    """The model's log-probability of every target of each member.

    Args:
        final: (state, feature) at the last layer, where a scored token is predicted, member after
            member as `Tree.predicting` lists the places.
        members: indices of their trees.
        trees: of all questions.

    Returns:
        (target,) of each member [nat], in the members' order.
    """
    offsets = np.cumsum([0, *(len(trees[m].predicting) for m in members)])
    rows = [trees[m].target_row + start for m, start in zip(members, offsets, strict=False)]
    tokens = np.concatenate([trees[m].target_token for m in members])
    log_probability = token_log_probabilities(
        final, readout, torch.from_numpy(np.concatenate(rows)), torch.from_numpy(tokens)
    )
    sizes = np.cumsum([len(r) for r in rows])[:-1]
    return np.split(log_probability.cpu().numpy(), sizes)


def packed(
    decoder: Decoder, trees: Sequence[Tree], members: Sequence[int], budget: int
) -> Iterator[Batch]:
    """Members in batches of at most `budget` tokens, short ones together in a row or segment."""
    joined = decoder.by_segments
    pack = joined_batches if joined else packed_batches
    for rows in pack(trees, members, budget):
        yield collate_rows(trees, rows, joined)
