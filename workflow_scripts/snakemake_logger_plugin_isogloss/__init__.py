"""The log of a run for people: a line when a job starts and one when it ends, nothing else.

Snakemake finds the package by its name and uses it where a profile or the command line says
`logger: isogloss`. What it leaves out is in Snakemake's own file, `.snakemake/log/*.log`. Lines are
plain text, so that they are the same on a terminal, on a cluster's login node and in CI.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from logging import LogRecord
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

Seconds = Mapping[tuple[str, str, str], float]
"""What each job is estimated to take [s], by rule, model and dataset ('' for none)."""

estimate: Callable[[], Seconds] = dict
"""Set by the workflow: asked once, when a run starts."""

LONG = 10.0
"""A job that takes longer by estimate has a line when it starts too [s]."""

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
    "Elapsed time",
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


class Progress:
    """How much of a run is done, by estimated time.

    Args:
        planned: jobs to run, by rule.
        seconds: what jobs are estimated to take. A job without an estimate counts as the mean of
            its rule, and a rule without any as `SMALL`.
    """

    SMALL = 3.0
    """What a job of a small rule takes: it starts Python, reads and writes [s]."""

    def __init__(self, planned: Mapping[str, int], seconds: Seconds) -> None:
        self.seconds, self.started = seconds, time.monotonic()
        by_rule: dict[str, list[float]] = {}
        for (rule, *_), value in seconds.items():
            by_rule.setdefault(rule, []).append(value)
        self.means = {rule: sum(values) / len(values) for rule, values in by_rule.items()}
        self.total = sum(n * self.means.get(rule, self.SMALL) for rule, n in planned.items())
        self.done = 0.0

    def of(self, job: Job) -> float:
        """What a job is estimated to take [s]."""
        return self.seconds.get(job.what, self.means.get(job.rule, self.SMALL))

    def __str__(self) -> str:
        """Share of the estimated time that is done, and what is left at the pace seen so far."""
        share = min(self.done / self.total, 0.99) if self.total else 0.99
        if share < 0.02:
            return f"{share:4.0%}"
        left = (time.monotonic() - self.started) * (1 - share) / share
        return f"{share:4.0%}, {duration(left)} left"


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
                planned.pop("total", None)
                self.progress = Progress(planned, estimate())
                jobs, expected = planned.total(), duration(self.progress.total)
                return [f"{now}  {jobs} jobs, {expected} by estimate"]
            case LogEvent.JOB_INFO:
                job = self.jobs[said["jobid"]]
                long = self.progress and self.progress.of(job) >= LONG
                return [f"{now}  start  {job.name}"] if long else []
            case LogEvent.JOB_FINISHED:
                job = self.jobs[said["job_id"]]
                if self.progress:
                    self.progress.done += self.progress.of(job)
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
