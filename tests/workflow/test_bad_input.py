"""What a user can get wrong ends in one line that says where, what and what to do."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.workflow.conftest import SMALL, Study, merged, write_questions

from isogloss.config import read
from isogloss.datasets import load_dataset
from isogloss.errors import InputError
from isogloss.netcdf import open_netcdf
from isogloss.store import read_manifest

CONFIGURATIONS = {
    # file content: what the message must name
    "languages: [en, de": "cannot be read",
    "- languages": "expected keys and values, got list",
    "pivto: en": "pivto: no such key: did you mean pivot?",
    "figures: {colour: red}": "figures.colour: no such key",
    "languages: en": "languages: ",
    "languages: [en]": "languages: ",
    "languages: [en, en]": "languages: en is named twice",
    "languages: [en, German]": "languages.1: ",
    "pivot: fr": "pivot: fr is not one of languages",
    "models: {}": "models: ",
    "models: {m: {source: ftp, family: f, parameters: 1}}": "'hub', 'path' or 'package'",
    "models: {m: {source: hub, family: f, parameters: 1}}": "source hub needs repo, revision",
    "models: {m: {source: path, path: x, parameters: 1}}": "models.m.family: is needed",
    "models: {A B: {source: path, path: x, family: f, parameters: 1}}": "models.A B",
    "prompt: {templates: {default: '{context}'}}": "does not use {question}",
    "prompt: {templates: {default: '{query}'}}": "a field other than",
    "prompt: {mode: few_shot}": "shots of 1 or more",
    "prompt: {mode: essay}": "'raw', 'chat' or 'few_shot'",
    "datasets: {d: {source: jsonl}}": "datasets.d: source jsonl needs path",
    "datasets: {d: {source: lexicon, languages: [de, es]}}": "the pivot en is missing",
    "behaviour: {score: pmi}": "behaviour.score: pmi",
    "steering: {fit_on: [elsewhere]}": "steering.fit_on: elsewhere is not a dataset",
    "steering: {languages: [en]}": "steering.languages: ",
    "steering: {languages: [fr]}": "steering.languages: fr is not one of languages",
    "steering: {strengths: [0.0, 1.0]}": "steering.strengths: ",
    "steering: {methods: [mean_diference]}": "'mean_difference'",
    "steering: {layers: [12]}": "steering.layers.0: ",
    "statistics: {n_boot: many}": "statistics.n_boot: ",
    "statistics: {confidence: 95}": "statistics.confidence: ",
    "figures: {formats: [gif]}": "'pdf', 'png' or 'svg'",
}


@pytest.mark.parametrize("content", CONFIGURATIONS)
def test_a_wrong_setting_is_named_with_what_is_allowed(tmp_path: Path, content: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read(path)
    said = str(caught.value)
    assert said.startswith(f"{path}:") and CONFIGURATIONS[content] in said
    assert "\n" not in said and "pydantic" not in said


GOOD = {"item_id": "q1", "question": "Who flies?", "choices": ["honey", "milk"], "answer": 0}


def as_line(**changes: Any) -> str:
    return json.dumps(GOOD | changes) + "\n"


QUESTIONS = {
    # why it is wrong: (de.jsonl beside a good en.jsonl, what the message must name)
    "not JSON": ("{'item_id': 1}\n", 'de.jsonl:1: '),
    "a list": ("[1, 2]\n", "de.jsonl:1: "),
    "no question": (json.dumps({"item_id": "q1"}) + "\n", 'no field "question"'),
    "unknown field": (as_line(anser=1), 'unknown field "anser"'),
    "text for a number": (as_line(answer="0"), '"answer" is not a whole number'),
    "another answer": (as_line(answer=1), "de.jsonl:1: "),
    "answer out of range": (as_line(answer=2), "de.jsonl:1: "),
    "one choice": (as_line(choices=["honey"]), "de.jsonl:1: "),
    "another number of choices": (as_line(choices=["a", "b", "c"]), "de.jsonl:1: "),
    "repeated choice": (as_line(choices=["honey", "honey"]), "de.jsonl:1: "),
    "empty choice": (as_line(choices=["honey", ""]), "de.jsonl:1: "),
    "another id": (as_line(item_id="q2"), 'item "q1" (de): missing'),
    "id twice": (as_line() * 2, "de.jsonl:2: "),
    "empty file": ("", "de.jsonl"),
    "not UTF-8": (as_line().encode() + b"\xff\xfe\n", "de.jsonl"),
}  # fmt: skip


@pytest.mark.parametrize("fault", QUESTIONS)
def test_a_wrong_question_is_named_by_file_and_line(tmp_path: Path, fault: str) -> None:
    content, named = QUESTIONS[fault]
    (tmp_path / "en.jsonl").write_text(as_line(), encoding="utf-8")
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "de.jsonl").write_bytes(raw)
    with pytest.raises(InputError) as caught:
        load_dataset({"source": "jsonl", "path": str(tmp_path)}, ["en", "de"], "own")
    said = str(caught.value)
    assert str(tmp_path) in said and named in said and "\n" not in said
    assert said.count(": ") >= 2, "where: what: what to do"


def test_damaged_artifacts_name_the_file_and_the_remedy(tmp_path: Path) -> None:
    table, listing, emptied = (tmp_path / n for n in ("a.nc", "m.json", "n.json"))
    table.write_bytes(b"\x89HDF\r\n\x1a\n")
    listing.write_text('{"artifacts": [')
    emptied.write_text(json.dumps({"artifacts": [{"language": "en", "path": str(tmp_path / "x")}]}))
    openers: list[tuple[Callable[[Path], Any], Path]] = [
        (open_netcdf, table), (read_manifest, listing), (read_manifest, emptied),
    ]  # fmt: skip
    for opener, path in openers:
        with pytest.raises(InputError, match="delete .* run again") as caught:
            opener(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def broken(tree: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The small study with a model that is nowhere: an error before it is loaded is earlier."""
    study = tree.copy(tmp_path_factory.mktemp("broken") / "tree")
    write_questions(study.folder / "questions", ["en", "de", "es"])
    pinned = {"source": "hub", "repo": "a/b", "revision": "0" * 40, "path": None}
    return replace(study, config=merged(SMALL, {"models": {"tiny": pinned}}))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"pivto": "en"}, "pivto: no such key: did you mean pivot?"),
        ({"languages": ["en", "de", "es", "sw"]}, "datasets.own: questions: no sw.jsonl: add it"),
        ({"datasets": {"own": {"path": "nowhere"}}}, "datasets.own: nowhere"),
        (
            {"models": {"tiny": {"source": "path", "path": "nowhere"}}},
            "models.tiny.path: nowhere is not a folder",
        ),
    ],
    ids=["unknown-key", "language-without-file", "no-folder", "no-model"],
)
def test_snakemake_passes_the_line_on_without_a_traceback(
    broken: Study, changes: dict[str, Any], named: str
) -> None:
    done = broken.changed(**changes).snakemake("--cores", "1")
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and len(said) == 1 and named in said[0], done.stderr
    assert not re.search(r"Traceback|Error in|Exception", done.stdout + done.stderr)
    assert not (broken.folder / "store").exists()


def test_a_run_stops_at_a_wrong_question_before_the_model(broken: Study, tmp_path: Path) -> None:
    study = broken.copy(tmp_path / "tree")
    path = study.folder / "questions/de.jsonl"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3].replace("answer", "anwser"), "utf-8")
    target = study.snakemake("--cores", "1", "results/tiny/own/behaviour.nc")
    assert target.returncode != 0
    (log,) = (study.folder / "logs/tiny/own").glob("extract-*.log")
    said = log.read_text("utf-8")
    assert re.fullmatch(r'error: questions/de\.jsonl:4: item "[\w-]+" \(de\): .*"anwser".*\n', said)
    assert f"{said}" in target.stderr and "Traceback" not in target.stderr
