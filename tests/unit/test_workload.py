"""Tokens: counted on a sample, from bytes, or from an announced size."""

import numpy as np
import pytest
from tests.unit.test_extraction import RAW, ask, items, model

from isogloss import workload
from isogloss.packing import lay_out
from isogloss.prompts import Tokens
from isogloss.workload import announced, counted, from_bytes, n_tokens, tokens_a_word


def test_counted_rows_are_those_of_the_extraction():
    decoder, data = model("llama"), items(20)
    trees = [lay_out(question) for question in ask(decoder, data)]
    tokens = Tokens(decoder.tokenizer, decoder.bos_id)
    rows = counted(data, "de", tokens, RAW, pivot="en", control="zh")
    assert rows.tokens == sum(map(len, trees))
    assert rows.kept_states == rows.states == sum(len(tree.predicting) for tree in trees)
    assert rows.kept_targets == sum(len(tree.target_token) for tree in trees)


def test_a_sample_stands_for_all():
    decoder, data = model("llama"), items(20 * workload.SAMPLE)
    tokens = Tokens(decoder.tokenizer, decoder.bos_id)
    rows = counted(data, "de", tokens, RAW, pivot="en", control="zh")
    assert len(rows.length) == workload.SAMPLE and rows.scale == 20
    whole = sum(len(lay_out(question)) for question in ask(decoder, data))
    assert rows.tokens == pytest.approx(whole, rel=0.05)


def test_rows_of_pmi_and_letters_are_run_but_not_kept():
    decoder, data = model("llama"), items(4)
    tokens = Tokens(decoder.tokenizer, decoder.bos_id)
    more = {"pivot": "en", "control": "zh", "pmi": True, "letters": True}
    rows = counted(data, "de", tokens, RAW, **more)
    plain = counted(data, "de", tokens, RAW, pivot="en", control="zh")
    assert rows.kept_states == plain.kept_states < rows.states
    guessed = from_bytes(data, "de", 384, RAW, **more)
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
    rows = announced(900, 4, 100, 3, "sw", 262_144, pivot="en", control="es")
    prompt = 1 + round(100 * tokens_a_word("sw", 262_144))
    per_choice = {tag: round(3 * tokens_a_word(tag, 262_144)) for tag in ("sw", "en", "es")}
    behind = 4 * sum(n - 1 for n in per_choice.values())  # every last token is left out
    behind += per_choice["sw"] - 1 + per_choice["en"] - 1  # the mismatched answers
    assert rows.tokens == 900 * (prompt + behind)
    assert rows.kept_states == pytest.approx(900 * (1 + behind))
    own = announced(900, 4, 100, 3, "sw", 262_144, pivot="en", control=None, latents=False)
    assert own.states == pytest.approx(900 * (1 + 4 * (per_choice["sw"] - 1)))


def test_sentences_have_states_to_pool_and_none_to_score():
    rows = announced(100, 0, 20, 1, "de", 262_144, pivot="en", control=None)
    assert rows.states == rows.kept_targets == 0 and rows.tokens > 2000
    data = items(5, sentences=True)
    assert np.all(from_bytes(data, "de", 384, RAW, pivot="en", control=None).predicting == 0)
