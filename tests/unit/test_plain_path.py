"""Models that run packed rows and models that do not: their numbers are those of plain forwards."""

import numpy as np
import pytest
import torch
from architectures.check import check
from architectures.families import build
from transformers import AutoModelForCausalLM, XLMRobertaConfig

from isogloss.errors import InputError
from isogloss.model import parts
from isogloss.model.adapt import adapt
from isogloss.model.forward import run_blocks
from isogloss.model.packing import collate, lay_out
from isogloss.model.residual import residual_stream
from isogloss.model.tiny_models import COMMON, tiny_tokenizer
from isogloss.questions.prompts import Phrase, Question

SINGLE = "plain, a sequence at a time"


@pytest.mark.parametrize(
    ("family", "dtype", "path"),
    [
        ("GPT-NeoX", torch.float32, "fast"),
        ("Cohere", torch.float32, "fast"),
        ("OLMo 2", torch.bfloat16, "fast"),
        ("Granite", torch.float32, "fast"),
        ("BLOOM", torch.float32, "plain"),
        ("BLOOM", torch.bfloat16, "plain"),
        ("Falcon, ALiBi", torch.float32, "plain"),
        ("Gemma 4, shared keys", torch.float32, "plain"),
        ("Gemma 3n", torch.float32, "plain"),
        ("OpenAI GPT", torch.float32, "plain"),
        ("GLM, indexed", torch.float32, SINGLE),
        ("DeepSeek-V4", torch.float32, SINGLE),
        ("HY-V4", torch.bfloat16, SINGLE),
        ("Llama 4", torch.float32, "plain"),
        ("ModernBERT decoder", torch.float32, "plain"),
        ("RemBERT", torch.float32, "plain"),
        ("Llama 3.2 Vision", torch.float32, "plain"),
        ("Qwen3-Next", torch.float32, SINGLE),
        ("Mamba", torch.float32, SINGLE),
    ],
)
def test_scores_lens_and_steering_are_those_of_plain_forwards(family, dtype, path, tmp_path):
    differences = check(family, dtype, tmp_path)
    assert differences.path["taken"] == path and differences.path["reason"]
    allowed = 3e-5 if dtype == torch.float32 else 0.1
    assert max(difference.max() for difference in differences.differences) < allowed
    assert differences.moved > 1e-3


def encoder(**settings):
    return AutoModelForCausalLM.from_config(XLMRobertaConfig(**COMMON | settings))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_encoder_is_refused_since_its_states_depend_on_later_tokens(dtype):
    for seed in range(10):
        torch.manual_seed(seed)
        with pytest.raises(InputError, match=r"m: XLMRoberta.*tokens that come later.*is_decoder"):
            adapt(encoder().to(dtype), tiny_tokenizer(True), "m")
    assert adapt(encoder(is_decoder=True), tiny_tokenizer(True), "m").path["taken"] == "plain"


def test_a_network_before_the_unembedding_is_no_norm_that_isogloss_knows():
    model = encoder(is_decoder=True)
    model.lm_head.dense.register_forward_hook(lambda _, __, output: output.sin())
    with pytest.raises(InputError, match=r"its logits differ by [\d.]+ from those of its final"):
        adapt(model, tiny_tokenizer(True), "m")


def test_blocks_of_another_shape_are_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(parts, "streams_of", lambda _: None)
    with pytest.raises(InputError, match=r"Gemma3n.*blocks give states of shape \(4, 1, 8, 32\)"):
        adapt(build("Gemma 3n", torch.float32), tiny_tokenizer(True), "m")


def test_of_streams_side_by_side_a_change_moves_the_first_and_none_changes_nothing():
    decoder = adapt(build("Gemma 3n", torch.float32), tiny_tokenizer(True), "m")
    streams = torch.randn(4, 1, 3, 32, generator=torch.Generator().manual_seed(0))
    moved = decoder.streams.moved(streams, torch.ones(1, 3, 32))
    assert torch.equal(moved[1:], streams[1:]) and torch.allclose(moved[0], streams[0] + 1)
    logits = []
    for given in (False, True):

        def at(layer, states, given=given):
            return states.clone() if given else None

        with torch.inference_mode(), residual_stream(decoder, at):
            logits.append(decoder.model(input_ids=torch.arange(5)[None]).logits)
    assert torch.equal(*logits)


def test_attention_that_counts_alibi_twice_is_refused_in_one_line():
    with pytest.raises(InputError, match="models.m: .*ALiBi twice: set models.m.attention: sdpa"):
        adapt(build("Falcon, ALiBi", torch.float32, "eager"), tiny_tokenizer(True), "m")


@pytest.mark.parametrize(
    ("family", "length"), [("GPT-2", 512), ("MPT", 512), ("BLOOM", None), ("Mamba", None)]
)
def test_the_context_is_what_the_configuration_says(family, length):
    model = adapt(build(family, torch.float32), tiny_tokenizer(True), "m")
    assert model.context_length == length


def test_states_that_are_given_take_the_place_of_a_layers_on_the_plain_path():
    decoder = adapt(build("BLOOM", torch.float32), tiny_tokenizer(True), "m")
    phrases = tuple(Phrase(0, i, tokens, False) for i, tokens in enumerate([(5, 6, 7), (5, 8, 9)]))
    trees = [lay_out(Question(0, "main", tuple(range(20, 20 + n)), phrases)) for n in (4, 9)]
    batch, seen = collate(trees, [0, 1]), {}
    run_blocks(decoder, batch, lambda layer, states: seen.__setitem__(layer, states))
    again = {}
    run_blocks(
        decoder,
        batch,
        lambda layer, states: again.__setitem__(layer, states),
        rows=[1, 0, 1],
        given=(2, seen[2][[1, 0, 0]] * torch.tensor([1.0, 2.0, 1.0])[:, None, None]),
    )
    np.testing.assert_allclose(again[4][0], seen[4][1], atol=1e-5)
    assert (again[4][1, 2] - seen[4][0, 2]).abs().max() > 1e-2
    with pytest.raises(ValueError, match="states that are given"):
        run_blocks(decoder, batch, lambda layer, states: states)
