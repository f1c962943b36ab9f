"""Models run side by side where that leaves no core idle and no memory short."""

import pytest

from isogloss import side_by_side
from isogloss.side_by_side import memory_mb, models_at_once, runs_on_processors


@pytest.mark.parametrize(
    ("jobs", "cores", "together"),
    [
        (0, 2, 1), (1, 2, 1), (2, 1, 1), (2, 2, 2), (3, 2, 1), (5, 2, 2), (4, 8, 4), (6, 4, 2),
        (7, 8, 8), (3, 8, 1), (40, 6, 6),
    ],
)  # fmt: skip
def test_as_many_as_share_the_cores_and_leave_few_idle(
    jobs: int, cores: int, together: int
) -> None:
    assert models_at_once([5000] * jobs, cores, memory_mb=1_000_000) == together


def test_the_largest_that_may_meet_have_to_fit() -> None:
    requests = [4000, 60_000, 4000, 60_000]
    assert models_at_once(requests, 4, memory_mb=128_000) == 4
    assert models_at_once(requests, 4, memory_mb=127_999) == 2
    assert models_at_once(requests, 4, memory_mb=119_999) == 1
    assert models_at_once(requests, 4, memory_mb=1000) == 1  # it is tried, as it was before


def test_a_gpu_is_seen_by_its_device_file(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(side_by_side, "GPU_DEVICES", (str(tmp_path / "nvidiactl"),))
    assert runs_on_processors("auto") and runs_on_processors("cpu")
    assert not runs_on_processors("cuda:1") and not runs_on_processors("mps")
    (tmp_path / "nvidiactl").touch()
    assert not runs_on_processors("auto") and runs_on_processors("cpu")


def test_a_container_has_the_memory_that_it_is_given(monkeypatch, tmp_path) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(side_by_side, "CONTAINER", limit)
    whole = memory_mb()
    limit.write_text("max\n")
    assert memory_mb() == whole > 1000
    limit.write_text("2000000000\n")
    assert memory_mb() == 2000
