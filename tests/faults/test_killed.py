"""Extraction killed again and again, by SIGKILL, goes on where it stopped."""

import json
import random
import re
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.faults.conftest import LANGUAGES, SHARDS, Bench, contents

CHAINS = [
    ["before", "inside a shard", "writing a shard", "between shards", "assembling"],
    ["inside a shard", "writing a shard", "assembling", "removing shards", "before"],
    ["writing a shard", "between shards", "assembling", "assembling", "removing shards"],
    ["between shards", "inside a shard", "writing a shard", "inside a shard", "removing shards"],
]
"""What each of twenty killed runs is doing when it is killed; a chain ends with a whole run. A
language is assembled while the next one is computed: after it, shards may all be there."""

REACHED = 0.2
"""A moment lies in this first part of a run's events of its kind, so that a resumed run, which has
less to do, reaches it too."""


@dataclass(frozen=True)
class Whole:
    """An undisturbed run: its files, and how many events of each kind it has."""

    bench: Bench
    events: dict[str, int]


@pytest.fixture(scope="module")
def whole(fresh: Bench, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    bench = fresh.copy(folder / "bench")
    code, said = bench.run("extract", {"count": str(folder / "counts")})
    assert code == 0, said
    return Whole(bench, json.loads((folder / "counts").read_text(encoding="utf-8")))


def shards_of(bench: Bench) -> dict[str, list[int]]:
    """Inode and modification time of every shard that has its own name."""
    stats = {path: path.stat() for path in bench.files("*.work/*.npz")}
    return {
        str(path.relative_to(bench.folder)): [stat.st_ino, stat.st_mtime_ns]
        for path, stat in stats.items()
    }


def published(bench: Bench) -> set[str]:
    """Languages whose activation file is there."""
    return {path.parent.name for path in bench.files("*.h5")}


@pytest.mark.parametrize("number", range(len(CHAINS)))
def test_a_killed_extraction_resumes(
    number: int, bench: Bench, whole: Whole, tmp_path: Path
) -> None:
    draw, note, seen = random.Random(number), tmp_path / "where", {}
    for doing in CHAINS[number]:
        event = draw.randint(1, int(REACHED * whole.events[doing]))
        moment = {"doing": doing, "event": event, "note": str(note), "signal": signal.SIGKILL}
        code, said = bench.run("extract", moment)
        assert code == -signal.SIGKILL, said
        print(f"killed {doing}, event {event}, at {note.read_text(encoding='utf-8')}")
        now = shards_of(bench)
        for shard in seen:  # as it was, or its language is done
            assert now.get(shard) == seen[shard] or set(Path(shard).parts) & published(bench)
        seen |= now
    left = [tag for tag in LANGUAGES if tag not in published(bench)]
    there = {
        name: stat for name, stat in shards_of(bench).items() if set(Path(name).parts) & {*left}
    }
    noted = tmp_path / "shards"
    noted.touch()
    code, said = bench.run("extract", {"shards": str(noted)})
    assert code == 0, said
    noted_shards = json.loads(noted.read_text(encoding="utf-8"))
    assembled = {
        name: stat for name, stat in noted_shards.items() if set(Path(name).parts) & {*left}
    }
    assert there.items() <= assembled.items()
    resumed_from = sum(map(int, re.findall(rf": (\d+) of {SHARDS} shards are there", said)))
    assert (resumed_from, len(assembled)) == (len(there), SHARDS * len(left))
    assert not bench.remains()
    for ours, theirs in zip(bench.files("*.h5"), whole.bench.files("*.h5"), strict=True):
        assert ours.name == theirs.name and contents(ours) == contents(theirs)
