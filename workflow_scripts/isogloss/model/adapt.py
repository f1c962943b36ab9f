"""A loaded model made ready, and the path it takes: packed rows, or its own plain forward.

The fast path is for a model whose packed rows, and whose steering from a layer up, give what its
own forward gives for every sequence alone; that is tried on a few random tokens. Everything else
takes the plain path.
"""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from isogloss.errors import InputError
from isogloss.model.attention import use_segments, without_plans
from isogloss.model.decoder import Decoder
from isogloss.model.forward import last_mlp_at, run_blocks, without_blocks
from isogloss.model.matrix_products import speed_up
from isogloss.model.packing import Tree, collate, collate_rows, lay_out, predicting_places
from isogloss.model.parts import find_parts
from isogloss.model.rotary import length_scaled, unproved_scaling
from isogloss.model.streams import streams_of
from isogloss.questions.prompts import Phrase, Question

PACKED_TYPES = {"full_attention", "sliding_attention"}
LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "context_length")
"""What configurations call the context length."""
UNLIMITED = ("bloom", "mamba", "mamba2", "falcon_mamba", "recurrent_gemma", "rwkv", "xlstm")
"""Model types without learned or rotary positions: text of any length runs."""
OTHERWISE_NAMED = ("gpt2", "gpt_neox", "gptj", "codegen", "gpt_bigcode")
"""Model types whose modules have names of their own, and whose attention is full."""
RECURRENT = ("Mamba", "Rwkv", "Recurrent", "DeltaNet", "LSTM", "ShortConv", "SSM", "Lightning")
RECURRENT_TYPES = {"linear_attention", "conv", "hybrid", "mamba"}
WINDOWS = re.compile("window|chunk|index_topk|block_size")
"""What configurations call a limit of attention, apart from a plain sliding window: too far off to
be seen in a trial on short prompts."""
PLAIN_WINDOWS = {
    "sliding_window", "sliding_window_pattern", "use_sliding_window", "max_window_layers",
    "chunk_size_feed_forward",
}  # fmt: skip
PROMPTS = (6, 40, 25)
"""Tokens of the prompts that the paths are tried on; the first two share a row."""
NARROW, FULL = 0.1, 1e-4
"""What states may be off, as a share of their norm, in narrow types and in float32."""


def adapt(model: Any, tokenizer: Any, slug: str) -> Decoder:
    """Find the parts of a causal language model, and the path that gives its own results.

    Raises:
        InputError: a part is missing, or the logits do not follow from the last block's states.
    """
    model.eval().requires_grad_(False)
    speed_up(model)
    without_plans(model)
    config = model.config.get_text_config()
    if getattr(config, "alibi", False) and config._attn_implementation == "eager":
        if config.model_type == "falcon":
            raise InputError(
                f"models.{slug}: Falcon's eager attention in transformers counts ALiBi twice: set "
                f"models.{slug}.attention: sdpa"
            )
    parts = find_parts(model, slug)
    scaled = length_scaled(model)
    if scaled is None and (kind := unproved_scaling(model)):
        raise InputError(
            f"models.{slug}: {type(model).__name__}: code of its own scales positions by length"
            f" ({kind}), and may let a question's scores depend on others: leave out"
            " trust_remote_code where transformers has this architecture, or choose another model"
        )
    types = _layer_types(config, len(parts.layers))
    embed = getattr(parts.backbone, "embed_tokens", None)
    decoder = Decoder(
        model=model,
        tokenizer=tokenizer,
        slug=slug,
        context_length=context_length(config),
        backbone=parts.backbone,
        layers=parts.layers,
        final_norm=parts.final_norm,
        head=parts.head,
        embed=embed if isinstance(embed, nn.Module) else model.get_input_embeddings(),
        softcap=parts.softcap,
        scale=parts.scale,
        mask_style="by_layer_type" if getattr(config, "layer_types", None) else "plain",
        layer_types=types,
        sliding_window=config.sliding_window if "sliding_attention" in types else None,
        start=begins_with(tokenizer),
        attention=config._attn_implementation,
        blocks_return_tuples=parts.blocks_return_tuples,
        length_scaled=scaled,
        network=parts.network,
        streams=streams_of(parts.backbone),
    )
    _choose_path(decoder, parts.skips)
    return decoder


def context_length(config: Any) -> int | None:
    """Tokens that a model can take; None where nothing limits them."""
    if config.model_type in UNLIMITED:
        return None
    given = (getattr(config, name, None) for name in LENGTHS)
    return next((length for length in given if isinstance(length, int)), None)


def _layer_types(config: Any, n_layers: int) -> tuple[str, ...]:
    """Attention of each block; a configuration without types slides everywhere or nowhere."""
    if types := getattr(config, "layer_types", None):
        return tuple(types)
    slides = getattr(config, "sliding_window", None) is not None
    return ("sliding_attention" if slides else "full_attention",) * n_layers


def begins_with(tokenizer: Any) -> tuple[int, ...]:
    """The tokens that the tokenizer itself puts before a text.

    Most put BOS or nothing, XGLM and BioGPT `</s>`, GLM-4 two tokens. Having a BOS token is not
    using it: SmolLM's never appears unless a chat template writes it.
    """
    whole = list(tokenizer("a").input_ids)
    bare = list(tokenizer("a", add_special_tokens=False).input_ids)
    places = range(len(whole) - len(bare) + 1)
    before = next((whole[:i] for i in places if whole[i : i + len(bare)] == bare), [])
    if not before and whole[:1] == [tokenizer.bos_token_id]:  # it puts BOS even when told not to
        before = whole[:1]
    return tuple(before)


# Which path


def _choose_path(decoder: Decoder, skips: bool) -> None:
    """Try the paths, the fast one first, on a few random tokens.

    Args:
        skips: whether text passes by some of its blocks.
    """
    trees = _probe(decoder)
    decoder.fast = decoder.padded = False
    expected = _predicting_states(decoder, trees, [[0], [1], [2]])
    fault, apart = not_packed(decoder.model, decoder.backbone, decoder.layers)
    fault = fault or ("text passes by some of its blocks" if skips else None)
    if fault is None and decoder.network is not None:
        fault = "a network of its own before the unembedding"
    if fault is None:
        usual = decoder.attention
        use_segments(decoder.model)
        for attention in dict.fromkeys([attention_of(decoder.model), usual]):
            _attend_by(decoder, attention)
            decoder.fast = True
            fault = _fault(decoder, expected, lambda: _fast_states(decoder, trees))
            if fault is None:
                decoder.reason = "packed rows give what its own forward gives"
                return
            decoder.fast = False
        _attend_by(decoder, usual)
    decoder.reason = fault or ""
    if not apart:
        decoder.padded = True
        off = _fault(decoder, expected, lambda: [_predicting_states(decoder, trees, [[0, 1], [2]])])
        decoder.padded = off is None


def attention_of(model: Any) -> str:
    """The attention implementation that a model is set to."""
    return str(model.config.get_text_config()._attn_implementation)


def _attend_by(decoder: Decoder, attention: str) -> None:
    if attention_of(decoder.model) != attention:
        decoder.model.set_attn_implementation(attention)
    decoder.attention = attention


def not_packed(model: Any, backbone: Any, layers: nn.Module) -> tuple[str | None, bool]:
    """Why packed rows are not tried, None where they are; whether padding is not tried either.

    By modules and configuration alone: weights may be missing (torch's meta device).
    """
    config = model.config.get_text_config()
    types = set(getattr(config, "layer_types", None) or ())
    if _recurrent(layers, types):
        return "blocks carry a state from token to token", True
    if getattr(config, "index_topk", None):  # ties among the keys go by how many there are
        return "an indexer picks the keys", True
    if streams_of(backbone) is not None:
        return "residual streams side by side", False
    if other := types - PACKED_TYPES:
        return f"blocks of type {', '.join(sorted(other))}", False
    for name, value in config.to_dict().items():
        if WINDOWS.search(name) and name.lstrip("_") not in PLAIN_WINDOWS and value:
            return f"attention is limited by {name}", False
    if not hasattr(backbone, "embed_tokens") and config.model_type not in OTHERWISE_NAMED:
        return f"{type(model).__name__}: modules or positions of its own kind", False
    return None, False


def _recurrent(layers: nn.Module, types: set[str]) -> bool:
    """Whether a block carries a state from token to token, or convolves over them."""
    modules = list(layers.modules())
    named = any(part in type(module).__name__ for module in modules for part in RECURRENT)
    convolves = any(isinstance(module, nn.Conv1d) for module in modules)
    return named or convolves or bool(RECURRENT_TYPES & types)


def _fault(
    decoder: Decoder, expected: torch.Tensor, run: Callable[[], list[torch.Tensor]]
) -> str | None:
    """What is wrong with a path: an exception, or states that differ by too much."""
    try:
        for states in run():
            if states.shape != expected.shape:
                return f"packed rows give states of shape {tuple(states.shape)}"
            off = (states - expected).norm(dim=-1) / expected.norm(dim=-1)
            largest, allowed = float(off.max()), FULL if decoder.dtype == torch.float32 else NARROW
            if largest > allowed:
                return f"packed rows differ by {largest:.2g} of a state, {allowed:.2g} is allowed"
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of many kinds: what a family does not take
        return f"packed rows end in {type(error).__name__}"
    return None


def _probe(decoder: Decoder) -> list[Tree]:
    """Questions of random tokens, short and long, with two phrases each."""
    pick = torch.Generator().manual_seed(0)
    most = min(decoder.vocabulary, len(decoder.embed.weight))  # type: ignore[arg-type]

    def tokens(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(most, (n,), generator=pick).tolist())

    return [
        lay_out(
            Question(0, "main", tokens(n), tuple(Phrase(0, i, tokens(2), False) for i in (0, 1))),
            decoder.reach,
        )
        for n in PROMPTS
    ]


def _predicting_states(decoder: Decoder, trees: list[Tree], rows: list[list[int]]) -> torch.Tensor:
    """(state, feature) of the last layer that predict, in float32."""
    batch = collate_rows(trees, rows, decoder.fast and decoder.by_segments)
    at, kept = predicting_places(batch, trees), []

    def keep(layer: int, states: torch.Tensor) -> None:
        if layer == decoder.n_layers:
            kept.append(states[at].float().cpu())

    run_blocks(decoder, batch, keep)
    return kept[0]


def _fast_states(decoder: Decoder, trees: list[Tree]) -> list[torch.Tensor]:
    """The same in packed rows, and from a middle layer up as steering runs."""
    packed = _predicting_states(decoder, trees, [[0, 1], [2]])
    batch, middle = collate(trees, range(len(trees))), decoder.n_layers // 2
    row, column = predicting_places(batch, trees)
    stream: dict[int, torch.Tensor] = {}

    def keep(layer: int, states: torch.Tensor) -> None:
        stream[layer] = states

    with without_blocks(decoder, range(middle, decoder.n_layers)):
        run_blocks(decoder, batch, keep)
    start = stream[middle]
    with without_blocks(decoder, range(middle)), last_mlp_at(decoder, row, column):
        run_blocks(decoder, batch, keep, given=(middle, start))
    return [packed, stream[decoder.n_layers][row, column].float().cpu()]
