"""The tutorial, block by block, in a copy of the tree."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.workflow import programs
from tests.workflow.conftest import ENVIRONMENT, ROOT, Study, copy_tree

from isogloss.study.schema import validate

TEXT = (ROOT / "docs/tutorial.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)(?: +(\S+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)
STUDY = "config/studies/mine.yaml"


def blocks() -> Iterator[tuple[str, str, str]]:
    """Language, what stands behind it and content of every block with a language, in order."""
    for match in BLOCK.finditer(TEXT):
        yield match[1], match[2] or "", match[3]


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, list[str]]:
    """The tutorial, followed to its end in a copy of the tree; what its Python printed."""
    study = copy_tree(tmp_path_factory.mktemp("tutorial") / "tree")
    environment = os.environ | ENVIRONMENT | {
        "ISOGLOSS_CACHE": str(study.cache),
        "PATH": f"{Path(programs.python()).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(study.folder / "workflow_scripts"),
    }  # fmt: skip
    said = []
    for language, about, content in blocks():
        if about.startswith("file="):
            (study.folder / about.removeprefix("file=")).write_text(content, encoding="utf-8")
        elif language in ("bash", "python"):
            program = ["bash", "-euc"] if language == "bash" else [sys.executable, "-c"]
            done = subprocess.run(
                [*program, content],
                cwd=study.folder, env=environment, capture_output=True, text=True,
            )  # fmt: skip
            assert done.returncode == 0, content + done.stdout + done.stderr
            said.append(done.stdout + done.stderr)
    return study, said


def test_every_kind_of_block_is_there_and_none_is_left_out() -> None:
    kinds = [(language, bool(about)) for language, about, _ in blocks()]
    assert {kind for kind, _ in kinds} == {"bash", "jsonl", "yaml", "python"}
    assert all(named for kind, named in kinds if kind in ("jsonl", "yaml"))


def test_the_check_finds_nothing_wrong(followed: tuple[Study, list[str]]) -> None:
    assert any(f"{STUDY}: no fault found in the study mine" in said for said in followed[1])


def test_it_ends_with_what_it_promises(followed: tuple[Study, list[str]]) -> None:
    folder = followed[0].folder / "results/mine"
    for name in ("report.html", "summary.md", "tiny/mydata/steering_mydata.nc"):
        assert (folder / name).stat().st_size > 1000, name


def test_a_wrong_answer_is_named_with_its_place(followed: tuple[Study, list[str]]) -> None:
    """Step 3 invites the reader to try it."""
    study = followed[0]
    file = study.folder / "mydata/de.jsonl"
    right = file.read_text("utf-8")
    file.write_text(right.replace('"answer": 1', '"answer": 2', 1), encoding="utf-8")
    checked = study.python("workflow_scripts/configure.py", "--check", STUDY)
    file.write_text(right, encoding="utf-8")
    assert checked.returncode == 1
    assert re.search(r'mydata/de\.jsonl:2: item "cow" .*de', checked.stderr), checked.stderr


def test_its_other_models_fit_into_the_study() -> None:
    written = {about: content for _, about, content in blocks() if about.startswith("file=")}
    base = yaml.safe_load(written[f"file={STUDY}"])
    others = [yaml.safe_load(content) for _, about, content in blocks() if about == "models"]
    assert len(others) == 2
    for other in others:
        assert validate(base | other).models.keys() == other["models"].keys()
