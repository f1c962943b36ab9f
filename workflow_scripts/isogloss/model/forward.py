"""One forward pass of packed rows, with a hand on the residual stream at every layer."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from isogloss.model.decoder import Decoder
from isogloss.model.packing import Batch
from isogloss.model.plain import Given, run_plain
from isogloss.model.replacing import replaced_forward
from isogloss.model.residual import AtLayer, residual_stream


def attention_masks(
    decoder: Decoder, mask: torch.Tensor, positions: torch.Tensor, segments: Sequence[int]
) -> Any:
    """The block mask in the form that this family's model takes.

    Families with layer types take one mask a type (a plain mask is silently wrong for Gemma 3);
    a sliding window counts positions on a path, not places in the row. Boolean for SDPA,
    additive for others.

    Args:
        mask, positions, segments: of a `Batch`, or of some of its rows.
    """

    def formed(allowed: torch.Tensor) -> torch.Tensor:
        allowed = allowed[:, None]
        if decoder.attention == "sdpa":
            return allowed
        least = torch.finfo(decoder.dtype).min
        zero = torch.zeros((), dtype=decoder.dtype, device=allowed.device)
        return torch.where(allowed, zero, torch.full_like(zero, least))

    windowed = mask
    if decoder.sliding_window is not None:
        distance = positions[:, :, None] - positions[:, key_places(mask.shape[2], segments)]
        windowed = mask & (distance < decoder.sliding_window)
    if decoder.mask_style == "by_layer_type":
        return {"full_attention": formed(mask), "sliding_attention": formed(windowed)}
    return formed(windowed)


def key_places(widest: int, segments: Sequence[int]) -> torch.Tensor:
    """(place, key) where in a row the keys of each query are, counted from its segment's beginning.

    >>> key_places(2, [2, 1])
    tensor([[0, 1],
            [0, 1],
            [2, 2]])
    """
    sizes = torch.tensor(segments)
    begin = torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    places = begin[:, None] + torch.arange(widest)
    return places.clamp(max=len(begin) - 1)  # behind the row's end, where nothing is attended


@contextmanager
def without_blocks(decoder: Decoder, skipped: range) -> Iterator[None]:
    """Leave out some blocks: those under a layer whose states are given, or above the last one
    that is wanted. The plain path runs them all."""

    def identity(hidden_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        return (hidden_states,) if decoder.blocks_return_tuples else hidden_states

    with ExitStack() as replaced:
        for i in skipped if decoder.fast else ():
            replaced.enter_context(replaced_forward(decoder.layers[i], identity))
        yield


@contextmanager
def last_mlp_at(decoder: Decoder, row: np.ndarray, column: np.ndarray) -> Iterator[None]:
    """Compute the last block's MLP, most of its cost, at some places only.

    For forwards of which the last layer's states are wanted at these places alone; the others are
    not to be used. A block whose MLP is not called `mlp`, or a model on the plain path, computes it
    everywhere.

    Args:
        row, column: (place,) each.
    """
    mlp = getattr(decoder.layers[-1], "mlp", None)
    if mlp is None or not decoder.fast:
        yield
        return
    compute = mlp.forward

    def forward(states: torch.Tensor) -> Any:
        at = (torch.from_numpy(row).to(states.device), torch.from_numpy(column).to(states.device))
        output, computed = torch.zeros_like(states), compute(states[at][None])
        if isinstance(computed, tuple):  # with what the experts' router says
            output[at] = computed[0].reshape(-1, states.shape[-1])
            return (output, *computed[1:])
        output[at] = computed[0]
        return output

    with replaced_forward(mlp, forward):
        yield


@torch.inference_mode()
def run_blocks(
    decoder: Decoder,
    batch: Batch,
    at: AtLayer,
    rows: Sequence[int] | None = None,
    given: Given | None = None,
) -> None:
    """One forward of the blocks over a batch, without the head.

    Args:
        batch: packed rows.
        at: sees the residual stream at every layer; on the fast path it may replace it.
        rows: rows of the batch to run, with repeats; all by default.
        given: states that take the place of those at a layer, before `at` sees them.
    """
    if not decoder.fast:
        run_plain(decoder, batch, at, rows, given)
        return

    def seen(layer: int, states: torch.Tensor) -> torch.Tensor | None:
        if given is None or layer != given[0]:
            return at(layer, states)
        new = at(layer, given[1])
        return given[1] if new is None else new

    device = decoder.input_device
    pick = slice(None) if rows is None else torch.as_tensor(rows)
    tokens, positions = batch.tokens[pick].to(device), batch.positions[pick].to(device)
    masks = attention_masks(decoder, batch.mask[pick].to(device), positions, batch.segments)
    by_segments = {"segments": batch.segments} if decoder.by_segments else {}
    scaled = decoder.length_scaled
    each = nullcontext() if scaled is None else scaled.each_by_itself(batch.reach[pick].to(device))
    with residual_stream(decoder, seen), each:
        decoder.backbone(
            input_ids=tokens,
            attention_mask=masks,
            position_ids=positions,
            use_cache=False,
            **by_segments,
        )
