"""What machines do in a second: the rates that turn work into time (`machines.yaml`).

`measure` takes those of the machine at hand in some seconds, without any model. The shares of
these rates that each stage reaches are of the program, and were fitted on measured runs.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from isogloss.errors import InputError

FILE = Path(__file__).with_name("machines.yaml")
REPETITIONS = 5


@dataclass(frozen=True)
class Machine:
    """A machine's rates.

    Attributes:
        about: what it is, and where the rates come from.
        gpu: whether models run on an accelerator.
        gpu_memory: of one accelerator [byte]; 0 without.
        cores: that jobs share which run a model; 1 on an accelerator.
        alone: run time of such a job that has all cores, by its part of the machine's time where
            others share them.
        blocks, lens: matrix products by dtype, at the shapes of blocks and of the lens [FLOP/s].
        memory: reading weights in a forward [byte/s].
        load: weights from the disk, converted to their type [weight byte/s].
        write, read: a checksummed file [byte/s].
        imports: of a program that runs a model [s]. As of `load` and `tokenizer`, which take one
            core, a part counts where jobs share the cores.
        tokenizer: opening one, by entry of the vocabulary [s].
        block_call: a block's call beyond its products [s].
        analysis: NumPy's products in float64 and float32 mixed [FLOP/s].
        analysis_start: of a program without a model [s].
        entry: what similarity does with one entry of an (item, item) matrix [s].
        shuffled: one entry of a language's matrix under a shuffled pairing [s].
        figures: drawing those of a model and dataset [s].
        process: memory of a program before it holds anything [byte].
        share: part of the rates that a stage reaches, by stage.
    """

    about: str
    gpu: bool
    gpu_memory: float
    cores: int
    alone: float
    blocks: Mapping[str, float]
    lens: Mapping[str, float]
    memory: float
    load: float
    write: float
    read: float
    imports: float
    tokenizer: float
    block_call: float
    analysis: float
    analysis_start: float
    entry: float
    shuffled: float
    figures: float
    process: float
    share: Mapping[str, float]


def known() -> dict[str, Machine]:
    """The machines of the table, by name."""
    table = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    common = table.pop("every")
    return {
        name: Machine(**(common | own | {"share": common["share"] | own.get("share", {})}))
        for name, own in table.items()
    }


def named(name: str) -> Machine:
    """A machine of the table, or one that `measure` wrote to a file.

    Raises:
        InputError: neither.
    """
    machines = known()
    if name in machines:
        return machines[name]
    path = Path(name)
    if not path.is_file():
        raise InputError(
            f"machine: {name!r} is neither known ({', '.join(machines)}) nor a file: use one, or "
            "measure this one: python workflow_scripts/estimate.py --calibrate FILE"
        )
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        like = machines[found.pop("like")]
        return replace(like, **found | {"share": {**like.share, **found.get("share", {})}})
    except (yaml.YAMLError, TypeError, KeyError, AttributeError, OSError, ValueError) as error:
        held = ", ".join(field.name for field in fields(Machine))
        raise InputError(
            f"{path}: not the rates of a machine ({error!r}): write it with --calibrate, or give "
            f"`like` and some of {held}"
        ) from error


def measure(like: str = "cpu") -> dict[str, Any]:
    """The rates of this machine that need no model, as `named` reads them from a file.

    Products at the shape of Gemma 3 270M's blocks and unembedding (2048 tokens; 512 states and 4096
    tokens of the vocabulary), a 64 MB file, the imports of a program.
    """
    import torch

    with torch.inference_mode():
        blocks = {name: _products(getattr(torch, name)) for name in ("float32", "bfloat16")}
        lens = {name: _lens(getattr(torch, name)) for name in ("float32", "bfloat16")}
        weights = torch.randn(64 << 20)
        memory = weights.numel() * 4 / _seconds(weights.sum)
    write, read = _disk()
    return {
        "like": like,
        "about": f"measured here: {os.cpu_count()} cores, torch {torch.__version__}",
        "cores": os.cpu_count() or 1,
        "blocks": blocks | {"float16": blocks["bfloat16"]},
        "lens": lens | {"float16": lens["bfloat16"]},
        "memory": memory,
        "write": write,
        "read": read,
        "imports": _imports() / 2,  # as for `cpu`: beside another job
    }


def _seconds(run: Callable[[], Any]) -> float:
    """Median run time, after a first one that does not count."""
    run()
    times = []
    for _ in range(REPETITIONS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return median(times)


def _products(dtype: Any, tokens: int = 2048, width: int = 640, wide: int = 2048) -> float:
    """FLOP/s of a feed-forward part's two products."""
    import torch

    from isogloss.model.matrix_products import linear

    x, up, down = (
        torch.randn(*s).to(dtype) for s in ((tokens, width), (wide, width), (width, wide))
    )
    return 4 * tokens * width * wide / _seconds(lambda: linear(linear(x, up), down))


def _lens(dtype: Any, states: int = 512, width: int = 640, vocabulary: int = 4096) -> float:
    """FLOP/s of the product with the unembedding, a block of the vocabulary after the other."""
    import torch

    from isogloss.model.matrix_products import linear

    x, head = torch.randn(states, width).to(dtype), torch.randn(8 * vocabulary, width).to(dtype)

    def run() -> None:
        for start in range(0, len(head), vocabulary):
            linear(x, head[start : start + vocabulary])

    return 2 * states * width * len(head) / _seconds(run)


def _disk(size: int = 64 << 20) -> tuple[float, float]:
    """Bytes/s of writing a checksummed HDF5 file to the disk, and of reading it."""
    import h5py
    import numpy as np

    values = np.random.default_rng(0).random(size // 8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "values.h5"

        def write() -> None:
            with h5py.File(path, "w") as file:
                file.create_dataset("x", data=values, chunks=(1 << 16,), fletcher32=True)
            with path.open("rb+") as raw:
                os.fsync(raw.fileno())

        def read() -> None:
            with h5py.File(path) as file:
                file["x"][...]

        return size / _seconds(write), size / _seconds(read)


def _imports() -> float:
    """Seconds of a Python that imports what a program with a model does."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", "import torch, transformers, h5netcdf, xarray"], check=True
    )
    return time.perf_counter() - began
