"""GGUF files, quantised weights for llama.cpp, as safetensors in float32.

Torch and transformers are imported only when something is converted.
"""

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isogloss.errors import InputError, one_line

COMPUTES = re.compile("rope.scal|sliding_window|logit|softcap|scale|clamp|temperature")
"""Metadata that change what a model computes, among those that transformers may read past."""
NEUTRAL = ("none", 0, 1)
"""Values of them that leave it as it is."""


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Dequantise a GGUF into float32 safetensors, with its tokenizer, as transformers reads it.

    The quantisation configuration is dropped: the saved weights are plain, and with it transformers
    would refuse to save them.

    Args:
        gguf: the file to convert.
        folder: existing folder to write to.

    Raises:
        InputError: transformers cannot read the file, or reads past what its model computes with;
            tensors are missing, or memory runs out.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    with _parsed_once():
        model, tokenizer, missing = _read(gguf)
        if missing:  # transformers would fill them with random numbers and go on
            raise InputError(
                f"{gguf.name}: {len(missing)} tensors are missing or misshapen, {missing[0]} "
                "first: use another source"
            )
        if unread := _unread(gguf, model.config):
            raise InputError(
                f"{gguf.name}: transformers reads past {', '.join(unread)}, without which it is "
                "another model: use its safetensors"
            )
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):  # written readable by their owner alone
        file.chmod((folder / "config.json").stat().st_mode)


def _read(gguf: Path) -> tuple[Any, Any, list[str]]:
    """Model and tokenizer as transformers reads them, and the weights that the file lacks."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place: dict[str, Any] = {
        "pretrained_model_name_or_path": str(gguf.parent),
        "gguf_file": gguf.name,
    }
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            **place, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(**place)
        _restore_pre_tokenizer(gguf, tokenizer)
    except MemoryError as error:
        raise InputError(f"{gguf.name}: out of memory: convert it on a larger machine") from error
    except (OSError, ValueError, KeyError, NotImplementedError, ImportError) as error:
        raise InputError(
            f"{gguf.name}: transformers cannot read it ({one_line(error)}): use another source"
        ) from error
    model, report = loaded
    wrong = sorted(report["missing_keys"]) + [str(key[0]) for key in report["mismatched_keys"]]
    return model, tokenizer, wrong


def _unread(gguf: Path, config: Any) -> list[str]:
    """Metadata and tensors of a file that change what its model computes, and went unread.

    transformers maps some names of a family and drops the others. What it dropped may still be its
    default (Gemma 2's soft caps), so values are compared with the configuration that it made.
    """
    from gguf import GGUFReader

    reader = GGUFReader(str(gguf))
    unread = [tensor.name for tensor in reader.tensors if tensor.name.startswith("rope_")]
    for name, field in reader.fields.items():
        if COMPUTES.search(name) and not name.startswith(("general.", "tokenizer.")):
            value, read = field.contents(), getattr(config, name.rsplit(".", 1)[1], None)
            if name.endswith("sliding_window_pattern"):
                read = [kind == "sliding_attention" for kind in getattr(config, "layer_types", ())]
            if value not in (read, *NEUTRAL):
                unread.append(name)
    return unread


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Share one reader of the file and one table of names.

    transformers parses the file for the configuration, the weights and the tokenizer, and makes the
    table for every module. Of Gemma 3 270M, whose vocabulary is 262,144, that took 11 of 29 s.
    """
    import gguf
    import numpy as np

    class Reader(gguf.GGUFReader):
        """Reads its hundreds of thousands of fields from a plain view of the mapped file: a memmap
        makes every slice a memmap again."""

        @property
        def data(self) -> Any:
            return self._data

        @data.setter
        def data(self, mapped: Any) -> None:
            self._data = mapped.view(np.ndarray)

    # transformers offers no way to hand these in, and looks them up in the module at each use.
    reader, names = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader = functools.cache(Reader)  # type: ignore[misc, assignment]
    gguf.get_tensor_name_map = functools.cache(names)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = reader, names  # type: ignore[misc]


def _restore_pre_tokenizer(gguf: Path, tokenizer: Any) -> None:
    """Split digits where the file says so: transformers reads past `tokenizer.ggml.pre`.

    Source: llama.cpp, LLAMA_VOCAB_PRE_TYPE_SMOLLM: digits one by one, then GPT-2's expression.
    """
    from gguf import GGUFReader
    from tokenizers.pre_tokenizers import ByteLevel, Digits
    from tokenizers.pre_tokenizers import Sequence as Steps

    field = GGUFReader(str(gguf)).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        steps = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
        tokenizer.backend_tokenizer.pre_tokenizer = Steps(steps)
