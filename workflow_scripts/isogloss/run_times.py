"""What finished jobs took, as Snakemake recorded it, and what their artifacts weigh."""

import base64
import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from isogloss.errors import InputError
from isogloss.store import read_manifest

STAGES = {"activations": "extract", "lens": "lens", "vectors": "vectors", "steered": "steer"}
"""Rules by the first word of their manifest's name."""

WITH_A_MODEL = ("extract", "lens", "steer")
"""Stages whose jobs take a whole machine, or share it with others; the others take one core."""

JobName = tuple[str, str, str]
Period = tuple[float, float]


def measured_jobs(metadata: Path, store: str, results: str) -> dict[JobName, tuple[float, int]]:
    """Run time [s] and bytes left by the last job of each stage, model and dataset.

    Jobs that run a model may have run side by side. Theirs is the time that they would have had the
    machine to themselves: a second beside n - 1 other jobs counts 1/n.

    Args:
        metadata: Snakemake's folder of records, one file an output.
        store, results: folders of the study.

    Returns:
        By (stage, model, dataset); 0 bytes where the artifacts are gone.
    """
    found: dict[JobName, tuple[Period, int]] = {}
    for file in metadata.rglob("*") if metadata.is_dir() else ():
        if not file.is_file():
            continue
        output = _name_of(str(file.relative_to(metadata)))
        job = _job_of(output, store, results)
        if job is None:
            continue
        about = json.loads(file.read_text(encoding="utf-8"))
        period = about["starttime"], about["endtime"]
        if job not in found or found[job][0][1] < period[1]:
            found[job] = (period, _bytes_of(Path(output)))
    periods = [period for period, _ in found.values()]
    return {
        job: (alone(period, periods) if job[0] in WITH_A_MODEL else period[1] - period[0], size)
        for job, (period, size) in found.items()
        if period[1] > period[0]
    }


def alone(period: Period, periods: Sequence[Period]) -> float:
    """Seconds of a period, each divided by the number of periods that it is part of.

    Args:
        periods: all of them, this one included.

    >>> alone((0, 10), [(0, 10), (4, 12), (10, 20)])
    7.0
    """
    began, ended = period
    cuts = sorted({began, ended, *(t for one in periods for t in one if began < t < ended)})
    return sum((b - a) / sum(s <= a and b <= e for s, e in periods) for a, b in pairwise(cuts))


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
