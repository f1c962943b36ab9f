"""Every causal language model that transformers can build, tried as small as its settings allow.

Not a test, but a search for faults (`make models-sweep`). Configurations are shrunk by the names of
their settings, so that some do not build, or build what cannot run: those are listed too. What
builds ends in right numbers, in one line, or in what has to be mended:

    PYTHONPATH=workflow_scripts:tests python -m architectures.every_class [MODEL_TYPE ...]
"""

import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from architectures.check import check
from architectures.families import FAMILIES
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from isogloss.errors import InputError, one_line
from isogloss.model.tiny_models import COMMON

LARGEST = 3_000_000
"""Parameters of a model that counts as small."""
RIGHT = 3e-5
"""What float32 numbers may be off."""
SMALL = [  # (names of settings, value), the first that fits
    (r"^index_topk$", 8),
    (r"^index_n_heads$", 16),  # with few heads many scores are 0, and ties go by places
    (r"per_tok|top_?k$|topk", 2),
    (r"n_group|num_expert_groups|topk_group|n_shared_experts|num_shared_expert", 1),
    (r"experts$|experts_num|num_experts", 4),
    (r"key_value_heads|kv_heads", 2),
    (r"heads$|n_head$", 4),
    (r"(moe|shared|expert).*(intermediate|hidden)_size|expert_ffn", 16),
    (r"intermediate_size|ffn_(hidden_)?(dim|size)|d_ff|n_inner|mlp_dim", 64),
    (r"rank$|hidden_size_per_layer_input|head_dim$|d_state|state_size", 8),
    (r"^(hidden_size|d_model|n_embd|embedding_size|d_embed|emb_dim|dim|width|n_embed)$", 32),
    (r"^(num_hidden_layers|n_layers?|num_layers|decoder_layers|encoder_layers|depth)$", 4),
    (r"^(vocab_size|n_vocab|n_tokens)", COMMON["vocab_size"]),
    (r"max_position|n_positions|max_seq|n_ctx", 512),
]


def small(config_class: type, also: dict[str, Any] | None = None) -> dict[str, Any]:
    """Settings of a configuration, those that give it its size shrunk, with those of its parts."""
    usual = config_class()
    settings: dict[str, Any] = {}
    for name, value in usual.to_dict().items():
        part = getattr(usual, name, None)
        if isinstance(part, transformers.PretrainedConfig):
            settings[name] = small(type(part)) | {"model_type": part.model_type}
        elif isinstance(value, int) and not isinstance(value, bool):
            fits = (new for pattern, new in SMALL if re.search(pattern, name))
            settings[name] = min(value, next(fits, value)) if value > 0 else value
    known = usual.to_dict().keys() | usual.attribute_map.keys()
    return settings | {k: v for k, v in COMMON.items() if k in known} | (also or {})


def parameters(config: Any) -> int:
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return sum(p.numel() for p in model.parameters())


def attempts(config_class: type) -> Iterator[Callable[[], dict[str, Any]]]:
    """What makes settings to try, from the likeliest on."""
    latent = {"num_key_value_heads": 4, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8}
    for also in ({}, {"is_decoder": True}, {"num_key_value_heads": 4}, latent, {"topk_group": 1}):
        yield lambda also=also: small(config_class, also)
    yield lambda: dict(COMMON)
    yield lambda: {}


def outcome(model_type: str) -> tuple[str, str]:
    """What became of a model type: its kind, and a word about it."""
    config_class = getattr(transformers, CONFIG_MAPPING_NAMES[model_type])
    last = ("not built", "")
    for make in attempts(config_class):
        try:
            settings = make()
            n = parameters(config_class(**COMMON | settings))
        except Exception as error:  # of many kinds: settings that do not go together
            last = ("not built", f"{type(error).__name__}: {one_line(error)}")
            continue
        if n > LARGEST:
            last = ("not built", f"{n} parameters")
            continue
        FAMILIES[model_type] = (CONFIG_MAPPING_NAMES[model_type], settings)
        last = tried(model_type)
        if "its own forward" not in last[1]:  # else other settings may go together
            break
    return last


def tried(model_type: str) -> tuple[str, str]:
    """The same of one whose settings are among the families."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            outcome = check(model_type, torch.float32, Path(folder))
        except InputError as error:
            return "refused", one_line(error)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            ours = [f for f in traceback.extract_tb(error.__traceback__) if "/tests/" in f.filename]
            place = f"{Path(last.filename).name}:{last.lineno}, by {ours[-1].name}"
            return "traceback", f"{type(error).__name__}: {one_line(error)} ({place})"
    off = max(float(part.max()) for part in outcome.differences)
    return ("right" if off < RIGHT else "WRONG"), f"{outcome.path['taken']}, off {off:.0e}"


def main() -> None:
    transformers.logging.set_verbosity_error()
    built = {name for name, _ in FAMILIES.values()}
    asked = sys.argv[1:] or [
        t for t in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if CONFIG_MAPPING_NAMES.get(t) not in built
    ]
    for model_type in asked:
        print(model_type, *outcome(model_type), sep=" | ", flush=True)


if __name__ == "__main__":
    main()
