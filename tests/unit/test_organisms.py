"""Organisms: what is planted is there, training goes on where it stopped, files are ordinary."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from isogloss.errors import InputError
from isogloss.model.load import load
from isogloss.model.sources import ModelSource, model_digest, organism_identity
from isogloss.model.tensor_file import read_tensors, verify_tensors
from isogloss.organisms import training
from isogloss.organisms.checkpoint import tokenizer, train_checkpoint, unpack
from isogloss.organisms.evaluation import Exam, evaluate, within_groups
from isogloss.organisms.organism import Organism
from isogloss.organisms.sequences import Corpus
from isogloss.organisms.size import n_parameters
from isogloss.organisms.training import Schedule, train
from isogloss.questions.world import World, asked_facts

WORLD = World(("qaa", "qab", "qac"), entities=20, relations=2, objects=6, words=2)
SETTINGS: dict[str, Any] = {
    "sharing": 0.5, "bridge": 0.3, "width": 16, "layers": 2, "steps": 4, "batch": 16,
    "learning_rate": 0.01, "evaluate_every": 2, "seed": 0,
}  # fmt: skip


def source(**changes: Any) -> ModelSource:
    about = {name: getattr(WORLD, name) for name in World.__dataclass_fields__}
    spec = {"source": "organism", "organism": SETTINGS | changes, "world": about}
    return ModelSource.from_spec("tiny", spec)


def parts(bridge: float = 0.3) -> tuple[Organism, Corpus, Exam]:
    corpus = Corpus(WORLD, bridge, seed=0)
    return Organism(WORLD, 16, 2, 0.5, seed=0), corpus, Exam.of(corpus, asked_facts(WORLD, 40, 0))


def test_embeddings_share_what_is_planted() -> None:
    world = World(("qaa", "qab"), entities=400, relations=2, objects=6)
    for sharing in (0.0, 0.25, 1.0):
        with torch.no_grad():
            matrix = Organism(world, 64, 1, sharing, seed=1).embeddings()
        first, second = matrix[3:].view(2, world.n_concepts, 64)
        both = [x - x.mean(dim=0) for x in (first, second)]
        alike = (both[0] * both[1]).sum() / (both[0].norm() * both[1].norm())
        assert float(alike) == pytest.approx(sharing, abs=0.02)


def test_facts_are_true_seen_and_in_one_language_and_the_bridge_mixes_two() -> None:
    corpus = Corpus(WORLD, 0.5, seed=0)
    batch = corpus.batch(step=7, size=400)
    np.testing.assert_array_equal(batch.ids, corpus.batch(step=7, size=400).ids)
    assert not np.array_equal(batch.ids, corpus.batch(step=8, size=400).ids)
    language, concept = np.divmod(batch.ids[:, 1:] - 3, WORLD.n_concepts)
    mixed = (language != language[:, :1]).any(axis=1)
    assert not mixed[:200].any() and mixed[200:].all()
    entity = {tuple(WORLD.entity_concepts(e)): e for e in np.arange(20)}
    named = {tuple(WORLD.object_concepts(o)): o for o in np.arange(6)}
    for row in np.flatnonzero(concept[:, 2] > 0):  # no translation
        e, r = entity[tuple(concept[row, :2])], concept[row, 2] - 1
        assert named[tuple(concept[row, 3:])] == WORLD.facts[e, r]
        assert WORLD.seen[language[row, 0], e, r]
    for row in np.flatnonzero(concept[:, 2] == 0):
        assert tuple(concept[row, :2]) == tuple(concept[row, 3:])


def test_training_that_was_stopped_goes_on_as_if_it_had_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = Schedule(6, 16, 0.01, None, evaluate_every=2)
    whole, corpus, exam = parts()
    expected = train(whole, corpus, exam, schedule, tmp_path / "whole")
    stopped, corpus, exam = parts()
    steps: list[int] = []
    take = training._step

    def step(*given: Any) -> None:
        if given[-1] == 5:
            raise KeyboardInterrupt
        take(*given)

    monkeypatch.setattr(training, "_step", step)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, corpus, exam, schedule, tmp_path / "work")
    monkeypatch.setattr(training, "_step", lambda *given: (steps.append(given[-1]), take(*given)))
    resumed, corpus, exam = parts()
    history = train(resumed, corpus, exam, schedule, tmp_path / "work")
    assert steps == [4, 5]
    np.testing.assert_equal(history, expected)
    for ours, theirs in zip(resumed.trained(), whole.trained(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_training_ends_at_the_loss_that_is_asked_for(tmp_path: Path) -> None:
    organism, corpus, exam = parts()
    schedule = Schedule(100, 16, 0.01, until_loss=100.0, evaluate_every=2)
    assert train(organism, corpus, exam, schedule, tmp_path / "work")["step"] == [2]


def test_item_share_within_groups_does_not_see_what_groups_share() -> None:
    draw = np.random.default_rng(0)
    groups = np.repeat([0, 1], 50)
    states = draw.normal(size=(2, 100, 8)) + 5 * groups[:, None]
    within = within_groups(states, groups)
    np.testing.assert_allclose([within[:, groups == g].mean(axis=1) for g in (0, 1)], 0, atol=1e-9)
    np.testing.assert_allclose(np.diff(within[:, :50], axis=1), np.diff(states[:, :50], axis=1))


def test_a_checkpoint_is_an_ordinary_model_with_what_training_reached(tmp_path: Path) -> None:
    tiny, path = source(), tmp_path / f"{model_digest(source(), tmp_path)}.safetensors"
    train_checkpoint(tiny, path)
    verify_tensors(path)
    assert not path.with_suffix(".work").exists()
    history = read_tensors(path, "organism")[1]["record"]["history"]
    assert history["step"] == [2, 4]
    folder = unpack(tiny, path, tmp_path / "cache")
    assert unpack(tiny, path, tmp_path / "cache") == folder
    decoder = load(tiny, tmp_path / "cache", "cpu")
    assert decoder.fast and decoder.start == (0,)
    size = sum(p.numel() for p in decoder.model.parameters())
    assert size == n_parameters(WORLD, 16, 2)
    again, corpus, exam = parts()
    train(again, corpus, exam, Schedule(4, 16, 0.01, None, 2), tmp_path / "work")
    assert evaluate(again, exam)["loss"] == pytest.approx(history["loss"][-1], rel=1e-3)
    ids = torch.tensor([[0, 5, 9, 11]])
    with torch.no_grad():
        expected = again.states(ids, again.embeddings()) @ again.embeddings().T
        torch.testing.assert_close(decoder.model(ids).logits, expected, rtol=1e-4, atol=1e-4)


def test_the_tokenizer_takes_words_apart_at_spaces_alone() -> None:
    made, text = tokenizer(WORLD), WORLD.text(WORLD.entity_concepts(np.array(3)), "qab")
    ids = [0, *WORLD.tokens(WORLD.entity_concepts(np.array(3)), 1)]
    assert made(text).input_ids == ids
    assert made("no such word", add_special_tokens=False).input_ids == [2, 2, 2]


def test_a_checkpoint_is_named_by_what_was_trained_and_on_what(tmp_path: Path) -> None:
    digests = {model_digest(source(**c), tmp_path) for c in ({}, {"seed": 1}, {"sharing": 0.25})}
    assert len(digests) == 3
    assert "torch" in organism_identity(source())


def test_an_organism_that_was_never_trained_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there: run `train` again"):
        load(source(), tmp_path, "cpu")
