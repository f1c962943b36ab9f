import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import InputError
from isogloss.questions.datasets import dataset_files, load_dataset
from isogloss.questions.local_files import load_files

RealData = Callable[[str], Path]
GOOD = {
    "item_id": "a",
    "context": "",
    "question": "What is wet?",
    "choices": ["water", "sand"],
    "answer": 0,
}


def line(**changes: object) -> str:
    return json.dumps({**GOOD, **changes}, ensure_ascii=False)


def without(field: str) -> str:
    return json.dumps({k: v for k, v in GOOD.items() if k != field})


def folder_of(path: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (path / name.replace("__", ".")).write_bytes(data)
    return path


# --- jsonl


def test_items_are_read_normalised_and_counted(tmp_path: Path) -> None:
    spanish = line(question=" ¿Que\u0301 moja?", choices=["\ufeffagua", "arena"], category="c")
    folder_of(tmp_path, **{"en__jsonl": line() + "\n\n", "es-LA__jsonl": "\ufeff" + spanish})
    items = load_files(tmp_path, ["es", "en"], "made", "CC0-1.0")
    assert items.languages == ("es", "en")
    assert items.items["es"][0].question == "¿Qué moja?"
    assert items.items["es"][0].choices == ("agua", "arena")
    assert items.items["es"][0].category == "c"
    assert items.normalised == {"es": 3, "en": 0}
    assert (items.name, items.licence) == ("made", "CC0-1.0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"sw\.jsonl:1: \(sw\) not JSON"),
        ("[1]", r"sw\.jsonl:1: \(sw\) a JSON list"),
        (line() + "\n\n" + line(item_id="b"), r"sw\.jsonl:2: \(sw\) not JSON"),
        (b"\n".join([line().encode(), b'{"item_id": "\xff"}']), r"sw\.jsonl:2: .* is not UTF-8"),
        ("", r"sw\.jsonl: the file is empty"),
        (" \n\n", r"sw\.jsonl: the file is empty"),
        (without("answer"), r'sw\.jsonl:1: item "a" \(sw\): no field "answer"'),
        (without("item_id"), r'item "of line 1" \(sw\): no field "item_id"'),
        (without("choices"), r'no field "choices"'),
        (line(anser=1), r'item "a" \(sw\): unknown field "anser"'),
        (line(answer=True), r'"answer" is not a whole number'),
        (line(answer="0"), r'"answer" is not a whole number'),
        (line(answer=0.0), r'"answer" is not a whole number'),
        (line(choices=["x", 3]), r'"choices" is not a list of strings'),
        (line(choices="xy"), r'"choices" is not a list of strings'),
        (line(question=None), r'"question" is not a string'),
        (line(item_id=7), r'"item_id" is not a string'),
        (line(context=None), r'"context" is not a string'),
        (line(question="\\ud800").replace("\\\\", "\\"), r"half a surrogate pair"),
        (line(choices=[]), r"has 0 choices"),
        (line(choices=["x"]), r"has 1 choices"),
        (line(choices=["x", " \ufeff"]), r"choice 1 is empty"),
        (line(choices=["caf\u00e9", "cafe\u0301 "]), r'the choice "café" is there twice'),
        (line(choices=["x", "y"], answer=2), r"the answer is 2, the choices are 0 to 1"),
        (line(answer=-1), r"the answer is -1"),
        (line(answer=1), r'sw\.jsonl:1: item "a" \(sw\): the answer is 1, in en it is 0'),
        (line(choices=["x", "y", "z"]), r"has 3 choices, en has 2"),
        (line(item_id="b"), r'en\.jsonl:1: item "a" \(sw\): missing in sw'),
        (line() + "\n" + line(), r'sw\.jsonl:2: item "a" \(sw\): the id is there twice'),
        (line() + "\n" + line(item_id="b"), r'sw\.jsonl:2: item "b" \(en\): missing in en'),
        (line(question=" "), r"context and question are both empty"),
    ],
)
def test_bad_items_are_refused_with_file_line_item_and_language(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    folder_of(tmp_path, en__jsonl=line(), sw__jsonl=text)
    with pytest.raises(InputError, match=message) as caught:
        load_files(tmp_path, ["en", "sw"], "made")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))


def test_missing_folders_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        load_files(tmp_path / "nowhere", ["en"], "made")
    folder_of(tmp_path, en__jsonl=line(), de__jsonl=line(), notes__jsonl="not items")
    with pytest.raises(InputError, match=r"no sw\.jsonl: add it, or choose from de, en"):
        load_files(tmp_path, ["en", "sw"], "made")


def test_two_files_of_one_language_need_one_that_bears_its_tag(tmp_path: Path) -> None:
    folder_of(tmp_path, **{"pt-BR__jsonl": line(), "pt-PT__jsonl": line(), "en__jsonl": line()})
    assert load_files(tmp_path, ["en"], "made").languages == ("en",)
    with pytest.raises(InputError, match=r"pt-BR\.jsonl is pt as well"):
        load_files(tmp_path, ["pt"], "made")
    folder_of(tmp_path, pt__jsonl=line(question="Qual?"))
    assert load_files(tmp_path, ["pt"], "made").items["pt"][0].question == "Qual?"


def test_adding_a_language_moves_no_item_to_another_cluster(tmp_path: Path) -> None:
    # In Turkish the two items seem to share their gold; English, the reference, says otherwise.
    english = [line(), line(item_id="b", choices=["snow", "ash"])]
    turkish = [line(choices=["su", "kum"]), line(item_id="b", choices=["su", "kül"])]
    folder_of(tmp_path, en__jsonl="\n".join(english), tr__jsonl="\n".join(turkish))
    alone = load_files(tmp_path, ["tr"], "made")
    both = load_files(tmp_path, ["tr", "en"], "made")
    assert alone.clusters.tolist() == both.clusters.tolist() == [0, 1]
    assert alone.digest("tr") == both.digest("tr")


def test_published_multiple_choice_data_loads_as_it_is(real_data: RealData) -> None:
    xcopa = load_files(real_data("xcopa"), "en et ht id it qu sw ta th tr vi zh".split(), "xcopa")
    assert len(xcopa.item_ids) == 400
    assert set(xcopa.n_choices) == {2}
    xquad = load_files(real_data("xquad_mc"), "ar de el en es hi ro ru th tr vi zh".split(), "x")
    assert len(xquad.item_ids) == 240
    assert xquad.normalised["ar"] > 0
    paragraphs = [item.context for item in xquad.items["en"]]
    for label in set(xquad.clusters):
        inside = {paragraphs[i] for i in np.flatnonzero(xquad.clusters == label)}
        outside = {paragraphs[i] for i in np.flatnonzero(xquad.clusters != label)}
        assert not inside & outside


def test_published_sentences_load_under_their_aliases(real_data: RealData) -> None:
    items = load_files(
        real_data("tico19_sentences"), ["es", "pt", "zh", "fil"], "tico19", suffix=".txt"
    )
    assert items.languages == ("es", "pt", "zh", "fil")
    assert len(items.item_ids) == 580


# --- sentences


def test_sentences_are_items_without_choices(tmp_path: Path) -> None:
    folder_of(tmp_path, en__txt="One.\r\nTwo.\r\nOne.\n", de__txt=" Eins.\nZwei.\nEins.")
    items = load_files(tmp_path, ["de", "en"], "made", suffix=".txt")
    assert items.item_ids == ("1", "2", "3")
    assert [item.question for item in items.items["en"]] == ["One.", "Two.", "One."]
    assert set(items.answers) == {-1}
    assert items.n_choices.tolist() == [0, 0, 0]
    assert items.clusters.tolist() == [0, 1, 0]
    assert items.normalised == {"de": 1, "en": 0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Eins.", r"de\.txt:2: \(de\) 1 lines, en has 2"),
        ("Eins.\nZwei.\nDrei.", r"de\.txt:3: \(de\) 3 lines, en has 2"),
        ("Eins.\n\nZwei.", r'de\.txt:2: item "2" \(de\): the line is empty'),
        (b"Eins.\n\xe4", r"de\.txt:2: \(de\) byte 1 of the line is not UTF-8"),
        ("\n", r"de\.txt: the file is empty"),
    ],
)
def test_sentences_that_do_not_align_are_refused(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    folder_of(tmp_path, en__txt="One.\nTwo.", de__txt=text)
    with pytest.raises(InputError, match=message):
        load_files(tmp_path, ["de", "en"], "made", suffix=".txt")


# --- specifications


def test_files_of_a_specification_are_those_that_it_reads(tmp_path: Path) -> None:
    folder_of(tmp_path, en__jsonl=line(), tr__jsonl=line(), **{"es-LA__jsonl": line()})
    spec = {"source": "jsonl", "path": str(tmp_path)}
    names = [path.name for path in dataset_files(spec, ["es", "tr"])]
    assert names == ["en.jsonl", "es-LA.jsonl", "tr.jsonl"]
    assert dataset_files({"source": "lexicon"}, ["en"]) == []
    assert load_dataset(spec, ["es-MX", "es"], "made").languages == ("es",)


def test_a_lexicon_is_a_dataset_like_others() -> None:
    spec = {"source": "lexicon", "items": 12, "seed": 1, "path": None}
    items = load_dataset(spec, ["en", "sw"], "words")
    assert (items.name, len(items.item_ids), items.languages) == ("words", 12, ("en", "sw"))


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(InputError, match='dataset made: source is "csv"'):
        load_dataset({"source": "csv"}, ["en"], "made")
