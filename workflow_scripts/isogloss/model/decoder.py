"""A language model in memory, seen alike whatever its family: blocks, final norm, unembedding."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from isogloss.model.attention import BY_SEGMENTS
from isogloss.model.norms import Network
from isogloss.model.readout import Readout, readout_of
from isogloss.model.rotary import LengthScaled, ordinary
from isogloss.model.streams import Streams


@dataclass
class Decoder:
    """A loaded decoder-only model and its parts.

    Attributes:
        model: in evaluation mode, without gradients.
        tokenizer: transformers' tokenizer of the model.
        slug: name of the model in the study.
        context_length: tokens that the model can take; None where nothing limits them.
        backbone: the model without its head: embeddings, blocks, final norm.
        layers: the blocks; layer i of the residual stream is what leaves block i - 1.
        final_norm: applied to the last layer before the head.
        head: the unembedding.
        embed: token embeddings.
        softcap, scale: of the final logits; None where there is none.
        mask_style: "by_layer_type": the backbone takes one attention mask for each layer type, as a
            dictionary (a plain mask is silently wrong for Gemma 3); "plain": one mask.
        layer_types: "full_attention" or "sliding_attention", by block.
        sliding_window: tokens that a sliding block sees, itself included; None without such blocks.
        start: the tokens that begin every sequence of this model: BOS, mostly, or none.
        attention: attention implementation in use ("segments", "sdpa", "eager", ...).
        blocks_return_tuples: whether a block returns a tuple rather than a tensor.
        network: what is between the blocks and the head, where it is more than the final norm.
        streams: residual streams side by side; None where there is one.
        length_scaled: its position embeddings, where they go by the length of a sequence.
        fast: whether packed rows give its own results, see `isogloss.model.adapt`; else the plain
            path is taken (`isogloss.model.plain`).
        padded: whether sequences of a plain forward may be padded, or each needs its own.
        reason: why this path is taken.
    """

    model: Any
    tokenizer: Any
    slug: str
    context_length: int | None
    backbone: nn.Module
    layers: nn.ModuleList
    final_norm: nn.Module
    head: nn.Linear
    embed: nn.Module
    softcap: float | None
    scale: float | None
    mask_style: str
    layer_types: tuple[str, ...]
    sliding_window: int | None
    start: tuple[int, ...]
    attention: str
    blocks_return_tuples: bool
    length_scaled: LengthScaled | None
    network: Network | None = None
    streams: Streams | None = None
    fast: bool = True
    padded: bool = True
    reason: str = ""

    def reach(self, length: int) -> int:
        """What position embeddings of a sequence of so many tokens depend on but the positions."""
        scaled = self.length_scaled
        return ordinary(length) if scaled is None else scaled.reach(length)

    @cached_property
    def readout(self) -> Readout:
        """Final norm and unembedding, whose tensors are the model's own."""
        return readout_of(self)

    @property
    def by_segments(self) -> bool:
        """Whether it attends by segments, and can so run a row of joined ones."""
        return self.attention == BY_SEGMENTS

    @property
    def path(self) -> dict[str, str]:
        """Which path is taken and why, and by which attention, for logs and records."""
        plain = "plain" if self.padded else "plain, a sequence at a time"
        taken = "fast" if self.fast else plain
        return {"taken": taken, "reason": self.reason, "attention": self.attention}

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    @property
    def width(self) -> int:
        return (self.head if self.network is None else self.network).weight.shape[1]

    @property
    def vocabulary(self) -> int:
        return self.head.weight.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        return self.head.weight.dtype

    @property
    def input_device(self) -> torch.device:
        """Where token ids must be."""
        return device_of(self.embed)

    def device_of_layer(self, layer: int) -> torch.device:
        """Where block `layer` computes: with a device map, blocks are on several devices."""
        return device_of(self.layers[layer])


def device_of(module: nn.Module) -> torch.device:
    """The device that a module computes on, which for offloaded weights is not where they lie."""
    hook = getattr(module, "_hf_hook", None)
    if (device := getattr(hook, "execution_device", None)) is not None:
        return torch.device(device)
    return next(module.parameters()).device
