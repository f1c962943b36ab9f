"""A loaded model without a study: its numbers are those of its own forward."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import isogloss as iso
from isogloss.errors import InputError
from isogloss.model.matrix_products import as_before
from isogloss.model.tiny_models import tiny_model
from isogloss.notebook import Evaluation

ROOT = Path(__file__).resolve().parents[2]
WORDS = "ant bee cow dog elk fox gnu hen ibis jay".split()
QUESTIONS = {
    language: [
        {
            "item_id": word,
            "question": f"{language} {word}?",
            "choices": [f"{language} {word}", f"{language} no", f"{language} {n}"],
            "answer": n % 3,
        }
        for n, word in enumerate(WORDS)
    ]
    for language in ("en", "nl", "fr")
}


@pytest.fixture(scope="module")
def result() -> Evaluation:
    decoder = tiny_model("llama")
    return iso.evaluate(decoder.model, decoder.tokenizer, QUESTIONS, permutations=19)


def test_scores_are_those_of_a_plain_forward(result: Evaluation) -> None:
    decoder = tiny_model("llama")
    prompt = decoder.tokenizer("Q: nl cow?\nA:").input_ids
    choice = decoder.tokenizer(" nl cow", add_special_tokens=False).input_ids
    logits = decoder.model(torch.tensor([prompt + choice])).logits[0].log_softmax(-1)
    expected = sum(float(logits[len(prompt) - 1 + n, t]) for n, t in enumerate(choice))
    score = result.scores["sum"].sel(language="nl", item="cow", choice=0)
    assert float(score) == pytest.approx(expected, abs=1e-3)


def test_the_last_layers_lens_is_the_model(result: Evaluation) -> None:
    lens = result.lens.log_probability.sel(language="fr", latent="prompt").isel(layer=-1)
    theirs = result.scores["sum"].sel(language="fr")
    np.testing.assert_allclose(lens.transpose("item", "choice"), theirs, atol=1e-3)


def test_every_part_is_labelled(result: Evaluation) -> None:
    assert result.states.prompt_mean.dims == ("language", "item", "layer", "feature")
    assert float(result.behaviour.accuracy.sel(language="nl")) <= 1
    assert "item_share" in result.similarity
    assert repr(result) == "<Evaluation: 10 items in en nl fr; 5 layers of 32>"


def test_four_questions_have_answers_but_no_similarity() -> None:
    decoder = tiny_model("llama")
    few = {tag: records[:4] for tag, records in QUESTIONS.items()}
    result = iso.evaluate(decoder.model, decoder.tokenizer, few)
    assert result.similarity is None and result.behaviour.sizes["item"] == 4
    assert float(result.trajectories["chance"]) == pytest.approx(1 / 3)


def test_right_choices_that_are_alike_in_one_language_have_partners_of_their_own() -> None:
    """French says the same for two answers: the lens there has other partners, and says so."""
    questions = {
        tag: [
            record | {"choices": [c.replace("ant", "cow") for c in record["choices"]]}
            if tag == "fr"
            else record
            for record in (r | {"answer": 0, "cluster": r["item_id"]} for r in QUESTIONS[tag])
        ]
        for tag in ("en", "nl", "fr")
    }
    for record in questions["fr"][:9]:
        record["choices"][0] = "fr cow"
    decoder = tiny_model("llama")
    result = iso.evaluate(decoder.model, decoder.tokenizer, questions, permutations=19)
    partner = result.lens.mismatched_item.sel(language="fr").values.astype(int)
    right = np.array([record["choices"][0] for record in questions["fr"]])
    assert (right[partner] != right).all()
    assert result.lens.mismatched_item.sel(language="nl").isnull().all()
    # Only the last right choice follows the others' prompts, and one of them follows its prompt.
    assert result.trajectories.pivot_log_odds_items.values.tolist() == [0, 10, 2]


def test_a_model_is_given_back_as_it_was_and_evaluated_as_it_is() -> None:
    model, tokenizer = deepcopy((tiny_model("llama").model, tiny_model("llama").tokenizer))
    as_before(model)
    model.train().requires_grad_(True)
    first = iso.evaluate(model, tokenizer, QUESTIONS, permutations=19)
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert not any("forward" in m.__dict__ for m in model.modules() if isinstance(m, nn.Linear))
    for block in model.model.layers:
        zeros = torch.zeros_like(block.mlp.down_proj.weight)
        block.mlp.down_proj.weight = nn.Parameter(zeros)
    second = iso.evaluate(model, tokenizer, QUESTIONS, permutations=19)
    assert np.nanmax(np.abs(first.scores["sum"] - second.scores["sum"])) > 0.01


def test_records_that_are_not_parallel_are_named() -> None:
    wrong = QUESTIONS | {"nl": QUESTIONS["nl"][:-1]}
    with pytest.raises(InputError, match="nl"):
        iso.evaluate(None, None, wrong)
    with pytest.raises(InputError, match="pivot: en is not among the languages nl fr"):
        iso.evaluate(None, None, {tag: QUESTIONS[tag] for tag in ("nl", "fr")})


def test_the_notebook_runs() -> None:
    cells = json.loads((ROOT / "docs/tutorial.ipynb").read_text("utf-8"))["cells"]
    known: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), known)
    assert known["states"].sizes["language"] == 3
    assert np.isfinite(known["item_share"]).all()
