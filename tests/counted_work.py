"""How much a model computes: counted, so that no other work on the machine matters."""

from collections.abc import Callable

from isogloss.model.decoder import Decoder


def tokens_through_blocks(decoder: Decoder, work: Callable[[], object]) -> int:
    """Tokens that the blocks of a model compute in some work, each counted in every block."""
    seen = 0

    def count(_: object, args: tuple) -> None:
        nonlocal seen
        seen += args[0].shape[:-1].numel()

    handles = [
        block.get_submodule("self_attn.q_proj").register_forward_pre_hook(count)
        for block in decoder.layers
    ]
    try:
        work()
    finally:
        for handle in handles:
            handle.remove()
    return seen
