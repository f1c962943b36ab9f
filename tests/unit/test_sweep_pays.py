"""The steering sweep against the packed forward run anew for each condition: tokens counted."""

import numpy as np
import torch
from tests.counted_work import tokens_through_blocks
from transformers import LlamaConfig, LlamaForCausalLM

from isogloss.extraction.capture import score
from isogloss.model.adapt import adapt
from isogloss.model.decoder import Decoder
from isogloss.model.forward import run_blocks
from isogloss.model.packing import Tree, batches, collate, lay_out
from isogloss.model.readout import readout_of
from isogloss.model.tiny_models import tiny_tokenizer
from isogloss.questions.prompts import Phrase, Question
from isogloss.steering.interventions import constant_shift
from isogloss.steering.sweep import Condition, steer, steered_scores

LAYERS, WIDTH, VOCABULARY = 10, 64, 2000
QUESTIONS, BUDGET = 6, 2048


def decoder() -> Decoder:
    """A random model."""
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=128, num_attention_heads=4,
        num_hidden_layers=LAYERS, initializer_range=0.05,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    return adapt(model, tiny_tokenizer(True), "sweep")


def trees(n: int) -> list[Tree]:
    """Questions of 40 to 80 tokens and four choices."""
    draw = np.random.default_rng(0)
    made = []
    for item in range(n):
        prompt = tuple(draw.integers(2, VOCABULARY, draw.integers(40, 80)).tolist())
        words = [tuple(draw.integers(2, VOCABULARY, 3).tolist()) for _ in range(4)]
        phrases = tuple(Phrase(0, choice, ids, False) for choice, ids in enumerate(words))
        made.append(lay_out(Question(item, "main", prompt, phrases)))
    return made


def sweep() -> list[Condition]:
    """Four layers, five conditions at each."""
    draw = np.random.default_rng(1)
    shifts = draw.normal(size=(4, WIDTH)).astype(np.float32)
    return [
        Condition(round(depth * LAYERS), change, 1.0)
        for depth in (0.2, 0.4, 0.6, 0.8)
        for change in [None, *map(constant_shift, shifts)]
    ]


def anew(model: Decoder, asked: list[Tree], condition: Condition) -> np.ndarray:
    """(question, choice) log-likelihoods from one whole packed forward of all blocks."""
    scores, readout = np.empty((len(asked), 4)), readout_of(model)
    for members in batches(asked, range(len(asked)), BUDGET):
        batch = collate(asked, members)
        place = torch.arange(batch.tokens.shape[1])
        chosen = (place >= 1) & (place < batch.n_prompt[:, None])
        final: list[torch.Tensor] = []

        def at(
            layer: int,
            states: torch.Tensor,
            members: list[int] = members,
            chosen: torch.Tensor = chosen,
            final: list[torch.Tensor] = final,
        ) -> torch.Tensor | None:
            if layer == LAYERS:
                rows = [states[i, asked[m].predicting] for i, m in enumerate(members)]
                final.append(torch.cat(rows))
            return steer(states, condition, chosen)[0] if layer == condition.layer else None

        run_blocks(model, batch, at)
        for member, values in zip(members, score(final[0], members, asked, readout), strict=True):
            scores[member] = np.bincount(asked[member].target_phrase, values)
    return scores


def test_a_sweep_runs_far_fewer_tokens_than_running_anew_and_gives_the_same():
    model, asked, conditions = decoder(), trees(QUESTIONS), sweep()
    readout, by_tree, results = readout_of(model), [conditions] * QUESTIONS, {}

    def each() -> None:
        results["anew"] = np.stack([anew(model, asked, condition) for condition in conditions])

    def together() -> None:
        swept = steered_scores(model, readout, asked, by_tree, budget=BUDGET)
        results["together"] = swept.log_probability

    ratio = tokens_through_blocks(model, each) / tokens_through_blocks(model, together)
    np.testing.assert_allclose(results["together"], results["anew"], atol=1e-4)
    assert ratio > 1.7, f"{ratio:.2f}"
