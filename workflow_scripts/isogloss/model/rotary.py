"""Rotary position embeddings whose frequencies depend on how long a sequence is.

LongRoPE (Phi-3.5-mini, Phi-4-mini) and dynamic NTK scaling take them by the longest position of a
whole forward, and the latter by those of earlier forwards too: a question's scores would depend
on its neighbours. Here every token has the frequencies of its own sequence: the prompt by itself,
or the prompt and one phrase up to the token that predicts its last. Where the phrases of a
question fall on both sides of a boundary, its tree has the prompt twice.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from isogloss.model.replacing import replaced_forward

Reach = Callable[[int], int]
"""Length of a sequence -> what its frequencies depend on; 0 for those of ordinary length."""


def ordinary(length: int) -> int:
    """The reach of a model whose position embeddings go by position alone."""
    return 0


@dataclass(frozen=True)
class LengthScaled:
    """The rotary modules of a model that go by length.

    Attributes:
        modules: transformers' modules, called as (states, positions, ...) -> (cos, sin).
        boundaries: lengths up to which the frequencies stay as they are.
        by_length: whether beyond them every length has its own (dynamic NTK), or all have the same.
    """

    modules: tuple[nn.Module, ...]
    boundaries: tuple[int, ...]
    by_length: bool

    def reach(self, length: int) -> int:
        """What the frequencies of a sequence of so many tokens depend on.

        >>> phi = LengthScaled((), (4096,), by_length=False)
        >>> phi.reach(4096), phi.reach(4097), phi.reach(9000)
        (0, 1, 1)
        """
        beyond = sum(length > boundary for boundary in self.boundaries)
        return length if beyond and self.by_length else beyond

    @contextmanager
    def each_by_itself(self, reach: torch.Tensor) -> Iterator[None]:
        """Let every token have the frequencies of its own sequence.

        Args:
            reach: (row, place) `reach` of the sequence that each token is in, as the positions.
        """
        with ExitStack() as replaced:
            for module in self.modules:
                forward = _by_reach(module.forward, reach)
                replaced.enter_context(replaced_forward(module, forward))
            yield


def _by_reach(forward: Callable, reach: torch.Tensor) -> Callable:
    """Cosines and sines put together from a call for each reach, which sees its tokens alone."""
    values = reach.unique().tolist()

    def each(states: torch.Tensor, position_ids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        tables = None
        for value in values:
            inside = (reach == value).to(position_ids.device)
            forward(states, torch.zeros_like(position_ids), *args, **kwargs)  # forget longer ones
            new = forward(states, position_ids * inside, *args, **kwargs)
            if tables is None:
                tables = new
            else:
                pairs = zip(new, tables, strict=True)
                tables = tuple(torch.where(inside[..., None], a, b) for a, b in pairs)
        return tables

    return each


def length_scaled(model: nn.Module) -> LengthScaled | None:
    """The rotary modules of a model that go by the length of a forward; None where none do."""
    modules, boundaries, kinds = [], set(), set()
    for module in model.modules():
        named = getattr(module, "rope_type", None)
        by_layer = named if isinstance(named, dict) else {None: named}
        for layer, kind in by_layer.items():
            if kind != "longrope" and "dynamic" not in str(kind):
                continue
            modules.append(module)
            kinds.add(kind)
            boundaries.add(_boundary(module, layer))
    if not modules:
        return None
    by_length = any(kind != "longrope" for kind in kinds)
    return LengthScaled(tuple(dict.fromkeys(modules)), tuple(sorted(boundaries)), by_length)


def unproved_scaling(model: nn.Module) -> str | None:
    """The scaling by length that code of a model's own announces in its configuration.

    Its modules are none that `length_scaled` knows, and may keep the frequencies of earlier
    forwards. None for transformers' own models, and where no such scaling is announced.
    """
    if type(model).__module__.startswith("transformers."):
        return None
    config: Any = model.config
    if getattr(config, "use_dynamic_ntk", False):  # Qwen 1
        return "use_dynamic_ntk"
    for name in ("rope_parameters", "rope_scaling"):
        settings = getattr(config, name, None) or {}
        kind = str(settings.get("rope_type") or settings.get("type"))
        if kind in ("longrope", "su") or "dynamic" in kind:
            return f"{name}: {kind}"
    return None


def _boundary(module: Any, layer: str | None) -> int:
    """The length up to which a rotary module keeps its frequencies."""
    settings = module.config.rope_parameters
    settings = settings[layer] if layer else settings
    if settings["rope_type"] == "longrope":
        return int(settings["original_max_position_embeddings"])
    return int(module.original_max_seq_len)
