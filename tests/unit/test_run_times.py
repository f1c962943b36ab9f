"""What finished jobs took, out of Snakemake's records."""

import base64
import json
from pathlib import Path

import pytest

from isogloss.cost.run_times import measured_jobs, part_of_machine

STEERED = "store/manifests/tiny/own/steered-{}-0123456789abcdef.json"


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    """Records of two models' jobs side by side, and of an analysis beside the second."""
    periods = {
        "store/manifests/tiny/own/activations-0123456789abcdef.json": (100, 140),
        "store/manifests/other/own/activations-0123456789abcdef.json": (120, 150),
        "results/tiny/own/behaviour.nc": (145, 150),
    }
    for output, (began, ended) in periods.items():
        record(tmp_path, output, began, ended)
    return tmp_path


def record(metadata: Path, output: str, began: float, ended: float) -> None:
    name = base64.b64encode(output.encode()).decode()
    text = json.dumps({"starttime": began, "endtime": ended})
    (metadata / name).write_text(text, encoding="utf-8")


def seconds(metadata: Path, cores: int | None) -> dict[str, float]:
    found = measured_jobs(metadata, "store", "results", cores)
    return {f"{stage} {model}": took for (stage, model, _), (took, _) in found.items()}


def test_models_side_by_side_count_their_part_of_the_machine(metadata: Path) -> None:
    assert seconds(metadata, 2) == {
        "extract tiny": 20 + 20 / 2,
        "extract other": 20 / 2 + 5 + 5 / 2,
        "behaviour tiny": 5,
    }


def test_on_gpus_and_nodes_of_their_own_models_count_whole(metadata: Path) -> None:
    found = seconds(metadata, None)
    assert found == {"extract tiny": 40, "extract other": 30, "behaviour tiny": 5}


def test_jobs_of_one_stage_model_and_dataset_are_seen_beside_each_other(tmp_path: Path) -> None:
    for fitted in ("own", "lexicon"):
        record(tmp_path, STEERED.format(fitted), 100, 200)
    assert seconds(tmp_path, 2) == {"steer tiny": 50}


def test_outputs_of_one_job_are_one_job(tmp_path: Path) -> None:
    for name in ("scale/own.nc", "a.png", "a.csv"):
        record(tmp_path, f"results/{name}", 0, 10)
    record(tmp_path, STEERED.format("own"), 0, 10)
    assert seconds(tmp_path, 2) == {"scale ": 10, "steer tiny": 5}


@pytest.mark.parametrize(("cores", "part"), [(1, 10), (2, 5), (4, 7.5)])
def test_another_job_takes_one_core(cores: int, part: float) -> None:
    whole = (0.0, 10.0)
    assert part_of_machine(whole, [whole], [whole], cores) == part
