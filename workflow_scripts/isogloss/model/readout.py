"""The readout of a model: its final norm and unembedding, enough for the lens without the model.

log p(next token | h) = log_softmax(cap(scale * head(norm(h)))), with h a state of the residual
stream before the final norm.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional

from isogloss.errors import InputError, one_line
from isogloss.model.matrix_products import linear
from isogloss.model.tensor_file import read_tensors, write_tensors

NORM_STYLES = (
    "weight",
    "one_plus_weight",
    "weight_in_float32",
    "layer_norm",
    "layer_norm_in_float32",
    "layer_norm_one_plus_weight",
    "none",
)
# Where a norm does not say what it adds to the variance: of OLMo 1, and torch's own for float32.
USUAL_EPSILONS = (1e-5, 1e-6, float(torch.finfo(torch.float32).eps))


class HasReadout(Protocol):
    """What `readout_of` needs of a loaded model (`isogloss.model.decoder.Decoder` has it)."""

    final_norm: nn.Module
    head: nn.Linear
    softcap: float | None
    scale: float | None


@dataclass(frozen=True)
class Readout:
    """Final norm and unembedding of one model.

    Attributes:
        norm_weight: (width,) as stored in the model; ones where it has none.
        norm_eps: added to the mean square or variance.
        norm_style: of the root mean square, "weight" scales by w after rounding to the states' type
            (Llama, Mistral, Qwen), "one_plus_weight" by 1 + w in float32 before rounding (Gemma),
            "weight_in_float32" by w before rounding (OLMo 2, Helium). Less the mean, "layer_norm"
            is torch's in the states' type (GPT-2, BLOOM), "layer_norm_in_float32" rounds after
            it (Cohere, OLMo 1), "layer_norm_one_plus_weight" scales by 1 + w (Nemotron). "none"
            is no norm: blocks end in one (OpenAI GPT, BART).
        weight: (vocabulary, width) unembedding.
        bias: (vocabulary,) or None.
        softcap: logits become softcap * tanh(logits / softcap); None leaves them (Gemma 2 has one).
        norm_bias: (width,) or None.
        scale: logits are multiplied by it before the cap; None leaves them (Cohere and Granite
            have one).
    """

    norm_weight: torch.Tensor
    norm_eps: float
    norm_style: str
    weight: torch.Tensor
    bias: torch.Tensor | None = None
    softcap: float | None = None
    norm_bias: torch.Tensor | None = None
    scale: float | None = None

    @property
    def bits_below_bfloat16(self) -> bool:
        """Whether a logit of `logit_blocks` may hold more bits than a bfloat16 has."""
        plain = self.bias is None and self.softcap is None and self.scale is None
        return not plain or self.weight.dtype != torch.bfloat16

    def norm(self, h: torch.Tensor) -> torch.Tensor:
        """The model's own final norm, bit for bit. h: (..., width), any type; same shape back."""
        if self.norm_style == "none":
            return h
        if self.norm_style.startswith("layer_norm"):
            return self._layer_norm(h)
        full = h.float()
        full = full * torch.rsqrt(full.pow(2).mean(-1, keepdim=True) + self.norm_eps)
        if self.norm_style == "one_plus_weight":
            return (full * (1.0 + self.norm_weight.float())).type_as(h)
        if self.norm_style == "weight_in_float32":
            return (full * self.norm_weight.float()).type_as(h)
        return self.norm_weight * full.to(h.dtype)

    def _layer_norm(self, h: torch.Tensor) -> torch.Tensor:
        weight, bias = self.norm_weight, self.norm_bias
        states = h
        if self.norm_style == "layer_norm_in_float32":
            states, weight = h.float(), weight.float()
            bias = None if bias is None else bias.float()
        if self.norm_style == "layer_norm_one_plus_weight":
            weight = weight + 1
        return functional.layer_norm(states, weight.shape, weight, bias, self.norm_eps).type_as(h)

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

    The norm's convention is not guessed from names: it is the one that gives the module's own
    output on random states, bit for bit, or else the nearest one within rounding.

    Raises:
        InputError: the final norm is none that Isogloss knows, or the head is not in memory.
    """
    norm, head = decoder.final_norm, decoder.head
    weight, norm_bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
    if weight is None:
        weight = torch.ones(head.weight.shape[1], dtype=head.weight.dtype)
        weight = weight.to(head.weight.device)
    if head.weight.is_meta or weight.is_meta:
        raise InputError("unembedding: offloaded: use a device_map that keeps it on a device")
    probe = torch.randn(16, len(weight), generator=torch.Generator().manual_seed(0)) * 3
    probe = torch.cat([probe, probe * 1e-3]).to(weight.device, weight.dtype)
    bias = None if head.bias is None else head.bias.detach()
    norm_bias = None if norm_bias is None else norm_bias.detach()
    nearest: tuple[float, Readout | None] = (torch.inf, None)
    with torch.no_grad():
        expected = _normed(norm, probe)
        for eps, style in product(_epsilons(norm), NORM_STYLES):
            readout = Readout(
                weight.detach(), eps, style, head.weight.detach(), bias, decoder.softcap,
                norm_bias, decoder.scale,
            )  # fmt: skip
            if norm_bias is not None and not style.startswith("layer_norm"):
                continue
            read = readout.norm(probe)
            if torch.equal(read, expected):
                return readout
            nearest = min(nearest, (_off(read, expected), readout), key=lambda pair: pair[0])
    if nearest[1] is not None and nearest[0] <= 4:
        return nearest[1]
    name = type(norm).__name__
    raise InputError(
        f"final norm {name}: none of {', '.join(NORM_STYLES)}: the nearest is off by "
        f"{nearest[0]:.2g} units in the last place"
    )


def _normed(norm: nn.Module, probe: torch.Tensor) -> torch.Tensor:
    """What a norm makes of states; what takes a model's last states may be no norm at all."""
    name = type(norm).__name__
    try:
        made = norm(probe)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of many kinds: it takes other arguments, or other shapes
        raise InputError(f"final norm {name}: no norm ({one_line(error)})") from error
    if not isinstance(made, torch.Tensor) or made.shape != probe.shape:
        raise InputError(f"final norm {name}: no norm: it gives states of another shape")
    return made


def _epsilons(norm: nn.Module) -> list[float]:
    """What a norm may add to the variance: what it says, then what is usual."""
    named = [getattr(norm, name, None) for name in ("variance_epsilon", "eps")]
    named += [value for name, value in vars(norm).items() if "eps" in name]
    return list(dict.fromkeys([e for e in named if isinstance(e, float)] + [*USUAL_EPSILONS]))


def _off(read: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, in units in the last place of the largest number of a row."""
    size = expected.abs().amax(-1, keepdim=True).float()
    off = (read.float() - expected.float()).abs() / size
    largest = float(off.max()) / torch.finfo(expected.dtype).eps
    return largest if largest == largest else torch.inf


def write_readout(decoder: HasReadout, path: Path, spec: Mapping[str, Any]) -> None:
    """Write a model's readout as safetensors, in the type that the model was loaded in.

    Args:
        decoder: the model.
        path: file to write, named by the key of the spec.
        spec: what the readout is.

    Raises:
        InputError: as `readout_of`.
    """
    readout = readout_of(decoder)
    tensors = {"norm.weight": readout.norm_weight, "head.weight": readout.weight}
    if readout.bias is not None:
        tensors["head.bias"] = readout.bias
    if readout.norm_bias is not None:
        tensors["norm.bias"] = readout.norm_bias
    about = {
        "norm_eps": readout.norm_eps,
        "norm_style": readout.norm_style,
        "softcap": readout.softcap,
    }
    if readout.scale is not None:
        about["scale"] = readout.scale
    write_tensors(tensors, path, spec, about)


def read_readout(path: Path, device: torch.device | str = "cpu") -> Readout:
    """The readout that `write_readout` wrote, in the type that it was written in.

    Raises:
        InputError: the file is missing, damaged, or not a readout of this version.
    """
    if not path.exists():
        raise InputError(f"{path}: no such readout: run the rule that makes it")
    tensors, settings = read_tensors(path, "readout", device)
    return Readout(
        norm_weight=tensors["norm.weight"],
        norm_eps=settings["norm_eps"],
        norm_style=settings["norm_style"],
        weight=tensors["head.weight"],
        bias=tensors.get("head.bias"),
        softcap=settings["softcap"],
        norm_bias=tensors.get("norm.bias"),
        scale=settings.get("scale"),
    )
