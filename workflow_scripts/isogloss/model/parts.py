"""The parts of a causal language model, whatever its modules are called.

Blocks are the list of modules that is as long as the configuration says. The final norm is what
takes the last block's states in a forward, and how logits come from them is proved on the same
forward: nothing is taken from a name alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from isogloss.errors import InputError, one_line
from isogloss.model.decoder import device_of
from isogloss.model.readout import readout_of
from isogloss.model.streams import streams_of

BACKBONES = ("model.language_model", "language_model", "model")
SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
"""What configurations call the cap of the logits (Gemma; RecurrentGemma; xLSTM)."""
TRACED = 8
"""Tokens of the forward in which the parts are sought."""


@dataclass
class Parts:
    """What a model is made of, as far as Isogloss needs it.

    Attributes:
        backbone: holds the blocks.
        layers: the blocks.
        final_norm: takes the last block's states; the identity where the head takes them.
        head: the unembedding.
        softcap, scale: of the logits; None without.
        blocks_return_tuples: whether a block returns a tuple rather than a tensor.
    """

    backbone: nn.Module
    layers: nn.ModuleList
    final_norm: nn.Module
    head: nn.Linear
    softcap: float | None
    scale: float | None
    blocks_return_tuples: bool


def find_parts(model: Any, slug: str) -> Parts:
    """Find a model's parts by their names and by one forward of a few tokens.

    Raises:
        InputError: a part is missing, or the logits do not follow from the last block's states by
            a norm, the unembedding, a bias, a scale and a soft cap.
    """
    head = find_head(model, slug)
    backbone, layers = find_backbone(model, slug)
    if head.weight.is_meta:
        raise InputError(
            f"models.{slug}: unembedding: offloaded: use a device_map that keeps it on a device"
        )
    states, as_tuple, norm, logits = _traced(model, backbone, layers, head, slug)
    parts = Parts(backbone, layers, norm, head, softcap_of(model), None, as_tuple)
    return _proved(model, parts, states, logits, slug)


def find_head(model: Any, slug: str) -> nn.Linear:
    """The unembedding."""
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise unsupported(slug, model, "no unembedding (a linear output layer) found")
    return head


def find_backbone(model: Any, slug: str) -> tuple[nn.Module, nn.ModuleList]:
    """The module that holds the blocks, and the blocks."""
    modules = dict(model.named_modules())
    for name in BACKBONES:
        if isinstance(layers := getattr(modules.get(name), "layers", None), nn.ModuleList):
            return modules[name], layers
    n_layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    for name, module in modules.items():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            return modules[name.rpartition(".")[0]], module
    raise unsupported(slug, model, f"no decoder blocks (a list of {n_layers} modules) found")


def softcap_of(model: Any) -> float | None:
    """The cap of the final logits."""
    config = model.config.get_text_config()
    return next((cap for name in SOFTCAPS if (cap := getattr(config, name, None))), None)


def unsupported(slug: str, model: Any, fault: str) -> InputError:
    """What is said of a model that cannot be used."""
    return InputError(f"models.{slug}: {type(model).__name__}: {fault}: choose another model")


@torch.inference_mode()
def _traced(
    model: Any, backbone: nn.Module, layers: nn.ModuleList, head: nn.Linear, slug: str
) -> tuple[torch.Tensor, bool, nn.Module, torch.Tensor]:
    """One forward: states of the last block, whether it gave a tuple, what took them, logits."""
    streams = streams_of(backbone)
    inside = {id(module) for module in layers.modules()}
    outputs: list[Any] = []
    states: list[torch.Tensor] = []
    takers: list[nn.Module] = []

    def left(_: Any, __: Any, output: Any) -> None:
        outputs.append(output)
        given = _states(output)
        states.append(given if streams is None else streams.merged(given))

    def taking(module: nn.Module, args: tuple, kwargs: dict) -> None:
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        if states and given and _same(given[0], states[-1]):
            takers.append(module)

    embed = model.get_input_embeddings()
    ids = torch.arange(TRACED) * 7919 % min(head.weight.shape[0], len(embed.weight))
    others = [m for m in model.modules() if id(m) not in inside]
    with _hooks(
        layers[-1].register_forward_hook(left),
        *(m.register_forward_pre_hook(taking, with_kwargs=True) for m in others),
    ):
        try:
            logits = model(input_ids=ids[None].to(device_of(embed)), use_cache=False).logits
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # of many kinds, by family
            fault = f"its own forward ends in {type(error).__name__} ({one_line(error)})"
            raise unsupported(slug, model, fault) from error
    if not states:
        raise unsupported(slug, model, "its decoder blocks take no part in a forward of text")
    last_shape, width = tuple(states[-1].shape), head.weight.shape[1]
    if last_shape != (1, TRACED, width):
        shape = f"(row, place, {width})"
        raise unsupported(slug, model, f"its blocks give states of shape {last_shape}, not {shape}")
    if not takers:
        raise unsupported(slug, model, "no final norm takes its last block's states as they are")
    norm = nn.Identity() if takers[0] is head else takers[0]
    return states[-1], not isinstance(outputs[-1], torch.Tensor), norm, logits


def _states(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output[0]


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a is b or (a.shape == b.shape and torch.equal(a, b.to(a)))


@contextmanager
def _hooks(*handles: Any) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def _proved(
    model: Any, parts: Parts, states: torch.Tensor, logits: torch.Tensor, slug: str
) -> Parts:
    """The parts with the scale that gives the model's own logits.

    Raises:
        InputError: no scale does, or the norm is unknown.
    """
    expected = logits[0].float()
    if not (torch.isfinite(states).all() and torch.isfinite(expected).all()):
        return parts  # what overflows is named with its item, before the first forward
    try:
        plain = readout_of(parts)
    except InputError as error:
        raise unsupported(slug, model, str(error)) from error
    normed = plain.norm(states[0].to(plain.norm_weight.device, plain.weight.dtype))
    largest, allowed = expected.abs().max(), 1e-4
    if plain.weight.dtype != torch.float32:
        allowed = 4 * torch.finfo(plain.weight.dtype).eps * float(largest)
    nearest = torch.inf
    for scale in (None, *_scales(model)):
        readout = replace(plain, scale=scale)
        values = torch.cat([block for _, block in readout.logit_blocks(normed, 4096)], -1)
        off = float((values - expected.to(values.device)).abs().max())
        if off <= max(allowed, 1e-5 * float(largest)):
            return replace(parts, scale=scale)
        nearest = min(nearest, off)
    raise unsupported(
        slug,
        model,
        f"its logits differ by {nearest:.2g} from those of its final norm and unembedding, "
        f"{allowed:.2g} is allowed",
    )


def _scales(model: Any) -> list[float]:
    """What the configuration may multiply the logits by: numbers it calls so, and one over them."""
    config = model.config.get_text_config()
    values = [
        float(value)
        for name, value in config.to_dict().items()
        if any(part in name for part in ("logit", "scal", "multiplier"))
        and isinstance(value, int | float)
        and value > 0
    ]
    if base := getattr(config, "dim_model_base", None):  # MiniCPM
        values.append(base / config.hidden_size)
    return list(dict.fromkeys(number for value in values for number in (value, 1 / value)))
