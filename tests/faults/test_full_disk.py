"""A full disk: one clear error, nothing lost, and a later run goes on."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults.conftest import SHARDS, Bench, contents, said_in_one_line

Mount = Callable[[Path, int], None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Make a folder a small disk of its own, in memory."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    mounted: list[Path] = []

    def small_disk(folder: Path, size: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        option = f"size={size}"
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(folder)], capture_output=True
        )
        if made.returncode != 0:
            pytest.skip(f"no small disk can be mounted here: {made.stderr.decode().strip()}")
        mounted.append(folder)

    yield small_disk
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def grow(folder: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def size_of(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


@pytest.mark.parametrize("share", [0.3, 1.2, 1.9])
def test_extraction_on_a_full_disk(share: float, done: Bench, bench: Bench, mount: Mount) -> None:
    """Space for some shards of a language; for all, not for its file; for the first language."""
    language = size_of(done.files("en/*.h5"))
    store = bench.folder / "store"
    mount(store, int(share * language) + 64 * 1024)
    code, said = bench.run("extract")
    assert code == 1
    error = said_in_one_line(said)
    assert "no space left on the disk: free some and run again" in error
    assert error.startswith("error: store/activations/tiny/own/")
    assert not bench.files(".*.tmp")
    before = {path: path.stat().st_mtime_ns for path in bench.files("*.npz")}
    finished = len(bench.files("*.h5"))
    grow(store, 100 * 2**20)
    code, said = bench.run("extract")
    assert code == 0, said
    assert f"{finished} of 2 languages are in the store" in said
    if 0 < len(before) < SHARDS:
        assert f": {len(before)} of {SHARDS} shards are there" in said
    assert not bench.remains()
    for ours, theirs in zip(bench.files("*.h5"), done.files("activations/*/*/*/*"), strict=True):
        assert contents(ours) == contents(theirs)


@pytest.mark.parametrize("program", ["readout", "lens"])
def test_other_programs_on_a_full_disk(
    program: str, done: Bench, tmp_path: Path, mount: Mount
) -> None:
    bench = done.copy(tmp_path / "bench")
    stage = {"readout": "readouts"}.get(program, program)
    folder = bench.folder / "store" / stage
    shutil.rmtree(folder)
    mount(folder, 8192)
    code, said = bench.run(program)
    assert code == 1
    error = said_in_one_line(said)
    assert error.startswith(f"error: store/{stage}/") and "no space left on the disk" in error
    assert not bench.remains()
    grow(folder, 100 * 2**20)
    code, said = bench.run(program)
    assert code == 0, said
