"""Ctrl-C and SIGTERM end a program in one line, and the next run goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.faults.conftest import CONFIG, Bench, contents
from tests.patience import PATIENCE
from tests.workflow.conftest import ENVIRONMENT, Study

SIGNALS = [signal.SIGINT, signal.SIGTERM]
TIMES = {"seconds", "overhead", "forward_seconds", "evaluation_seconds"}
STAGES = {"extract": "activations", "lens": "lens", "steer": "steered"}
MOMENTS = [
    ("extract", "inside a shard", 20000),
    ("extract", "assembling", 30000),
    ("lens", "reading the lens", 2000),
    ("lens", "writing a table", 3000),
    ("steer", "steering", 30000),
    ("steer", "writing a table", 3000),
]


@pytest.mark.parametrize(
    ("number", "program", "doing", "event"),
    [(SIGNALS[n % 2], *moment) for n, moment in enumerate(MOMENTS)],
)
def test_a_signal_ends_a_program_in_one_line(
    number: signal.Signals, program: str, doing: str, event: int, done: Bench, tmp_path: Path
) -> None:
    bench = done.copy(tmp_path / "bench")
    for path in bench.files(f"{STAGES[program]}/*/*/*/*.*"):
        path.unlink()
    note = str(tmp_path / "where")
    moment = {"doing": doing, "event": event, "signal": number, "note": note}
    code, said = bench.run(program, moment)
    assert code == 128 + number
    lines = [line for line in said.splitlines() if "  ...  " not in line]
    assert lines[-1].startswith(f"stopped by {number.name}: run again") and len(lines) <= 5, said
    assert not bench.files(".*.tmp")
    code, said = bench.run(program)
    assert code == 0 and not bench.remains(), said
    ours, theirs = (b.files(f"{STAGES[program]}/*/*/*/*.*") for b in (bench, done))
    assert [path.name for path in ours] == [path.name for path in theirs] != []
    for file, other in zip(ours, theirs, strict=True):
        values, expected = contents(file), contents(other)
        assert values.keys() == expected.keys()
        assert [n for n in values if values[n] != expected[n] and n not in TIMES] == []


@pytest.mark.parametrize("number", SIGNALS)
def test_snakemake_stopped_needs_no_unlocking(number: signal.Signals, bench: Bench) -> None:
    study = Study(bench.folder, CONFIG)
    (config,) = bench.folder.glob("study-*.yaml")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--until", "extract"]
    with (bench.folder / "said").open("w") as said:
        running = subprocess.Popen(
            [*command, "--configfile", config.name],
            cwd=bench.folder,
            env=os.environ | ENVIRONMENT | {"ISOGLOSS_CACHE": str(study.cache)},
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        while not bench.files("*.work/*.npz"):
            assert running.poll() is None, (bench.folder / "said").read_text(encoding="utf-8")
            time.sleep(0.005)
        os.killpg(running.pid, number)  # all of the processes, as Ctrl-C and SLURM do
        assert running.wait(PATIENCE) != 0
    assert "Traceback" not in (bench.folder / "said").read_text(encoding="utf-8")
    assert len(bench.files("*.h5")) < 2 and not bench.files("manifests/*/*/*.json")
    again = study.snakemake("--cores", "1", "--until", "extract")
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(bench.files("*.h5")) == 2 and not bench.remains()
