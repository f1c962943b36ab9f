"""The small study on a real SLURM of one node, through what goes wrong on a cluster.

A job is cancelled, another one exceeds its memory, the main process is killed and started again:
one history, run once, which the tests look at.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cluster.slurm import Job, Slurm, wait_for
from tests.workflow.conftest import ENVIRONMENT, WITH_A_MODEL, Study, made_study

PROFILE = [
    "--workflow-profile", "profiles/slurm", "--slurm-status-command", "squeue",
    "--slurm-init-seconds-before-status-checks", "5", "--seconds-between-status-checks", "3",
]  # fmt: skip

LITTLE = 500
"""Memory [MB] enough for Snakemake and a small program, but not for one that imports torch."""

POOR = [
    "--set-resources",
    *(f"{rule}:mem_mb={LITTLE}*attempt" for rule in ("readout", "behaviour")),
]
PATIENCE = 600
"""Seconds that a busy machine may need for a part of the history that takes a minute or two."""

LOCAL = {"configuration", "summary", "figures_scale", "report"}


@contextmanager
def main_process(study: Study, log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Snakemake's main process, as on a login node; killed at the end of the block."""
    command = [sys.executable, "-m", "snakemake", *PROFILE, *arguments]
    environment = os.environ | ENVIRONMENT | {"ISOGLOSS_CACHE": str(study.cache)}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--configfile", study.written()],
            cwd=study.folder, env=environment, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


@dataclass(frozen=True)
class History:
    """What happened, in order.

    Attributes:
        study: finished at the end.
        planned: every rule of it.
        cancelled: the job that was cancelled by hand.
        first: Snakemake's log of the main process that was killed.
        finished: what it knew to be finished, as rule and wildcards.
        kept: artifacts in the store at that time.
        submitted: how many jobs SLURM had seen by then.
    """

    study: Study
    planned: set[str]
    cancelled: Job
    first: str
    finished: set[str]
    kept: dict[str, tuple[int, int]]
    submitted: int


@pytest.fixture(scope="module")
def history(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> History:
    study = made_study(tmp_path_factory.mktemp("cluster") / "study")
    study = study.changed(
        cluster={"gpus": 0, "max_threads": 1, "max_mem_mb": slurm.memory, "jobs_per_model": 2}
    )
    planned, log = set(study.plan()), study.folder.parent / "first.log"
    with main_process(study, log, *POOR) as process:

        def until(condition: Callable[[], object], what: str) -> None:
            wait_for(lambda: process.poll() is not None or condition(), what, PATIENCE)
            assert process.poll() is None, log.read_text("utf-8")

        until(lambda: in_state(slurm, "extract_part", "RUNNING"), "an extraction that runs")
        cancelled = in_state(slurm, "extract_part", "RUNNING")[0]
        slurm.cancel(cancelled)
        until(lambda: in_state(slurm, "steer", "RUNNING"), "steering that runs")
    (written,) = (study.folder / ".snakemake/log").glob("*.snakemake.log")
    text = written.read_text("utf-8")
    done, kept, submitted = finished(text, slurm), study.artifacts(), len(slurm.jobs())
    slurm.cancel_all()
    unlocked = study.snakemake("--unlock")
    assert unlocked.returncode == 0, unlocked.stderr
    again = study.snakemake(*PROFILE, *POOR)
    assert again.returncode == 0, again.stdout + again.stderr
    return History(study, planned, cancelled, text, done, kept, submitted)


def in_state(slurm: Slurm, rule: str, state: str) -> list[Job]:
    return [job for job in slurm.jobs(rule) if job.state == state]


def finished(log: str, slurm: Slurm) -> set[str]:
    """Rule and wildcards of the jobs that a main process knew to be finished."""
    ended = re.findall(r"^Finished jobid: (\d+)", log, re.MULTILINE)
    number = dict(re.findall(r"^Job (\d+) has been submitted with SLURM jobid (\d+)", log, re.M))
    task = {job.number: job.task for job in slurm.jobs()}
    return {task[number[job]] for job in ended if job in number}


def slurm_log(history: History, job: Job) -> str:
    (path,) = (history.study.folder / ".snakemake/slurm_logs").rglob(f"{job.number}.log")
    return path.read_text("utf-8")


def test_every_job_that_computes_is_in_slurms_records(history: History, slurm: Slurm) -> None:
    completed = {job.rule for job in slurm.jobs() if job.state == "COMPLETED"}
    assert completed == history.planned - LOCAL
    assert completed > WITH_A_MODEL | {"extract_part", "figures_tiny@own", "figures_tiny@lexicon"}


def test_two_jobs_share_the_languages_of_a_model(history: History, slurm: Slurm) -> None:
    done = {job.task for job in slurm.jobs("extract_part") if job.state == "COMPLETED"}
    for number in (1, 2):
        assert sum(f"{number}-of-2" in task for task in done) == 2, done  # of each dataset


def test_small_rules_stay_with_the_main_process(history: History, slurm: Slurm) -> None:
    assert not LOCAL & {job.rule for job in slurm.jobs()}
    results = history.study.folder / "results"
    for name in ("summary.md", "config.yaml", "report.html", "scale/figures/scale_own.png"):
        assert (results / name).exists(), name


def test_a_cancelled_job_is_tried_again(history: History, slurm: Slurm) -> None:
    task = history.cancelled.task
    first, *_, last = [job.state for job in slurm.jobs() if job.task == task]
    assert (first, last) == ("CANCELLED", "COMPLETED")
    assert "Trying to restart job" in history.first


def test_a_job_over_its_memory_is_killed_and_gets_more(history: History, slurm: Slurm) -> None:
    short, *_, enough = slurm.jobs("readout")
    assert short.mem_mb == LITTLE and short.state == "FAILED"
    assert "Exceeded job memory limit" in slurm_log(history, short)
    assert enough.mem_mb > LITTLE and enough.state == "COMPLETED"
    # The same memory is enough where the program needs less: what was killed was the program.
    # (Such a job may have been running, and so cancelled, when the main process was killed.)
    small = [(job.mem_mb, job.state) for job in slurm.jobs("behaviour")]
    assert small.count((LITTLE, "COMPLETED")) == 2 and (LITTLE, "FAILED") not in small


def test_a_killed_main_process_goes_on_where_it_was(history: History, slurm: Slurm) -> None:
    again = {job.task for job in slurm.jobs()[history.submitted :]}
    assert {task.split("_wildcards_")[0] for task in history.finished} >= {"extract", "vectors"}
    assert any(task.startswith("steer_") for task in again)
    assert not history.finished & again
    assert history.kept and history.kept.items() <= history.study.artifacts().items()
    assert not history.study.plan()


def test_status_of_the_generic_profile_tells_success_from_failure(
    history: History, slurm: Slurm
) -> None:
    def status(number: str) -> str:
        program = history.study.folder / "profiles/cluster-generic/status.sh"
        said = subprocess.run(["bash", str(program), number], capture_output=True, text=True)
        return said.stdout

    assert status(history.cancelled.number) == "failed\n"
    assert status(in_state(slurm, "scale", "COMPLETED")[0].number) == "success\n"
    assert status("999999") == "failed\n"
