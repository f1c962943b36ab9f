"""Tokens: counted on a sample, from bytes, or from an announced size."""

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.test_extraction import RAW, ask, items, model

from isogloss.cost import workload
from isogloss.cost.workload import Scored, announced, counted, from_bytes, n_tokens, tokens_a_word
from isogloss.model.packing import lay_out
from isogloss.questions.prompts import Tokens

GERMAN = Scored("de", "en", "zh")


def test_counted_rows_are_those_of_the_extraction():
    decoder, data = model("llama"), items(20)
    asked = ask(decoder, data)
    trees = [lay_out(question) for question in asked]
    tokens = Tokens(decoder.tokenizer, decoder.bos_id)
    rows = counted(data, tokens, RAW, GERMAN)
    assert rows.tokens == sum(map(len, trees))
    assert rows.kept_states == rows.states == sum(len(tree.predicting) for tree in trees)
    assert rows.kept_targets == sum(len(tree.target_token) for tree in trees)
    assert rows.kept_phrases == sum(len(question.phrases) for question in asked)
    sizes = [[len(phrase.tokens) for phrase in question.phrases] for question in asked]
    assert rows.longest.tolist() == [max(own) for own in sizes]


def test_a_sample_stands_for_all():
    decoder, data = model("llama"), items(20 * workload.SAMPLE)
    tokens = Tokens(decoder.tokenizer, decoder.bos_id)
    rows = counted(data, tokens, RAW, GERMAN)
    assert len(rows.length) == workload.SAMPLE and rows.scale == 20
    whole = sum(len(lay_out(question)) for question in ask(decoder, data))
    assert rows.tokens == pytest.approx(whole, rel=0.05)


def test_a_large_study_is_not_batched_as_a_whole(monkeypatch):
    own = announced(900, 4, 20, 3, 262_144, GERMAN)
    whole = own.forwards(2048, joined=False)
    monkeypatch.setattr(workload, "BATCHED", 320)
    part = own.forwards(2048, joined=False)
    assert part.tokens == pytest.approx(whole.tokens, rel=0.02)
    assert part.calls == pytest.approx(whole.calls, rel=0.1) and part != whole


def test_rows_of_pmi_and_letters_are_run_but_not_kept():
    decoder, data = model("llama"), items(4)
    tokens = Tokens(decoder.tokenizer, decoder.bos_id)
    more = replace(GERMAN, pmi=True, letters=True)
    rows = counted(data, tokens, RAW, more)
    plain = counted(data, tokens, RAW, GERMAN)
    assert rows.kept_states == plain.kept_states < rows.states
    guessed = from_bytes(data, 384, RAW, more)
    assert len(guessed.length) == len(rows.length)
    assert guessed.main.sum() == rows.main.sum() == 4


def test_without_a_tokenizer_bytes_are_divided_by_those_of_a_token():
    assert n_tokens("x" * 466, "en", 262_144) == 100
    assert n_tokens("x" * 466, "sw", 262_144) == round(466 / 2.97)
    assert n_tokens("x", "en", 262_144) == 1
    # A language that was not measured is taken for its script, an unknown script for the others.
    assert n_tokens("x" * 900, "af", 262_144) == n_tokens("x" * 900, "yo", 262_144)
    assert n_tokens("x" * 900, "ka", 262_144) == round(900 / 6.76)


def test_english_words_become_a_languages_tokens():
    assert tokens_a_word("en", 262_144) == pytest.approx(5.86 / 4.66)
    assert tokens_a_word("sw", 262_144) == pytest.approx(5.86 * 1.07 / 2.97)


def test_announced_questions_by_hand():
    rows = announced(900, 4, 100, 3, 262_144, Scored("sw", "en", "es"))
    prompt = 1 + round(100 * tokens_a_word("sw", 262_144))
    per_choice = {tag: round(3 * tokens_a_word(tag, 262_144)) for tag in ("sw", "en", "es")}
    behind = 4 * sum(n - 1 for n in per_choice.values())  # every last token is left out
    behind += per_choice["sw"] - 1 + per_choice["en"] - 1  # the mismatched answers
    assert rows.tokens == 900 * (prompt + behind)
    assert rows.kept_states == pytest.approx(900 * (1 + behind))
    own = announced(900, 4, 100, 3, 262_144, Scored("sw", "en", latents=False))
    assert own.states == pytest.approx(900 * (1 + 4 * (per_choice["sw"] - 1)))


def test_sentences_have_states_to_pool_and_none_to_score():
    rows = announced(100, 0, 20, 1, 262_144, Scored("de", "en"))
    assert rows.states == rows.kept_targets == 0 and rows.tokens > 2000
    data = items(5, sentences=True)
    assert np.all(from_bytes(data, 384, RAW, Scored("de", "en")).predicting == 0)
