from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isogloss.extraction.shards import compute_shard
from isogloss.model.packing import (
    batches,
    collate,
    collate_rows,
    joined_batches,
    lay_out,
    packed_batches,
    visible,
)
from isogloss.model.tiny_models import FAMILIES, VOCABULARY, tiny_model
from isogloss.questions.prompts import Phrase, Question

model = cache(tiny_model)


any_packing = given(
    sizes=st.lists(st.integers(1, 40), max_size=20),
    budget=st.integers(1, 90),
    length=st.integers(1, 60),
)


def question(prompt, *phrases):
    """A question from token ids."""
    made = tuple(Phrase(0, i, tuple(tokens), False) for i, tokens in enumerate(phrases))
    return Question(0, "main", tuple(prompt), made)


def drawn(rng, n):
    return rng.integers(2, VOCABULARY, n).tolist()


def questions(n=1):
    """Prompts of 5 to 21 tokens, so on both sides of a window of 8; phrases share beginnings,
    one is another's beginning, one is repeated, some have one token, one outgrows the window."""
    rng = np.random.default_rng(1)
    made = []
    for i in range(n):
        a, b, c, d = drawn(rng, 4)
        phrases = ([a], [a, b], [a, b, c], [a, b, d, c], [d], [c, *drawn(rng, 11)], [a, b])
        made.append(question([0, *drawn(rng, 20 - 3 * i)], *phrases))
    return made


def unpacked(decoder, question):
    """(target,) log-probabilities from the model itself, one plain forward a phrase."""
    scores = []
    for phrase in question.phrases:
        ids = torch.tensor([[*question.prompt, *phrase.tokens]])
        with torch.inference_mode():
            logits = decoder.model(input_ids=ids, use_cache=False).logits[0].float()
        log_probability = torch.log_softmax(logits, -1)[len(question.prompt) - 1 : -1]
        scores.append(
            log_probability[torch.arange(len(phrase.tokens)), list(phrase.tokens)].numpy()
        )
    return np.concatenate(scores)


@cache
def padded(family):
    """A model that takes padded rows under SDPA, as on a GPU."""
    decoder = tiny_model(family)
    if not decoder.by_segments:
        return decoder
    decoder.model.set_attn_implementation("sdpa")
    return replace(decoder, attention="sdpa")


def packed(decoder, asked, budget=4096, layers=()):
    trees = [lay_out(q) for q in asked]
    members = range(len(trees))
    return compute_shard(decoder, trees, members, list(layers), budget)


@pytest.mark.parametrize(
    ("family", "attention"),
    [
        *((family, None) for family in FAMILIES),
        *((family, "sdpa") for family in FAMILIES if family != "gemma2"),
        ("gemma3", "eager"),
        ("mistral", "eager"),
    ],
)
def test_packed_scores_are_those_of_one_plain_forward_a_phrase(family, attention):
    decoder = padded(family) if attention == "sdpa" else model(family, attention=attention)
    asked = questions(2)
    expected = np.concatenate([unpacked(decoder, q) for q in asked])
    assert expected.std() > 0.1  # a model that gives all tokens alike would show nothing
    assert np.abs(packed(decoder, asked)["log_probability"] - expected).max() < 1e-4


@pytest.mark.parametrize("family", ["gemma3", "mistral"])
def test_a_window_counted_by_places_in_the_row_would_be_seen(family, monkeypatch):
    decoder = model(family)
    asked = questions(1)
    right = packed(decoder, asked)["log_probability"]
    monkeypatch.setattr(decoder, "sliding_window", None)
    assert np.abs(packed(decoder, asked)["log_probability"] - right).max() > 1e-3


@pytest.mark.parametrize("make", [model, padded])
@pytest.mark.parametrize("family", FAMILIES)
def test_batches_change_neither_scores_nor_states(family, make):
    decoder, asked = make(family), questions(5)
    small, large = (packed(decoder, asked, budget, [0, 2, 4]) for budget in (16, 4096))
    assert small.keys() == {"last", "mean", "lens", "log_probability"}
    for name, values in small.items():
        assert values.shape == large[name].shape
        assert np.abs(values - large[name]).max() < 1e-4, name


def test_tree_worked_by_hand():
    tree = lay_out(question([9, 8], [5, 6, 7], [5, 6], [4], [5, 3, 2]))
    assert tree.tokens.tolist() == [9, 8, 5, 6, 3]  # last tokens of phrases are only predicted
    assert tree.positions.tolist() == [0, 1, 2, 3, 3]
    assert tree.parents.tolist() == [-1, 0, 1, 2, 2]
    assert tree.n_prompt == 2
    assert tree.predicting.tolist() == [1, 2, 3, 4]
    assert tree.target_row.tolist() == [0, 1, 2, 0, 1, 0, 0, 1, 3]
    assert tree.target_token.tolist() == [5, 6, 7, 5, 6, 4, 5, 3, 2]
    assert tree.target_phrase.tolist() == [0, 0, 0, 1, 1, 2, 3, 3, 3]
    assert tree.target_position.tolist() == [0, 1, 2, 0, 1, 0, 0, 1, 2]
    assert visible(tree).astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 0, 1],
    ]


def test_one_token_phrases_cost_nothing():
    assert len(lay_out(question([9, 8, 7], [5], [6], [4]))) == 3


def test_a_prompt_without_phrases_is_a_row_without_targets():
    tree = lay_out(question([9, 8, 7]))
    assert len(tree) == 3
    assert len(tree.predicting) == len(tree.target_row) == len(tree.target_token) == 0


def test_padding_is_at_the_right_and_sees_only_itself():
    trees = [lay_out(question([9, 8, 7, 6])), lay_out(question([5, 4]))]
    batch = collate(trees, [1, 0])
    assert batch.tokens.tolist() == [[5, 4, 0, 0], [9, 8, 7, 6]]
    assert batch.positions.tolist() == [[0, 1, 0, 0], [0, 1, 2, 3]]
    assert batch.n_prompt.tolist() == [2, 4]
    assert batch.mask[0, 2:].int().tolist() == [[0, 0, 1, 0], [0, 0, 0, 1]]
    assert not batch.mask[0, :2, 2:].any()


@given(
    phrases=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), max_size=6),
    prompt=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_every_path_through_the_tree_spells_its_phrase(phrases, prompt):
    tree = lay_out(question(range(10, 10 + prompt), *phrases))
    for number, phrase in enumerate(phrases):
        targets = tree.target_phrase == number
        assert tree.target_token[targets].tolist() == phrase
        for row, position in zip(
            tree.target_row[targets], tree.target_position[targets], strict=True
        ):
            seen = np.flatnonzero(visible(tree)[tree.predicting[row]])
            spelled = [*range(10, 10 + prompt), *phrase[:position]]
            assert tree.tokens[seen].tolist() == spelled
            assert tree.positions[seen].tolist() == list(range(len(spelled)))


@given(sizes=st.lists(st.integers(1, 40), max_size=20), budget=st.integers(1, 90))
@settings(max_examples=60, deadline=None)
def test_batches_hold_every_row_once_and_keep_to_the_budget(sizes, budget):
    rows = [np.zeros(n) for n in sizes]
    made = batches(rows, range(len(rows)), budget)
    assert sorted(m for batch in made for m in batch) == list(range(len(rows)))
    for batch in made:
        assert len(batch) == 1 or len(batch) * max(sizes[m] for m in batch) <= budget


def test_two_questions_in_a_row_see_only_themselves():
    trees = [lay_out(question([9, 8, 7], [5, 6], [4, 3])), lay_out(question([2, 1], [6, 6, 6]))]
    batch = collate_rows(trees, [[1, 0], [0]])
    assert batch.members == (1, 0, 0)
    assert batch.row.tolist() == [0, 0, 1] and batch.start.tolist() == [0, 4, 0]
    assert batch.n_prompt.tolist() == [2, 3, 3]
    assert batch.tokens.tolist() == [[2, 1, 6, 6, 9, 8, 7, 5, 4], [9, 8, 7, 5, 4, 0, 0, 0, 0]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2, 3, 3], [0, 1, 2, 3, 3, 0, 0, 0, 0]]
    assert batch.mask[0, :4, :4].equal(torch.from_numpy(visible(trees[1])))
    assert batch.mask[0, 4:, 4:].equal(torch.from_numpy(visible(trees[0])))
    assert not batch.mask[0, 4:, :4].any() and not batch.mask[0, :4, 4:].any()
    assert batch.mask[1, 5:].equal(torch.eye(9, dtype=torch.bool)[5:])


@any_packing
@settings(max_examples=60, deadline=None)
def test_packed_rows_hold_every_tree_once_and_keep_to_the_budget(sizes, budget, length):
    trees = [np.zeros(n) for n in sizes]
    made = packed_batches(trees, range(len(trees)), budget, length)
    assert sorted(m for rows in made for row in rows for m in row) == list(range(len(trees)))
    for rows in made:
        filled = [sum(sizes[m] for m in row) for row in rows]
        longest = max(sizes[m] for row in rows for m in row)
        assert max(filled) <= max(length, longest)
        assert len(rows) * max(filled) <= budget or [len(row) for row in rows] == [1]


def test_joined_rows_are_the_segments_of_one():
    trees = [lay_out(question([9, 8, 7], [5, 6], [4, 3])), lay_out(question([2, 1], [6, 6, 6]))]
    batch = collate_rows(trees, [[0, 1], [1]], joined=True)
    assert batch.members == (0, 1, 1) and batch.segments == (9, 4)
    assert batch.row.tolist() == [0, 0, 0] and batch.start.tolist() == [0, 5, 9]
    assert batch.tokens.tolist() == [[9, 8, 7, 5, 4, 2, 1, 6, 6, 2, 1, 6, 6]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 3, 0, 1, 2, 3, 0, 1, 2, 3]]
    assert batch.mask[0, :5, :5].equal(torch.from_numpy(visible(trees[0])))
    assert batch.mask[0, 5:9, 5:].equal(torch.from_numpy(visible(trees[1])))
    assert batch.mask[0, 9:, :4].equal(torch.from_numpy(visible(trees[1])))  # from its own begin
    assert not batch.mask[0, :5, 5:].any() and not batch.mask[0, 5:9, :5].any()
    assert not batch.mask[0, 9:, 4:].any()


@any_packing
@settings(max_examples=60, deadline=None)
def test_joined_batches_hold_every_tree_once_and_keep_to_the_budget(sizes, budget, length):
    trees = [np.zeros(n) for n in sizes]
    made = joined_batches(trees, range(len(trees)), budget, length)
    assert [m for batch in made for segment in batch for m in segment] == list(range(len(trees)))
    for batch in made:
        tokens = [sum(sizes[m] for m in segment) for segment in batch]
        assert all(
            n <= length or len(segment) == 1 for n, segment in zip(tokens, batch, strict=True)
        )
        assert sum(tokens) <= budget or [len(segment) for segment in batch] == [1]


def test_joined_batches_are_of_about_the_same_size():
    trees = [np.zeros(n) for n in np.random.default_rng(0).integers(50, 100, 32)]
    made = joined_batches(trees, range(32), 2048)
    tokens = [sum(len(trees[m]) for segment in batch for m in segment) for batch in made]
    assert len(tokens) == 2 and max(tokens) - min(tokens) < 150


def test_short_questions_fill_their_rows():
    rng = np.random.default_rng(0)
    trees = [np.zeros(n) for n in rng.integers(10, 60, 32)]

    def padding(made):
        filled = [[sum(len(trees[m]) for m in row) for row in rows] for rows in made]
        computed = sum(max(rows) * len(rows) for rows in filled)
        return computed / sum(len(tree) for tree in trees) - 1

    assert padding(packed_batches(trees, range(32), 2048)) < 0.1
    assert padding([[[m] for m in batch] for batch in batches(trees, range(32), 2048)]) > 0.25
