"""The embedded questions: all that can be checked of them without reading ten languages."""

import json
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from isogloss.questions.items import ParallelItems, folds, identical_to, same_text
from isogloss.questions.local_files import load_files
from isogloss.study.schema import read

EVERYDAY = Path(__file__).resolve().parents[2] / "data" / "everyday"
LANGUAGES = ("en", "de", "es", "ru", "zh", "ar", "hi", "id", "tr", "sw")
SCRIPT_OF = {"ru": "CYRILLIC", "zh": "CJK", "ar": "ARABIC", "hi": "DEVANAGARI"}
# Letters of other languages' alphabets, which a file of the language must not hold.
ALPHABET_OF = {"en": "", "de": "äöüß", "es": "áéíóúüñ", "id": "", "tr": "çğıöşüâîû", "sw": ""}

each_language = pytest.mark.parametrize("language", LANGUAGES)
each_translation = pytest.mark.parametrize("language", LANGUAGES[1:])


@pytest.fixture(scope="module")
def everyday() -> ParallelItems:
    return load_files(EVERYDAY, LANGUAGES, "everyday", "CC0-1.0")


def test_there_is_one_file_for_each_of_ten_languages() -> None:
    assert sorted(path.stem for path in EVERYDAY.glob("*.jsonl")) == sorted(LANGUAGES)


def test_every_language_has_the_same_120_four_choice_items(everyday: ParallelItems) -> None:
    assert len(everyday.item_ids) == 120
    assert set(everyday.n_choices) == {4}


def test_the_files_are_written_as_they_are_read(everyday: ParallelItems) -> None:
    assert everyday.normalised == dict.fromkeys(LANGUAGES, 0)


def test_gold_positions_are_balanced(everyday: ParallelItems) -> None:
    counts = np.bincount(everyday.answers, minlength=4)
    assert 28 <= counts.min() <= counts.max() <= 32, counts


def test_there_are_clusters_enough_for_five_folds(everyday: ParallelItems) -> None:
    sizes = np.bincount(folds(everyday.clusters))
    assert sizes.max() - sizes.min() <= 4, sizes


@each_language
def test_questions_and_choices_are_not_repeated(everyday: ParallelItems, language: str) -> None:
    items = everyday.items[language]
    assert len({same_text(item.context + item.question) for item in items}) == len(items)
    for item in items:
        assert len({same_text(choice) for choice in item.choices}) == 4, item.item_id


@each_language
def test_no_choice_contains_another(everyday: ParallelItems, language: str) -> None:
    holding = [
        (item.item_id, a, b)
        for item in everyday.items[language]
        for a in item.choices
        for b in item.choices
        if a != b and same_text(a) in same_text(b)
    ]
    assert not holding


@each_translation
def test_few_choices_are_spelled_like_the_english(everyday: ParallelItems, language: str) -> None:
    same = identical_to(everyday, language, "en")
    assert same.mean() < 0.03, np.argwhere(same)


@each_language
@pytest.mark.parametrize("extreme", [max, min])
def test_length_does_not_tell_the_gold_answer(
    everyday: ParallelItems, language: str, extreme: type
) -> None:
    alone = 0
    for item in everyday.items[language]:
        lengths = [len(choice) for choice in item.choices]
        gold = lengths[item.answer]
        alone += gold == extreme(lengths) and lengths.count(gold) == 1
    assert alone / len(everyday.item_ids) <= 0.40


@each_language
def test_choices_of_an_item_are_of_similar_length(everyday: ParallelItems, language: str) -> None:
    uneven = [
        (item.item_id, item.choices)
        for item in everyday.items[language]
        if max(map(len, item.choices)) > 3 * min(map(len, item.choices)) + 6
    ]
    assert not uneven


@each_language
def test_questions_end_in_a_question_mark(everyday: ParallelItems, language: str) -> None:
    mark = {"zh": "？", "ar": "؟"}.get(language, "?")
    bad = [i.item_id for i in everyday.items[language] if not i.question.endswith(mark)]
    assert not bad


@each_language
def test_text_is_in_the_script_of_its_language(everyday: ParallelItems, language: str) -> None:
    expected = SCRIPT_OF.get(language, "LATIN")
    for item in everyday.items[language]:
        for text in (item.context, item.question, *item.choices):
            letters = [letter for letter in text if letter.isalpha()]
            foreign = {x for x in letters if not unicodedata.name(x, "").startswith(expected)}
            assert not foreign, (item.item_id, text, foreign)


@pytest.mark.parametrize("language", ALPHABET_OF)
def test_latin_text_keeps_to_the_alphabet_of_its_language(
    everyday: ParallelItems, language: str
) -> None:
    alphabet = set("abcdefghijklmnopqrstuvwxyz" + ALPHABET_OF[language])
    foreign = {
        letter
        for item in everyday.items[language]
        for text in (item.context, item.question, *item.choices)
        for letter in text.replace("İ", "i").lower()
        if letter.isalpha() and letter not in alphabet
    }
    assert not foreign


@each_translation
def test_questions_are_translated(everyday: ParallelItems, language: str) -> None:
    pairs = zip(everyday.items[language], everyday.items["en"], strict=True)
    assert not [item.item_id for item, other in pairs if item.question == other.question]


def test_categories_agree_between_languages_and_are_documented(everyday: ParallelItems) -> None:
    readme = (EVERYDAY / "README.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`([a-z_]+)`", readme))
    categories = [[item.category for item in items] for items in everyday.items.values()]
    assert all(of_language == categories[0] for of_language in categories)
    assert None not in categories[0]
    assert set(categories[0]) <= documented


def test_the_datasheet_says_who_wrote_it_who_read_it_and_the_licence() -> None:
    readme = (EVERYDAY / "README.md").read_text(encoding="utf-8").lower()
    assert "cc0" in readme
    assert "machine" in readme
    assert "native speaker" in readme


@each_language
def test_fields_are_in_one_order(language: str) -> None:
    lines = (EVERYDAY / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()
    orders = {tuple(json.loads(line)) for line in lines}
    assert len(orders) == 1


def test_every_language_has_its_own_wordings_in_its_own_script() -> None:
    """No language falls back on English, and no template is left half translated."""
    prompt = read(EVERYDAY.parents[1] / "config/studies/variants.yaml").prompt
    assert len(prompt.variants) == 2
    for templates in prompt.variants.values():
        assert set(templates) - {"default"} == set(LANGUAGES) - {"en"}
        words = {
            tag.replace("default", "en"): text.replace("{context}", "").replace("{question}", "")
            for tag, text in templates.items()
        }
        assert len(set(words.values())) == len(LANGUAGES)
        for tag, text in words.items():
            letters = {c for c in text.lower() if c.isalpha()}
            scripts = {unicodedata.name(c).split()[0] for c in letters}
            assert scripts == {SCRIPT_OF.get(tag, "LATIN")}, tag
            if tag in ALPHABET_OF:
                assert {c for c in letters if not c.isascii()} <= set(ALPHABET_OF[tag]), tag
            assert text.endswith("：" if tag == "zh" else ":")  # the choice comes right after
