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

GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Where Linux has a GPU that torch can use: NVIDIA's, AMD's, either of them under Windows."""

CONTAINER = Path("/sys/fs/cgroup/memory.max")
"""The limit of memory that a container sees [B], or `max`."""


def models_at_once(requests_mb: Sequence[int], cores: int, memory_mb: int) -> int:
    """The most that share the cores evenly, fit into memory and leave few places of a round empty.

    Args:
        requests_mb: memory that each job of one rule asks for.
        cores, memory_mb: of the machine.

    >>> models_at_once([5000] * 4, cores=2, memory_mb=24_000)
    2
    >>> models_at_once([5000] * 3, cores=2, memory_mb=24_000)  # the third would be alone
    1
    >>> models_at_once([5000] * 4, cores=8, memory_mb=12_000)
    2
    """
    largest, jobs = sorted(requests_mb, reverse=True), len(requests_mb)
    for n in range(cores, 1, -1):
        places = math.ceil(jobs / n) * n
        if cores % n == 0 and 0 < places <= PAYS * jobs and sum(largest[:n]) <= memory_mb:
            return n
    return 1


def runs_on_processors(device: str) -> bool:
    """Whether a device of the configuration is none but processors here.

    torch would know, but takes seconds to import. Where a GPU is there that torch cannot use,
    the answer is no, and jobs run one at a time.
    """
    return device == "cpu" or (device == "auto" and not any(map(os.path.exists, GPU_DEVICES)))


def memory_mb() -> int:
    """Memory of this machine, or of its container where that has less [MB]."""
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if CONTAINER.exists() and (text := CONTAINER.read_text().strip()) != "max":
        have = min(have, int(text))
    return have // 10**6
