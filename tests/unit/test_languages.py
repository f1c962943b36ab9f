import math

import numpy as np
import pytest

from isogloss.errors import InputError
from isogloss.questions.languages import (
    _angular_distance,
    canonical_tag,
    language_name,
    script,
    separator,
    typological_distance,
)


@pytest.mark.parametrize(
    ("tag", "canonical"),
    [
        ("es-LA", "es"),
        ("es-419", "es"),
        ("ES_LA", "es"),
        ("pt-BR", "pt"),
        ("zh-CN", "zh"),
        ("zho_Hans", "zh"),
        ("zh-TW", "zh-Hant"),
        ("arb_Arab", "ar"),
        ("npi_Deva", "ne"),
        ("eng_Latn", "en"),
        ("sr-Latn", "sr-Latn"),
        ("sr-Cyrl", "sr"),
        ("yue", "yue"),
        ("tl", "fil"),
        ("nb", "no"),
        ("iw", "he"),
        ("hat", "ht"),
    ],
)
def test_aliases_of_a_language_have_one_tag(tag: str, canonical: str) -> None:
    assert canonical_tag(tag) == canonical
    assert canonical_tag(canonical) == canonical


@pytest.mark.parametrize("tag", ["", "notes", "not a tag", "xx", "README", "en-Xxxx"])
def test_what_is_no_language_is_refused_by_name(tag: str) -> None:
    with pytest.raises(InputError, match=f'language "{tag}"'):
        canonical_tag(tag)


def test_words_are_separated_as_the_script_has_it() -> None:
    assert {language for language in "zh zh-TW ja th lo km my bo yue".split()} == {
        language
        for language in "zh zh-TW ja th lo km my bo yue en ko vi am hi".split()
        if separator(language) == ""
    }
    assert separator("zh-Latn") == " "


def test_scripts() -> None:
    assert [script(tag) for tag in ("ru", "ja", "ko", "hi", "ur")] == [
        "Cyrl",
        "Jpan",
        "Kore",
        "Deva",
        "Arab",
    ]


def test_names_are_english_and_tell_the_script() -> None:
    names = {"sw": "Swahili", "es-LA": "Spanish", "qu": "Quechua", "sr-Latn": "Serbian (Latin)"}
    assert {tag: language_name(tag) for tag in names} == names


def test_the_pivot_is_nowhere_and_relatives_are_near() -> None:
    distance = typological_distance(["en", "de", "tr", "pt-BR", "zh"], "en")
    assert distance["en"] == pytest.approx(0, abs=1e-6)
    assert 0 < distance["de"] < distance["zh"] < distance["tr"] < 1
    assert list(distance) == ["en", "de", "tr", "pt-BR", "zh"]


def test_distance_is_symmetric_and_unknown_languages_have_none() -> None:
    assert typological_distance(["es"], "sw")["es"] == pytest.approx(
        typological_distance(["sw"], "es")["sw"]
    )
    assert math.isnan(typological_distance(["eo"], "tlh")["eo"])


def test_distance_counts_only_features_known_for_both() -> None:
    first, other = np.full((2, 20), np.nan)
    first[:12], other[2:14] = 1, 1
    assert _angular_distance(first, other) == pytest.approx(0, abs=1e-6)
    assert math.isnan(_angular_distance(first[:11], other[:11]))
