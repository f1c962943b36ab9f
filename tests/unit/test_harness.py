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


def made(folder: Path, **changes: Any) -> dict[str, Any]:
    """Tasks in two languages over a local copy of a repository."""
    for language in ("en", "de"):
        data = folder / "data" / language
        data.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in ROWS)
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
    assert {file.name for file in dataset_files(spec, ["en"])} == {
        "en.yaml",
        "de.yaml",
        "base.yaml",
    }


@pytest.mark.parametrize("choices", [["a", "b"], {"first": "a", "second": "b"}])
def test_choices_as_they_stand_and_answers_as_text(tmp_path: Path, choices: Any) -> None:
    spec = made(tmp_path, doc_to_choice=choices, doc_to_target="{{'b' if right == '2' else 'a'}}")
    assert [item.answer for item in load_dataset(spec, ["en"], "own").items["en"]] == [0, 1]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"doc_to_choice": "{{a}}"}, r"en.yaml:0 \(en\): doc_to_choice gives no list"),
        ({"doc_to_target": "{{7}}"}, r"doc_to_target gives '7', which is none|gives 7"),
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
