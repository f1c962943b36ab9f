"""What machines do in a second: the rates that turn work into time.

The machine at hand is measured once, with a small random model, and its rates are kept in the
cache. Others are in `machines.yaml`, or in a file of the user's.
"""

import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from timeit import repeat
from typing import Any

import torch
import yaml

from isogloss.cost.architecture import counted
from isogloss.cost.tokens import Text
from isogloss.errors import InputError
from isogloss.files.atomic import whole_file
from isogloss.program import say

HERE = "here"  # name of the machine that the program runs on
PARALLEL = 0.9  # power of the number of threads by which models are faster than on one; of two


@dataclass(frozen=True)
class Machine:
    """A machine's rates."""

    about: str  # what it is, and where the rates come from
    gpu_memory: float  # of one accelerator [byte]; 0: models run on processors
    products: Mapping[str, float]  # of blocks and unembedding, by dtype, calls apart [FLOP/s]
    steering: float  # share of these that steering reaches
    block_call: float  # a block's call beyond its products [s]
    load: float  # weights from the disk, converted, or states [byte/s]
    write: float  # a file, to the disk [byte/s]
    model_start: float  # of a program that runs a model, tokenizer included [s]
    analysis: float  # NumPy's products on a core, in float64 and float32 mixed [FLOP/s]
    analysis_start: float  # of a program without a model [s]
    process: float  # memory of a program before it holds anything [byte]


def known() -> dict[str, Machine]:
    """The machines of the table, by name."""
    path = Path(__file__).with_name("machines.yaml")
    table = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: Machine(**rates) for name, rates in table.items()}


def named(name: str, cache: Path) -> Machine:
    """A machine of the table, this one (`HERE`; its rates are in the cache), or a file of rates.

    Raises:
        InputError: none of these.
    """
    if name in (machines := known()):
        return machines[name]
    path = Path(name)
    if name == HERE:
        path = cache / "rates" / (re.sub(r"\W+", "-", this_machine()) + ".yaml")
        if not path.exists():
            say(f"measuring this machine, once, in about ten seconds: {path}")
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as temporary:
                temporary.write_text(yaml.safe_dump(measure(), sort_keys=False), encoding="utf-8")
    try:
        rates = yaml.safe_load(path.read_text(encoding="utf-8"))
        return replace(machines[rates.pop("like")], **rates)
    except (yaml.YAMLError, TypeError, KeyError, AttributeError, OSError, ValueError) as error:
        raise InputError(
            f"machine: {str(path)!r} is neither {HERE}, nor known ({', '.join(machines)}), nor a "
            f"file with the rates of one ({error!r}): give `like` and some of "
            f"{', '.join(field.name for field in fields(Machine))}"
        ) from error


def this_machine() -> str:
    """Cores, processor and torch of this machine: others have other rates."""
    described = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"^model name\s*: (.*)", described, re.MULTILINE)
    processor = name[1] if name else platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores of {processor}, torch {torch.__version__}"


# -- measuring -------------------------------------------------------------------------------------


def measure() -> dict[str, Any]:
    """Rates of this machine: of a model's width of 640, and of a program's imports.

    Seconds are the processor's, of one thread, so that other work on the machine counts for little.
    The disk is taken for the table's: beside products on a processor, writing takes little.
    """
    torch.set_num_threads(1)
    at_once = min(8, os.cpu_count() or 1) ** PARALLEL
    products = {dtype: at_once * _products(dtype) for dtype in ("float32", "bfloat16")}
    square, before = torch.randn(1024, 1024, dtype=torch.float64), os.times()
    imports = "import torch, transformers, h5netcdf, xarray"
    subprocess.run([sys.executable, "-c", imports], check=True)
    start = sum(os.times()[2:4]) - sum(before[2:4])  # seconds of children
    return {
        "like": "cpu",
        "about": f"{this_machine()}, measured here",
        "products": products | {"float16": products["bfloat16"]},
        "model_start": start,
        "analysis": 2 * 1024**3 / _seconds(lambda: square @ square),
        "analysis_start": 0.55 * start,  # as measured on the table's machine
    }


def _products(dtype: str) -> float:
    """FLOP/s of a thread, in blocks and unembedding together."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        vocab_size=32768, hidden_size=640, intermediate_size=2048, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=1, head_dim=256, tie_word_embeddings=True,
    )  # fmt: skip
    made = AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype))
    priced, tokens = counted(config, dtype), torch.randint(32768, (1, 512))
    with torch.inference_mode():
        seconds = _seconds(lambda: made(tokens, use_cache=False).logits.float().logsumexp(-1))
    flops = priced.block_flops(Text(512, 512**2, 1, 0, 0, 0), 4) + priced.head_flops(512)
    return flops / seconds


def _seconds(what: Callable[[], Any]) -> float:
    """The shortest of three run times, after another [s of the processor]."""
    return min(repeat(what, number=1, repeat=4, timer=time.process_time)[1:])
