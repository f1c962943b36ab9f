"""Text in tokens: counted on a sample, from bytes, or from an announced size."""

import pytest
from tests.unit.test_extraction import RAW, ask, items, model

from isogloss.cost import tokens
from isogloss.cost.tokens import Questions, Text, announced, measured
from isogloss.model.packing import lay_out
from isogloss.questions.prompts import Phrase, Question, Tokens, prompt_text
from isogloss.study.resources import DatasetShape

GERMAN = {"language": "de", "pivot": "en", "control": "zh"}
SHAPE = DatasetShape(items=900, choices=4, prompt_words=100, choice_words=3)
BYTES = {"sw": 5.86 * 1.07, "en": 5.86, "es": 5.86 * 1.16}  # of what English says in a word
TOKEN = {"sw": 2.97, "en": 4.66, "es": 4.29}  # bytes, in a large vocabulary


def announced_text(shape=SHAPE, **asked):
    """Swahili as a study announces it, with Spanish as the third language."""
    questions = announced(shape, 900, list(BYTES), 262_144, True)
    return questions.text("sw", **{"pivot": "en", "control": "es"} | asked)


def counted_of(data, packed=True, **asked):
    """German questions in the tokens of a tiny model."""
    decoder = model("llama")
    tokenizer = Tokens(decoder.tokenizer, decoder.start)
    questions = Questions(data, len(data.item_ids), RAW, tokenizer, 384, packed)
    return questions.text(**GERMAN | asked)


def test_counted_text_is_that_of_the_extraction():
    asked = ask(model("llama"), items(20))
    trees = [lay_out(question) for question in asked]
    text = counted_of(items(20))
    assert text.tokens == sum(map(len, trees))
    assert text.squares == sum(len(tree) ** 2 for tree in trees)
    assert text.states == text.stored_states == sum(len(tree.predicting) for tree in trees)
    assert text.phrases == sum(len(question.phrases) for question in asked)


def test_the_plain_path_runs_the_prompt_again_with_each_phrase():
    phrases = [(5,), (5, 6, 7), (5, 6), (8, 9), (8, 9)]
    asked = Question(0, "main", (1, 2, 3), tuple(Phrase(0, 0, p, False) for p in phrases))
    packed, plain = Text.of([asked], True), Text.of([asked], False, scale=10)
    # Last tokens are left out: nothing, 5 6, 5, and 8 twice remain.
    assert (packed.tokens, packed.sequences) == (3 + 2 + 1, 1)
    assert (plain.tokens, plain.squares, plain.sequences) == (200, 10 * (9 + 25 + 3 * 16), 50)
    assert plain.states == 10 * packed.states
    more, fewer = counted_of(items(4), packed=False), counted_of(items(4))
    assert more.tokens > 2 * fewer.tokens and more.stored_states == fewer.stored_states


def test_a_sample_stands_for_all():
    n = 20 * tokens.SAMPLE
    whole = sum(len(lay_out(question)) for question in ask(model("llama"), items(n)))
    assert counted_of(items(n)).tokens == pytest.approx(whole, rel=0.05)


def test_pmi_and_letters_are_run_but_not_stored():
    more = counted_of(items(4), pmi=True, letters=True)
    plain = counted_of(items(4))
    assert more.stored_states == plain.stored_states < more.states
    few, many = announced_text(), announced_text(letters=True)
    assert many.stored_states == few.stored_states < many.states
    # The prompt once more with each rotation of four letters, the options listed in it.
    assert many.tokens > few.tokens + 4 * 900 * 100 * BYTES["sw"] / TOKEN["sw"]


def test_announced_questions_by_hand():
    text = announced_text()
    choice = {tag: round(round(3 * BYTES[tag]) / TOKEN[tag]) for tag in BYTES}
    behind = 4 * sum(n - 1 for n in choice.values())  # every last token is left out
    behind += choice["sw"] - 1 + choice["en"] - 1  # the mismatched answers
    prompt = 1 + round(round(100 * BYTES["sw"]) / TOKEN["sw"])
    assert text.tokens == pytest.approx(900 * (prompt + behind))
    assert text.stored_states == pytest.approx(900 * (1 + behind))
    assert text.phrases == 900 * (3 * 4 + 2)
    plain = announced_text(latents=False)
    assert plain.states == pytest.approx(900 * (1 + 4 * (choice["sw"] - 1)))


def test_questions_without_a_tokenizer_are_counted_in_bytes():
    data = items(4)
    text = Questions(data, 400, RAW, None, 262_144).text(
        "de", pivot="en", control=None, latents=False
    )
    prompts = [prompt_text(data, "de", index, RAW) for index in range(4)]
    counted = 4 + sum(round(len(prompt.encode()) / 4.15) for prompt in prompts)
    # Three and two choices in turn, of less than a token or little more.
    assert counted * 100 <= text.tokens <= (counted + 4) * 100
    assert text.phrases == 100 * (3 + 2 + 3 + 2)


def test_a_language_that_was_not_measured_is_taken_for_its_script():
    assert measured("af")["large"] == measured("yo")["large"] == 3.33
    assert measured("ka")["large"] == 6.76


def test_sentences_have_states_to_pool_and_none_to_score():
    text = announced_text(SHAPE.model_copy(update={"choices": 0}))
    assert text.states == text.phrases == 0 and text.tokens > 900 * 100
    assert counted_of(items(5, sentences=True)).states == 0
