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


def test_nothing_to_do_shows_no_bar(capsys, monkeypatch):
    assert list(program.progress([], "verify")) == []
    assert capsys.readouterr().err == ""
    assert list(program.progress([1, 2], "verify")) == [1, 2]
    assert capsys.readouterr().err == ""  # it ended within a minute
    monkeypatch.setattr(program, "SILENT", 0)
    assert list(program.progress([1, 2], "verify")) == [1, 2]
    assert "verify: 100%" in capsys.readouterr().err
