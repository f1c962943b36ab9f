"""Loaded models: parts of every family, readout, errors. Random tiny models only."""

import json
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tokenizers import processors
from torch import nn

from isogloss.errors import Damaged, InputError
from isogloss.files.canonical import key_of
from isogloss.model import load as models
from isogloss.model.adapt import adapt, begins_with
from isogloss.model.load import load, load_ends, load_tokenizer
from isogloss.model.matrix_products import linear
from isogloss.model.memory import memory_errors
from isogloss.model.readout import read_readout, readout_of, write_readout
from isogloss.model.sources import ModelSource
from isogloss.model.tensor_file import read_tensors
from isogloss.model.tiny_models import (
    BOS,
    EOS,
    FAMILIES,
    WITH_BOS,
    save_tiny_model,
    tiny_model,
    tiny_tokenizer,
)
from isogloss.questions.prompts import Tokens

PROGRAMS = Path(__file__).resolve().parents[2] / "workflow_scripts"
NAME = f"{key_of({})}.safetensors"
TOKENS = torch.arange(2, 22)[None] * 7 % 384  # longer than the tiny models' window of 8


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder of a tiny Gemma 3; tests that damage it copy it first."""
    folder = tmp_path_factory.mktemp("saved") / "gemma3"
    save_tiny_model(folder, "gemma3")
    return folder


def path_source(folder, **settings):
    return ModelSource.from_spec("m", {"source": "path", "path": str(folder)} | settings)


def residual_before_final_norm(decoder, tokens):
    kept = []
    hook = decoder.final_norm.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    with torch.no_grad():
        logits = decoder.model(tokens).logits
    hook.remove()
    return kept[0], logits


def logits_of(readout, states):
    """All logits at once and in the states' type, as a model has them."""
    return readout.cap(linear(readout.norm(states), readout.weight, readout.bias))


# -- readout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_saved_readout_is_the_models_own_norm_and_head_bit_for_bit(family, dtype, tmp_path):
    decoder = tiny_model(family, dtype=dtype)
    write_readout(decoder, tmp_path / NAME, {})
    readout = read_readout(tmp_path / NAME)
    states, logits = residual_before_final_norm(decoder, TOKENS)
    with torch.no_grad():
        assert torch.equal(readout.norm(states), decoder.final_norm(states))
        assert torch.equal(logits_of(readout, states), logits)
    assert readout.weight.dtype == dtype
    assert readout.weight.shape == (384, 32)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_readout_needs_one_block_and_no_tokenizer(family, tmp_path, monkeypatch, capfd):
    """It has the same bytes as the whole model's, and nothing is said of the other blocks."""
    save_tiny_model(tmp_path / "model", family)
    source = path_source(tmp_path / "model")
    whole = load(source, tmp_path / "cache", device="cpu")
    write_readout(whole, tmp_path / "whole", {})
    (tmp_path / "model/tokenizer.json").write_text("{")
    built = []
    parts = models.find_parts
    monkeypatch.setattr(models, "find_parts", lambda *a: built.append(parts(*a)) or built[-1])
    capfd.readouterr()
    ends = load_ends(source, tmp_path / "cache")
    assert "".join(capfd.readouterr()) == ""
    write_readout(ends, tmp_path / "ends", {})
    assert (tmp_path / "ends").read_bytes() == (tmp_path / "whole").read_bytes()
    assert [len(model_built.layers) for model_built in built] == [1] and len(whole.layers) > 1


def test_readout_keeps_bias_and_bytes(tmp_path):
    norm = nn.RMSNorm(4, eps=1e-6)
    norm.weight.data = torch.tensor([1.0, 2.0, 3.0, 4.0])
    parts = SimpleNamespace(
        final_norm=norm, head=nn.Linear(4, 6), softcap=None, scale=None, network=None
    )
    for name in (NAME, "b"):
        write_readout(parts, tmp_path / name, {})
    assert (tmp_path / NAME).read_bytes() == (tmp_path / "b").read_bytes()
    states = torch.randn(3, 4)
    with torch.no_grad():
        expected = parts.head(norm(states))
    torch.testing.assert_close(logits_of(read_readout(tmp_path / NAME), states), expected)


def test_a_readout_is_read_by_whom_its_folder_is_and_changed_by_fewer(tmp_path):
    tmp_path.chmod(0o777)
    write_readout(tiny_model("llama"), tmp_path / NAME, {})
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o664


def test_gemma2_caps_its_logits_and_others_do_not():
    capped = readout_of(tiny_model("gemma2"))
    assert capped.softcap == 5.0
    assert capped.cap(torch.tensor([1e9])).item() == pytest.approx(5.0)
    assert readout_of(tiny_model("gemma3")).softcap is None


def test_damaged_or_missing_readout_is_named(tmp_path):
    path = tmp_path / NAME
    with pytest.raises(InputError, match="no such readout"):
        read_readout(path)
    write_readout(tiny_model("llama"), path, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a whole readout.*set-aside"):
        read_readout(path)


def test_a_readout_that_changed_or_is_another_models_is_refused(tmp_path):
    path, other = tmp_path / NAME, tmp_path / f"{key_of({'model': 'b'})}.safetensors"
    write_readout(tiny_model("llama"), path, {})
    shutil.copy(path, other)
    with pytest.raises(Damaged, match="does not match its name.*set-aside"):
        read_readout(other)
    with pytest.raises(Damaged, match="a readout, not the organism"):
        read_tensors(path, "organism")
    flipped = bytearray(path.read_bytes())
    flipped[-5] ^= 64
    path.write_bytes(flipped)
    with pytest.raises(Damaged, match="content_digest.*changed since.*set-aside"):
        read_readout(path)


# -- parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_are_found(family):
    decoder = tiny_model(family)
    assert (decoder.n_layers, decoder.width, decoder.vocabulary) == (4, 32, 384)
    assert decoder.context_length == decoder.model.config.max_position_embeddings
    assert decoder.embed.weight.shape == (384, 32)
    assert not decoder.model.training
    assert not any(p.requires_grad for p in decoder.model.parameters())
    assert decoder.attention == ("eager" if family == "gemma2" else "segments")
    assert decoder.sliding_window == (8 if family in ("gemma2", "gemma3", "mistral") else None)
    tied = decoder.head.weight is decoder.embed.weight
    assert tied == (family in ("gemma2", "gemma3", "qwen2", "llama"))


ATTENTION = [(family, "eager") for family in FAMILIES]
ATTENTION += [(family, "segments") for family in FAMILIES if family != "gemma2"]  # whose is capped


@pytest.mark.parametrize(("family", "attention"), ATTENTION)
def test_masks_in_the_familys_form_give_the_models_own_result(family, attention):
    decoder = tiny_model(family, attention="eager" if attention == "eager" else "sdpa")
    assert decoder.attention == attention
    place = torch.arange(TOKENS.shape[1])
    causal = place[:, None] >= place[None]
    near = causal & (place[:, None] - place[None] < (decoder.sliding_window or len(place)))

    def formed(allowed):
        mask = allowed[None, None]
        return torch.where(mask, 0.0, torch.finfo().min)

    masks = {"full_attention": formed(causal), "sliding_attention": formed(near)}
    segments = {} if attention == "eager" else {"segments": [len(place)]}
    given = masks if decoder.mask_style == "by_layer_type" else formed(near)
    with torch.no_grad():
        expected = decoder.backbone(input_ids=TOKENS).last_hidden_state
        states = decoder.backbone(TOKENS, attention_mask=given, **segments).last_hidden_state
        alone = {key: formed(torch.eye(len(place)).bool()) for key in masks}
        blocked = decoder.backbone(
            input_ids=TOKENS,
            attention_mask=alone if decoder.mask_style == "by_layer_type" else alone.popitem()[1],
            **segments,
        ).last_hidden_state
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=0)
    assert (blocked - expected).abs().max() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_bos_is_what_the_tokenizer_begins_text_with(family):
    decoder = tiny_model(family)
    assert decoder.start == ((0,) if family in WITH_BOS else ())
    ids = decoder.tokenizer("Two plus two").input_ids
    assert ids.count(0) == (1 if family in WITH_BOS else 0)


def test_a_bos_token_that_text_does_not_begin_with_is_not_used():
    decoder = tiny_model("llama")
    decoder.tokenizer.backend_tokenizer.post_processor = None  # as SmolLM's is
    assert decoder.tokenizer.bos_token_id == 0
    assert adapt(decoder.model, decoder.tokenizer, decoder.slug).start == ()


@pytest.mark.parametrize(
    ("template", "start"),
    [
        (f"{EOS} $A", (1,)),  # XGLM, BioGPT
        (f"{BOS} {EOS} $A", (0, 1)),  # as GLM-4's [gMASK]<sop>
        (f"{EOS} $A {BOS}", (1,)),  # as [CLS] and [SEP]
        (f"$A {EOS}", ()),
    ],
)
def test_whatever_the_tokenizer_puts_before_a_text_begins_it(template, start):
    """Whatever it is called, and what it puts behind a text is left out."""
    tokenizer = tiny_tokenizer(begins_with_bos=False)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(BOS, 0), (EOS, 1)]
    )
    tokens = Tokens(tokenizer, begins_with(tokenizer))
    body = tuple(tokenizer("two", add_special_tokens=False).input_ids)
    assert tokens.begin(body) == tokens.begin((*start, *body)) == (*start, *body)


@pytest.mark.parametrize("text", ["What do bees make?", "什么 蜂蜜", "उत्तर شهد 🐝", "a  b\n"])
def test_tiny_tokenizer_loses_nothing(text):
    tokenizer = tiny_model("qwen2").tokenizer
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids) == text
    assert len(ids) <= len(text.encode())
    assert len(tokenizer) == 384


def test_tiny_models_are_seeded_and_leave_the_global_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, again, other = tiny_model("llama"), tiny_model("llama"), tiny_model("llama", seed=1)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_device_is_the_layers_own():
    decoder = tiny_model("llama")
    decoder.layers[2].to("meta")
    decoder.layers[3]._hf_hook = SimpleNamespace(execution_device="cuda:1")  # as accelerate's
    kinds = [str(decoder.device_of_layer(i)) for i in range(4)]
    assert kinds == ["cpu", "cpu", "meta", "cuda:1"]


def test_the_text_part_of_multimodal_gemma3_is_found():
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = tiny_model("gemma3")
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 1, "image_size": 8, "patch_size": 4}
    config = Gemma3Config(
        text_config=text.model.config.to_dict(), vision_config=vision, mm_tokens_per_image=4
    )
    model = Gemma3ForConditionalGeneration(config)
    decoder = adapt(model, text.tokenizer, text.slug)
    assert decoder.layers is model.model.language_model.layers
    assert (decoder.mask_style, decoder.sliding_window, decoder.n_layers) == ("by_layer_type", 8, 4)
    states, logits = residual_before_final_norm(decoder, TOKENS)
    assert torch.equal(logits_of(readout_of(decoder), states), logits)


def test_a_model_without_a_final_norm_is_read_as_it_is():
    from transformers import OPTConfig, OPTForCausalLM

    small = {"vocab_size": 384, "hidden_size": 8, "ffn_dim": 8, "num_hidden_layers": 1}
    small |= {"num_attention_heads": 1, "do_layer_norm_before": False, "word_embed_proj_dim": 8}
    decoder = adapt(OPTForCausalLM(OPTConfig(**small)), tiny_model("llama").tokenizer, "other")
    done = decoder.model(TOKENS, output_hidden_states=True)
    assert torch.allclose(logits_of(readout_of(decoder), done.hidden_states[-1]), done.logits)


def test_a_model_is_refused_where_its_logits_differ():
    tokenizer = tiny_model("llama").tokenizer
    scaled = tiny_model("llama").model
    scaled.lm_head.register_forward_hook(lambda _, __, logits: 1.5 * logits)
    with pytest.raises(InputError, match="models.other: .*its logits differ by .* is allowed"):
        adapt(scaled, tokenizer, "other")


def test_a_model_without_linear_head_is_refused():
    decoder = tiny_model("llama")
    decoder.model.lm_head = nn.Identity()
    with pytest.raises(InputError, match="no unembedding"):
        adapt(decoder.model, decoder.tokenizer, decoder.slug)


# -- loading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_saved_is_loaded(family, tmp_path):
    save_tiny_model(tmp_path / "model", family, seed=2)
    decoder = load(path_source(tmp_path / "model"), tmp_path / "cache", device="cpu")
    original = tiny_model(family, seed=2)
    _, logits = residual_before_final_norm(decoder, TOKENS)
    _, expected = residual_before_final_norm(original, TOKENS)
    assert torch.equal(logits, expected)
    assert decoder.tokenizer("a 2 什么").input_ids == original.tokenizer("a 2 什么").input_ids
    assert decoder.tokenizer.chat_template == original.tokenizer.chat_template
    assert (decoder.start, decoder.mask_style) == (original.start, original.mask_style)


def test_settings_of_the_source_reach_the_model(saved, tmp_path):
    settings = {"dtype": "bfloat16", "attention": "eager"}
    decoder = load(path_source(saved, **settings), tmp_path)
    assert (decoder.dtype, decoder.attention) == (torch.bfloat16, "eager")


def test_bad_settings_are_named(saved, tmp_path):
    for settings, message in (
        ({"dtype": "int3"}, "models.m.dtype: 'int3': use one of float32"),
        ({"attention": "guess"}, "models.m: .*cannot load it"),
    ):
        with pytest.raises(InputError, match=message):
            load(path_source(saved, **settings), tmp_path)
    with pytest.raises(InputError, match="device: 'abacus' is not available"):
        load(path_source(saved), tmp_path, device="abacus")


def test_a_model_that_has_only_eager_attention_gets_it(tmp_path, capsys):
    save_tiny_model(tmp_path / "model", "gemma2")
    decoder = load(path_source(tmp_path / "model", attention="sdpa"), tmp_path)
    assert decoder.attention == decoder.path["attention"] == "eager"
    said = "models.m: attention: eager: transformers has no other for Gemma2ForCausalLM"
    assert said in capsys.readouterr().err
    ends = load_ends(path_source(tmp_path / "model", attention="sdpa"), tmp_path)
    assert torch.equal(ends.head.weight, decoder.head.weight)


def test_truncated_weights_are_named(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(InputError, match="model.safetensors: not a whole safetensors file"):
        load(path_source(tmp_path / "model"), tmp_path)


@pytest.mark.parametrize("change", ["missing", "misshapen"])
def test_weights_that_transformers_would_make_up_are_refused(saved, tmp_path, change):
    from safetensors.torch import load_file, save_file

    shutil.copytree(saved, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    tensors = load_file(weights)
    name = "model.layers.1.mlp.up_proj.weight"
    del tensors[name]
    if change == "misshapen":
        tensors[name] = torch.zeros(3, 3)
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"missing or misshapen, {name} first"):
        load(path_source(tmp_path / "model"), tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_in_eight_bits_are_unpacked_wherever_they_are_loaded(tmp_path, monkeypatch, dtype):
    """With a card that can, transformers would round the states to eight bits too."""
    from safetensors.torch import load_file, save_file
    from transformers.quantizers.quantizer_finegrained_fp8 import FineGrainedFP8HfQuantizer

    save_tiny_model(tmp_path / "model", "llama")
    weights, config = tmp_path / "model" / "model.safetensors", tmp_path / "model" / "config.json"
    tensors = load_file(weights)
    whole = tensors["model.layers.0.mlp.up_proj.weight"]
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        scale = tensors[name].abs().max() / 448
        tensors[name] = (tensors[name] / scale).to(torch.float8_e4m3fn)
        rows, columns = tensors[name].shape
        tensors[f"{name}_scale_inv"] = scale.expand(rows // 16, columns // 16).contiguous()
    save_file(tensors, weights, metadata={"format": "pt"})
    packed = {"quant_method": "fp8", "weight_block_size": [16, 16]}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": packed}))
    monkeypatch.setattr(FineGrainedFP8HfQuantizer, "validate_environment", lambda *_, **__: None)
    decoder = load(path_source(tmp_path / "model", dtype=dtype), tmp_path)
    assert {str(parameter.dtype) for parameter in decoder.model.parameters()} == {f"torch.{dtype}"}
    module = decoder.layers[0].mlp.up_proj
    assert type(module) is torch.nn.Linear
    assert (module.weight.float() - whole).abs().max() < 0.04 * whole.abs().max()


def test_float32_is_not_rounded_on_cards_and_unused_weights_are_named(saved, tmp_path, capsys):
    from safetensors.torch import load_file, save_file

    shutil.copytree(saved, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    tensors = load_file(weights) | {"model.layers.0.mlp.up_proj.bias": torch.zeros(64)}
    save_file(tensors, weights, metadata={"format": "pt"})
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    load(path_source(tmp_path / "model"), tmp_path)
    assert not (torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)
    said = "1 weights of its files are not used, model.layers.0.mlp.up_proj.bias first"
    assert said in capsys.readouterr().err


def test_the_tokenizer_does_not_depend_on_mistral_common(saved, tmp_path, monkeypatch):
    """Where that package is installed, transformers would take its tokenizer for tekken.json."""
    from transformers.models.auto import tokenization_auto

    shutil.copytree(saved, tmp_path / "model")
    (tmp_path / "model" / "tekken.json").write_text("{}")
    names = tokenization_auto.TOKENIZER_MAPPING_NAMES
    monkeypatch.setitem(names, "gemma3_text", "MistralCommonBackend")
    monkeypatch.setattr(
        "transformers.integrations.mistral.tokenizer.resolve_mistral_format",
        lambda *_, mistral_format, **__: (mistral_format is not False, None),
    )
    tokenizer = load_tokenizer(tmp_path / "model", path_source(tmp_path / "model"))
    assert tokenizer("bee").input_ids == tiny_tokenizer(True)("bee").input_ids


def test_unknown_architecture_is_refused(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "crystal_ball"}')
    with pytest.raises(InputError, match="cannot load it .*crystal_ball"):
        load(path_source(tmp_path / "model"), tmp_path)


def test_damaged_tokenizer_is_named(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="no usable tokenizer"):
        load(path_source(tmp_path / "model"), tmp_path)


# -- memory ----------------------------------------------------------------------------------------


def host_out_of_memory():
    torch.empty(2**55)


def device_out_of_memory():
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 GiB")


def python_out_of_memory():
    raise MemoryError


@pytest.mark.parametrize(
    "allocate", [host_out_of_memory, device_out_of_memory, python_out_of_memory]
)
def test_out_of_memory_names_the_settings_to_change(allocate):
    with (
        pytest.raises(InputError, match="^scoring en: out.*dtype.*batch_tokens.*device_map") as e,
        memory_errors("scoring en"),
    ):
        allocate()
    assert "\n" not in str(e.value)


def test_other_faults_keep_their_traceback():
    with pytest.raises(RuntimeError, match="shapes"), memory_errors("x"):
        torch.ones(2, 3) @ torch.ones(2, 3)


# -- program ---------------------------------------------------------------------------------------


def run_program(monkeypatch, *arguments):
    program = PROGRAMS / "make_tiny_model.py"
    monkeypatch.setattr(sys, "argv", [str(program), *map(str, arguments)])
    runpy.run_path(str(program), run_name="__main__")


def test_make_tiny_model_writes_a_folder_that_a_path_source_can_name(tmp_path, monkeypatch):
    run_program(monkeypatch, tmp_path / "m", "--family", "qwen3", "--seed", 5)
    decoder = load(path_source(tmp_path / "m"), tmp_path / "cache")
    assert torch.equal(decoder.head.weight, tiny_model("qwen3", seed=5).head.weight)


@pytest.mark.parametrize(
    ("name", "family", "message"),
    [("taken", "llama", "taken: exists already"), ("new", "bert", "'bert': use one of gemma2")],
)
def test_make_tiny_model_refuses_in_one_line(tmp_path, monkeypatch, name, family, message):
    (tmp_path / "taken").mkdir()
    with pytest.raises(SystemExit, match="error: .*" + message):
        run_program(monkeypatch, tmp_path / name, "--family", family)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["taken"]


def test_a_converted_tokenizer_is_the_one_that_transformers_reads(tmp_path):
    from transformers import PreTrainedTokenizerFast

    saved = tiny_tokenizer(True)
    saved.chat_template = "{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
    saved.save_pretrained(tmp_path)
    ours = models._converted_tokenizer(tmp_path)
    theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    texts = ["what city is it?", f" a{saved.bos_token}b", "Привет \n\n सी", ""]
    for special in (True, False):
        converted, other = (t(texts, add_special_tokens=special).input_ids for t in (ours, theirs))
        assert converted == other
    assert ours.backend_tokenizer.to_str() == theirs.backend_tokenizer.to_str()
    assert ours.all_special_tokens == theirs.all_special_tokens
    assert (ours.bos_token_id, ours.eos_token_id) == (theirs.bos_token_id, theirs.eos_token_id)
    turns = [{"role": "user", "content": "hi"}]
    assert ours.apply_chat_template(turns, tokenize=False) == "[hi]"
