"""Packing must stay worth its while: far fewer tokens go through the blocks."""

from typing import Any

import numpy as np
import pytest
import torch
from tests.counted_work import tokens_through_blocks

from isogloss.extraction.shards import compute_shard
from isogloss.model.adapt import adapt
from isogloss.model.decoder import Decoder
from isogloss.model.packing import lay_out
from isogloss.model.tiny_models import tiny_tokenizer
from isogloss.questions.prompts import Phrase, Question

VOCABULARY = 4096


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    """A random model."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=128, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(config)
    return adapt(model, tiny_tokenizer(True), "random")


def questions(n_prompt: int, n_phrase: int, n: int) -> list[Question]:
    """Random questions of four choices, all prompts of different lengths around `n_prompt`."""
    rng = np.random.default_rng(0)
    made = []
    for item in range(n):
        prompt, *phrases = (
            tuple(rng.integers(2, VOCABULARY, size).tolist())
            for size in (n_prompt // 2 + item * n_prompt // n, *[n_phrase] * 4)
        )
        choices = tuple(Phrase(0, c, phrase, False) for c, phrase in enumerate(phrases))
        made.append(Question(item, "main", prompt, choices))
    return made


@torch.inference_mode()
def one_forward_a_choice(decoder: Decoder, asked: list[Question]) -> np.ndarray:
    """(target,) log-probabilities as evaluation harnesses compute them, nothing kept."""
    scores = []
    for question in asked:
        for phrase in question.phrases:
            ids = torch.tensor([[*question.prompt, *phrase.tokens]])
            logits = decoder.model(input_ids=ids, use_cache=False).logits[0].float()
            log_probability = torch.log_softmax(logits[len(question.prompt) - 1 : -1], -1)
            scores.append(log_probability[torch.arange(len(phrase.tokens)), list(phrase.tokens)])
    return torch.cat(scores).numpy()


@pytest.mark.parametrize(
    ("n_prompt", "n_phrase", "bar"), [(100, 6, 3.0), (12, 6, 2.0)], ids=["long", "short"]
)
def test_packing_beats_one_forward_a_choice(
    n_prompt: int, n_phrase: int, bar: float, decoder: Decoder
) -> None:
    """All layers' states are kept besides, and the scores are the same."""
    asked = questions(n_prompt, n_phrase, 10)
    trees = [lay_out(q) for q in asked]

    def packed() -> np.ndarray:
        layers = list(range(decoder.n_layers + 1))
        shard = compute_shard(decoder, trees, range(len(trees)), layers, 2048)
        return shard["log_probability"]

    def plain() -> np.ndarray:
        return one_forward_a_choice(decoder, asked)

    assert np.abs(packed() - plain()).max() < 1e-4
    ratio = tokens_through_blocks(decoder, plain) / tokens_through_blocks(decoder, packed)
    assert ratio >= bar, f"{ratio:.2f}"
