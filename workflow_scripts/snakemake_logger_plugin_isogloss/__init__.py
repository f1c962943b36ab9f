"""The log of a run for people: a line when a job starts and one when it ends, nothing else.

Snakemake finds the package by its name and uses it where a profile or the command line says
`logger: isogloss`. What it leaves out is in Snakemake's own file, `.snakemake/log/*.log`. Lines are
plain text, so that they are the same on a terminal, on a cluster's login node and in CI.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from logging import LogRecord
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

Seconds = dict[tuple[str, str, str], float]
"""What each job is estimated to take [s], by rule, model and dataset ('' for none)."""

estimate: list[str] = []
"""Set by the workflow: the command that prints what every job costs as JSON (`estimate.py`)."""

LONG = {"train", "readout", "extract", "lens", "steer", "similarity", "subspaces", "download"}
"""Rules whose jobs have a line when they start too: the others take seconds."""

TARGET = "all"
"""A rule that only names what the others make."""

SHORT = 60.0
"""A run that ends before needs no estimate, which takes some seconds of a processor [s]."""

BY_OURSELVES = {LogEvent.JOB_INFO, LogEvent.JOB_FINISHED, LogEvent.JOB_ERROR, LogEvent.RUN_INFO}
LEFT_OUT = {
    LogEvent.SHELLCMD, LogEvent.PROGRESS, LogEvent.RESOURCES_INFO, LogEvent.WORKFLOW_STARTED,
    LogEvent.GROUP_INFO, LogEvent.JOB_STARTED,
}  # fmt: skip
ROUTINE = (
    "Using shell", "Building DAG", "host:", "Assuming unrestricted", "Select jobs to execute",
    "Job stats", "Complete log", "Exiting because a job", "Finished jobid", "Conda environments",
    "Singularity containers", "Group jobs", "At least one job did not complete",
    "Removing output files", "Will exit after finishing", "WorkflowError:\nAt least one job",
    "Elapsed time", "RuleException:\nCalledProcessError",
)  # fmt: skip
"""How messages begin that say nothing about this run, or repeat what a line here has said."""


@dataclass(frozen=True)
class Job:
    """What a job is, and when it started."""

    rule: str
    about: Mapping[str, str]  # its wildcards but for the key
    logs: list[str]
    started: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        return " ".join(f"{part:<17}" for part in (self.rule, *self.about.values())).rstrip()

    @property
    def what(self) -> tuple[str, str, str]:
        return self.rule, self.about.get("model", ""), self.about.get("dataset", "")


def duration(seconds: float) -> str:
    """A run time as hours, minutes and seconds.

    >>> duration(42.4), duration(700), duration(7_265)
    ('0:42', '11:40', '2:01:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def seconds_of(lines: str) -> Seconds:
    """What the estimate says of each job, by the rule that runs it.

    >>> line = {"stage": "steering_own", "model": "m", "dataset": "d"}
    >>> costs = {"to_do": {"seconds": 0.0}, "whole": {"seconds": 7.0}}
    >>> seconds_of(json.dumps([line | costs]))
    {('steering_effects', 'm', 'd'): 7.0}
    """
    seconds: Seconds = {}
    for line in json.loads(lines):
        stage, model, dataset = line["stage"].split()[0], line["model"], line["dataset"]
        if stage == "figures":
            stage = f"figures_{model}@{dataset}"
        elif stage.startswith("steering_"):
            stage = "steering_effects"
        key = (stage, model, dataset)
        cost = line["to_do"]["seconds"] or line["whole"]["seconds"]
        seconds[key] = seconds.get(key, 0.0) + cost
    return seconds


class Progress:
    """How much of a run is done, by estimated time.

    A job without an estimate counts as the mean of its rule, and a rule without any as `SMALL`.

    Args:
        planned: jobs to run, by rule.
    """

    SMALL = 5.0
    """What a job of a small rule takes: it starts Python, reads and writes [s]."""

    def __init__(self, planned: Mapping[str, int]) -> None:
        self.planned, self.started = planned, time.monotonic()
        self.finished: list[Job] = []
        self.seconds: Seconds = {}
        self.asked = False
        self.process: subprocess.Popen[str] | None = None

    def look(self) -> None:
        """Ask for the estimate, or take it once its process has ended; nobody waits for it."""
        if estimate and not self.asked and time.monotonic() - self.started >= SHORT:
            self.asked = True
            self.process = subprocess.Popen(
                estimate, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        elif self.process and self.process.poll() is not None:
            printed, _ = self.process.communicate()
            self.seconds = seconds_of(printed) if self.process.returncode == 0 else {}
            self.process = None

    def of(self, job: Job) -> float:
        """What a job is estimated to take [s]."""
        return self.seconds.get(job.what, self._mean(job.rule))

    def _mean(self, rule: str) -> float:
        values = [value for (name, *_), value in self.seconds.items() if name == rule]
        return sum(values) / len(values) if values else self.SMALL

    def __str__(self) -> str:
        """Share of the estimated time that is done, and what is left at the pace seen so far."""
        done = sum(map(self.of, self.finished))
        total = sum(count * self._mean(rule) for rule, count in self.planned.items())
        share = min(done / total, 0.99) if total else 0.99
        if not self.seconds or share < 0.02:
            return f"{len(self.finished)} of {sum(self.planned.values())} jobs"
        left = (time.monotonic() - self.started) * (1 - share) / share
        return f"{share:.0%}, {duration(left)} left"

    def end(self) -> None:
        if self.process:
            self.process.kill()
            self.process.communicate()
            self.process = None


class LogHandler(LogHandlerBase):
    """Writes the lines; Snakemake calls it in a thread of its own, one record at a time."""

    def __post_init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.failed: list[Job] = []
        self.progress: Progress | None = None
        self.started = time.monotonic()

    writes_to_stream = property(lambda self: True)
    writes_to_file = property(lambda self: False)
    has_filter = property(lambda self: False)  # Snakemake's: --quiet, --verbose
    has_formatter = property(lambda self: False)  # Snakemake's, for what is not ours
    needs_rulegraph = property(lambda self: False)

    def emit(self, record: LogRecord) -> None:
        try:
            for line in self.lines(record):
                self.write(line)
        except Exception:
            self.handleError(record)

    def write(self, line: str) -> None:
        print(line, file=sys.stdout if self.common_settings.stdout else sys.stderr, flush=True)

    def lines(self, record: LogRecord) -> list[str]:
        """What a record says to people; a dry-run's records and warnings as Snakemake has them."""
        event, said = getattr(record, "event", None), record.__dict__
        if event == LogEvent.JOB_INFO:
            wildcards = said["wildcards"].items()
            about = {name: str(value) for name, value in wildcards if name != "key"}
            self.jobs[said["jobid"]] = Job(said["rule_name"], about, list(said["log"] or []))
        if self.common_settings.dryrun or self.common_settings.verbose:
            return self.as_snakemake(record)
        if event in BY_OURSELVES:
            return self.about_jobs(event, said)
        routine = record.getMessage().strip().startswith(ROUTINE)
        return [] if routine or event in LEFT_OUT else self.as_snakemake(record)

    def as_snakemake(self, record: LogRecord) -> list[str]:
        text = self.format(record)
        return [text] if text and text != "None" else []

    def about_jobs(self, event: LogEvent, said: dict[str, Any]) -> list[str]:
        now = time.strftime("%H:%M:%S")
        match event:
            case LogEvent.RUN_INFO:
                planned = Counter(said["stats"])
                for name in ("total", TARGET):
                    planned.pop(name, None)
                self.progress = Progress(planned)
                return [f"{now}  {planned.total()} jobs"]
            case LogEvent.JOB_INFO:
                job = self.jobs[said["jobid"]]
                return [f"{now}  start  {job.name}"] if job.rule in LONG else []
            case LogEvent.JOB_FINISHED:
                job = self.jobs[said["job_id"]]
                if job.rule == TARGET:
                    return []
                if self.progress:
                    self.progress.finished.append(job)
                    self.progress.look()
                took = duration(time.monotonic() - job.started)
                return [f"{now}  done   {job.name}  {took}  ({self.progress})"]
            case LogEvent.JOB_ERROR:
                job = self.jobs[said["jobid"]]
                self.failed.append(job)
                return [f"{now}  FAILED {job.name}  (its log is repeated at the end)"]
        raise AssertionError(event)

    def close(self) -> None:
        """The end: how long it took, or what failed; last of all the job's own message."""
        if self.progress and not self.common_settings.dryrun:
            end = "ended" if self.failed else "finished"
            self.write(f"{end} after {duration(time.monotonic() - self.progress.started)}")
            self.progress.end()
        self.progress = None
        failed = {(job.name, *job.logs): job for job in self.failed}
        for job in failed.values():
            self.write(f"\nfailed: {job.name}")
            for log in job.logs:
                self.write(f"  {log}")
                self.write(f"  {last_message(Path(log))}")
        self.failed = []
        super().close()


def last_message(log: Path) -> str:
    """The line of a log that says why: the last `error: ...`, otherwise the last one."""
    try:
        lines = [x for x in log.read_text("utf-8", errors="replace").splitlines() if x.strip()]
    except OSError:
        return "(no log)"
    errors = [line for line in lines if line.startswith("error:")]
    return (errors or lines or ["(the log is empty)"])[-1]
