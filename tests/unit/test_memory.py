"""Memory that a forward frees is used again, not given back to the system and cleared anew."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from isogloss.model.memory import keep_freed_memory

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        kept = [torch.ones(2**20) for _ in range(16)]  # 4 MiB each
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    assert keep_freed_memory()
faults(3)
print(faults(10))
"""


# glibc raises its thresholds as it goes, which by luck keeps the memory as well: here they stay.
UNADAPTED = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}


def faults(how: str) -> int:
    command = [sys.executable, "-c", FAULTS, how]
    here = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | UNADAPTED
    ran = subprocess.run(command, env=here, check=True, capture_output=True, text=True)
    return int(ran.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone")
def test_freed_tensors_are_not_given_back():
    assert 10 * faults("keep") < faults("default")
