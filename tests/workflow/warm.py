"""Snakemake in a process that has imported it already: real commands, without seconds of imports.

The server holds libraries of others only: what belongs to the tree under test is imported anew.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.workflow import programs

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([
    "babel.localedata", "docutils.core", "fsspec", "jinja2", "langcodes.language_distance",
    "pydantic.fields", "scipy.sparse.csgraph", "smart_open", "snakemake.cli", "snakemake.profiles",
    "snakemake.report.html_reporter", "yte",
])  # fmt: skip


def snakemake(
    arguments: list[str], folder: Path, environment: Mapping[str, str], patience: float
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a folder; what it said, and its return code."""
    python = programs.python()
    with tempfile.TemporaryDirectory() as temporary:
        logs = [Path(temporary, name) for name in ("out", "error")]
        process = SERVER.Process(
            target=_become, args=(arguments, folder, dict(environment), python, *map(str, logs))
        )
        process.start()
        process.join(patience)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(arguments, patience)
        said = [log.read_text(encoding="utf-8") if log.exists() else "" for log in logs]
        return subprocess.CompletedProcess(arguments, process.exitcode, *said)


def _become(
    arguments: list[str], folder: Path, environment: dict[str, str], python: str, *logs: str
) -> None:
    """Be `python -m snakemake` in a folder, with a `python` for its jobs."""
    for log, descriptor in zip(logs, (1, 2), strict=True):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    root = Path(__file__).resolve().parents[2]
    of_tests = {"", *map(str, (root, root / "tests", root / "workflow_scripts", Path.cwd()))}
    # As an editable install of the folder would have it: the logger plugin is looked up there.
    others = (path for path in sys.path if path not in of_tests)
    sys.path[:] = [str(folder), str(folder / "workflow_scripts"), *others]
    own = ("tests", "isogloss", "snakemake_logger_plugin_isogloss")
    for name in [name for name in sys.modules if name.split(".")[0] in own]:
        del sys.modules[name]
    # Tests edit a file twice within a second, in the same length: bytecode could not tell.
    sys.dont_write_bytecode = True
    sys.executable, sys.argv = python, ["snakemake", *arguments]
    runpy.run_module("snakemake", run_name="__main__", alter_sys=True)
