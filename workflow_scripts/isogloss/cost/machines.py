"""What machines do in a second: the rates that turn work into time (`machines.yaml`).

`measure` takes those of the machine at hand in some seconds, without any model. The share of a rate
that a stage reaches belongs to the program, and was set by measured runs.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import median
from timeit import repeat
from typing import Any

import yaml

from isogloss.errors import InputError


@dataclass(frozen=True)
class Machine:
    """A machine's rates."""

    about: str  # what it is, and where the rates come from
    gpu: bool  # whether models run on an accelerator
    gpu_memory: float  # of one accelerator [byte]; 0 without
    flops: Mapping[str, float]  # matrix products at the shapes of blocks, by dtype [FLOP/s]
    share: Mapping[str, float]  # of `flops`, or of `analysis`, that a stage reaches
    block_call: float  # a block's call beyond its products [s]
    load: float  # weights from the disk, converted, or states [byte/s]
    write: float  # a file, to the disk [byte/s]
    model_start: float  # of a program that runs a model, tokenizer included [s]
    analysis: float  # NumPy's products in float64 and float32 mixed [FLOP/s]
    analysis_start: float  # of a program without a model [s]
    process: float  # memory of a program before it holds anything [byte]


def known() -> dict[str, Machine]:
    """The machines of the table, by name."""
    path = Path(__file__).with_name("machines.yaml")
    table = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: Machine(**rates) for name, rates in table.items()}


def named(name: str) -> Machine:
    """A machine of the table, or one that `measure` wrote to a file.

    Raises:
        InputError: neither.
    """
    if name in (machines := known()):
        return machines[name]
    try:
        rates = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
        like = machines[rates.pop("like")]
        return replace(like, **rates | {"share": {**like.share, **rates.get("share", {})}})
    except (yaml.YAMLError, TypeError, KeyError, AttributeError, OSError, ValueError) as error:
        raise InputError(
            f"machine: {name!r} is neither known ({', '.join(machines)}) nor a file with the rates "
            f"of one ({error!r}): write it with estimate.py --calibrate, or give `like` and some "
            f"of {', '.join(field.name for field in fields(Machine))}"
        ) from error


def measure() -> dict[str, Any]:
    """The rates of this machine that need no model, as `named` reads them from a file.

    Products at the shape of Gemma 3 270M's blocks, a 64 MB file, the imports of a program.
    """
    flops = {name: _products(name) for name in ("float32", "bfloat16")}
    imports = [sys.executable, "-c", "import torch, transformers, h5netcdf, xarray"]
    return {
        "like": "cpu",
        "about": f"measured here: {os.cpu_count()} cores",
        "flops": flops | {"float16": flops["bfloat16"]},
        "write": _writing(),
        "model_start": min(repeat(lambda: subprocess.run(imports, check=True), number=1, repeat=2)),
    }


def _products(dtype: str, tokens: int = 2048, width: int = 640, wide: int = 2048) -> float:
    """FLOP/s of a feed-forward part's two products."""
    import torch

    from isogloss.model.matrix_products import linear

    shapes = (tokens, width), (wide, width), (width, wide)
    x, up, down = (torch.randn(*shape).to(getattr(torch, dtype)) for shape in shapes)
    with torch.inference_mode():
        times = repeat(lambda: linear(linear(x, up), down), number=1, repeat=6)
    return 4 * tokens * width * wide / median(times[1:])


def _writing(size: int = 64 << 20) -> float:
    """Bytes/s of writing a file to the disk."""
    values = os.urandom(size)

    def write() -> None:
        with tempfile.TemporaryFile(dir=".") as file:
            file.write(values)
            os.fsync(file.fileno())

    return size / median(repeat(write, number=1, repeat=5))
