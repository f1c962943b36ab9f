"""What machines do in a second: the rates that turn work into time.

The machine at hand is measured once (`measuring`), and its rates are kept in the cache. Others are
in `machines.yaml`, or in a file of the user's.
"""

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib import metadata
from pathlib import Path

import yaml

from isogloss.errors import InputError
from isogloss.files.atomic import whole_file
from isogloss.program import say

HERE = "here"
"""Name of the machine that the program runs on."""


@dataclass(frozen=True)
class Machine:
    """A machine's rates."""

    about: str  # what it is, and where the rates come from
    gpu_memory: float  # of one accelerator [byte]; 0: models run on processors
    blocks: Mapping[str, float]  # of decoder blocks, by dtype, their calls apart [FLOP/s]
    head: Mapping[str, float]  # of norm, unembedding and log-sum-exp, by dtype [FLOP/s]
    steering: float  # share of both that steering reaches
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


def named(name: str, cache: Path, again: bool = False) -> Machine:
    """A machine of the table, this one (`HERE`), or one whose rates are in a file.

    Args:
        cache: folder where this machine's rates are kept.
        again: measure this machine even if they are there.

    Raises:
        InputError: none of these.
    """
    if name in (machines := known()):
        return machines[name]
    path = Path(name)
    if name == HERE:
        path = cache / "machines" / (re.sub(r"\W+", "-", this_machine()) + ".yaml")
        if again or not path.exists():
            _measure(path)
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
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = (names or [platform.processor() or platform.machine()])[0]
    return f"{os.cpu_count()} cores of {processor}, torch {metadata.version('torch')}"


def _measure(path: Path) -> None:
    """Measure this machine and keep its rates."""
    from isogloss.cost.measuring import measure  # it runs a model

    say(f"measuring this machine, once, in about ten seconds: {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    rates = {"like": "cpu", "about": f"{this_machine()}, measured here", **measure()}
    with whole_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(rates, sort_keys=False), encoding="utf-8")
