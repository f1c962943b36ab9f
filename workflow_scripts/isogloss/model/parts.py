"""The parts of a causal language model, whatever its modules are called.

Blocks are the list of modules that is as long as the configuration says. The final norm is what
takes the last block's states in a forward, and how logits come from them is proved on the same
forward: nothing is taken from a name alone.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from isogloss.errors import InputError, one_line
from isogloss.model.decoder import device_of
from isogloss.model.norms import ACTIVATIONS, Network, norm_of
from isogloss.model.readout import readout_of
from isogloss.model.streams import streams_of

BACKBONES = ("model.language_model", "language_model", "model")
SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
"""What configurations call the cap of the logits (Gemma; RecurrentGemma; xLSTM)."""
TRACED = 8
"""Tokens of the forward in which the parts are sought."""
PEEKED, PEEKED_NARROW = 1e-3, 0.03
"""How much later tokens may change earlier states by rounding, as shares of their norm: the largest
in float32; in narrow types, where it may send a token to other experts, the median."""


@dataclass
class Parts:
    """What a model is made of, as far as Isogloss needs it.

    Attributes:
        backbone: holds the blocks.
        layers: the blocks that text passes.
        final_norm: takes the last block's states; the identity where the head takes them.
        head: the unembedding.
        softcap, scale: of the logits; None without.
        blocks_return_tuples: whether a block returns a tuple rather than a tensor.
        network: what is between the blocks and the unembedding, where it is more than a norm.
        skips: whether text passes by some blocks (those that look at pictures).
    """

    backbone: nn.Module
    layers: nn.ModuleList
    final_norm: nn.Module
    head: nn.Linear
    softcap: float | None
    scale: float | None
    blocks_return_tuples: bool
    network: Network | None = None
    skips: bool = False


def find_parts(model: Any, slug: str) -> Parts:
    """Find a model's parts by their names and by one forward of a few tokens.

    Raises:
        InputError: a part is missing, states depend on later tokens, or the logits do not follow
            from the last block's states by a norm (or a dense layer between two), the unembedding,
            a bias, a scale and a soft cap.
    """
    head = find_head(model, slug)
    backbone, layers = find_backbone(model, slug)
    if head.weight.is_meta:
        raise InputError(
            f"models.{slug}: unembedding: offloaded: use a device_map that keeps it on a device"
        )
    trace = _traced(model, backbone, layers, head, slug)
    holds_head = any(module is head for module in trace.taker.modules())
    norm = nn.Identity() if holds_head else trace.taker
    blocks = nn.ModuleList(trace.blocks) if len(trace.blocks) < len(layers) else layers
    parts = Parts(backbone, blocks, norm, head, softcap_of(model), None, trace.as_tuple)
    parts.skips = len(blocks) < len(layers)
    return _proved(model, parts, trace, slug)


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
    wanted = "" if n_layers is None else f" (a list of {n_layers} modules)"
    raise unsupported(slug, model, f"no decoder blocks{wanted} found")


def softcap_of(model: Any) -> float | None:
    """The cap of the final logits."""
    config = model.config.get_text_config()
    return next((cap for name in SOFTCAPS if (cap := getattr(config, name, None))), None)


def unsupported(slug: str, model: Any, fault: str) -> InputError:
    """What is said of a model that cannot be used."""
    return InputError(f"models.{slug}: {type(model).__name__}: {fault}: choose another model")


@dataclass
class _Trace:
    """What a forward of a few tokens showed.

    Attributes:
        blocks: those that ran.
        states: (row, place, feature) of the last block.
        as_tuple: whether the block gave a tuple.
        taker: what took them, a module with its parts.
        chain: modules without parts that ran from there to the unembedding, in turn.
        logits: the model's own.
    """

    blocks: list[nn.Module]
    states: torch.Tensor
    as_tuple: bool
    taker: nn.Module
    chain: list[nn.Module]
    logits: torch.Tensor


@torch.inference_mode()
def _traced(
    model: Any, backbone: nn.Module, layers: nn.ModuleList, head: nn.Linear, slug: str
) -> _Trace:
    """One forward, seen by hooks; another one shows that states depend on no later token."""
    streams = streams_of(backbone)
    inside = {id(module) for module in layers.modules()}
    outputs: list[Any] = []
    states: list[torch.Tensor] = []
    ran: list[nn.Module] = []
    takers: list[nn.Module] = []
    chain: list[nn.Module] = []

    def left(block: nn.Module, _: Any, output: Any) -> None:
        ran.append(block)
        takers.clear()
        chain.clear()
        outputs.append(output)
        given = _states(output)
        states.append(given if streams is None else streams.merged(given))

    def taking(module: nn.Module, args: tuple, kwargs: dict) -> None:
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        if states and given and _same(given[0], states[-1]):
            takers.append(module)
        if takers and not list(module.children()):
            chain.append(module)

    embed = model.get_input_embeddings()
    ids = torch.arange(TRACED) * 7919 % min(head.weight.shape[0], len(embed.weight))
    others = [m for m in model.modules() if id(m) not in inside]
    with ExitStack() as hooks:
        for block in layers:
            hooks.enter_context(block.register_forward_hook(left))
        for module in others:
            hooks.enter_context(module.register_forward_pre_hook(taking, with_kwargs=True))
        logits = _logits(model, ids, slug)
    if not states:
        raise unsupported(slug, model, "its decoder blocks take no part in a forward of text")
    last, blocks = states[-1], [block for block in layers if block in ran]
    if last.ndim != 3 or tuple(last.shape[:2]) != (1, TRACED):
        shape = f"of shape {tuple(last.shape)}, not (row, place, feature)"
        raise unsupported(slug, model, f"its blocks give states {shape}")
    if not takers:
        raise unsupported(slug, model, "no final norm takes its last block's states as they are")
    trace = _Trace(
        blocks, last, not isinstance(outputs[-1], torch.Tensor), takers[0], list(chain), logits
    )
    with blocks[-1].register_forward_hook(left):
        _logits(model, torch.cat([ids[: TRACED // 2], ids[: TRACED // 2].flip(0)]), slug)
    _check_causal(model, last, states[-1], slug)
    return trace


def _logits(model: Any, ids: torch.Tensor, slug: str) -> torch.Tensor:
    """(row, place, token) of the model's own forward."""
    device = device_of(model.get_input_embeddings())
    try:
        logits: torch.Tensor = model(input_ids=ids[None].to(device), use_cache=False).logits
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of many kinds, by family
        fault = f"its own forward ends in {type(error).__name__} ({one_line(error)})"
        raise unsupported(slug, model, fault) from error
    return logits


def _check_causal(model: Any, states: torch.Tensor, other: torch.Tensor, slug: str) -> None:
    """Refuse a model whose states of the first half change with the second half of the tokens.

    transformers loads encoders (BERT, XLM-R) as causal models, whatever they attend to; a token's
    score would then depend on the token itself.
    """
    before, after = (given[0, : TRACED // 2].float() for given in (states, other))
    changes = (after - before).norm(dim=-1) / before.norm(dim=-1)
    full = states.dtype == torch.float32
    off = float(changes.max() if full else changes.median())
    if off > (PEEKED if full else PEEKED_NARROW):
        raise unsupported(
            slug,
            model,
            f"its states depend on tokens that come later (by {off:.2g} of their norm), as an "
            "encoder's do: where it was trained as a decoder, set is_decoder in its config.json",
        )


def _states(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output[0]


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a is b or (a.shape == b.shape and torch.equal(a, b.to(a)))


@torch.inference_mode()
def _proved(model: Any, parts: Parts, trace: _Trace, slug: str) -> Parts:
    """The parts with the scale, and the network before the unembedding, that give the logits.

    Raises:
        InputError: none does, or the norm is unknown.
    """
    expected = trace.logits[0].float()
    if not (torch.isfinite(trace.states).all() and torch.isfinite(expected).all()):
        return parts  # what overflows is named with its item, before the first forward
    fault, nearest = "", torch.inf
    allowed, largest = 1e-4, float(expected.abs().max())
    if (dtype := parts.head.weight.dtype) != torch.float32:
        allowed = 4 * torch.finfo(dtype).eps * largest
    for candidate in (parts, *_with_network(parts, trace.chain)):
        try:
            plain = readout_of(candidate)
        except InputError as error:
            fault = fault or str(error)
            continue
        normed = plain.norm(trace.states[0].to(plain.weight.device, dtype))
        if normed.shape[-1] != (width := plain.weight.shape[1]):
            fault = (
                fault
                or f"its blocks give {normed.shape[-1]} features, its unembedding takes {width}"
            )
            continue
        for scale in (None, *_scales(model)):
            readout = replace(plain, scale=scale)
            values = torch.cat([block for _, block in readout.logit_blocks(normed, 4096)], -1)
            off = float((values - expected.to(values.device)).abs().max())
            if off <= max(allowed, 1e-5 * largest):
                return replace(candidate, scale=scale)
            nearest = min(nearest, off)
    differ = f"its logits differ by {nearest:.2g} from those of its final norm and unembedding, "
    raise unsupported(slug, model, fault or f"{differ}{allowed:.2g} is allowed")


def _with_network(parts: Parts, chain: list[nn.Module]) -> Iterator[Parts]:
    """The parts with the network that ran before the unembedding, under each activation."""
    chain = chain[: chain.index(parts.head)] if parts.head in chain else []
    dense = [module for module in chain if isinstance(module, nn.Linear)]
    if len(dense) != 1 or chain[-1] is dense[0]:
        return
    before = chain[: chain.index(dense[0])] or [nn.Identity()]
    weight, bias = dense[0].weight, dense[0].bias
    first = norm_of(before[0], weight.shape[1], weight)
    last = norm_of(chain[-1], len(weight), weight)
    for activation in ACTIVATIONS:
        yield replace(parts, network=Network(first, weight, bias, activation, last))


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
