"""Data that is not what it must be: one line with file, line, item and language, before a model."""

import gzip
import json
import os
import pickle
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.workflow.conftest import ROOT

from isogloss.errors import InputError
from isogloss.questions.datasets import load_dataset

GOOD = {"item_id": "q1", "question": "Who flies?", "choices": ["honey", "milk"], "answer": 0}


def as_line(**changes: Any) -> str:
    return json.dumps(GOOD | changes) + "\n"


QUESTIONS: dict[str, tuple[str | bytes, str]] = {
    # why it is wrong: (de.jsonl beside a good en.jsonl, what the message must name)
    "not JSON": ("{'item_id': 1}\n", "de.jsonl:1: "),
    "a list": ("[1, 2]\n", "de.jsonl:1: "),
    "a number": ("7\n", "de.jsonl:1: (de) a JSON int"),
    "null": ("null\n", "de.jsonl:1: (de) a JSON NoneType"),
    "half an object": (as_line()[:40] + "\n", "de.jsonl:1: (de) not JSON"),
    "two objects on a line": (as_line().strip() * 2 + "\n", "de.jsonl:1: (de) not JSON (Extra"),
    "an empty line": ("\n" + as_line(), "de.jsonl:1: (de) not JSON"),
    "no question": (json.dumps({"item_id": "q1"}) + "\n", 'no field "question"'),
    "unknown field": (as_line(anser=1), 'unknown field "anser"'),
    "a field twice": (as_line()[:-2] + ', "answer": 1}\n', 'field "answer" is there twice'),
    "text for a number": (as_line(answer="0"), '"answer" is not a whole number'),
    "true for a number": (as_line(answer=False), '"answer" is not a whole number'),
    "half an answer": (as_line(answer=0.5), '"answer" is not a whole number'),
    "no number": (as_line(answer=float("nan")), '"answer" is not a whole number'),
    "infinity": (as_line(answer=float("inf")), '"answer" is not a whole number'),
    "a huge answer": (as_line(answer=10**30), "the choices are 0 to 1"),
    "an answer of 5000 digits": (
        as_line().replace(": 0}", ": " + "1" * 5000 + "}"),
        "de.jsonl:1: ",
    ),
    "a negative answer": (as_line(answer=-1), "the answer is -1"),
    "another answer": (as_line(answer=1), "de.jsonl:1: "),
    "answer out of range": (as_line(answer=2), "de.jsonl:1: "),
    "no choices": (as_line(choices=[]), "has 0 choices"),
    "one choice": (as_line(choices=["honey"]), "de.jsonl:1: "),
    "choices as text": (as_line(choices="honey"), '"choices" is not a list of strings'),
    "choices by name": (as_line(choices={"a": "b"}), '"choices" is not a list of strings'),
    "a choice of null": (as_line(choices=["honey", None]), '"choices" is not a list of strings'),
    "another number of choices": (as_line(choices=["a", "b", "c"]), "de.jsonl:1: "),
    "repeated choice": (as_line(choices=["honey", "honey"]), "de.jsonl:1: "),
    "repeated but for normalisation": (as_line(choices=["\u00e9", "e\u0301"]), "is there twice"),
    "repeated over two lines": (as_line(choices=["a\nb", "a\nb"]), 'the choice "a b" is there'),
    "empty choice": (as_line(choices=["honey", ""]), "de.jsonl:1: "),
    "a choice of blanks": (as_line(choices=["honey", " \u00a0\ufeff"]), "choice 1 is empty"),
    "an empty question": (as_line(question=" "), "context and question are both empty"),
    "an empty id": (as_line(item_id=""), "the id is empty"),
    "an id of two lines": (as_line(item_id="q\n1"), '"item_id" has a character that is not'),
    "an id that clears the screen": (as_line(item_id="\u001b[2J"), "is not printed: remove it"),
    "an id that turns round": (as_line(item_id="q\u202e1"), '"item_id" has a character that'),
    "a cluster with NUL": (as_line(cluster="a\0b"), '"cluster" has a character that is not'),
    "NUL in a question": (as_line(question="a\0b"), "control character U+0000 in the text"),
    "NUL in the file": (as_line().encode() + b"\0" * 20, "de.jsonl:2: (de) not JSON"),
    "escape in a choice": (as_line(choices=["a", "\u001b[31m"]), "control character U+001B"),
    "half a surrogate pair": (as_line(question="\ud83d"), "half a surrogate pair"),
    "deep nesting": ("[" * 100_000 + "\n", "de.jsonl:1: (de) not JSON (maximum recursion depth"),
    "a number for an id": (as_line(item_id=1), '"item_id" is not a string'),
    "a list for a context": (as_line(context=["a"]), '"context" is not a string'),
    "a number for a category": (as_line(category=3), '"category" is not a string'),
    "another id": (as_line(item_id="q2"), 'item "q1" (de): missing'),
    "an id that looks the same": (as_line(item_id="\u051b1"), 'item "q1" (de): missing'),
    "id twice": (as_line() * 2, "de.jsonl:2: "),
    "one item more": (as_line() + as_line(item_id="q2"), 'item "q2" (en): missing in en'),
    "empty file": ("", "de.jsonl"),
    "a file of blanks": (" \r\n\t\n", "de.jsonl: the file is empty"),
    "a mark alone": ("\ufeff", "de.jsonl:1: (de) not JSON"),
    "not UTF-8": (as_line().encode() + b"\xff\xfe\n", "de.jsonl"),
    "UTF-16": (as_line().encode("utf-16"), "de.jsonl:1: (de) byte 1 of the line is not UTF-8"),
    "Latin-1": (as_line().replace("Who", "W\u00e4r").encode("latin-1"), "is not UTF-8"),
    "compressed": (gzip.compress(as_line().encode()), "de.jsonl:1: (de) byte 2 of the line"),
    "a page of HTML": ("<!doctype html>\n<html></html>\n", "de.jsonl:1: (de) not JSON"),
    "a CSV table": ("item_id,question\nq1,Who?\n", "de.jsonl:1: (de) not JSON"),
    "one JSON list of all": (f"[\n{as_line()}]\n", "de.jsonl:1: (de) not JSON"),
}

SENTENCES: dict[str, tuple[str | bytes, str]] = {
    # why it is wrong: (de.txt beside an en.txt of two lines, what the message must name)
    "a line too few": ("Eins.\n", "de.txt:2: (de) 1 lines, en has 2"),
    "a line too many": ("Eins.\nZwei.\nDrei.\n", "de.txt:3: (de) 3 lines, en has 2"),
    "an empty line": ("\nZwei.\n", 'de.txt:1: item "1" (de): the line is empty'),
    "a line of marks": ("Eins.\n\ufeff\u00a0\n Drei.", 'de.txt:2: item "2" (de): the line is'),
    "nothing": ("", "de.txt: the file is empty"),
    "ends of lines of old": ("Eins.\rZwei.\r", "de.txt:1: (de) ends lines by a carriage return"),
    "NUL": (b"Eins.\nZw\0ei.\n", 'de.txt:2: item "2" (de): control character U+0000'),
    "UTF-16 of one end": ("Eins.\nZwei.\n".encode("utf-16-le"), "de.txt:1: "),
    "an escape": ("Eins.\n\x1b[2JZwei.\n", "de.txt:2: "),
}


def extract(study: Path, dataset: dict[str, Any], languages: list[str]) -> str:
    """What the program behind the rule `extract` says of a dataset; its model is nowhere."""
    prompt = {"mode": "raw", "templates": {"default": "{question}"}, "shots": 0, "truncate": False}
    model = {"source": "path", "path": "nowhere", "dtype": "float32", "attention": "sdpa"}
    spec = {
        "slug": "m", "model": model, "name": "own", "dataset": dataset | {"licence": ""},
        "languages": languages, "pivot": "en", "prompt": prompt, "extraction": {},
    }  # fmt: skip
    options = [f"--store={study / 'store'}", f"--cache={study / 'cache'}", "--output=x.json"]
    before = sys.argv
    sys.argv = ["extract.py", "--spec", json.dumps(spec), *options]
    try:
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "workflow_scripts/extract.py"), run_name="__main__")
    finally:
        sys.argv = before
    assert not (study / "store").exists()
    said = str(ended.value.code)
    assert said.startswith("error: ") and said.isprintable() and "models.m" not in said, said
    return said


def refused(folder: Path, source: str, fault: str | bytes) -> str:
    """What is said of de.jsonl or de.txt with a fault, beside a good file in English."""
    suffix, good = {"jsonl": ("jsonl", as_line()), "sentences": ("txt", "One.\nTwo.\n")}[source]
    (folder / f"en.{suffix}").write_text(good, encoding="utf-8")
    raw = fault if isinstance(fault, bytes) else fault.encode()
    (folder / f"de.{suffix}").write_bytes(raw)
    return extract(folder, {"source": source, "path": str(folder)}, ["en", "de"])


@pytest.mark.parametrize("fault", QUESTIONS)
def test_a_wrong_question_is_named_by_file_and_line(tmp_path: Path, fault: str) -> None:
    content, named = QUESTIONS[fault]
    said = refused(tmp_path, "jsonl", content)
    assert str(tmp_path) in said and named in said
    assert said.count(": ") >= 3, "error: where: what: what to do"


@pytest.mark.parametrize("fault", SENTENCES)
def test_a_wrong_sentence_is_named_by_file_and_line(tmp_path: Path, fault: str) -> None:
    content, named = SENTENCES[fault]
    said = refused(tmp_path, "sentences", content)
    assert str(tmp_path) in said and named in said


def test_what_editors_and_other_systems_write_is_read(tmp_path: Path) -> None:
    """Marks of byte order and ends of lines of Windows are no faults."""
    (tmp_path / "en.jsonl").write_bytes(b"\xef\xbb\xbf" + as_line().encode())
    (tmp_path / "de.jsonl").write_bytes(as_line(question="Wer\tfliegt?").encode()[:-1] + b"\r\n")
    items = load_dataset({"source": "jsonl", "path": str(tmp_path)}, ["en", "de"], "own")
    assert [items.items[tag][0].item_id for tag in ("en", "de")] == ["q1", "q1"]


def nothing_there(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def a_link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)  # opened, it would wait for ever


def a_closed_file(path: Path) -> None:
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("permissions do not bind root")


PLACES: dict[str, tuple[Callable[[Path], None], str]] = {
    "nothing": (nothing_there, "no de.jsonl: add it, or choose from en"),
    "a folder": (a_folder, "de.jsonl: (de) is no file"),
    "a link to itself": (a_link_to_itself, "de.jsonl: (de) is no file"),
    "a link to nothing": (a_link_to_nothing, "de.jsonl: (de) is no file"),
    "a pipe": (a_pipe, "de.jsonl: (de) is no file"),
    "a closed file": (a_closed_file, "de.jsonl: (de) cannot be read (Permission denied)"),
}


@pytest.mark.parametrize("kind", PLACES)
def test_what_is_no_file_is_named(tmp_path: Path, kind: str) -> None:
    change, named = PLACES[kind]
    for tag in ("en", "de"):
        (tmp_path / f"{tag}.jsonl").write_text(as_line(), "utf-8")
    change(tmp_path / "de.jsonl")
    assert named in extract(tmp_path, {"source": "jsonl", "path": str(tmp_path)}, ["en", "de"])


FOLDERS = {
    "nowhere": "nowhere: no such folder",
    "a" * 300: "no such folder",
    "~someone/x": "no such folder",
    "en.jsonl": "en.jsonl: no such folder",
    "loop": "loop: no such folder",
    "empty": "no en.jsonl: the folder has no such file: put one per language there",
}


@pytest.mark.parametrize("name", FOLDERS, ids=lambda name: name[:20])
def test_what_is_no_folder_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "en.jsonl").write_text(as_line(), "utf-8")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "empty").mkdir()
    dataset = {"source": "jsonl", "path": str(tmp_path / name)}
    assert FOLDERS[name] in extract(tmp_path, dataset, ["en", "de"])


ROW = {"q": "Who?", "a": "honey", "b": "milk", "all": ["honey", "milk"], "gold": 0}
COLUMNS = {"question": "{q}", "choices": ["a", "b"], "answer": "gold", "answer_from": "0"}

TABLES: dict[str, tuple[str | dict[str, Any], dict[str, Any], str]] = {
    # what is wrong: (text of the table or changes of its row, changes of the columns, the message)
    "no JSON": ("{", {}, "(en, test): cannot be had"),
    "another kind of row": ("[1, 2]\n", {}, '(en, test): no column "gold"'),
    "no rows": ("", {}, "(en, test): cannot be had"),
    "not UTF-8": ("\udcff", {}, "(en, test): cannot be had"),
    "no such column": ({}, {"question": "{query}"}, 'no column "query": choose from q, a, b'),
    "an answer of text": ({"gold": "first"}, {}, 'test):0 (en): the answer is "first"'),
    "an answer that is cut off": ({"gold": 0.5}, {}, 'the answer is "0.5"'),
    "an endless answer": ({"gold": 1e400}, {}, "(en"),
    "no answer": ({"gold": None}, {}, 'the answer is "None"'),
    "an empty letter": ({"gold": ""}, {"answer_from": "letter"}, 'the answer is ""'),
    "two letters": ({"gold": "AB"}, {"answer_from": "letter"}, 'the answer is "AB"'),
    "an answer beyond": ({"gold": 2}, {}, "the answer is 2, the choices are 0 to 1"),
    "choices in a text": ({}, {"choices": "a"}, 'column "a" holds no list of choices'),
    "a choice of null": ({"b": None}, {}, "has 1 choices: give at least 2"),
    "a null before a choice": ({"a": None}, {}, 'column "a" is empty and "b" is not'),
    "a question of null": ({"q": None}, {}, "context and question are both empty"),
    "the same choice twice": ({"b": "honey"}, {}, 'the choice "honey" is there twice'),
    "a control character": ({"q": "a\0b"}, {}, "control character U+0000"),
    "an attribute": ({}, {"question": "{q.__class__}"}, 'no column "q.__class__"'),
}


@pytest.mark.parametrize("fault", TABLES)
def test_a_wrong_table_is_named_by_configuration_and_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """A dataset as the hub has it, in a local folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    content, columns, named = TABLES[fault]
    text = content if isinstance(content, str) else json.dumps(ROW | content) + "\n"
    (tmp_path / "table").mkdir()
    (tmp_path / "table/test.jsonl").write_bytes(text.encode("utf-8", "surrogateescape"))
    files = "data_files:\n  - split: test\n    path: test.jsonl"
    card = f"---\nconfigs:\n- config_name: en\n  {files}\n---\n"
    (tmp_path / "table/README.md").write_text(card)
    spec = {"source": "hub", "path": str(tmp_path / "table"), "configs": {"en": "en"}}
    said = extract(tmp_path, spec | {"columns": COLUMNS | columns}, ["en"])
    assert named in said and str(tmp_path / "table") in said


def test_the_lexicon_names_a_language_that_it_lacks(tmp_path: Path) -> None:
    said = extract(tmp_path, {"source": "lexicon", "items": 12}, ["en", "gn"])
    assert "gn" in said and "lexicon" in said


def test_what_is_quoted_of_bad_input_neither_breaks_the_line_nor_fills_the_screen() -> None:
    said = str(InputError("a\nb\x1b[31m\u202e" + "x" * 10_000))
    assert said.startswith(r"a b\x1b[31m\u202ex") and said.isprintable() and len(said) < 2100


def test_code_and_pickles_beside_a_table_are_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What older versions of the datasets library took for a dataset's own loader."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    mark, table = tmp_path / "mark", tmp_path / "table"
    table.mkdir()
    (table / "table.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n", "utf-8")
    (table / "test.pkl").write_bytes(f"cos\nmkdir\n(V{mark}\ntR.".encode())
    spec = {"source": "hub", "path": str(table), "configs": {"en": "en"}, "columns": COLUMNS}
    assert "(en, test): cannot be had" in extract(tmp_path, spec, ["en"])
    assert not mark.exists()
    pickle.loads((table / "test.pkl").read_bytes())
    assert mark.exists(), "the planted pickle does what it is for"
