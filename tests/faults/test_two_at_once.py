"""Two processes on one output: both end well, and one whole artifact is there."""

import os
import signal
from pathlib import Path

import pytest
from tests.faults.conftest import Bench, contents
from tests.faults.warm import PAUSED

from isogloss.files.hdf5 import verify_hdf5


def whole(bench: Bench, done: Bench, pattern: str) -> bool:
    """Whether exactly the artifacts of an undisturbed run are there, and nothing else."""
    ours, theirs = bench.files(pattern), done.files(pattern)
    assert not bench.remains() and [p.name for p in ours] == [p.name for p in theirs] != []
    return all(contents(a) == contents(b) for a, b in zip(ours, theirs, strict=True))


def test_two_extractions_share_the_work(bench: Bench, done: Bench) -> None:
    started = [bench.start("extract") for _ in range(2)]
    codes = [bench.warm.wait(process) for process, _ in started]
    said = [log.read_text(encoding="utf-8") for _, log in started]
    assert codes == [0, 0], said
    assert whole(bench, done, "*.h5")
    for path in bench.files("*.h5"):
        verify_hdf5(path)


@pytest.mark.parametrize(
    ("program", "doing", "event"),
    [
        ("extract", "inside a shard", 20000),
        ("extract", "writing a shard", 1000),
        ("extract", "assembling", 60000),
        ("lens", "writing a table", 3000),
    ],
)
def test_one_is_overtaken_by_another(
    program: str, doing: str, event: int, bench: Bench, done: Bench, tmp_path: Path
) -> None:
    """The first stands still at some moment until the second has done everything."""
    pattern = "*.h5"
    if program == "lens":
        bench, pattern = done.copy(tmp_path / "done"), "lens/*/*/*/*.nc"
        for path in bench.files(pattern):
            path.unlink()
    note = str(tmp_path / "where")
    moment = {"doing": doing, "event": event, "signal": signal.SIGSTOP, "note": note}
    first, log = bench.start(program, moment)
    assert bench.warm.wait(first, pause=True) == PAUSED, log.read_text(encoding="utf-8")
    half = [path for path in bench.files(".*.tmp") if path.parent.suffix != ".work"]
    code, said = bench.run(program)
    assert code == 0, said
    assert all(path.exists() for path in half), "a living process lost its file"
    assert len(half) == (doing == "assembling")
    os.kill(first, signal.SIGCONT)
    assert bench.warm.wait(first) == 0, log.read_text(encoding="utf-8")
    assert "Traceback" not in log.read_text(encoding="utf-8")
    assert whole(bench, done, pattern)
