"""Products with a weight matrix on the CPU, through oneDNN in every type.

torch gives float32 to MKL, which has AVX-512 for Intel's processors alone: on an AMD EPYC of the
fifth generation it reaches 0.09 TFLOP/s per core where oneDNN, which torch takes for bfloat16
anyway, reaches 0.20. Both sum in float32; only the order differs.
"""

from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn import functional


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`functional.linear`: (..., width) times (n, width) transposed gives (..., n)."""
    if x.dtype == torch.float32 and x.device.type == "cpu" and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return functional.linear(x, weight, bias)


def speed_up(model: Any) -> None:
    """Let the linear layers of a model multiply with `linear`; those that a hook wraps are left."""
    for module in model.modules():
        if type(module) is nn.Linear and "forward" not in module.__dict__:
            if module.weight.dtype == torch.float32 and module.weight.device.type == "cpu":
                module.__dict__["forward"] = MethodType(_multiply, module)


def as_before(model: Any) -> None:
    """Take back `speed_up`: oneDNN's products have no gradients."""
    for module in model.modules():
        if getattr(module.__dict__.get("forward"), "__func__", None) is _multiply:
            del module.__dict__["forward"]


def _multiply(module: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """By the weights of the moment: a user may put others in their place."""
    return linear(x, module.weight, module.bias)
