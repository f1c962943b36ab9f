"""The log of a run: few lines, and the reason of a failure last."""

import itertools
import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

import snakemake_logger_plugin_isogloss as plugin

DEFAULT_STUDY = {
    "readout": 2, "extract": 4, "lens": 4, "steer": 2, "vectors": 2, "behaviour": 4,
    "breakdown": 4, "similarity": 4, "subspaces": 4, "trajectories": 4, "steering_effects": 2,
    "scale": 2, "configuration": 1, "figures_a@everyday": 1, "figures_a@lexicon": 1,
    "figures_b@everyday": 1, "figures_b@lexicon": 1, "figures_scale": 1, "verdicts": 1,
    "summary": 1, "report": 1,
}  # fmt: skip
"""Its jobs, by rule: test_dag.py compares them with the plan."""


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> plugin.LogHandler:
    settings = SimpleNamespace(stdout=True, dryrun=False, verbose=False)
    line = {"stage": "extract", "model": "m", "dataset": "d", "to_do": {"seconds": 90.0}}
    monkeypatch.setattr(plugin, "SHORT", 0.0)
    monkeypatch.setattr(
        plugin, "estimate", [sys.executable, "-c", f"print({json.dumps([line])!r})"]
    )
    handler = plugin.LogHandler(settings, None)
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler


def said(handler: plugin.LogHandler, message: str | None = None, **about: Any) -> None:
    record = logging.LogRecord("snakemake", logging.INFO, "", 0, message, None, None)
    record.__dict__.update(about)
    handler.emit(record)


def start(handler: plugin.LogHandler, number: int, rule: str, log: Path | None = None) -> None:
    wildcards = {"model": "m", "dataset": "d", "key": "0123456789abcdef"}
    said(
        handler, " Rule", event=LogEvent.JOB_INFO, jobid=number, rule_name=rule,
        wildcards=wildcards, log=[str(log)] if log else [], input=["x" * 10_000],
    )  # fmt: skip


def test_a_long_job_has_two_lines_and_a_short_one_has_one(
    handler: plugin.LogHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    said(handler, "Job stats: ...", event=LogEvent.RUN_INFO, stats={"extract": 1, "summary": 3})
    progress = handler.progress
    assert progress is not None and str(progress) == "0 of 4 jobs"
    progress.look()
    assert progress.process is not None
    progress.process.wait()
    for number, rule in enumerate(("extract", "summary")):
        start(handler, number, rule)
        said(handler, f"Finished jobid: {number}", event=LogEvent.JOB_FINISHED, job_id=number)
        said(handler, None, event=LogEvent.PROGRESS, done=number + 1, total=4)
    lines = [" ".join(line.split()[1:]) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "4 jobs"
    assert lines[1] == "start extract m d"
    assert lines[2].startswith("done extract m d 0:00 (86%,")  # 90 s of 105 s, of four jobs
    assert lines[3].startswith("done summary m d 0:00 (90%,") and len(lines) == 4


def test_a_study_has_at_most_two_lines_a_job_however_slow_it_is(
    handler: plugin.LogHandler, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The default study, each event an hour after the one before."""
    hours = itertools.count(3600.0, 3600.0)
    monkeypatch.setattr(plugin.time, "monotonic", lambda: next(hours))
    monkeypatch.setattr(plugin, "estimate", [])
    said(handler, "stats", event=LogEvent.RUN_INFO, stats=DEFAULT_STUDY | {"all": 1, "total": 48})
    rules = [rule for rule, count in DEFAULT_STUDY.items() for _ in range(count)]
    for number, rule in enumerate([*rules, "all"]):
        start(handler, number, rule)
        said(handler, None, event=LogEvent.JOB_STARTED, jobs=[number])
        said(handler, "command", event=LogEvent.SHELLCMD, jobid=number)
        said(handler, f"Finished jobid: {number}", event=LogEvent.JOB_FINISHED, job_id=number)
        said(handler, None, event=LogEvent.PROGRESS, done=number + 1, total=48)
    handler.close()
    lines = capsys.readouterr().out.splitlines()
    computing = sum(DEFAULT_STUDY[rule] for rule in ("extract", "lens", "steer"))
    in_thirds = 2 * computing  # `isogloss.program.progress`, tested in test_program.py
    closing, snakemakes_own, of_programs = 10, 1, DEFAULT_STUDY["extract"]
    assert len(lines) + in_thirds + closing + snakemakes_own + of_programs == 104
    assert sum("  done   " in line for line in lines) == len(rules) and "all" not in lines[-2]


def test_routine_is_left_to_snakemakes_file_and_the_rest_is_passed_on(
    handler: plugin.LogHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    said(handler, "Building DAG of jobs...")
    said(handler, "Using shell: /bin/bash")
    said(handler, "Trying to restart job 3.")
    said(handler, "Nothing to be done (all requested files are present and up to date).")
    assert capsys.readouterr().out.splitlines() == [
        "Trying to restart job 3.",
        "Nothing to be done (all requested files are present and up to date).",
    ]


def test_the_reason_of_a_failure_is_the_last_line(
    handler: plugin.LogHandler, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "extract.log"
    log.write_text("extracting\nerror: nl.csv, line 3: no answer\nRemoved a folder\n", "utf-8")
    said(handler, "stats", event=LogEvent.RUN_INFO, stats={"extract": 1})
    start(handler, 0, "extract", log)
    for _ in range(2):  # Snakemake says it twice
        said(handler, "Error in rule", event=LogEvent.JOB_ERROR, jobid=0)
    said(handler, "RuleException:\nCalledProcessError in file ...\nCommand '" + "x" * 1300 + "'")
    said(handler, "Exiting because a job execution failed. Look below for error messages")
    assert "xxx" not in capsys.readouterr().out
    handler.close()
    *_, failed, name, reason = capsys.readouterr().out.splitlines()
    assert failed.split() == ["failed:", "extract", "m", "d"]
    assert name.strip() == str(log) and reason.strip() == "error: nl.csv, line 3: no answer"


def test_a_dry_run_is_as_snakemake_has_it(
    handler: plugin.LogHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    handler.common_settings.dryrun = True
    said(handler, "Job stats:\njob  count", event=LogEvent.RUN_INFO, stats={"extract": 1})
    start(handler, 0, "extract")
    assert capsys.readouterr().out == "Job stats:\njob  count\n Rule\n"
