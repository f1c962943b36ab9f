"""Tiny random configurations of transformers' own classes, as many architectures as build."""

from dataclasses import fields
from typing import Any

import torch

from isogloss.model.tiny_models import COMMON, VOCABULARY

HEAD = {"head_dim": 8}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
LATENT = {
    "q_lora_rank": 16, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
    "v_head_dim": 8, "num_key_value_heads": 4,
}  # fmt: skip
DEEPSEEK = LATENT | {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "n_group": 2,
    "topk_group": 1, "moe_intermediate_size": 16, "first_k_dense_replace": 1,
}  # fmt: skip
# With few heads many scores of the indexer are 0, and ties go by places.
INDEXED = DEEPSEEK | {"index_topk": 8, "index_n_heads": 16, "index_head_dim": 8}
MAMBA = {"mamba_d_state": 8, "mamba_d_conv": 4, "mamba_expand": 2}
MAMBA2 = MAMBA | {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1}
DELTA = {
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2,
    "linear_num_value_heads": 4, "linear_conv_kernel_dim": 4,
}  # fmt: skip
SLIDING = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2}

# Name: configuration class, what differs from COMMON.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("LlamaConfig", {}),
    "Mistral": ("MistralConfig", {"sliding_window": 8}),
    "Mixtral": ("MixtralConfig", LOCAL_EXPERTS),
    "Gemma 2": ("Gemma2Config", HEAD | {"query_pre_attn_scalar": 8, "sliding_window": 8}),
    "Gemma 3": ("Gemma3TextConfig", HEAD | SLIDING | {"query_pre_attn_scalar": 8}),
    "Qwen 2": ("Qwen2Config", {}),
    "Qwen 3": ("Qwen3Config", HEAD),
    "Qwen 3 MoE": ("Qwen3MoeConfig", HEAD | EXPERTS),
    "Phi-3": ("Phi3Config", {}),
    "SmolLM3": ("SmolLM3Config", {}),
    "GLM": ("GlmConfig", HEAD),
    "EXAONE 4": ("Exaone4Config", {"sliding_window": 8}),
    "Apertus": ("ApertusConfig", {}),
    "GPT-2": ("GPT2Config", {"n_positions": 512}),
    "GPT-NeoX": ("GPTNeoXConfig", {}),
    "GPT-J": ("GPTJConfig", {"rotary_dim": 4}),
    "GPT-BigCode": ("GPTBigCodeConfig", {}),
    "GPT-Neo": ("GPTNeoConfig", {"attention_types": [[["global", "local"], 2]], "window_size": 8}),
    "BLOOM": ("BloomConfig", {}),
    "XGLM": ("XGLMConfig", {
        "d_model": 32, "ffn_dim": 64, "num_layers": 4, "attention_heads": 4, "init_std": 0.2,
    }),
    "OPT": ("OPTConfig", {"ffn_dim": 64, "word_embed_proj_dim": 32, "init_std": 0.2}),
    "Falcon": ("FalconConfig", {"multi_query": True}),
    "Falcon, ALiBi": ("FalconConfig", {"alibi": True, "parallel_attn": False}),
    "MPT": ("MptConfig", {"d_model": 32, "n_heads": 4, "n_layers": 4, "max_seq_len": 512}),
    "Phi-1, Phi-2": ("PhiConfig", {"num_key_value_heads": 4}),
    "PhiMoE": ("PhimoeConfig", LOCAL_EXPERTS),
    "Cohere": ("CohereConfig", {"logit_scale": 0.0625}),
    "Cohere 2": ("Cohere2Config", {"logit_scale": 0.25, "sliding_window": 8}),
    "OLMo": ("OlmoConfig", {}),
    "OLMo 2": ("Olmo2Config", {}),
    "OLMo 3": ("Olmo3Config", {"sliding_window": 8}),
    "OLMoE": ("OlmoeConfig", EXPERTS),
    "Granite": ("GraniteConfig", {
        "logits_scaling": 8.0, "embedding_multiplier": 12.0, "residual_multiplier": 0.22,
        "attention_multiplier": 0.125,
    }),
    "Granite MoE": ("GraniteMoeConfig", LOCAL_EXPERTS | {"logits_scaling": 6.0}),
    "Granite 4 hybrid": ("GraniteMoeHybridConfig", LOCAL_EXPERTS | MAMBA2 | {
        "layer_types": ["mamba", "attention"] * 2, "logits_scaling": 3.0,
        "shared_intermediate_size": 32,
    }),
    "StableLM": ("StableLmConfig", {}),
    "StarCoder 2": ("Starcoder2Config", {}),
    "Nemotron": ("NemotronConfig", {}),
    "MiniCPM 3": ("MiniCPM3Config", LATENT | {"dim_model_base": 16, "scale_emb": 12.0}),
    "HyperCLOVA X": ("HyperCLOVAXConfig", {"logits_scaling": 0.125}),
    "Llama 4": ("Llama4TextConfig", LOCAL_EXPERTS | HEAD | {
        "num_experts_per_tok": 1, "intermediate_size_mlp": 64, "attention_chunk_size": 16,
        "interleave_moe_layer_step": 2,
    }),
    "Gemma 3n": ("Gemma3nTextConfig", HEAD | {
        "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8,
        "laurel_rank": 4, "sliding_window": 8, "num_kv_shared_layers": 0,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "intermediate_size": [64] * 4, "activation_sparsity_pattern": [0.0] * 4,
    }),
    "Gemma 3n, shared keys": ("Gemma3nTextConfig", HEAD | {
        "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8,
        "laurel_rank": 4, "sliding_window": 8, "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 2, "intermediate_size": 64,
        "activation_sparsity_pattern": [0.5, 0.5, 0.0, 0.0], "altup_num_inputs": 3,
    }),
    "Gemma 4": ("Gemma4TextConfig", HEAD | SLIDING | {
        "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8,
        "num_kv_shared_layers": 0, "global_head_dim": 8,
    }),
    "Gemma 4, shared keys": ("Gemma4TextConfig", HEAD | SLIDING | {
        "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8,
        "num_kv_shared_layers": 2, "global_head_dim": 8,
    }),
    "GPT-OSS": ("GptOssConfig", LOCAL_EXPERTS | HEAD | SLIDING),
    "Qwen3-Next": ("Qwen3NextConfig", HEAD | EXPERTS | DELTA | {
        "shared_expert_intermediate_size": 16,
    }),
    "Qwen 3.5": ("Qwen3_5TextConfig", HEAD | DELTA),
    "Qwen 2 MoE": ("Qwen2MoeConfig", EXPERTS | {"shared_expert_intermediate_size": 16}),
    "DeepSeek-V2": ("DeepseekV2Config", DEEPSEEK),
    "DeepSeek-V3": ("DeepseekV3Config", DEEPSEEK),
    "DeepSeek-V3.2": ("DeepseekV32Config", INDEXED),
    "GLM, indexed": ("GlmMoeDsaConfig", INDEXED),
    "DeepSeek-V4": ("DeepseekV4Config", HEAD | {
        "q_lora_rank": 8, "o_lora_rank": 8, "n_routed_experts": 4, "num_experts_per_tok": 2,
        "n_shared_experts": 1, "moe_intermediate_size": 16, "index_topk": 8, "index_n_heads": 16,
        "index_head_dim": 8, "sliding_window": 8,
    }),
    "HY-V4": ("HYV4Config", HEAD | LATENT | {
        "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "n_group": 1,
        "topk_group": 1, "moe_intermediate_size": 16, "index_topk": 8, "index_n_heads": 16,
        "index_head_dim": 8, "num_key_value_heads": 2,
    }),
    "Falcon-H1": ("FalconH1Config", MAMBA2 | {"mamba_d_ssm": 64, "lm_head_multiplier": 0.5}),
    "Jamba": ("JambaConfig", MAMBA | {
        "num_experts": 2, "num_experts_per_tok": 1, "attn_layer_period": 2,
        "attn_layer_offset": 1, "expert_layer_period": 2, "use_mamba_kernels": False,
        "mamba_dt_rank": 4,
    }),
    "Bamba": ("BambaConfig", MAMBA2 | {"attn_layer_indices": [1, 3]}),
    "Zamba 2": ("Zamba2Config", MAMBA | {
        "mamba_ngroups": 1, "n_mamba_heads": 8, "layers_block_type": ["mamba", "hybrid"] * 2,
        "num_mem_blocks": 1, "num_key_value_heads": 4,
    }),
    "LFM2": ("Lfm2Config", {"layer_types": ["conv", "full_attention"] * 2}),
    "Mamba": ("MambaConfig", {"state_size": 8, "time_step_rank": 4}),
    "Mamba 2": ("Mamba2Config", {
        "state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 16,
    }),
    "Falcon Mamba": ("FalconMambaConfig", {"state_size": 8, "time_step_rank": 4}),
    "RecurrentGemma": ("RecurrentGemmaConfig", {
        "lru_width": 32, "attention_window_size": 64, "num_key_value_heads": 1,
        "block_types": ["recurrent", "attention"], "intermediate_size": 64,
    }),
    "RWKV": ("RwkvConfig", {"attention_hidden_size": 32, "context_length": 512}),
    "xLSTM": ("xLSTMConfig", {"num_heads": 4, "num_blocks": 4}),
    "Doge": ("DogeConfig", {}),
    "NanoChat": ("NanoChatConfig", {}),
    "Jais 2": ("Jais2Config", {}),
    "Helium": ("HeliumConfig", HEAD),
    "Ernie 4.5": ("Ernie4_5Config", HEAD),
    "Seed-OSS": ("SeedOssConfig", HEAD),
    "Arcee": ("ArceeConfig", {}),
    "BitNet": ("BitNetConfig", {}),
    "DiffLlama": ("DiffLlamaConfig", {}),
    "GLM-4": ("Glm4Config", HEAD),
    "GLM-4 MoE": ("Glm4MoeConfig", HEAD | {
        "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
        "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
    }),
    "MiniMax": ("MiniMaxConfig", LOCAL_EXPERTS | HEAD | {
        "layer_types": ["linear_attention", "full_attention"] * 2, "block_size": 16,
    }),
    "HunYuan": ("HunYuanDenseV1Config", HEAD),
    "dots.llm1": ("Dots1Config", HEAD | {
        "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
        "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "n_shared_experts": 1,
    }),
    "OpenAI GPT": ("OpenAIGPTConfig", {"n_positions": 512}),
    "BART": ("BartConfig", {
        "d_model": 32, "decoder_layers": 4, "decoder_attention_heads": 4, "decoder_ffn_dim": 64,
        "init_std": 0.2, "is_decoder": True,
    }),
    "Llama 3.2 Vision": ("MllamaConfig", {"text_config": COMMON | {
        "model_type": "mllama_text_model", "cross_attention_layers": [1], "vocab_size": VOCABULARY,
    }}),
    "ModernBERT decoder": ("ModernBertDecoderConfig", {
        "local_attention": 8, "global_attn_every_n_layers": 2, "norm_bias": True,
    }),
    "RemBERT": ("RemBertConfig", {
        "is_decoder": True, "input_embedding_size": 16, "output_embedding_size": 48,
    }),
    "Persimmon": ("PersimmonConfig", {}),
    "CodeGen": ("CodeGenConfig", {"rotary_dim": 4}),
}  # fmt: skip


def build(family: str, dtype: torch.dtype, attention: str = "eager") -> Any:
    """A random model of a family; the same for the same family."""
    import transformers

    name, settings = FAMILIES[family]
    config_class = getattr(transformers, name)
    known = {field.name for field in fields(config_class)} | config_class.attribute_map.keys()
    usual = {setting: value for setting, value in COMMON.items() if setting in known}
    config = config_class(**usual | settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = transformers.AutoModelForCausalLM.from_config(
            config, attn_implementation=attention
        )
        with torch.no_grad():
            for called, parameter in model.named_parameters():
                # At their ones and zeros a wrong convention of norms and biases would go unseen.
                if parameter.ndim == 1 and not called.endswith(("A_log", "dt_bias", ".D")):
                    parameter.add_(0.2 * torch.randn_like(parameter))
    return model.to(dtype).eval().requires_grad_(False)
