"""The documents keep their word: their Python runs, their tables are those of the files."""

import re
from pathlib import Path

import pytest
from tests.workflow.conftest import ROOT, Study

import isogloss
from isogloss.reference import datasets, variable_table, with_tables

DOCUMENTS = [
    ROOT / "README.md",
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if path.name != "tutorial.md"),
]
"""The tutorial is followed from its first block on, by a test of its own."""
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAMES = {"gemma-3-270m": "tiny", "everyday": "own", '"sw"': '"es"', "layer=9": "layer=2"}
"""Names of the default study in the documents, and what stands for them in the small one."""


def snippets(path: Path) -> str:
    """All Python of a document, in one program: later parts may use what earlier ones made."""
    code = "\n".join(PYTHON.findall(path.read_text("utf-8")))
    for name, here in NAMES.items():
        code = code.replace(name, here)
    return code


@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if snippets(path)], ids=lambda path: path.name
)
def test_python_in_a_document_runs_in_a_finished_study(
    path: Path, finished: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOGLOSS_CACHE", str(finished.cache))
    monkeypatch.chdir(finished.folder)
    exec(compile(snippets(path), path.name, "exec"), {})


def test_the_readme_shows_the_front_door() -> None:
    code = snippets(ROOT / "README.md")
    assert "iso.open(" in code and "glob" not in code


def test_the_tables_of_the_reference_are_those_of_the_files(
    finished: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOGLOSS_CACHE", str(finished.cache))
    study = isogloss.open(finished.folder / "results")
    tables = {name: variable_table(table) for name, table in datasets(study).items()}
    text = (ROOT / "docs/reference.md").read_text("utf-8")
    # Of a study with several wordings, which has a test of its own.
    tables["variants"] = re.findall(r"<!-- table: variants -->\n(.*?)\n<!-- end -->", text, re.S)[0]
    advice = "docs/reference.md is out of date: run `python workflow_scripts/reference.py`"
    assert with_tables(text, tables) == text, advice
