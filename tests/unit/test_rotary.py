"""Position embeddings that go by length: what a question gives depends on that question alone."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Phi3Config

from isogloss.errors import InputError
from isogloss.extraction.language import LanguageExtraction
from isogloss.extraction.self_tests import _plain, check_packing
from isogloss.extraction.shards import compute_shard
from isogloss.model.adapt import adapt
from isogloss.model.packing import lay_out
from isogloss.model.readout import readout_of
from isogloss.model.residual import residual_stream
from isogloss.model.tiny_models import COMMON, tiny_tokenizer
from isogloss.questions.prompts import Phrase, Question
from isogloss.steering.interventions import Intervention
from isogloss.steering.sweep import Condition, steered_scores

BOUNDARY = 32
KINDS = [(kind, attention) for kind in ("longrope", "dynamic") for attention in ("sdpa", "eager")]


@cache
def decoder(kind, attention):
    """A tiny model whose frequencies go by length from BOUNDARY tokens on."""
    common = {
        "vocab_size": 384, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2,
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
    }  # fmt: skip
    if kind == "longrope":
        scaling = {
            "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4,
            "long_factor": [1.0, 4.0, 16.0, 64.0], "original_max_position_embeddings": BOUNDARY,
        }  # fmt: skip
        length = {"max_position_embeddings": 512, "original_max_position_embeddings": BOUNDARY}
        config = Phi3Config(**common, **length, rope_parameters=scaling)
    else:
        scaling = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 8.0}
        config = LlamaConfig(**common, max_position_embeddings=BOUNDARY, rope_parameters=scaling)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return adapt(model, tiny_tokenizer(begins_with_bos=True), kind)


def question(n_prompt, *sizes):
    """A question with a prompt and phrases of these lengths, of seeded tokens."""
    rng = np.random.default_rng(n_prompt)
    prompt = (0, *rng.integers(2, 384, n_prompt - 1).tolist())
    phrases = [
        Phrase(0, i, tuple(rng.integers(2, 384, size).tolist()), False)
        for i, size in enumerate(sizes)
    ]
    return Question(0, "main", prompt, tuple(phrases))


SHORT, LONG = question(12, 2, 4), question(60, 3, 1)
ASTRIDE = question(BOUNDARY - 2, 1, 3, 4, 9)  # 30, 32 and 33, 38 tokens without the last
ASKED = [SHORT, LONG, ASTRIDE, question(20, 5, 2)]


def shard(made, asked):
    trees = [lay_out(q, made.reach) for q in asked]
    layers = list(range(made.n_layers + 1))
    return compute_shard(made, trees, range(len(asked)), layers, 4096)


@pytest.mark.parametrize(("kind", "attention"), KINDS)
def test_transformers_lets_a_long_neighbour_change_a_short_row(kind, attention):
    """What the tests below would see if nothing were done."""
    made = decoder(kind, attention)
    row = torch.tensor([SHORT.prompt])
    beside = torch.zeros(2, len(LONG.prompt), dtype=torch.long)
    beside[0, : row.shape[1]], beside[1] = row[0], torch.tensor(LONG.prompt)
    alone = made.backbone(input_ids=row, use_cache=False).last_hidden_state[0]
    together = made.backbone(input_ids=beside, use_cache=False).last_hidden_state[0]
    assert (alone - together[: row.shape[1]]).abs().max() > 0.05


@pytest.mark.parametrize(("kind", "attention"), KINDS)
def test_scores_of_a_batch_are_those_of_plain_forwards_of_each_choice(kind, attention):
    made = decoder(kind, attention)
    scores = shard(made, ASKED)["log_probability"]
    plain = np.concatenate([_plain(made, q) for q in ASKED])
    assert np.abs(scores - plain).max() < 1e-5


@pytest.mark.parametrize(("kind", "attention"), KINDS)
def test_a_long_neighbour_changes_nothing(kind, attention):
    made = decoder(kind, attention)
    together = shard(made, ASKED)
    for i, asked in enumerate(ASKED):
        alone = shard(made, [asked])
        for name in ("last", "mean"):
            assert np.abs(alone[name][0] - together[name][i]).max() < 1e-5, (i, name)


@pytest.mark.parametrize(("kind", "attention"), KINDS)
def test_states_of_a_prompt_are_those_of_the_prompt_by_itself(kind, attention):
    made = decoder(kind, attention)
    states = shard(made, ASKED)["last"]
    for i in (0, 1, 2):
        plain = shard(made, [Question(0, "main", ASKED[i].prompt, ())])["last"][0]
        assert np.abs(states[i] - plain).max() < 1e-5


def test_the_prompt_is_there_twice_only_where_choices_fall_on_both_sides():
    made = decoder("longrope", "sdpa")
    sizes = [len(lay_out(q, made.reach)) - len(lay_out(q)) for q in ASKED]
    assert sizes == [0, 0, len(ASTRIDE.prompt), 0]


@pytest.mark.parametrize(("kind", "attention"), KINDS)
def test_steering_a_question_depends_on_that_question_alone(kind, attention):
    made, layer = decoder(kind, attention), 1
    shift = np.random.default_rng(0).normal(size=made.width).astype(np.float32)
    nothing = np.zeros((0, made.width), dtype=np.float32)
    change = Intervention(shift, np.zeros_like(shift), nothing, nothing)
    trees = [lay_out(q, made.reach) for q in ASKED]
    conditions = [[Condition(2, None), Condition(layer, change, 2.0)]] * len(trees)
    scores = steered_scores(made, readout_of(made), trees, conditions).log_probability

    n_prompt = 0

    def steered(here, states):
        if here == layer:
            states = states.clone()
            states[:, 1:n_prompt] += 2.0 * torch.from_numpy(shift)
            return states

    for i, asked in enumerate(ASKED):
        ends = np.cumsum([len(p.tokens) for p in asked.phrases])[:-1]
        for way, at in ((0, lambda *_: None), (1, steered)):
            n_prompt = len(asked.prompt)
            with residual_stream(made, at):
                plain = np.split(_plain(made, asked), ends)
            sums = [values.sum() for values in plain]
            assert np.abs(scores[way, i, : len(sums)] - sums).max() < 1e-4, (i, way)


def test_the_packing_self_test_passes_on_questions_of_both_sides():
    made = decoder("longrope", "sdpa")
    items = SimpleNamespace(item_ids=["a"])
    asked = LanguageExtraction(Path("nowhere"), {}, items, [ASTRIDE, LONG], [0], made.reach)
    assert check_packing(made, asked)["packing_difference"] < 1e-5


def test_rotary_modules_are_as_before_after_a_forward():
    made = decoder("longrope", "sdpa")
    shard(made, ASKED)
    assert all("forward" not in vars(module) for module in made.length_scaled.modules)


class OwnCode(LlamaForCausalLM):
    """A model whose code comes with its weights: its modules need not be transformers'."""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rope_scaling", {"type": "su", "factor": 2.0}),
        ("rope_scaling", {"rope_type": "dynamic", "factor": 2.0}),
        ("use_dynamic_ntk", True),
    ],
)
def test_scaling_in_code_of_a_models_own_is_refused_in_one_line(name, value):
    model = OwnCode(LlamaConfig(**COMMON))
    assert adapt(model, tiny_tokenizer(True), "m").length_scaled is None
    setattr(model.config, name, value)
    with pytest.raises(
        InputError, match="models.m: OwnCode: .*(su|dynamic).*leave out trust_remote"
    ):
        adapt(model, tiny_tokenizer(True), "m")
