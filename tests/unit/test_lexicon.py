from collections import Counter

import numpy as np
import pytest

from isogloss.errors import InputError
from isogloss.questions.items import ParallelItems, same_text
from isogloss.questions.lexicon import (
    CITIES,
    COUNTRIES_OF,
    DEFAULT_KINDS,
    EMOJI,
    FLAG_COUNTRIES,
    KINDS,
    _flag,
    _months,
    _pairs,
    _territory,
    lexicon_items,
    lexicon_languages,
)

STUDY = "en de es ru zh ar hi id tr sw".split()


@pytest.fixture(scope="module")
def everywhere() -> ParallelItems:
    return lexicon_items(lexicon_languages())


@pytest.fixture(scope="module")
def whole() -> ParallelItems:
    """All items that there are."""
    return lexicon_items(["en", "de", "ru", "sw"], 234)


def by_id(items: ParallelItems, language: str, item_id: str) -> tuple[str, str]:
    item = next(item for item in items.items[language] if item.item_id == item_id)
    return item.question, item.choices[item.answer]


def test_sixty_items_in_at_least_thirty_languages_with_those_of_the_study(
    everywhere: ParallelItems,
) -> None:
    assert len(everywhere.item_ids) == 60
    assert len(everywhere.languages) >= 30
    assert set(STUDY) <= set(everywhere.languages)
    assert set(everywhere.n_choices) == {4}


def test_kinds_share_the_items_and_gold_positions_are_balanced(everywhere: ParallelItems) -> None:
    kinds = Counter(item.category for item in everywhere.items["en"])
    assert set(kinds) == set(DEFAULT_KINDS)
    assert min(kinds.values()) >= 10
    assert np.bincount(everywhere.answers).tolist() == [15] * 4


def test_no_choice_is_shown_in_the_question_or_in_another_choice(everywhere: ParallelItems) -> None:
    for items in everywhere.items.values():
        for item in items:
            choices = [same_text(choice) for choice in item.choices]
            assert not any(choice in same_text(item.question) for choice in choices)
            assert not any(a in b for a in choices for b in choices if a is not b)


def test_adding_a_language_changes_no_item(everywhere: ParallelItems) -> None:
    few = lexicon_items(["tr", "en"])
    assert few.languages == ("tr", "en")
    assert few.digest("tr") == everywhere.digest("tr")


def test_items_follow_the_seed_and_nothing_else() -> None:
    assert lexicon_items(["en"], 20).digest("en") == lexicon_items(["en"], 20).digest("en")
    assert lexicon_items(["en"], 20, seed=1).item_ids != lexicon_items(["en"], 20).item_ids


def test_languages_without_spaces_have_none_around_the_arrow(everywhere: ParallelItems) -> None:
    for language, items in everywhere.items.items():
        spaced = language not in ("zh", "yue", "ja", "th", "lo", "km", "my")
        for item in items:
            assert item.question.endswith(" →" if spaced else "→")
            assert (" → " in item.question) == spaced
            assert not item.question.endswith(" →") or spaced


def test_items_about_the_same_country_are_one_cluster(whole: ParallelItems) -> None:
    about = np.array([item_id.partition("-")[2] for item_id in whole.item_ids])
    same_cluster = whole.clusters[:, None] == whole.clusters
    assert np.array_equal(same_cluster, about[:, None] == about)
    assert same_cluster.sum() > len(about)


def test_known_items_come_out_as_they_must(whole: ParallelItems) -> None:
    assert by_id(whole, "en", "flag-PH")[0].endswith("🇵🇭 →")
    assert by_id(whole, "en", "flag-PH")[1] == "Philippines"
    assert by_id(whole, "de", "continent-NE")[1] == "Afrika"
    question, gold = by_id(whole, "ru", "city-EE")
    assert question.endswith("Таллин →")
    assert gold == "Эстония"
    assert by_id(whole, "sw", "month-11")[1] == "Novemba"


def test_answers_that_the_question_gives_away_are_left_out(whole: ParallelItems) -> None:
    assert not {"continent-CR", "continent-MY", "city-NI", "city-NZ"} & set(whole.item_ids)


def test_months_are_each_languages_own_whatever_was_read_before() -> None:
    first = {"az": "yanvar", "de": "Januar", "ru": "январь", "cs": "leden", "he": "ינואר"}
    first |= {"fr": "janvier", "hr": "siječanj", "zh": "一月", "fi": "tammikuu"}
    for order in (list(first), list(first)[::-1]):
        _months.cache_clear()
        for language in order:
            assert _months(language)[1] == first[language]


def test_tables_agree_with_cldr_and_emoji() -> None:
    import emoji
    from babel.core import get_global

    zones = get_global("zone_territories")
    assert {zone: zones[zone] for zone in CITIES} == CITIES
    assert all(emoji.is_emoji(_flag(country)) for country in FLAG_COUNTRIES.split())
    assert all(emoji.is_emoji(character) for character in EMOJI)
    listed = [country for countries in COUNTRIES_OF.values() for country in countries.split()]
    assert len(listed) == len(set(listed))
    assert not set(listed) & set("RU TR KZ AZ GE AM CY EG ID".split())
    assert all(_territory(country)("en") for country in [*listed, *COUNTRIES_OF])


def test_every_pair_has_an_id_of_its_own() -> None:
    ids = [pair.item_id for kind in KINDS for pair in _pairs(kind)]
    assert len(ids) == len(set(ids))


def test_emoji_are_named_in_the_languages_that_have_names() -> None:
    items = lexicon_items(["en", "fr", "ja"], 40, kinds=("emoji",))
    question, gold = by_id(items, "fr", "emoji-1f419")
    assert question.endswith("🐙 →")
    assert gold == "pieuvre"
    with pytest.raises(InputError, match="sw is not covered for emoji: choose from ar, de, en"):
        lexicon_items(["sw"], 20, kinds=("emoji",))


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(InputError, match="qu is not covered"):
        lexicon_items(["en", "qu"])
    with pytest.raises(InputError, match="1000 items .*: ask for 1 to 2"):
        lexicon_items(["en"], 1000)
    with pytest.raises(InputError, match="choose from flag, continent, city, month, emoji"):
        lexicon_items(["en"], kinds=("capital",))
