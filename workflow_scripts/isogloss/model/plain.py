"""The plain path: a model's own forward over separate sequences, for what cannot run packed rows.

Every path through a question's tree is a sequence of its own, the prompt and the tokens of one
phrase, with the model's own mask and positions. Sequences of a forward are padded at the right,
where no token looks; where that changes a result too, each has a forward of its own. States are put
back where the tree has them, so that nothing else knows which path was taken.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from isogloss.errors import InputError, one_line
from isogloss.model.decoder import Decoder
from isogloss.model.packing import Batch
from isogloss.model.residual import AtLayer, residual_stream

Given = tuple[int, torch.Tensor]
"""A layer, and (row, place, feature) states that take the place of what is there."""


class _Reached(Exception):
    """The last block has run: nothing above it is wanted."""


def leaf_paths(mask: np.ndarray, prompt_place: np.ndarray) -> list[np.ndarray]:
    """The places of every path from a first token to a leaf, of one row of a batch.

    Args:
        mask: (place, key) of a `Batch` with one segment.
        prompt_place: (place,) likewise; what sees itself alone and begins no prompt is padding.

    >>> mask = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]], dtype=bool)
    >>> [path.tolist() for path in leaf_paths(mask, np.array([0, -1, -1, -1]))]
    [[0, 1], [0, 2]]
    """
    inner = (mask & ~np.eye(len(mask), dtype=bool)).any(0)
    real = (mask.sum(1) > 1) | (prompt_place == 0)
    return [np.flatnonzero(mask[leaf]) for leaf in np.flatnonzero(real & ~inner)]


@torch.inference_mode()
def run_plain(
    decoder: Decoder,
    batch: Batch,
    at: AtLayer,
    rows: Sequence[int] | None = None,
    given: Given | None = None,
) -> None:
    """The forward of `isogloss.model.forward.run_blocks`, by the model itself.

    Args:
        batch: rows of one segment.
        at: sees the residual stream at every layer, after all sequences ran.
        rows: rows of the batch to run, with repeats; all by default.
        given: states that take the place of those at a layer.

    Raises:
        InputError: the model's own forward fails.
    """
    picked = range(len(batch.tokens)) if rows is None else rows
    paths = [
        (row, path)
        for row, source in enumerate(picked)
        for path in leaf_paths(batch.mask[source].numpy(), batch.prompt_place[source].numpy())
    ]
    shape = (len(picked), batch.tokens.shape[1])
    stream: dict[int, torch.Tensor] = {}
    for group in _groups(paths, shape[0] * shape[1] if decoder.padded else 0):
        _forward(decoder, batch, list(picked), group, shape, stream, given)
    for layer in range(decoder.n_layers + 1):
        if at(layer, stream.pop(layer)) is not None:
            raise ValueError("the plain path changes states that are given, not those it shows")


def _groups(
    paths: Sequence[tuple[int, np.ndarray]], budget: int
) -> list[list[tuple[int, np.ndarray]]]:
    """Sequences of about the same length that run together, `budget` tokens or one of them."""
    groups: list[list[tuple[int, np.ndarray]]] = []
    for item in sorted(paths, key=lambda item: -len(item[1])):
        if not groups or len(groups[-1][0][1]) * (len(groups[-1]) + 1) > budget:
            groups.append([])
        groups[-1].append(item)
    return groups


def _forward(
    decoder: Decoder,
    batch: Batch,
    picked: Sequence[int],
    group: Sequence[tuple[int, np.ndarray]],
    shape: tuple[int, int],
    stream: dict[int, torch.Tensor],
    given: Given | None,
) -> None:
    """One forward of some sequences, whose states go into `stream` (layer: row, place, feature)."""
    tokens, reach = (
        pad_sequence(
            [values[picked[row], torch.from_numpy(path)] for row, path in group], batch_first=True
        )
        for values in (batch.tokens, batch.reach)
    )
    for i, (_, path) in enumerate(group):
        reach[i, len(path) :] = reach[i, len(path) - 1]
    sizes = [len(path) for _, path in group]
    sequence = torch.repeat_interleave(torch.arange(len(group)), torch.tensor(sizes))
    position = torch.cat([torch.arange(size) for size in sizes])
    row = torch.tensor([r for r, _ in group])[sequence]
    place = torch.from_numpy(np.concatenate([path for _, path in group]))
    _, first = np.unique((row * shape[1] + place).numpy(), return_index=True)  # of those that share

    def at(layer: int, states: torch.Tensor) -> torch.Tensor | None:
        here, new = states.device, None
        inside, outside = (sequence.to(here), position.to(here)), (row.to(here), place.to(here))
        if given is not None and layer == given[0]:
            states = new = states.clone()
            new[inside] = given[1].to(here)[outside].to(new.dtype)
        if layer not in stream:
            stream[layer] = states.new_zeros(*shape, states.shape[-1])
        stream[layer][row[first].to(here), place[first].to(here)] = states[
            sequence[first].to(here), position[first].to(here)
        ]
        if layer == decoder.n_layers:
            raise _Reached
        return new

    scaled = decoder.length_scaled
    each = nullcontext() if scaled is None else scaled.each_by_itself(reach)
    try:
        with residual_stream(decoder, at), each:
            decoder.model(input_ids=tokens.to(decoder.input_device), use_cache=False)
    except _Reached:
        pass
    except (RuntimeError, ValueError, TypeError, LookupError) as error:
        if "memory" in str(error):
            raise
        raise InputError(
            f"models.{decoder.slug}: {type(decoder.model).__name__}: its own forward of "
            f"{tokens.shape[1]} tokens ends in {type(error).__name__} ({one_line(error)}): choose "
            "another dtype or model"
        ) from error
