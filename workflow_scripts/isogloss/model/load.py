"""A loaded language model, seen alike whatever its family: blocks, final norm, unembedding.

`load` opens what `isogloss.model.sources.fetch` left in a folder; `adapt` finds the parts in a
model that is already in memory. The readout (`isogloss.model.readout`) is what the
lens needs of it.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from isogloss.errors import InputError, OutOfMemory, one_line
from isogloss.model.allocator import keep_freed_memory
from isogloss.model.attention import BY_SEGMENTS, use_segments
from isogloss.model.matrix_products import speed_up
from isogloss.model.readout import HasReadout, Readout, read_readout, readout_of, write_readout
from isogloss.model.sources import ModelSource, fetch, model_digest

__all__ = [
    "Decoder",
    "Ends",
    "ModelCard",
    "Readout",
    "adapt",
    "card_of",
    "device_named",
    "device_of",
    "load",
    "load_ends",
    "memory_errors",
    "read_readout",
    "readout_of",
    "write_readout",
]

SUPPORTED = "Gemma 2, Gemma 3, Qwen 2, Qwen 3, Llama and Mistral are supported"
BACKBONES = ("model.language_model", "language_model", "model")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class ModelCard:
    """What a model is, for captions and attributes.

    `parameters` counts tied weights once; `context_length` is in tokens; `note` says how the
    weights differ from the published ones ('' when they do not); `digest` identifies weights and
    tokenizer.
    """

    slug: str
    family: str
    parameters: int
    n_layers: int
    width: int
    vocabulary: int
    context_length: int
    licence: str
    note: str
    digest: str


@dataclass
class Decoder:
    """A loaded decoder-only model and its parts.

    Attributes:
        model: in evaluation mode, without gradients.
        tokenizer: transformers' tokenizer of the model.
        card: what the model is.
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
    """

    model: Any
    tokenizer: Any
    card: ModelCard
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


@contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """Turn running out of memory in the block into an error that names the settings to change.

    Raises:
        OutOfMemory: an InputError: memory ran out, on the device or on the host.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and not re.search("can't allocate memory|out of memory", str(error)):
            raise
        raise OutOfMemory(
            f"{what}: out of memory ({one_line(error) or 'host memory'}): use dtype bfloat16, a "
            "smaller batch_tokens, or device_map auto to spread the model over devices"
        ) from error


# -- loading ---------------------------------------------------------------------------------------


def load(source: ModelSource, cache: Path, device: str = "auto", tokenizer: Any = None) -> Decoder:
    """Load a model for inference, fetching it first where needed.

    From then on the process keeps the memory that it frees (`isogloss.model.allocator`).

    Args:
        source: which model, and its dtype, attention implementation and device map.
        cache: folder of fetched and converted models.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", ...; the source's
            device map, where given, goes before it.
        tokenizer: the model's own, where it is loaded already.

    Raises:
        InputError: not fetched, damaged or incomplete weights, an unsupported architecture,
            dtype, device or attention implementation, or no memory left.
    """
    where = f"models.{source.slug}"
    _check_dtype(source)
    place = source.device_map or {"": device_named(device)}
    folder = fetch(source, cache)
    _check_weights(folder, where)
    with memory_errors(f"{where}: loading"):
        model = _load_weights(folder, source, place)
    keep_freed_memory()
    tokenizer = tokenizer or load_tokenizer(folder, source)
    digest = model_digest(source, cache)
    return adapt(model, tokenizer, card_of(model, source, digest))


@dataclass
class Ends:
    """What leads from the last layer to the logits: all that a readout is made of."""

    final_norm: nn.Module
    head: nn.Linear
    softcap: float | None


def load_ends(source: ModelSource, cache: Path) -> Ends:
    """Load final norm and unembedding alone: no tokenizer, and of the blocks only the first.

    A model of 27 billion parameters is then a few gigabytes. transformers builds the modules and
    finds their weights, as in `load`.

    Raises:
        InputError: as `load`.
    """
    _check_dtype(source)
    folder = fetch(source, cache)
    _check_weights(folder, f"models.{source.slug}")
    with memory_errors(f"models.{source.slug}: loading"):
        model = _load_weights(folder, source, {"": torch.device("cpu")}, only_first_block=True)
    model.eval().requires_grad_(False)
    norm = _backbone(model, source.slug).get_submodule("norm")
    ends = Ends(norm, _head(model, source.slug), _softcap(model))
    _check_readout(ends, source.slug)
    return ends


def device_named(name: str) -> torch.device:
    """The device that a name means here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device: {name!r} is not available here: use cpu or auto") from error


def _check_dtype(source: ModelSource) -> None:
    if source.dtype not in DTYPES:
        where = f"models.{source.slug}.dtype"
        raise InputError(f"{where}: {source.dtype!r}: use one of {', '.join(DTYPES)}")


def _check_weights(folder: Path, where: str) -> None:
    """Open every weights file's header, which also checks its length."""
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{where}: {file}: not a whole safetensors file ({one_line(error)}): delete it "
                "and fetch the model again"
            ) from error


def _load_weights(
    folder: Path, source: ModelSource, place: Any, only_first_block: bool = False
) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    where = f"models.{source.slug}: {folder}"
    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    if only_first_block:
        logging.set_verbosity_error()  # it would list what the other blocks hold
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=_one_block(folder, source) if only_first_block else None,
            dtype=DTYPES[source.dtype],
            attn_implementation=source.attention,
            device_map=place,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=source.trust_remote_code,
            ignore_mismatched_sizes=True,  # so that they are reported below, not raised
            output_loading_info=True,
        )
    except Exception as error:  # of many kinds, by what the folder says of the model
        if isinstance(error, MemoryError | RuntimeError) and not isinstance(error, RecursionError):
            raise
        trust = "trust_remote_code: true runs it, if you trust it; " * ("custom code" in str(error))
        raise InputError(
            f"{where}: transformers cannot load it ({one_line(error)}): correct "
            f"models.{source.slug}; {trust}{SUPPORTED}"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    model, report = loaded
    wrong = sorted(report["missing_keys"]) + [str(key[0]) for key in report["mismatched_keys"]]
    if wrong:  # transformers would fill them with random numbers and go on
        raise InputError(
            f"{where}: {len(wrong)} weights are missing or misshapen, {wrong[0]} first: "
            "fetch the model again"
        )
    return model


def _one_block(folder: Path, source: ModelSource) -> Any:
    """The model's configuration, cut to one block."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=source.trust_remote_code
    )
    text = config.get_text_config()
    text.num_hidden_layers = 1
    if types := getattr(text, "layer_types", None):
        text.layer_types = types[:1]
    return config


def load_tokenizer(folder: Path, source: ModelSource) -> Any:
    """The folder's tokenizer."""
    from transformers import AutoTokenizer

    try:
        if source.source == "package":
            return _converted_tokenizer(folder)
        return AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=source.trust_remote_code
        )
    except Exception as error:  # of many kinds, by what the folder says of the tokenizer
        raise InputError(
            f"models.{source.slug}: {folder}: no usable tokenizer ({one_line(error)}): "
            "save the model's tokenizer there"
        ) from error


def _converted_tokenizer(folder: Path) -> Any:
    """The tokenizer of a converted model, which is whole in its tokenizer.json.

    `from_pretrained` reads the same, but parses that file (33 MB for Gemma) four times more.
    """
    from transformers import PreTrainedTokenizerFast

    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    for name in ("tokenizer_class", "backend", "is_local", "local_files_only"):
        settings.pop(name, None)
    template = folder / "chat_template.jinja"
    if template.exists():
        settings["chat_template"] = template.read_text(encoding="utf-8")
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **settings)


# -- finding the parts -----------------------------------------------------------------------------


def card_of(model: Any, source: ModelSource, digest: str) -> ModelCard:
    """The card of a model in memory, with what its registry entry says of it."""
    config = model.config.get_text_config()
    return ModelCard(
        slug=source.slug,
        family=source.family or config.model_type,
        parameters=source.parameters or sum(p.numel() for p in model.parameters()),
        n_layers=config.num_hidden_layers,
        width=config.hidden_size,
        vocabulary=config.vocab_size,
        context_length=config.max_position_embeddings,
        licence=source.licence,
        note=source.note,
        digest=digest,
    )


def adapt(model: Any, tokenizer: Any, card: ModelCard) -> Decoder:
    """Find the parts of a causal language model and make it ready for inference.

    Raises:
        InputError: no blocks, final norm, embeddings or unembedding where the supported families
            have them, or a final norm of another kind.
    """
    model.eval().requires_grad_(False)
    speed_up(model)
    use_segments(model)
    config = model.config.get_text_config()
    backbone = _backbone(model, card.slug)
    head = _head(model, card.slug)
    types = _layer_types(config)
    decoder = Decoder(
        model=model,
        tokenizer=tokenizer,
        card=card,
        backbone=backbone,
        layers=backbone.get_submodule("layers"),  # type: ignore[arg-type]
        final_norm=backbone.get_submodule("norm"),
        head=head,
        embed=backbone.get_submodule("embed_tokens"),
        softcap=_softcap(model),
        mask_style="by_layer_type" if getattr(config, "layer_types", None) else "plain",
        layer_types=types,
        sliding_window=config.sliding_window if "sliding_attention" in types else None,
        bos_id=begins_with(tokenizer),
        attention=config._attn_implementation,
        blocks_return_tuples=False,
    )
    _check_readout(decoder, card.slug)
    decoder.blocks_return_tuples = _blocks_return_tuples(decoder)
    return decoder


def _backbone(model: Any, slug: str) -> nn.Module:
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


def _head(model: Any, slug: str) -> nn.Linear:
    """The unembedding."""
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise _unsupported(slug, model, "unembedding (a linear output layer)")
    return head


def _softcap(model: Any) -> float | None:
    """The cap of the final logits."""
    return getattr(model.config.get_text_config(), "final_logit_softcapping", None)


def _check_readout(parts: HasReadout, slug: str) -> None:
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
