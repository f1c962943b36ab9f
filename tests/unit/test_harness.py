"""Tasks of lm-evaluation-harness as questions, and results as its samples."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from isogloss.errors import InputError
from isogloss.questions.datasets import dataset_files, is_local, load_dataset

ROWS = [
    {"passage": "Bees fly.", "ask": "Who?  ", "a": "bees", "b": "cows", "right": "1"},
    {"passage": "Cows eat.", "ask": "Who?", "a": "bees", "b": "cows", "right": "2"},
]


def made(folder: Path, rows: list[dict[str, str]] = ROWS, **changes: Any) -> dict[str, Any]:
    """Tasks in two languages over a local copy of a repository."""
    for language in ("en", "de"):
        data = folder / "data" / language
        data.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (data / "test.jsonl").write_text(lines, "utf-8")
        about = {"include": "base.yaml", "dataset_path": str(data), "task": f"own_{language}"}
        (folder / f"{language}.yaml").write_text(yaml.safe_dump(about), "utf-8")
    base = {
        "output_type": "multiple_choice", "test_split": "test",
        "doc_to_text": "{{passage}}\nQ: {{ask.strip()}}\nA:",
        "doc_to_choice": "{{[a, b]}}", "doc_to_target": "{{['1', '2'].index(right)}}",
    } | changes  # fmt: skip
    (folder / "base.yaml").write_text(yaml.safe_dump(base), "utf-8")
    return {
        "source": "harness", "path": str(folder), "configs": {"en": "en.yaml", "de": "de.yaml"},
    }  # fmt: skip


def test_a_task_is_read_as_the_harness_asks_it(tmp_path: Path) -> None:
    spec = made(tmp_path)
    items = load_dataset(spec, ["de", "en"], "own")
    first, second = items.items["de"]
    assert first.question == "Bees fly.\nQ: Who?\nA:" and first.choices == ("bees", "cows")
    assert (first.answer, second.answer) == (0, 1) and is_local(spec, ["de", "en"])


@pytest.mark.parametrize("choices", [["a", "b"], {"first": "a", "second": "b"}])
def test_choices_as_they_stand_and_answers_as_text(tmp_path: Path, choices: Any) -> None:
    spec = made(tmp_path, doc_to_choice=choices, doc_to_target="{{'b' if right == '2' else 'a'}}")
    assert [item.answer for item in load_dataset(spec, ["en"], "own").items["en"]] == [0, 1]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"doc_to_choice": "{{a}}"}, r"en.yaml:0 \(en\): doc_to_choice gives no list"),
        ({"doc_to_choice": "{{[a, none]}}"}, "doc_to_choice gives None, no text"),
        ({"doc_to_target": "{{7}}"}, "doc_to_target gives 7, which is none"),
        ({"doc_to_text": "{{7}}"}, "doc_to_text gives the number 7, by which the harness means"),
        ({"doc_to_text": "{{nothing}}"}, "fails .'nothing' is undefined"),
        ({"doc_to_text": "{{''.__class__.mro()}}"}, "fails"),
        ({"output_type": "generate_until"}, "output_type is generate_until"),
        ({"process_docs": "x"}, "process_docs runs code"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        load_dataset(made(tmp_path, **changes), ["en"], "own")


def test_a_task_that_runs_code_is_refused(tmp_path: Path) -> None:
    spec = made(tmp_path)
    base = tmp_path / "base.yaml"
    base.write_text(base.read_text("utf-8") + "process_docs: !function utils.run\n", "utf-8")
    with pytest.raises(InputError, match=r"base.yaml: !function utils.run: a task that runs code"):
        load_dataset(spec, ["en"], "own")


LABELS = {"doc_to_choice": "{{[a, b]}}"}
INDEX = [{"passage": "", "ask": "Who?", "a": "1", "b": "0", "right": right} for right in "01"]


@pytest.mark.parametrize(
    ("target", "answers"),
    [
        ("{{right}}", [0, 1]),  # a template's digits are an index, whatever the choices are
        ("right", [1, 0]),  # a column of text is text
        ("{{right}} ", None),  # text, which is none of the choices
        (1, [1, 1]),
        ("{{[right]}}", None),
    ],
)
def test_answers_are_what_the_harness_takes_them_for(
    tmp_path: Path, target: Any, answers: list[int] | None
) -> None:
    spec = made(tmp_path, rows=INDEX, **LABELS, doc_to_target=target)
    if answers is None:
        with pytest.raises(InputError, match="none of the choices, nor an index from 0"):
            load_dataset(spec, ["en"], "own")
    else:
        assert [i.answer for i in load_dataset(spec, ["en"], "own").items["en"]] == answers


@pytest.mark.parametrize("target", ["right", "{{0 if right == 0 else 1}}"])
def test_numbers_in_csv_files_are_numbers_as_in_the_harness(tmp_path: Path, target: str) -> None:
    spec = made(tmp_path, **LABELS, doc_to_target=target)
    for language in ("en", "de"):
        (tmp_path / "data" / language / "test.jsonl").unlink()
        text = "passage,ask,a,b,right\nx,Who?,one,two,0\ny,Who?,one,two,1\n"
        (tmp_path / "data" / language / "test.csv").write_text(text, "utf-8")
    assert [item.answer for item in load_dataset(spec, ["en"], "own").items["en"]] == [0, 1]


def test_data_on_this_machine_are_inputs(tmp_path: Path) -> None:
    names = [str(file.relative_to(tmp_path)) for file in dataset_files(made(tmp_path), ["en"])]
    assert names == ["en.yaml", "base.yaml", "de.yaml", "data/en/test.jsonl"]
