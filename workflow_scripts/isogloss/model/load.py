"""Loading a language model from the folder that `isogloss.model.fetching.fetch` gives."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from isogloss.errors import InputError, one_line
from isogloss.model.adapt import adapt, attention_of, begins_with
from isogloss.model.decoder import Decoder
from isogloss.model.fetching import fetch
from isogloss.model.memory import keep_freed_memory, memory_errors
from isogloss.model.norms import Network
from isogloss.model.parts import find_parts
from isogloss.model.sources import ModelSource, folder_here
from isogloss.program import say
from isogloss.questions.prompts import Tokens

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DEQUANTISED = ("fp8", "mxfp8", "mxfp4", "compressed-tensors")
"""Kinds of packed weights that transformers unpacks on some machines and not on others."""


def load(source: ModelSource, cache: Path, device: str = "auto", tokenizer: Any = None) -> Decoder:
    """Load a model for inference, fetching it first where needed.

    From then on the process keeps the memory that it frees (`isogloss.model.memory`).

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
    _check_code(folder, source)
    _check_weights(folder, where)
    in_full_float32()
    with memory_errors(f"{where}: loading"):
        model = _load_weights(folder, source, place)
    if source.attention == "sdpa" and attention_of(model) == "eager":
        say(f"{where}: attention: eager: transformers has no other for {type(model).__name__}")
    keep_freed_memory()
    tokenizer = tokenizer or load_tokenizer(folder, source)
    decoder = adapt(model, tokenizer, source.slug)
    if decoder.path["taken"] != "fast":
        say(f"{where}: {decoder.path['taken']} path: {decoder.reason}")
    return decoder


def in_full_float32() -> None:
    """No TF32 on NVIDIA cards: torch rounds convolutions (Mamba) to ten bits by default, and
    products where somebody's environment says so."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


@dataclass
class Ends:
    """What leads from the last layer to the logits: all that a readout is made of."""

    final_norm: nn.Module
    head: nn.Linear
    softcap: float | None
    scale: float | None
    network: Network | None


def load_ends(source: ModelSource, cache: Path) -> Ends:
    """Load final norm and unembedding alone: no tokenizer, and of the blocks only the first.

    A model of 27 billion parameters is then a few gigabytes. transformers builds the modules and
    finds their weights, as in `load`. A model that one block does not make is loaded whole.

    Raises:
        InputError: as `load`.
    """
    _check_dtype(source)
    folder = fetch(source, cache)
    _check_code(folder, source)
    _check_weights(folder, f"models.{source.slug}")
    with memory_errors(f"models.{source.slug}: loading"):
        try:
            return _ends(folder, source, only_first_block=True)
        except (InputError, RuntimeError, TypeError, ValueError, LookupError, AttributeError):
            return _ends(folder, source, only_first_block=False)


def _ends(folder: Path, source: ModelSource, only_first_block: bool) -> Ends:
    place = {"": torch.device("cpu")}
    model = _load_weights(folder, source, place, only_first_block)
    model.eval().requires_grad_(False)
    parts = find_parts(model, source.slug)
    return Ends(parts.final_norm, parts.head, parts.softcap, parts.scale, parts.network)


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


def _check_code(folder: Path, source: ModelSource) -> None:
    """Refuse a model that names code of another repository, which no key holds."""
    for name in ("config.json", "tokenizer_config.json"):
        file = folder / name
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        if source.trust_remote_code and (code := re.search(r'"([\w./-]+--[\w.]+)"', text)):
            raise InputError(
                f"models.{source.slug}: {file} runs code of another repository ({code[1]}), which "
                "can change without this one: save the model with its code beside it"
            )


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
        config = _config(folder, source, only_first_block)
        packed = _unpack(config)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
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
        if source.attention == "sdpa" and "does not support an attention implement" in str(error):
            return _load_weights(
                folder, replace(source, attention="eager"), place, only_first_block
            )
        if isinstance(error, MemoryError | RuntimeError) and not isinstance(error, RecursionError):
            raise
        trust = "trust_remote_code: true runs it, if you trust it; " * ("custom code" in str(error))
        raise InputError(
            f"{where}: transformers cannot load it ({one_line(error)}): correct "
            f"models.{source.slug}; {trust}or choose another model"
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
    if (unused := sorted(report["unexpected_keys"])) and not only_first_block:
        say(f"{where}: {len(unused)} weights of its files are not used, {unused[0]} first")
    if packed:
        _as_asked(model, DTYPES[source.dtype])
    return model


def _as_asked(model: Any, dtype: torch.dtype) -> None:
    """Give the weights of a model that was unpacked their type, as transformers gives others."""
    kept = {*(model._keep_in_fp32_modules or ()), *(model._keep_in_fp32_modules_strict or ())}
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not any(part in name for part in kept):
            parameter.data = parameter.data.to(dtype)


def _unpack(config: Any) -> bool:
    """Let weights in eight or four bits become numbers of the model's type, where they are such.

    transformers computes with them as they are where a card and its packages can, FP8 with states
    rounded too, and unpacks them elsewhere: results would depend on the machine.
    """
    kinds = [getattr(c, "quantization_config", None) for c in (config, config.get_text_config())]
    packed = [k for k in kinds if isinstance(k, dict) and k.get("quant_method") in DEQUANTISED]
    for kind in packed:
        kind["dequantize"] = True
    return bool(packed)


def read_config(source: ModelSource, folder: Path | None) -> Any:
    """A model's config.json, of its folder; None: of the hub."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(
        folder or source.repo,
        revision=None if folder else source.revision,
        local_files_only=folder is not None,
        trust_remote_code=source.trust_remote_code,
    )


def _config(folder: Path, source: ModelSource, only_first_block: bool) -> Any:
    """The model's configuration, cut to one block where no more is wanted."""
    config = read_config(source, folder)
    if only_first_block:
        text = config.get_text_config()
        text.num_hidden_layers = 1
        if types := getattr(text, "layer_types", None):
            text.layer_types = types[:1]
    return config


def tokens_here(source: ModelSource, cache: Path) -> Tokens | None:
    """A model's tokenizer; None where it is not here."""
    folder = folder_here(source, cache)
    if folder is None:
        return None
    tokenizer = load_tokenizer(folder, source)
    return Tokens(tokenizer, begins_with(tokenizer))


def load_tokenizer(folder: Path, source: ModelSource) -> Any:
    """The folder's tokenizer."""
    from transformers import AutoTokenizer

    try:
        if source.source == "package":
            return _converted_tokenizer(folder)
        return AutoTokenizer.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=source.trust_remote_code,
            mistral_format=False,  # else it would be another tokenizer where mistral-common is
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
