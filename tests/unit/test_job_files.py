"""Questions that were edited are seen, whatever their file's time of modification is."""

import json
import os
from pathlib import Path

import pytest
from tests.unit.stored_study import CONFIG, write_questions

from isogloss.errors import InputError
from isogloss.study.job_files import JobFiles
from isogloss.study.keys import Artifacts
from isogloss.study.schema import validate
from isogloss.study.settings import Settings

OLD = 1_000_000_000


def files_of_study() -> JobFiles:
    return JobFiles(Artifacts(Settings(validate(CONFIG, "config.yaml"))))


@pytest.fixture
def extracted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of questions, after an extraction of them is listed."""
    monkeypatch.chdir(tmp_path)
    write_questions(tmp_path)
    files = files_of_study()
    names = [artifact.name for artifact in files.artifacts.activations("tiny", "own")]
    listed = Path(files.manifest("activations", "tiny", "own"))
    listed.parent.mkdir(parents=True)
    content = {"artifacts": [{"language": "?", "path": f"store/{name}"} for name in names]}
    listed.write_text(json.dumps(content), "utf-8")
    os.utime(listed, (OLD + 1, OLD + 1))
    for file in (tmp_path / "questions").iterdir():
        os.utime(file, (OLD, OLD))  # as `mv`, `cp -p` and `rsync -t` leave them
    return tmp_path / "questions/de.jsonl"


def test_the_same_questions_may_be_copied_with_their_times(extracted: Path) -> None:
    files_of_study().check_times()


def test_other_questions_that_look_older_are_refused(extracted: Path) -> None:
    extracted.write_text(extracted.read_text("utf-8").replace("what 3?", "who 3?"), "utf-8")
    os.utime(extracted, (OLD, OLD))
    named = r"datasets.own: questions/en.jsonl: .* than what was made of them: `touch questions/"
    with pytest.raises(InputError, match=named):
        files_of_study().check_times()
    for file in extracted.parent.iterdir():
        file.touch()  # and Snakemake sees which have changed
    files_of_study().check_times()


def test_questions_are_not_read_where_times_say_enough(
    extracted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of_study()
    os.utime(files.manifest("activations", "tiny", "own"))
    monkeypatch.setattr(files.artifacts, "activations", None)
    files.check_times()


def test_an_edit_in_a_study_that_was_copied_is_left_to_snakemake(extracted: Path) -> None:
    extracted.write_text(extracted.read_text("utf-8").replace("what 3?", "who 3?"), "utf-8")
    files_of_study().check_times()


def test_questions_that_are_not_here_are_no_matter_of_time(extracted: Path) -> None:
    extracted.unlink()
    files_of_study().check_times()
