"""Random tiny models of every supported family, for tests and dry studies: no network, no truth.

Explicit configurations, seeded weights and a byte-level tokenizer built here. Norm weights and
biases are random too, since at their initial zeros and ones a wrong convention would go unseen.
"""

from pathlib import Path
from typing import Any

import torch

from isogloss.errors import InputError
from isogloss.files.atomic import whole_folder
from isogloss.model.adapt import adapt
from isogloss.model.decoder import Decoder

WITH_BOS = ("gemma2", "gemma3", "llama", "mistral")
FAMILIES = ("gemma2", "gemma3", "qwen2", "qwen3", "llama", "mistral")

BOS, EOS = "<bos>", "<eos>"
VOCABULARY = 384
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,  # the usual 0.02 leaves all logits of so small a model alike
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
"""Settings that tiny configurations share: 4 layers, width 32."""
WORDS = """ the and question answer of in is which what a country city bee honey water la de el que
 pregunta respuesta и что в на вопрос ответ 什么 的 是 问题 答案 سؤال जवाब : . , →"""
CHAT_TEMPLATE = (
    "{{ bos_token or '' }}{% for message in messages %}{{ message['role'] }}: "
    "{{ message['content'] }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def tiny_tokenizer(begins_with_bos: bool) -> Any:
    """A byte-level BPE tokenizer with 384 tokens: any text, some merges, BOS and EOS.

    Args:
        begins_with_bos: put BOS before a text (the chat template writes it in any case that the
            tokenizer has one, as published templates do).
    """
    from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    tokens = [BOS, EOS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = _merges(VOCABULARY - len(tokens))
    tokens += [left + right for left, right in merges]
    core = Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([BOS, EOS])
    if begins_with_bos:
        core.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, 0)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS if begins_with_bos else None,
        eos_token=EOS,
        pad_token=EOS,
        chat_template=CHAT_TEMPLATE,
    )


def _merges(count: int) -> list[tuple[str, str]]:
    """The first `count` merges that build WORDS from the left, each word with its space."""
    from tokenizers import pre_tokenizers

    merges: dict[tuple[str, str], None] = {}
    for word, _ in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(WORDS):
        for end in range(1, len(word)):
            merges[(word[:end], word[end])] = None
    made: dict[str, tuple[str, str]] = {}
    for left, right in merges:
        made.setdefault(left + right, (left, right))
    if len(made) < count:
        raise ValueError(f"WORDS give {len(made)} merges, {count} are needed")
    return list(made.values())[:count]


def _tiny_config(family: str) -> Any:
    """An explicit configuration: 4 layers, width 32, windows of 8 tokens where it slides."""
    import transformers

    gemma = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8}
    of_family: dict[str, tuple[str, dict[str, Any]]] = {
        "gemma2": ("Gemma2Config", gemma | {"final_logit_softcapping": 5.0}),
        "gemma3": (
            "Gemma3TextConfig",
            gemma | {"layer_types": ["sliding_attention", "full_attention"] * 2},
        ),
        "qwen2": ("Qwen2Config", {"tie_word_embeddings": True, "bos_token_id": None}),
        "qwen3": ("Qwen3Config", {"head_dim": 8, "bos_token_id": None}),
        "llama": ("LlamaConfig", {"tie_word_embeddings": True}),
        "mistral": ("MistralConfig", {"sliding_window": 8}),
    }
    if family not in of_family:
        raise InputError(f"family: {family!r}: use one of {', '.join(FAMILIES)}")
    name, settings = of_family[family]
    return getattr(transformers, name)(**COMMON | settings)


def tiny_model(
    family: str, seed: int = 0, dtype: torch.dtype = torch.float32, attention: str | None = None
) -> Decoder:
    """A random tiny model of a family, ready for use; the same for the same seed.

    Args:
        family: one of FAMILIES.
        seed: of the weights; the global random state is left as it was.
        dtype: of the weights.
        attention: attention implementation; transformers' choice by default.

    Raises:
        InputError: unknown family.
    """
    from transformers import AutoModelForCausalLM

    config = _tiny_config(family)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.2 * torch.randn_like(parameter))
    return adapt(model.to(dtype), tiny_tokenizer(family in WITH_BOS), f"tiny-{family}")


def save_tiny_model(folder: Path, family: str, seed: int = 0) -> None:
    """Save a tiny model and its tokenizer as a folder that a `path` source can name.

    Raises:
        InputError: unknown family, or the folder exists already.
    """
    from transformers.utils import logging

    if folder.exists():
        raise InputError(f"{folder}: exists already: give the name of a new folder")
    logging.disable_progress_bar()
    decoder = tiny_model(family, seed)
    with whole_folder(folder) as temporary:
        decoder.model.save_pretrained(temporary)
        decoder.tokenizer.save_pretrained(temporary)
