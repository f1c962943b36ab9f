"""Isogloss beside the tools that people use: times, memory, and whether its bars are reached.

Every ratio is of one run: medians of alternating turns after a warm-up. With --only, the files'
other comparisons are kept.
"""

import argparse
import os
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

import yaml
from benchmarks import choices, lens, material, memory, states, storage, sweep
from benchmarks.machine import machine
from benchmarks.material import LONG, ROOT, SHORT, Setting
from benchmarks.measuring import tell
from benchmarks.table import markdown, shown, write

from isogloss.errors import InputError
from isogloss.model.fetching import fetch
from isogloss.model.sources import ModelSource
from isogloss.program import run

COMPARISONS = {
    "choices-long-float32": partial(choices.compare, kind=LONG, dtype="float32"),
    "choices-short-float32": partial(choices.compare, kind=SHORT, dtype="float32"),
    "choices-long-bfloat16": partial(choices.compare, kind=LONG, dtype="bfloat16"),
    "choices-short-bfloat16": partial(choices.compare, kind=SHORT, dtype="bfloat16"),
    "states-prompts": partial(states.compare, what=states.PROMPTS),
    "states-choices": partial(states.compare, what=states.CHOICES),
    "lens-float32": partial(lens.against_product, dtype="float32"),
    "lens-bfloat16": partial(lens.against_product, dtype="bfloat16"),
    "lens-peers": lens.against_peers,
    "sweep-anew": sweep.against_anew,
    "sweep-harness": sweep.against_harness,
    "hdf5-writing": storage.writing,
    "hdf5-reading": storage.reading,
    "memory": memory.compare,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, help="folder with xquad_mc and xcopa, one <language>.jsonl a "
        "language; without it, questions that come along")  # fmt: skip
    add("--output", type=Path, default=ROOT / "results" / "benchmark",
        help="folder of benchmark.json and benchmark.md")  # fmt: skip
    add("--model", default="gemma-3-270m", help="a model of config/config.yaml, or a folder")
    add("--cache", type=Path, help="folder of models",
        default=os.environ.get("ISOGLOSS_CACHE", "~/.cache/isogloss"))  # fmt: skip
    add("--only", action="append", metavar="NAME", help="comparisons whose names begin so: "
        f"{', '.join(COMPARISONS)}")  # fmt: skip
    add("--repetitions", type=int, default=5, help="turns that count")
    add("--times", type=int, default=1, help="times as many items")
    add("--quick", action="store_true", help="few items: a try, no measurement")
    args = parser.parse_args()
    for option in ("repetitions", "times"):
        if getattr(args, option) < 1:
            raise InputError(f"--{option}: {getattr(args, option)}: at least 1 is needed")
    names = [name for name in COMPARISONS if name.startswith(tuple(args.only or [""]))]
    for wanted in args.only or ():
        if not any(name.startswith(wanted) for name in names):
            raise InputError(f"--only {wanted}: no such comparison: see --help")

    for folder in material.FOLDERS.values() if args.data else ():
        if not (args.data / folder).is_dir():
            raise InputError(
                f"--data {args.data}: holds no folder {folder}: leave it out, or add it"
            )

    cache = args.cache.expanduser()
    source = model_source(args.model)
    fetch(source, cache)
    args.output.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="scratch-", dir=args.output))
    setting = Setting(source, cache, args.data, args.quick, args.times, args.repetitions, scratch)
    conditions = {
        "machine": machine(),
        "settings": {
            "model": source.slug,
            "data": "published" if args.data else "its own",
            "items": "few (--quick)" if args.quick else f"{args.times} x the default",
            "repetitions": str(args.repetitions),
        },
    }
    try:
        for name in names:
            tell(f"== {name}")
            began = time.perf_counter()
            conditions["settings"]["load before"] = f"{os.getloadavg()[0]:.1f}"
            rows = []
            for row in COMPARISONS[name](setting):
                rows.append(row)
                tell(f"{row.what}: {shown(row.value)} {row.unit}")
                took = {"seconds": round(time.perf_counter() - began, 1)}
                whole = write(args.output, name, rows, conditions | took)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(markdown(whole))


def model_source(name: str) -> ModelSource:
    """A model of the default study, or a folder with one."""
    models = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["models"]
    if name in models:
        return ModelSource.from_spec(name, models[name])
    if not Path(name).is_dir():
        raise InputError(f"--model {name}: no folder, and none of {', '.join(models)}")
    return ModelSource.from_spec("local", {"source": "path", "path": name})


if __name__ == "__main__":
    run(main)
