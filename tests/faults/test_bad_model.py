"""A model or a question that cannot work: one line that names it, before the work or at once."""

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests.faults.conftest import Bench, said_in_one_line
from tests.workflow.conftest import MODEL

from isogloss.model.sources import ModelSource, folder_digest

RARE = "\U00100000"
"""A character with a byte, and so a token, that no question has: 0xF4, "ô" in the tokeniser."""


@pytest.fixture
def copied(bench: Bench) -> Bench:
    """A study with a model of its own, to be damaged."""
    linked = (bench.folder / "models").resolve()
    (bench.folder / "models").unlink()
    shutil.copytree(linked, bench.folder / "models")
    return bench


def weights_of(bench: Bench) -> Path:
    return bench.folder / MODEL / "model.safetensors"


def change_weights(bench: Bench, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    weights = load_file(weights_of(bench))
    change(weights)
    save_file(weights, weights_of(bench), metadata={"format": "pt"})


def change_item(bench: Bench, index: int, **fields: Any) -> str:
    """Change a German question; its id."""
    path = bench.folder / "questions/de.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    item = json.loads(lines[index]) | fields
    lines[index] = json.dumps(item, ensure_ascii=False)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(item["item_id"])


def without_forward(bench: Bench) -> None:
    """Weights with which any forward pass ends in another error: states that are no numbers."""

    def spoil(weights: dict[str, np.ndarray]) -> None:
        weights["model.layers.0.mlp.up_proj.weight"][...] = np.nan

    change_weights(bench, spoil)


def change_rare_token(bench: Bench, value: float) -> str:
    """Embed the token that one German question has as a value; the question's id."""
    folder = bench.folder / MODEL
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    untied = json.dumps(config | {"tie_word_embeddings": False})
    (folder / "config.json").write_text(untied, encoding="utf-8")

    def spoil(weights: dict[str, np.ndarray]) -> None:
        embedding = weights["model.embed_tokens.weight"]
        weights["lm_head.weight"] = embedding.copy()
        embedding[tokenizer["model"]["vocab"]["ô"]] = value

    change_weights(bench, spoil)
    return change_item(bench, 90, question=f"Was ist {RARE}?")


def with_spec(**changes: dict[str, Any]) -> Callable[[str], str]:
    """A spec with some entries of its parts changed."""

    def changed(text: str) -> str:
        spec = json.loads(text)
        for part, values in changes.items():
            spec[part] |= values
        return json.dumps(spec)

    return changed


def refused(bench: Bench, change: Callable[[str], str] = str) -> str:
    """The error of an extraction that must fail, planned for the model as it is now."""

    def planned(text: str) -> str:
        source = ModelSource("tiny", "path", path=bench.folder / MODEL)
        spec = json.loads(change(text))
        return json.dumps(spec | {"weights": folder_digest(source, bench.folder / "digests")})

    code, said = bench.run("extract", spec=planned)
    error = said_in_one_line(said)
    assert code == 1 and not bench.files("de/*.h5") and not bench.files("*.json")
    return error


def flipped(content: bytes, place: int) -> bytes:
    damaged = bytearray(content)
    damaged[place] ^= 1 << random.Random(place).randrange(8)
    return bytes(damaged)


HEADER = {"length": 1, "brace": 8, "name": 40}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    **{name: lambda content, at=at: flipped(content, at) for name, at in HEADER.items()},
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "a byte short": lambda content: content[:-1],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_weights_are_named(damage: str, copied: Bench) -> None:
    path = weights_of(copied)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    error = refused(copied)
    assert f"{MODEL}/model.safetensors" in error and "fetch the model again" in error


def test_weights_that_changed_since_the_plan_are_refused(copied: Bench) -> None:
    change_weights(copied, lambda weights: weights.update({k: v * 2 for k, v in weights.items()}))
    code, said = copied.run("extract")
    error = said_in_one_line(said)
    assert code == 1 and "models.tiny: its files have changed since this run was planned" in error
    assert not copied.files("de/*.h5")


def test_a_choice_without_tokens_is_refused_before_any_forward(copied: Bench) -> None:
    without_forward(copied)
    path = copied.folder / MODEL / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"Regex": r"\s*☃"}, "content": ""}
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    item = change_item(copied, 90, choices=["Es wuchs", "Es schmolz", "☃", "Es zerbrach"])
    error = refused(copied)
    assert f'item "{item}" (de): choice 2 (prompt) has no token in this model\'s' in error


def test_a_question_longer_than_the_context_is_refused_or_truncated(copied: Bench) -> None:
    good = weights_of(copied).read_bytes()
    without_forward(copied)
    item = change_item(copied, 90, question="Warum " * 300)
    error = refused(copied)
    assert f'item "{item}" (de): ' in error and "tokens, the model's context holds 512" in error
    assert "set prompt.truncate: true, or leave the item out" in error
    weights_of(copied).write_bytes(good)
    code, said = copied.run("extract", spec=with_spec(prompt={"truncate": True}))
    assert code == 0, said
    (path,) = copied.files("de/*.h5")
    with h5py.File(path) as file:
        dropped, kept = file["n_truncated_tokens"][...], file["n_prompt_tokens"][...]
        assert np.flatnonzero(dropped).tolist() == [90] and 480 < kept[90] < 512
        assert json.loads(file.attrs["record"])["truncated_prompts"] == 1


def test_states_that_are_no_numbers_name_item_and_layer(copied: Bench) -> None:
    item = change_rare_token(copied, np.nan)
    error = refused(copied)
    assert f'item "{item}": states of layer 0 are not finite in torch.float32: the weights' in error


def test_an_overflow_in_float16_names_item_and_layer(copied: Bench) -> None:
    item = change_rare_token(copied, 5e4)  # and Gemma multiplies embeddings
    error = refused(copied, with_spec(model={"dtype": "float16"}))
    assert f'item "{item}": states of layer 0 are not finite in torch.float16: set the' in error


def test_an_overflow_everywhere_is_seen_by_the_self_test(copied: Bench) -> None:
    def spoil(weights: dict[str, np.ndarray]) -> None:
        weights["model.layers.2.post_feedforward_layernorm.weight"][...] = 6e4

    change_weights(copied, spoil)
    error = refused(copied, with_spec(model={"dtype": "float16"}))
    assert re.search(r'item "\S+": states of layer 3 are not finite in torch.float16', error)
    assert "set the model's dtype to bfloat16 or float32" in error and not copied.files("*.npz")
