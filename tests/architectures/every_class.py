"""Every causal language model that transformers can build, tried as small as its settings allow.

Not a test, but a search for faults (`make models-sweep`). Configurations are shrunk by the names of
their settings; what that does not give a model is in `ALSO`, and what cannot be built is in
`NOT_BUILT` with the reason. What builds ends in right numbers, in one line, or in what has to be
mended. The last lines are those of docs/models.md:

    PYTHONPATH=workflow_scripts:tests python -m architectures.every_class [MODEL_TYPE ...]
"""

import dataclasses
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
ROUNDED = 0.08
"""What the median bfloat16 number may be off: rounding can send a token to other experts."""
SMALL = [  # (names of settings, value), the first that fits
    (r"^index_topk$", 8),
    (r"^index_n_heads$", 16),  # with few heads many scores are 0, and ties go by places
    (
        r"n_group|num_expert_groups|num_expert_group$|topk_group|n_shared_experts|num_shared_expert",
        1,
    ),
    (r"per_tok|top_?k$|topk|^moe_k$", 2),
    (r"experts$|experts?_num|num_experts", 4),
    (r"key_value_heads|kv_heads|kv_n_heads", 2),
    (r"heads$|n_head$", 4),
    (r"(moe|shared|expert).*(intermediate|hidden)_size|expert_ffn", 16),
    (r"intermediate_size|ffn_(hidden_)?(dim|size)|d_ff|dim_ff|d_inner|n_inner|mlp_dim", 64),
    (r"feed_forward_size|_channels?$", 64),
    (r"rank$|hidden_size_per_layer_input|head_dim$|dim_head|head_size|d_state|state_size", 8),
    (r"^(hidden_size|d_model|n_embd|embedding_size|d_embed|emb_dim|dim|width|n_embed)$", 32),
    (r"put_embedding_size", 48),
    (r"embed_dim$|hidden_size_global|^adapter_out_dim$", 32),
    (r"^(num_hidden_layers|n_layers?|num_layers|num_blocks|depth)$", 4),
    (r"^((num_)?decoder_layers|(num_)?encoder_layers)$", 4),
    (r"vocab_size|^(n_vocab|n_tokens)|_vocab$", COMMON["vocab_size"]),
    (r"max_position|n_positions|max_seq|n_ctx", 512),
]
PER_LAYER = {
    "layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 8, "head_dim": 8,
    "global_head_dim": 8,
}  # fmt: skip
INDEXER = {
    "indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 8,
    "indexer_compress_ratio": 2,
}  # fmt: skip
SLIDING_LATENT = {
    "swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_q_lora_rank": 8,
    "swa_kv_lora_rank": 8, "swa_head_dim": 16, "swa_qk_nope_head_dim": 8, "swa_v_head_dim": 8,
    "num_key_value_heads": 4, "index_head_dim": 8, "head_dim": 16,
}  # fmt: skip
ALSO: dict[str, dict[str, Any]] = {
    "blt": {"global_config": {"hidden_size": 64}},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 8,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            "full_attention": None,
        },
    },
    "dbrx": {"attn_config": {"rope_theta": 1e4, "clip_qkv": 8.0, "kv_n_heads": 2}},
    "dots3_note": {
        "text_config": SLIDING_LATENT, "audio_config": {"adapter_input_size": 32},
        "vision_config": {"adapter_in_dim": 32, "pyramid_num_routed": [-1, -1, 4, 4]},
    },
    "dots3_note_text": SLIDING_LATENT,
    "gemma4": {"text_config": PER_LAYER},
    "gemma4_unified": {"text_config": PER_LAYER},
    "hunyuan_v1_moe": {"num_experts": 4, "moe_topk": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "git": {"vision_config": {"num_hidden_layers": 2}},
    "mllama": {"text_config": {"cross_attention_layers": [1]}},
    "qwen4_exp": {"text_config": INDEXER},
    "qwen4_exp_text": INDEXER,
    "reformer": {
        "is_decoder": True, "axial_pos_embds_dim": (8, 24), "axial_pos_shape": (16, 32),
        "attn_layers": ("local", "lsh") * 2, "hash_seed": 0,
    },
    "xmod": {"is_decoder": True, "languages": ["en_XX"], "default_language": "en_XX"},
    "zamba": {"layers_block_type": ["linear_attention", "hybrid"] * 2, "num_key_value_heads": 4},
}  # fmt: skip
"""What a model type needs beside shrunk settings."""
DRAFTS = "drafts for another model, whose keys and states it takes"
MUSIC = "makes sound; transformers' own class cannot be built from this configuration"
NOT_BUILT = {
    "gemma3n": "needs timm for its pictures (tried with it: right; its text is Gemma 3n above)",
    "gemma4_assistant": DRAFTS,
    "gemma4_unified_assistant": DRAFTS,
    "musicgen": MUSIC,
    "musicgen_melody": MUSIC,
}
"""Model types that transformers does not build here, and why."""


def declared(config_class: type) -> dict[str, Any]:
    """Settings of a configuration that give it its size, shrunk, with those of its parts.

    What a class derives from others where nothing is said stays unsaid.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(config_class)}
    settings: dict[str, Any] = {}
    for name, value in defaults.items():
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            fits = (new for pattern, new in SMALL if re.search(pattern, name))
            settings[name] = min(value, next(fits, value))
    if "init_std" in defaults:  # else all logits of so small a model are alike
        settings["init_std"] = COMMON["initializer_range"]
    if defaults.get("head_dim", 0) is None:
        settings["head_dim"] = 8
    known = defaults.keys() | getattr(config_class, "attribute_map", {}).keys()
    settings |= {name: value for name, value in COMMON.items() if name in known}
    return settings | parts(config_class)


def parts(config_class: Any) -> dict[str, dict[str, Any]]:
    """The same of the configurations inside one, but of those that may be missing."""
    found = {}
    specs = {name: (kind, None) for name, kind in config_class.sub_configs.items()}
    for name, spec in config_class.sub_configs_defaults.items():
        if not spec.optional:
            specs[name] = (spec.config_class, spec.model_type)
    for name, (kind, model_type) in specs.items():
        if kind is transformers.AutoConfig:
            if model_type is None:
                continue
            kind = getattr(transformers, CONFIG_MAPPING_NAMES[model_type])
        found[name] = declared(kind) | ({"model_type": kind.model_type} if kind.model_type else {})
    return found


def merged(settings: dict[str, Any], also: dict[str, Any]) -> dict[str, Any]:
    """Settings with others in their place, part by part."""
    new = dict(settings)
    for name, value in also.items():
        part = isinstance(value, dict) and isinstance(new.get(name), dict)
        new[name] = new[name] | value if part else value
    return new


def parameters(config: Any) -> int:
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return sum(p.numel() for p in model.parameters())


def attempts(model_type: str, config_class: type) -> Iterator[Callable[[], dict[str, Any]]]:
    """What makes settings to try, from the likeliest on."""
    latent = {"num_key_value_heads": 4, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8}
    usual = ({}, {"is_decoder": True}, {"num_key_value_heads": 4}, latent, {"topk_group": 1})
    for also in (ALSO[model_type],) if model_type in ALSO else usual:
        yield lambda also=also: merged(declared(config_class), also)


def outcome(model_type: str) -> list[tuple[str, str]]:
    """What became of a model type in float32 and bfloat16: its kind, and a word about it."""
    if model_type in NOT_BUILT:
        return [("not built", NOT_BUILT[model_type])]
    config_class = getattr(transformers, CONFIG_MAPPING_NAMES[model_type])
    last = [("not built", "no settings tried")]
    for make in attempts(model_type, config_class):
        try:
            settings = make()
            n = parameters(config_class(**settings))
        except Exception as error:  # of many kinds: settings that do not go together
            fault = ("not built", f"{type(error).__name__}: {one_line(error)}")
            last = [fault] if last[0][0] == "not built" else last
            continue
        if n > LARGEST:
            return [("not built", f"{n} parameters")]
        FAMILIES[model_type] = (CONFIG_MAPPING_NAMES[model_type], settings)
        last = [tried(model_type, dtype) for dtype in (torch.float32, torch.bfloat16)]
        if not any(text in last[0][1] for text in ("its own forward", "tokens that come later")):
            break  # else other settings may go together
    return last


def tried(model_type: str, dtype: torch.dtype) -> tuple[str, str]:
    """The same of one whose settings are among the families."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            outcome = check(model_type, dtype, Path(folder))
        except InputError as error:
            return "refused", one_line(error)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            ours = [f for f in traceback.extract_tb(error.__traceback__) if "/tests/" in f.filename]
            place = f"{Path(last.filename).name}:{last.lineno}, by {ours[-1].name}"
            return "traceback", f"{type(error).__name__}: {one_line(error)} ({place})"
    if dtype == torch.float32:
        off = max(float(part.max()) for part in outcome.differences)
        right = off < RIGHT
    else:
        off = max(float(torch.tensor(part).median()) for part in outcome.differences)
        right = off < ROUNDED
    return ("right" if right else "WRONG"), f"{outcome.path['taken']}, off {off:.0e}"


def summary(outcomes: dict[str, list[tuple[str, str]]]) -> Iterator[str]:
    """Markdown: which types are right on which path, and why the others are not."""
    paths: dict[str, list[str]] = {}
    others = []
    for model_type, found in outcomes.items():
        kinds = {kind for kind, _ in found}
        if kinds == {"right"}:
            paths.setdefault(found[0][1].rpartition(", off")[0], []).append(model_type)
        else:
            kind, word = next(pair for pair in found if pair[0] != "right")
            word = re.sub(r"^models[.]\S+: \w+: |: choose another.*$", "", word)
            others.append(f"| {model_type} | {kind} | {word} |")
    yield f"{len(outcomes)} types, {sum(map(len, paths.values()))} of them right:\n"
    for path, types in sorted(paths.items()):
        yield f"- {path} ({len(types)}): {', '.join(types)}"
    yield "\n| | | why |\n|---|---|---|\n" + "\n".join(others)


def main() -> None:
    transformers.logging.set_verbosity_error()
    built = {name for name, _ in FAMILIES.values()}
    asked = sys.argv[1:] or [
        t for t in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if CONFIG_MAPPING_NAMES.get(t) not in built
    ]
    outcomes = {}
    for model_type in asked:
        outcomes[model_type] = outcome(model_type)
        for kind, word in outcomes[model_type]:
            print(model_type, kind, word, sep=" | ", file=sys.stderr, flush=True)
    print(*summary(outcomes), sep="\n")


if __name__ == "__main__":
    main()
