"""A language model in memory, seen alike whatever its family: blocks, final norm, unembedding."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from isogloss.errors import InputError
from isogloss.model.attention import BY_SEGMENTS, use_segments
from isogloss.model.matrix_products import speed_up
from isogloss.model.readout import HasReadout, Readout, readout_of
from isogloss.model.rotary import LengthScaled, length_scaled, ordinary

SUPPORTED = "Gemma 2, Gemma 3, Qwen 2, Qwen 3, Llama and Mistral are supported"
BACKBONES = ("model.language_model", "language_model", "model")


@dataclass
class Decoder:
    """A loaded decoder-only model and its parts.

    Attributes:
        model: in evaluation mode, without gradients.
        tokenizer: transformers' tokenizer of the model.
        slug: name of the model in the study.
        context_length: tokens that the model can take.
        backbone: the model without its head: embeddings, blocks, final norm.
        layers: the blocks; layer i of the residual stream is what leaves block i - 1.
        final_norm: applied to the last layer before the head.
        head: the unembedding.
        embed: token embeddings.
        softcap: of the final logits; None where there is none.
        mask_style: "by_layer_type": the backbone takes one attention mask for each layer type, as a
            dictionary (a plain mask is silently wrong for Gemma 3); "plain": one mask.
        layer_types: "full_attention" or "sliding_attention", by block.
        sliding_window: tokens that a sliding block sees, itself included; None without such blocks.
        bos_id: the token that begins every sequence of this model; None when it uses none.
        attention: attention implementation in use ("segments", "sdpa", "eager", ...).
        blocks_return_tuples: whether a block returns a tuple rather than a tensor.
        length_scaled: its position embeddings, where they go by the length of a sequence.
    """

    model: Any
    tokenizer: Any
    slug: str
    context_length: int
    backbone: nn.Module
    layers: nn.ModuleList
    final_norm: nn.Module
    head: nn.Linear
    embed: nn.Module
    softcap: float | None
    mask_style: str
    layer_types: tuple[str, ...]
    sliding_window: int | None
    bos_id: int | None
    attention: str
    blocks_return_tuples: bool
    length_scaled: LengthScaled | None

    def reach(self, length: int) -> int:
        """What position embeddings of a sequence of so many tokens depend on but the positions."""
        scaled = self.length_scaled
        return ordinary(length) if scaled is None else scaled.reach(length)

    @cached_property
    def readout(self) -> Readout:
        """Final norm and unembedding, whose tensors are the model's own."""
        return readout_of(self)

    @property
    def by_segments(self) -> bool:
        """Whether it attends by segments, and can so run a row of joined ones."""
        return self.attention == BY_SEGMENTS

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    @property
    def width(self) -> int:
        return self.head.weight.shape[1]

    @property
    def vocabulary(self) -> int:
        return self.head.weight.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        return self.head.weight.dtype

    @property
    def input_device(self) -> torch.device:
        """Where token ids must be."""
        return device_of(self.embed)

    def device_of_layer(self, layer: int) -> torch.device:
        """Where block `layer` computes: with a device map, blocks are on several devices."""
        return device_of(self.layers[layer])


def device_of(module: nn.Module) -> torch.device:
    """The device that a module computes on, which for offloaded weights is not where they lie."""
    hook = getattr(module, "_hf_hook", None)
    if (device := getattr(hook, "execution_device", None)) is not None:
        return torch.device(device)
    return next(module.parameters()).device


def adapt(model: Any, tokenizer: Any, slug: str) -> Decoder:
    """Find the parts of a causal language model and make it ready for inference.

    Raises:
        InputError: no blocks, final norm, embeddings or unembedding where the supported families
            have them, or a final norm of another kind.
    """
    model.eval().requires_grad_(False)
    speed_up(model)
    use_segments(model)
    config = model.config.get_text_config()
    backbone = find_backbone(model, slug)
    head = find_head(model, slug)
    types = _layer_types(config)
    decoder = Decoder(
        model=model,
        tokenizer=tokenizer,
        slug=slug,
        context_length=config.max_position_embeddings,
        backbone=backbone,
        layers=backbone.get_submodule("layers"),  # type: ignore[arg-type]
        final_norm=backbone.get_submodule("norm"),
        head=head,
        embed=backbone.get_submodule("embed_tokens"),
        softcap=softcap_of(model),
        mask_style="by_layer_type" if getattr(config, "layer_types", None) else "plain",
        layer_types=types,
        sliding_window=config.sliding_window if "sliding_attention" in types else None,
        bos_id=begins_with(tokenizer),
        attention=config._attn_implementation,
        blocks_return_tuples=False,
        length_scaled=length_scaled(backbone),
    )
    check_readout(decoder, slug)
    decoder.blocks_return_tuples = _blocks_return_tuples(decoder)
    return decoder


def find_backbone(model: Any, slug: str) -> nn.Module:
    """The module that holds blocks, final norm and embeddings."""
    modules = dict(model.named_modules())
    for name in BACKBONES:
        if isinstance(getattr(modules.get(name), "layers", None), nn.ModuleList):
            break
    else:
        raise _unsupported(slug, model, f"decoder blocks ({', '.join(BACKBONES)} with .layers)")
    for part, what in (("norm", "final norm"), ("embed_tokens", "token embeddings")):
        if not isinstance(getattr(modules[name], part, None), nn.Module):
            raise _unsupported(slug, model, f"{what} ({name}.{part})")
    return modules[name]


def find_head(model: Any, slug: str) -> nn.Linear:
    """The unembedding."""
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise _unsupported(slug, model, "unembedding (a linear output layer)")
    return head


def softcap_of(model: Any) -> float | None:
    """The cap of the final logits."""
    return getattr(model.config.get_text_config(), "final_logit_softcapping", None)


def check_readout(parts: HasReadout, slug: str) -> None:
    """Refuse a final norm that the lens could not apply."""
    try:
        readout_of(parts)
    except InputError as error:
        raise InputError(f"models.{slug}: {error}; {SUPPORTED}") from error


def _unsupported(slug: str, model: Any, missing: str) -> InputError:
    return InputError(
        f"models.{slug}: {type(model).__name__}: no {missing} found: {SUPPORTED}, choose such a "
        "model"
    )


def _layer_types(config: Any) -> tuple[str, ...]:
    """Attention of each block; a configuration without types slides everywhere or nowhere."""
    if types := getattr(config, "layer_types", None):
        return tuple(types)
    slides = getattr(config, "sliding_window", None) is not None
    return ("sliding_attention" if slides else "full_attention",) * config.num_hidden_layers


def begins_with(tokenizer: Any) -> int | None:
    """The BOS token where the tokenizer begins text with it, else None.

    Having a BOS token is not using it: SmolLM's never appears unless a chat template writes it.
    """
    bos = tokenizer.bos_token_id
    return bos if bos is not None and tokenizer("a").input_ids[:1] == [bos] else None


@torch.inference_mode()
def _blocks_return_tuples(decoder: Decoder) -> bool:
    """What a block returns, seen in a forward of one token (it differs by family and version)."""
    seen: list[bool] = []
    hook = decoder.layers[0].register_forward_hook(
        lambda module, args, output: seen.append(isinstance(output, tuple))
    )
    try:
        decoder.backbone(
            input_ids=torch.zeros(1, 1, dtype=torch.long, device=decoder.input_device),
            use_cache=False,
        )
    finally:
        hook.remove()
    return seen[0]
