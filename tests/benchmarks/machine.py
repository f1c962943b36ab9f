"""What the numbers were measured on."""

import os
import platform
from importlib import metadata
from pathlib import Path

LIBRARIES = ("torch", "transformers", "numpy", "h5py", "lm-eval", "nnsight", "nnterp")
FLAGS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")


def machine() -> dict[str, str]:
    """Processor, cores, instructions that matter, memory, threads, library versions."""
    import psutil
    import torch

    information = Path("/proc/cpuinfo")
    fields: dict[str, str] = {}
    if information.exists():
        pairs = (line.partition(":") for line in information.read_text().splitlines())
        fields = {name.strip(): value.strip() for name, _, value in pairs}
    flags = set(fields.get("flags", "").split())
    versions = {
        "CPU": fields.get("model name", platform.processor() or platform.machine()),
        "cores": str(len(os.sched_getaffinity(0))),
        "instructions": " ".join(flag for flag in FLAGS if flag in flags) or "unknown",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "torch threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
    }
    for name in (*LIBRARIES, "transformer-lens"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
