"""What finished jobs took, as Snakemake recorded it, and what their artifacts weigh."""

import base64
import json
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from isogloss.errors import InputError
from isogloss.store.manifests import read_manifest

STAGES = {"activations": "extract", "lens": "lens", "vectors": "vectors", "steered": "steer"}
"""Rules by the first word of their manifest's name."""

WITH_A_MODEL = ("readout", "extract", "lens", "steer")
"""Stages whose jobs share the cores that others leave; those others take one each."""

JobName = tuple[str, str, str]
Period = tuple[float, float]


def measured_jobs(
    metadata: Path, store: str, results: str, cores: int | None
) -> dict[JobName, tuple[float, int]]:
    """Run time [s] and bytes left by the last job of each stage, model and dataset.

    Args:
        metadata: Snakemake's folder of records, one file an output.
        store, results: folders of the study.
        cores: of the machine that it ran on: jobs that run a model may have shared it, and count
            their part of its time (`part_of_machine`). None: each had a GPU or a node of its own.

    Returns:
        By (stage, model, dataset); 0 bytes where the artifacts are gone.
    """
    found: dict[JobName, tuple[Period, int]] = {}
    models: list[Period] = []  # a record each
    others: set[Period] = set()  # one job may have many outputs
    for file in metadata.rglob("*") if metadata.is_dir() else ():
        if not file.is_file():
            continue
        about = json.loads(file.read_text(encoding="utf-8"))
        period = about["starttime"], about["endtime"]
        output = _name_of(str(file.relative_to(metadata)))
        job = _job_of(output, store, results)
        if job and job[0] in WITH_A_MODEL:
            models.append(period)
        else:
            others.add(period)
        if job and (job not in found or found[job][0][1] < period[1]):
            found[job] = (period, _bytes_of(Path(output)))
    return {
        job: (
            part_of_machine(period, models, others, cores)
            if cores and job[0] in WITH_A_MODEL
            else period[1] - period[0],
            size,
        )
        for job, (period, size) in found.items()
        if period[1] > period[0]
    }


def part_of_machine(
    period: Period, models: Sequence[Period], others: Iterable[Period], cores: int
) -> float:
    """Seconds of the whole machine that a job had which runs a model.

    Other jobs have a core each while there are enough, and those that run models share the rest.

    Args:
        models, others: periods of all jobs that run a model, this one included, and of all others.

    >>> part_of_machine((0, 10), [(0, 10), (4, 12)], [(8, 20)], cores=4)
    6.75
    """
    began, ended = period
    starts_and_ends = {time for one in (*models, *others) for time in one}
    cuts = sorted({began, ended, *(time for time in starts_and_ends if began < time < ended)})
    seconds = 0.0
    for a, b in pairwise(cuts):
        running, beside = (sum(s <= a and b <= e for s, e in jobs) for jobs in (models, others))
        left = max(cores - beside, running)
        seconds += (b - a) * min(left / cores, 1) / running
    return seconds


def _name_of(record: str) -> str:
    """The output that a record is about: its name is the output's in base 64, cut into folders."""
    return base64.b64decode(record.replace("/@", "").lstrip("@").encode()).decode()


def _job_of(output: str, store: str, results: str) -> JobName | None:
    stored = re.fullmatch(
        rf"{re.escape(store)}/manifests/([^/]+)/([^/]+)/([a-z]+)-.*\.json", output
    )
    if stored:
        return STAGES[stored[3]], stored[1], stored[2]
    if read := re.fullmatch(rf"{re.escape(store)}/readouts/([^/]+)/.*\.safetensors", output):
        return "readout", read[1], ""
    own = re.fullmatch(rf"{re.escape(results)}/([^/]+)/([^/]+)/([a-z_]+)\.nc", output)
    if own:
        stage = "steering_effects" if own[3].startswith("steering_") else own[3]
        return stage, own[1], own[2]
    if drawn := re.fullmatch(
        rf"{re.escape(results)}/([^/]+)/([^/]+)/figures/place_and_shape\.csv", output
    ):
        return "figures", drawn[1], drawn[2]
    if scale := re.fullmatch(rf"{re.escape(results)}/scale/([^/]+)\.nc", output):
        return "scale", "", scale[1]
    return ("summary", "", "") if output == f"{results}/summary.md" else None


def _bytes_of(output: Path) -> int:
    if not output.exists():
        return 0
    if output.parent.name == "figures":
        return sum(path.stat().st_size for path in output.parent.iterdir())
    if output.suffix != ".json":
        return output.stat().st_size
    try:
        return sum(path.stat().st_size for path in read_manifest(output).values())
    except InputError:
        return 0
