"""Models run side by side where that leaves no core idle and no memory short."""

import sys

import pytest

from isogloss.cost import side_by_side
from isogloss.cost.side_by_side import memory_mb, models_at_once, runs_on_processors


@pytest.mark.parametrize(
    ("jobs", "cores", "together"),
    [
        (0, 2, 1), (1, 2, 1), (2, 1, 1), (2, 2, 2), (3, 2, 1), (5, 2, 2), (4, 8, 4), (6, 4, 2),
        (7, 8, 8), (3, 8, 1), (40, 6, 6), (3, 64, 3), (2, sys.maxsize, 2),
    ],
)  # fmt: skip
def test_as_many_as_leave_few_cores_idle(jobs: int, cores: int, together: int) -> None:
    assert models_at_once([7.0] * jobs, cores, at_most=8, room=100) == together


@pytest.mark.parametrize(
    ("sizes", "together"),
    [([2, 1], 1), ([1.4, 1], 2), ([1, 9, 9, 1], 2), ([9, 1, 1, 1], 1), ([9, 1, 1, 1, 1, 9], 2)],
)
def test_a_large_model_does_not_end_alone_on_half_the_cores(
    sizes: list[float], together: int
) -> None:
    assert models_at_once(sizes, cores=2, at_most=8, room=100) == together


def test_no_more_than_fit_into_memory() -> None:
    counts = [models_at_once([1.0] * 8, 8, at_most=8, room=room) for room in (0, 1, 3, 7, 8)]
    assert counts == [1, 1, 2, 4, 8]
    # With no more than eight threads each, 16 start at once on 128 cores.
    assert models_at_once([1.0] * 20, 128, at_most=8, room=15) == 1
    assert models_at_once([1.0] * 20, 128, at_most=8, room=16) == 12


def test_a_gpu_is_seen_by_its_driver(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(side_by_side, "GPU_SIGNS", (str(tmp_path / "nvidia"),))
    assert runs_on_processors("auto") and runs_on_processors("cpu")
    assert not runs_on_processors("cuda:1") and not runs_on_processors("mps")
    (tmp_path / "nvidia").touch()
    assert not runs_on_processors("auto") and runs_on_processors("cpu")


@pytest.mark.parametrize(
    ("groups", "file"),
    [
        ("0::/\n", "memory.max"),
        ("0::/user/job_7/step\n", "user/job_7/memory.max"),
        ("5:devices:/\n4:cpu,memory:/job\n0::/\n", "memory/job/memory.limit_in_bytes"),
        ("4:memory:/of/the/host\n", "memory/memory.limit_in_bytes"),
    ],
    ids=["container", "batch-job", "version-1", "version-1-container"],
)
def test_a_container_has_the_memory_that_it_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path, groups: str, file: str
) -> None:
    monkeypatch.setattr(side_by_side, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(side_by_side, "LIMITS", tmp_path / "limits")
    whole = memory_mb()
    (tmp_path / "groups").write_text(groups)
    limit = tmp_path / "limits" / file
    limit.parent.mkdir(parents=True)
    limit.write_text("max\n" if limit.name == "memory.max" else "9223372036854771712\n")
    assert memory_mb() == whole > 1000
    limit.write_text("2000000000\n")
    assert memory_mb() == 2000
