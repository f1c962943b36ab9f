"""How many jobs that run a model start together on the processors of one machine.

Two cores do not make a job twice as fast: imports, weights and tokenizers take one, and between its
products a model waits for the slower one. Jobs side by side use both.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path

PAYS = 1.2
"""How much more jobs side by side do in the same time, on two cores: idle places must cost less."""

GPU_SIGNS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/kfd", "/dev/dxg")
"""Where Linux has a GPU that torch can use: NVIDIA's, AMD's, either of them under Windows."""

CGROUPS = Path("/proc/self/cgroup")
LIMITS = Path("/sys/fs/cgroup")
"""Groups of this process, and where the limits of each are."""


def models_at_once(sizes: Sequence[float], cores: int, at_most: int, room: int) -> int:
    """The most that share the cores evenly and leave few places of a round empty, or waiting.

    Args:
        sizes: how long each job of one rule takes, in any unit.
        cores: of the machine.
        at_most: threads of a job.
        room: jobs that fit into memory together.

    >>> models_at_once([5, 5, 4, 4], cores=2, at_most=8, room=9)
    2
    >>> models_at_once([5, 5, 5], cores=2, at_most=8, room=9)  # the third would be alone
    1
    >>> models_at_once([70, 1], cores=2, at_most=8, room=9)  # the first would, nearly all the time
    1
    """
    largest = sorted(sizes, reverse=True)
    for n in range(min(cores, math.floor(PAYS * len(sizes))), 1, -1):
        threads = min(at_most, cores // n)
        evenly = cores % n == 0 or threads == at_most
        fits = min(len(sizes), cores // threads) <= room
        rounds = sum(largest[::n])  # each lasts as long as the first of its jobs
        if evenly and fits and rounds * n <= PAYS * sum(sizes):
            return n
    return 1


def runs_on_processors(device: str) -> bool:
    """Whether a device of the configuration is none but processors here.

    torch would know, but takes seconds to import. Where a GPU is there that torch cannot use,
    the answer is no, and jobs run one at a time.
    """
    return device == "cpu" or (device == "auto" and not any(map(os.path.exists, GPU_SIGNS)))


def memory_mb() -> int:
    """Memory of this machine, or of the container or batch job where that has less [MB]."""
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for line in CGROUPS.read_text().splitlines() if CGROUPS.exists() else ():
        _, kinds, path = line.split(":", 2)
        if kinds == "":
            root, name = LIMITS, "memory.max"
        elif "memory" in kinds.split(","):
            root, name = LIMITS / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for limit in (folder / name for folder in (group, *group.parents)):
            if limit.is_file() and (text := limit.read_text().strip()) != "max":
                have = min(have, int(text))
    return have // 10**6
