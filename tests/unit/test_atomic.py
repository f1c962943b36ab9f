import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from isogloss.files.atomic import (
    STALE_SECONDS,
    remove_leftovers,
    temporary_name,
    whole_file,
    whole_folder,
)

WRITER = """
import sys, time
from pathlib import Path
from isogloss.files.atomic import whole_file
from isogloss.files.atomic import whole_folder
target = Path(sys.argv[1])
with whole_file(target / "a.nc") as file, whole_folder(target / "model") as folder:
    file.write_text("half")
    (folder / "part").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path):
    """A process in the middle of writing a file and a folder."""
    library = str(Path(__file__).resolve().parents[2] / "workflow_scripts")
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "store")],
        env=os.environ | {"PYTHONPATH": library},
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"writing\n"
    yield process
    process.kill()
    process.wait()


def test_what_a_living_process_writes_stays_and_what_a_killed_one_left_goes(tmp_path, writer):
    store = tmp_path / "store"
    assert len(list(store.glob(".*.tmp"))) == 2
    remove_leftovers(store)
    assert len(list(store.glob(".*.tmp"))) == 2
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    with whole_file(store / "b.nc") as file:  # whoever writes there next removes it
        file.write_text("whole")
    assert [path.name for path in store.iterdir()] == ["b.nc"]


def test_a_folder_removes_leftovers_too(tmp_path, writer):
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    with whole_folder(tmp_path / "store" / "other"):
        pass
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["other"]


@pytest.mark.parametrize(("age", "stays"), [(0, True), (0.9, True), (1.1, False)])
def test_another_machines_files_go_after_a_week_without_a_change(tmp_path, age, stays):
    temporary = temporary_name(tmp_path / "a.nc").name
    other = tmp_path / re.sub(r"[0-9a-f]{12}-", "0123456789ab-", temporary)
    other.touch()
    then = time.time() - age * STALE_SECONDS
    os.utime(other, (then, then))
    remove_leftovers(tmp_path)
    assert other.exists() == stays


@pytest.mark.parametrize("name", [".notes.tmp", ".a.nc.0123.tmp", "a.tmp", ".a.nc"])
def test_files_of_others_are_left_alone(tmp_path, name):
    (tmp_path / name).touch()
    os.utime(tmp_path / name, (0, 0))
    remove_leftovers(tmp_path)
    assert (tmp_path / name).exists()
