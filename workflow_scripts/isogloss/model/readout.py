"""The readout of a model: its final norm and unembedding, enough for the lens without the model.

log p(next token | h) = log_softmax(cap(scale * head(norm(h)))), with h a state of the residual
stream before the final norm.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from isogloss.errors import InputError
from isogloss.model.matrix_products import linear
from isogloss.model.norms import Network, Norm, norm_of
from isogloss.model.tensor_file import read_tensors, write_tensors


class HasReadout(Protocol):
    """What `readout_of` needs of a loaded model (`isogloss.model.decoder.Decoder` has it)."""

    final_norm: nn.Module
    head: nn.Linear
    softcap: float | None
    scale: float | None
    network: Network | None


@dataclass(frozen=True)
class Readout:
    """Final norm and unembedding of one model.

    Attributes:
        norm: what states go through before the unembedding.
        weight: (vocabulary, width) unembedding.
        bias: (vocabulary,) or None.
        softcap: logits become softcap * tanh(logits / softcap); None leaves them (Gemma 2 has one).
        scale: logits are multiplied by it before the cap; None leaves them (Cohere and Granite
            have one).
    """

    norm: Norm | Network
    weight: torch.Tensor
    bias: torch.Tensor | None = None
    softcap: float | None = None
    scale: float | None = None

    @property
    def bits_below_bfloat16(self) -> bool:
        """Whether a logit of `logit_blocks` may hold more bits than a bfloat16 has."""
        plain = self.bias is None and self.softcap is None and self.scale is None
        return not plain or self.weight.dtype != torch.bfloat16

    def cap(self, logits: torch.Tensor) -> torch.Tensor:
        """Scale and soft cap of the logits, where the model has them."""
        logits = logits if self.scale is None else logits * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def logits_on_gpu(self, normed: torch.Tensor) -> torch.Tensor:
        """(row, token) capped logits of the whole vocabulary, in float32 in every type.

        Args:
            normed: (row, width) states after the final norm, in the weights' type, on a GPU.
        """
        narrow: dict[str, Any] = (
            {} if normed.dtype == torch.float32 else {"out_dtype": torch.float32}
        )
        logits = torch.mm(normed, self.weight.T, **narrow)
        if self.bias is not None:
            logits += self.bias.float()
        return self.cap(logits)

    def logit_blocks(self, normed: torch.Tensor, size: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Logits of `size` tokens at a time, capped, in float32; a new tensor each.

        Args:
            normed: (row, width) states after the final norm, in the weights' type.
            size: tokens of a block.

        Yields:
            The first token of a block, and (row, token) logits.
        """
        for start in range(0, len(self.weight), size):
            logits = linear(normed, self.weight[start : start + size]).float()
            if self.bias is not None:
                logits += self.bias[start : start + size].float()
            yield start, self.cap(logits)


def readout_of(decoder: HasReadout) -> Readout:
    """The readout of a loaded model; its tensors are the model's own, not copies.

    Raises:
        InputError: the final norm is none that Isogloss knows, or the head is not in memory.
    """
    head = decoder.head
    if head.weight.is_meta:
        raise InputError("unembedding: offloaded: use a device_map that keeps it on a device")
    norm = decoder.network or norm_of(decoder.final_norm, head.weight.shape[1], head.weight)
    bias = None if head.bias is None else head.bias.detach()
    return Readout(norm, head.weight.detach(), bias, decoder.softcap, decoder.scale)


def write_readout(decoder: HasReadout, path: Path, spec: Mapping[str, Any]) -> None:
    """Write a model's readout as safetensors, in the type that the model was loaded in.

    Args:
        path: file to write, named by the key of the spec.
        spec: what the readout is.

    Raises:
        InputError: as `readout_of`.
    """
    readout = readout_of(decoder)
    norm = readout.norm
    last = norm.last if isinstance(norm, Network) else norm
    tensors: dict[str, torch.Tensor | None] = {
        "norm.weight": last.weight,
        "head.weight": readout.weight,
        "head.bias": readout.bias,
        "norm.bias": last.bias,
    }
    about: dict[str, Any] = {
        "norm_eps": last.eps,
        "norm_style": last.style,
        "softcap": readout.softcap,
    }
    if readout.scale is not None:
        about["scale"] = readout.scale
    if isinstance(norm, Network):
        tensors |= {
            "first.weight": norm.first.weight,
            "first.bias": norm.first.bias,
            "dense.weight": norm.weight,
            "dense.bias": norm.bias,
        }
        about |= {"first_eps": norm.first.eps, "first_style": norm.first.style}
        about["activation"] = norm.activation
    present = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    write_tensors(present, path, spec, about)


def read_readout(path: Path, device: torch.device | str = "cpu") -> Readout:
    """The readout that `write_readout` wrote, in the type that it was written in.

    Raises:
        InputError: the file is missing; Damaged: it is not what its name says, or has changed.
    """
    if not path.exists():
        raise InputError(f"{path}: no such readout: run the rule that makes it")
    tensors, settings = read_tensors(path, "readout", device)

    def norm(name: str) -> Norm:
        eps, style = settings[f"{name}_eps"], settings[f"{name}_style"]
        return Norm(tensors[f"{name}.weight"], eps, style, tensors.get(f"{name}.bias"))

    last: Norm | Network = norm("norm")
    if "activation" in settings:
        dense = tensors["dense.weight"], tensors.get("dense.bias")
        last = Network(norm("first"), *dense, settings["activation"], norm("norm"))
    return Readout(
        last,
        tensors["head.weight"],
        tensors.get("head.bias"),
        settings["softcap"],
        settings.get("scale"),
    )
