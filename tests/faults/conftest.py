"""A study of two languages whose programs are run by hand, from a warm process, and disturbed."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.workflow.conftest import (
    ENVIRONMENT,
    MODEL,
    ROOT,
    SMALL,
    Study,
    copy_tree,
    made_once,
    merged,
    write_questions,
)

HERE = Path(__file__).parent
LANGUAGES = ("en", "de")
QUESTIONS = 98
SHARDS = 4
"""Shards a language, of 32 questions."""

CONFIG = merged(
    SMALL,
    {
        "languages": list(LANGUAGES),
        "extraction": {"control": []},
        "steering": {"languages": ["de"], "layers": [0.5], "controls": ["random", "zero"]},
    },
) | {"datasets": {"own": SMALL["datasets"]["own"]}}


class Warm:
    """The warm process of warm.py."""

    def __init__(self) -> None:
        paths = os.pathsep.join([str(ROOT / "workflow_scripts"), str(ROOT)])
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "warm.py")],
            env=os.environ | ENVIRONMENT | {"PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def start(self, folder: Path, argv: list[str], log: Path, moment: Any = None) -> int:
        """Start a program in a folder; its process id."""
        request = {"argv": argv, "folder": str(folder), "log": str(log), "moment": moment}
        return self._ask(request)

    def wait(self, process: int, pause: bool = False) -> int:
        """A program's return code, negative where a signal killed it; a pause ends the wait too."""
        return self._ask({"wait": process, "pause": pause})

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@dataclass
class Bench:
    """A folder in which a study's programs run, and the commands that its rules give them."""

    folder: Path
    warm: Warm
    commands: dict[str, list[str]]
    runs: int = field(default=0)

    def start(self, program: str, moment: Any = None, **changes: Any) -> tuple[int, Path]:
        """Start a program as its rule does, with options changed; process id and log."""
        self.runs += 1
        log = self.folder / f"{program}-{self.runs}.log"
        argv = list(self.commands[program])
        for name, value in changes.items():
            place = argv.index(f"--{name.replace('_', '-')}") + 1
            argv[place] = value(argv[place]) if callable(value) else str(value)
        return self.warm.start(self.folder, argv, log, moment), log

    def run(self, program: str, moment: Any = None, **changes: Any) -> tuple[int, str]:
        """Run a program to its end: return code and everything that it said."""
        process, log = self.start(program, moment, **changes)
        return self.warm.wait(process), log.read_text(encoding="utf-8")

    def copy(self, folder: Path) -> "Bench":
        """The same in another folder; the model is linked, not copied."""
        ignored = shutil.ignore_patterns("models")
        shutil.copytree(self.folder, folder, symlinks=True, ignore=ignored)
        (folder / "models").symlink_to(self.folder / "models")
        return Bench(folder, self.warm, self.commands)

    def files(self, pattern: str) -> list[Path]:
        """What lies in the store under a pattern."""
        return sorted((self.folder / "store").rglob(pattern))

    def remains(self) -> list[Path]:
        """What no finished run leaves behind."""
        return [*self.files(".*.tmp"), *self.files("*.work")]


def contents(path: Path) -> dict[str, bytes]:
    """The bytes of every variable of an HDF5 file."""
    arrays: dict[str, bytes] = {}

    def keep(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            values = np.asarray(node[()])
            arrays[name] = repr(values.tolist()).encode() if values.dtype.kind == "O" else (
                values.tobytes()
            )  # fmt: skip

    with h5py.File(path) as file:
        file.visititems(keep)
    return arrays


def said_in_one_line(said: str) -> str:
    """The error of a program's log: its last line, and the only one of its kind."""
    lines = said.splitlines()
    assert "Traceback" not in said and "Exception ignored" not in said, said
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], said
    return lines[-1]


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    process = Warm()
    yield process
    process.stop()


def commands_of(study: Study) -> dict[str, list[str]]:
    """The command line that each rule gives its program, from a dry-run."""
    done = study.snakemake("--dry-run", "--printshellcmds")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    commands = re.findall(r"Shell command: python (workflow_scripts/(\w+)\.py .*?) 2> >", said)
    return {program: shlex.split(command) for command, program in commands}


@pytest.fixture(scope="session")
def fresh(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, warm: Warm
) -> Bench:
    """A study of 98 questions in two languages with its model, nothing computed."""

    def make(folder: Path) -> None:
        study = Study(copy_tree(folder).folder, CONFIG)
        write_questions(folder / "questions", list(LANGUAGES), every=1)
        for path in (folder / "questions").iterdir():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            path.write_text("".join(lines[:QUESTIONS]), encoding="utf-8")
        made = ["workflow_scripts/make_tiny_model.py", MODEL]
        assert warm.wait(warm.start(folder, made, folder / "model.log")) == 0
        commands = json.dumps(commands_of(study))
        (folder / "commands.json").write_text(commands, encoding="utf-8")

    folder = made_once(tmp_path_factory, request, "fresh", make)
    return Bench(folder, warm, json.loads((folder / "commands.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def done(
    fresh: Bench, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Bench:
    """The same, every artifact of the store computed without a disturbance."""

    def make(folder: Path) -> None:
        bench = fresh.copy(folder)
        for program in ("extract", "readout", "lens", "vectors", "steer"):
            code, said = bench.run(program)
            assert code == 0, said
        assert not bench.remains()

    folder = made_once(tmp_path_factory, request, "undisturbed", make)
    return Bench(folder, fresh.warm, fresh.commands)


@pytest.fixture
def bench(fresh: Bench, tmp_path: Path) -> Bench:
    """A copy of the study with nothing computed."""
    return fresh.copy(tmp_path / "bench")
