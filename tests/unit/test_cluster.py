"""Requests grow with the model and with the attempt, and end at what a node has."""

import pytest

from isogloss.cost.requests import at_attempt, gpus, refusal, too_large_for_a_gpu
from isogloss.errors import InputError
from isogloss.study.resources import Cluster
from isogloss.study.schema import validate
from isogloss.study.sections import Model

MODEL = Model(
    source="path", path="x", family="f", parameters=27_000_000_000, device_map="auto"
)  # 54 GB in bfloat16


def test_a_first_request_is_never_lowered_in_silence() -> None:
    assert at_attempt(9000, 1, 0.5, limit=4000) == 9000
    assert at_attempt(9000, 3, 0.5, limit=4000) == 9000


def test_a_model_spread_over_gpus_asks_for_as_many_as_hold_it() -> None:
    assert gpus(MODEL, Cluster(gpu_mem_mb=40_000)) == 2
    assert gpus(MODEL.model_copy(update={"dtype": "float32"}), Cluster(gpu_mem_mb=40_000)) == 4
    assert gpus(MODEL.model_copy(update={"device_map": None}), Cluster(gpu_mem_mb=80_000)) == 1
    assert gpus(MODEL, Cluster()) == 1
    assert gpus(MODEL, Cluster(gpus=0, gpu_mem_mb=40_000)) == 0


def test_a_model_that_fits_no_gpu_is_named_with_the_remedy() -> None:
    alone = {"big": MODEL.model_copy(update={"device_map": None})}
    said = too_large_for_a_gpu(alone, Cluster(gpu_mem_mb=40_000))
    assert said is not None and "models.big" in said and "device_map: auto" in said
    assert too_large_for_a_gpu(alone, Cluster(gpu_mem_mb=80_000)) is None
    assert too_large_for_a_gpu(alone, Cluster(gpus=0, gpu_mem_mb=40_000)) is None
    assert too_large_for_a_gpu({"big": MODEL}, Cluster(gpu_mem_mb=40_000)) is None


@pytest.mark.parametrize(
    ("resource", "key"), [("mem_mb", "max_mem_mb"), ("runtime", "max_runtime"), ("gpu", "max_gpus")]
)
def test_a_request_above_the_limit_is_refused_at_it_not(resource: str, key: str) -> None:
    limits = Cluster.model_validate({key: 10})
    assert refusal("extract", "big", {resource: 10}, limits) is None
    said = refusal("extract", "big", {resource: 11}, limits)
    assert said is not None and "\n" not in said
    for part in ("extract of big", f"{resource}=11", f"cluster.{key} is 10", "--set-resources"):
        assert part in said


def test_gpus_and_their_limit_must_fit_together() -> None:
    with pytest.raises(InputError, match="cluster: gpus: 1 is more than max_gpus, 0.*gpus: 0"):
        validate({"cluster": {"max_gpus": 0}})
