"""What a model's last states go through before its unembedding: a norm, or a small network."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from isogloss.errors import InputError, one_line

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
ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu", "tanh", "none")


@dataclass(frozen=True)
class Norm:
    """A final norm.

    Attributes:
        weight: (width,) as stored in the model; ones where it has none.
        eps: added to the mean square or variance.
        style: of the root mean square, "weight" scales by w after rounding to the states' type
            (Llama, Mistral, Qwen), "one_plus_weight" by 1 + w in float32 before rounding (Gemma),
            "weight_in_float32" by w before rounding (OLMo 2, Helium). Less the mean, "layer_norm"
            is torch's in the states' type (GPT-2, BLOOM), "layer_norm_in_float32" rounds after
            it (Cohere, OLMo 1), "layer_norm_one_plus_weight" scales by 1 + w (Nemotron). "none"
            is no norm: blocks end in one (OpenAI GPT, BART).
        bias: (width,) or None.
    """

    weight: torch.Tensor
    eps: float
    style: str
    bias: torch.Tensor | None = None

    def __call__(self, h: torch.Tensor) -> torch.Tensor:
        """The model's own norm, bit for bit. h: (..., width), any type; same shape back."""
        if self.style == "none":
            return h
        if self.style.startswith("layer_norm"):
            return self._layer_norm(h)
        full = h.float()
        full = full * torch.rsqrt(full.pow(2).mean(-1, keepdim=True) + self.eps)
        if self.style == "one_plus_weight":
            return (full * (1.0 + self.weight.float())).type_as(h)
        if self.style == "weight_in_float32":
            return (full * self.weight.float()).type_as(h)
        return self.weight * full.to(h.dtype)

    def _layer_norm(self, h: torch.Tensor) -> torch.Tensor:
        weight, bias, states = self.weight, self.bias, h
        if self.style == "layer_norm_in_float32":
            states, weight = h.float(), weight.float()
            bias = None if bias is None else bias.float()
        if self.style == "layer_norm_one_plus_weight":
            weight = weight + 1
        return functional.layer_norm(states, weight.shape, weight, bias, self.eps).type_as(h)


@dataclass(frozen=True)
class Network:
    """A norm, a dense layer, an activation, a norm: the heads of BERT and ModernBERT.

    Attributes:
        first: "none" where blocks end in a norm.
        weight, bias: (width behind, width) and (width behind,) or None, of the dense layer.
        activation: one of ACTIVATIONS.
        last: before the unembedding.
    """

    first: Norm
    weight: torch.Tensor
    bias: torch.Tensor | None
    activation: str
    last: Norm

    def __call__(self, h: torch.Tensor) -> torch.Tensor:
        """h: (..., width), any type; (..., width behind) back, in the same type."""
        return self.last(self._activated(functional.linear(self.first(h), self.weight, self.bias)))

    def _activated(self, values: torch.Tensor) -> torch.Tensor:
        if self.activation == "gelu_tanh":
            return functional.gelu(values, approximate="tanh")
        if self.activation == "none":
            return values
        made: torch.Tensor = getattr(functional, self.activation)(values)
        return made


def norm_of(module: nn.Module, width: int, like: torch.Tensor) -> Norm:
    """What a model's norm does, with its own tensors.

    Its convention is not guessed from names: it is the one that gives the module's own output on
    random states, bit for bit, or else the nearest one within rounding.

    Args:
        module: the norm; the identity where there is none.
        width: of the states that it takes.
        like: a tensor of their type, on their device.

    Raises:
        InputError: it is none that Isogloss knows.
    """
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if weight is None:
        weight = like.new_ones(width)
    if weight.is_meta:
        raise InputError("unembedding: offloaded: use a device_map that keeps it on a device")
    probe = torch.randn(16, len(weight), generator=torch.Generator().manual_seed(0)) * 3
    probe = torch.cat([probe, probe * 1e-3]).to(weight.device, weight.dtype)
    bias = None if bias is None else bias.detach()
    nearest: tuple[float, Norm | None] = (torch.inf, None)
    with torch.no_grad():
        expected = _normed(module, probe)
        for eps, style in product(_epsilons(module), NORM_STYLES):
            if bias is not None and not style.startswith("layer_norm"):
                continue
            norm = Norm(weight.detach(), eps, style, bias)
            read = norm(probe)
            if torch.equal(read, expected):
                return norm
            nearest = min(nearest, (_off(read, expected), norm), key=lambda pair: pair[0])
    if nearest[1] is not None and nearest[0] <= 4:
        return nearest[1]
    raise InputError(
        f"final norm {type(module).__name__}: none of {', '.join(NORM_STYLES)}: the nearest is off "
        f"by {nearest[0]:.2g} units in the last place"
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
    named: list[Any] = [getattr(norm, name, None) for name in ("variance_epsilon", "eps")]
    named += [value for name, value in vars(norm).items() if "eps" in name]
    return list(dict.fromkeys([e for e in named if isinstance(e, float)] + [*USUAL_EPSILONS]))


def _off(read: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, in units in the last place of the largest number of a row."""
    size = expected.abs().amax(-1, keepdim=True).float()
    off = (read.float() - expected.float()).abs() / size
    largest = float(off.max()) / torch.finfo(expected.dtype).eps
    return largest if largest == largest else torch.inf
