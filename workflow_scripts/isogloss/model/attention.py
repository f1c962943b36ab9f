"""Attention of packed rows on a CPU, as two batched products for every piece of a row.

torch's own kernel (SDPA) multiplies in float32 whatever the type, and over all pairs of places: in
bfloat16 it took 13 ms where this takes 3 (8 rows of 256 tokens, 4 heads of 256 features, two cores
with AVX-512 bfloat16). Here the products are those of the type, a segment sees itself alone, and a
piece of it sees nothing behind its own end. Scores are rounded to the type before the softmax, as
in transformers' eager attention.
"""

from collections.abc import Sequence
from typing import Any

import torch

BY_SEGMENTS = "segments"
"""What transformers calls this implementation, once it is registered."""

PIECE = 128
"""Queries at a time: half as many skip more of the triangle, and cost more calls."""


def use_segments(model: Any) -> None:
    """Let a model on the CPU attend by segments.

    Left alone are models on other devices, those that were loaded with another attention than
    SDPA (Gemma 2 caps its scores), and those with code of their own, which need not pass on what
    a forward is given.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    config = model.config.get_text_config()
    own_code = not type(model).__module__.startswith("transformers.")
    devices = {parameter.device.type for parameter in model.parameters()}
    if config._attn_implementation != "sdpa" or devices != {"cpu"} or own_code:
        return
    AttentionInterface.register(BY_SEGMENTS, attend)
    AttentionMaskInterface.register(BY_SEGMENTS, sdpa_mask)
    model.set_attn_implementation(BY_SEGMENTS)


def without_plans(model: Any) -> None:
    """Keep cuDNN's attention from a model on an NVIDIA GPU.

    cuDNN plans anew for every shape of a batch, and batches here differ in shape: 152 of 393 ms of
    an extraction in bfloat16 on an H200 were planning. It is what torch takes first on such cards;
    others saw the same with padded batches (pytorch/pytorch#155958, modelscope/FunASR#3704).
    """
    if any(parameter.device.type == "cuda" for parameter in model.parameters()):
        torch.backends.cuda.enable_cudnn_sdp(False)


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    segments: Sequence[int] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention by segments, as transformers calls it; without segments it is SDPA.

    Args:
        module: the attention layer.
        query: (row, head, place, feature).
        key, value: (row, key head, place, feature); query heads share them in groups.
        attention_mask: (row, 1, place, widest segment) added to scores; keys count from the
            beginning of the query's segment, and none lies behind the query.
        scaling: of the scores.
        segments: lengths of the stretches of a row whose tokens see nothing of the others.
        kwargs: as SDPA takes them.

    Returns:
        (row, place, head, feature).
    """
    if segments is None or attention_mask is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    rows, heads, length, _ = query.shape
    output = query.new_empty(rows, length, heads, value.shape[-1])
    begin = 0
    for size in segments:
        for start in range(begin, begin + size, PIECE):
            end = min(start + PIECE, begin + size)
            output[:, start:end] = _piece(
                query[:, :, start:end],
                key[:, :, begin:end],
                value[:, :, begin:end],
                attention_mask[:, :, start:end, : end - begin],
            )
        begin += size
    return output, None


def _piece(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Some queries over all keys that any of them sees; (row, query, head, feature)."""
    rows, heads, n, _ = query.shape
    groups, seen = key.shape[1:3]
    together = query.reshape(rows * groups, heads // groups * n, -1)
    scores = torch.bmm(together, key.reshape(rows * groups, seen, -1).transpose(1, 2))
    weights = torch.softmax(scores.view(rows, heads, n, seen).add_(mask), -1)
    values = value.reshape(rows * groups, seen, -1)
    output = torch.bmm(weights.view(rows * groups, -1, seen), values)
    return output.view(rows, heads, n, -1).transpose(1, 2)
