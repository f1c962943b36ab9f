import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_signal_in_a_callback_ends_the_program_too(seconds):
    library = str(Path(__file__).resolve().parents[2] / "workflow_scripts")
    done = subprocess.run(
        [sys.executable, "-c", DROPPED.format(seconds=seconds)],
        env={"PYTHONPATH": library},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 143
    assert done.stderr.endswith("stopped by SIGTERM: run again to go on with what is finished\n")
