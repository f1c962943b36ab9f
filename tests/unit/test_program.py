import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from tests.patience import PATIENCE

from isogloss import program

DROPPED = """
import os, signal, time
from isogloss.program import run

class Callback:
    def __del__(self):  # Python drops what is raised in here
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(10):
            pass

def main():
    Callback()
    time.sleep({seconds})

run(main)
"""


BEHIND = """
import os, signal, time
from isogloss import program
from isogloss.extraction.background import Background

program.AGAIN_SECONDS = 0.1  # again while the block waits for its call

def slowly():
    time.sleep(0.5)
    print("finished", flush=True)

def main():
    with Background(waiting=1) as background:
        background.call(slowly)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

program.run(main)
"""


def stopped(script: str) -> str:
    """Run a program that sends itself SIGTERM; what it printed."""
    library = str(Path(__file__).resolve().parents[2] / "workflow_scripts")
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": library},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 143
    assert done.stderr.endswith("stopped by SIGTERM: run again to go on with what is finished\n")
    return done.stdout


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_signal_in_a_callback_ends_the_program_too(seconds):
    stopped(DROPPED.format(seconds=seconds))


def test_a_stopped_program_ends_after_what_it_does_on_a_second_thread():
    assert stopped(BEHIND) == "finished\n"


def lines_of_loops(languages: int, shards: int) -> None:
    """A job's loop over languages, with one over shards in each step."""
    for language in program.progress(range(languages), "extract m d", "language"):
        list(program.progress(range(shards), f"extract m d {language}", "shard"))


def test_a_short_job_says_nothing_of_its_progress(capsys, monkeypatch):
    assert list(program.progress([], "verify")) == []
    monkeypatch.setattr(program.time, "monotonic", lambda: program.STARTED + 59)
    lines_of_loops(10, 4)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("languages", "shards"), [(10, 4), (4, 400), (122, 7), (1, 50)])
def test_a_long_job_has_two_lines_however_long_it_takes(languages, shards, capsys, monkeypatch):
    hours = itertools.count(3600, 3600)
    monkeypatch.setattr(program.time, "monotonic", lambda: program.STARTED + next(hours))
    lines_of_loops(languages, shards)
    first, second = capsys.readouterr().err.splitlines()
    if languages == 10:
        assert first.endswith("...    extract m d: 4 of 10 languages after 4:00:00")
        assert second.endswith("...    extract m d: 7 of 10 languages after 7:00:00")


def test_a_loop_that_was_left_early_does_not_silence_the_next(capsys, monkeypatch):
    monkeypatch.setattr(program, "SILENT", 0.0)
    for _ in program.progress([1, 2], "verify"):
        break
    assert list(program.progress([1, 2], "delete", "file")) == [1, 2]
    assert "delete: 1 of 2 files" in capsys.readouterr().err
