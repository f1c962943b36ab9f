"""Products through oneDNN are those of torch, whatever the shape."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional

from isogloss.model.matrix_products import as_before, linear, speed_up


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("shape", [(3, 5, 64), (0, 64), (2, 0, 64), (64,), (7, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_is_that_of_torch(shape, dtype):
    x, weight, bias = drawn(*shape).to(dtype), drawn(17, 64).to(dtype), drawn(17).to(dtype)
    for used in (None, bias):
        torch.testing.assert_close(linear(x, weight, used), functional.linear(x, weight, used))


def test_operands_need_not_be_contiguous():
    x, weight = drawn(7, 128)[:, ::2], drawn(64, 17).T
    torch.testing.assert_close(linear(x, weight), functional.linear(x, weight))
    x, weight = drawn(6, 5, 64)[:, 2:4], drawn(100, 64)[20:37]
    torch.testing.assert_close(linear(x, weight), functional.linear(x, weight))


def test_a_model_keeps_its_weights_and_gives_the_same():
    layer = nn.Linear(64, 8).requires_grad_(False)
    x = drawn(4, 64)
    before = layer(x)
    speed_up(layer)
    torch.testing.assert_close(layer(x), before)
    layer.weight.zero_()
    torch.testing.assert_close(layer(x), layer.bias.expand(4, 8))


def test_a_weight_that_is_replaced_is_the_one_that_multiplies():
    """A user ablates a layer between two evaluations of one model."""
    layer = nn.Linear(64, 8).requires_grad_(False)
    speed_up(layer)
    layer.weight = nn.Parameter(torch.zeros(8, 64), requires_grad=False)
    torch.testing.assert_close(layer(drawn(4, 64)), layer.bias.expand(4, 8))
    twin = deepcopy(layer)
    twin.weight = nn.Parameter(torch.ones(8, 64), requires_grad=False)
    torch.testing.assert_close(layer(drawn(4, 64)), layer.bias.expand(4, 8))
    as_before(layer)
    assert "forward" not in layer.__dict__


def test_a_layer_that_a_hook_wraps_is_left_to_it():
    layer = nn.Linear(64, 8).requires_grad_(False)
    layer.forward = lambda x: x
    speed_up(layer)
    assert layer(drawn(4, 64)).shape == (4, 64)
