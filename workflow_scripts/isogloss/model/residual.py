"""The residual stream of a model, seen and changed at every layer by hooks at its blocks."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from isogloss.model.decoder import Decoder

AtLayer = Callable[[int, torch.Tensor], torch.Tensor | None]


@contextmanager
def residual_stream(decoder: Decoder, at: AtLayer) -> Iterator[None]:
    """Call `at(layer, states)` at every layer of each forward; what it returns takes its place.

    Layer 0 is what enters the first block, layer n what leaves the last one, before the final
    norm. Blocks return a tensor, a tuple or a list, by family and version. Of streams
    side by side `at` sees the state that the readout would see, and a change moves the first.
    """
    streams = decoder.streams

    def shown(given: torch.Tensor, layer: int) -> torch.Tensor | None:
        if streams is None:
            return at(layer, given)
        states = streams.merged(given)
        new = at(layer, states)
        return None if new is None else streams.moved(given, new - states)

    def entering(_: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        states = args[0] if args else kwargs["hidden_states"]
        new = shown(states, 0)
        if new is None:
            return None
        return ((new, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": new})

    def leaving(layer: int) -> Callable:
        def hook(_: Any, __: tuple, output: Any) -> Any:
            alone = isinstance(output, torch.Tensor)
            states = output if alone else output[0]
            new = shown(states, layer)
            if new is None:
                return None
            return new if alone else (new, *output[1:])

        return hook

    with ExitStack() as hooks:
        first = decoder.layers[0]
        hooks.enter_context(first.register_forward_pre_hook(entering, with_kwargs=True))
        for i, block in enumerate(decoder.layers):
            hooks.enter_context(block.register_forward_hook(leaving(i + 1)))
        yield
