"""What a study will cost: time, memory, disk and GPU hours of every job, before it runs."""

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

from isogloss.cost import machines
from isogloss.program import run
from isogloss.store.places import shared_names
from isogloss.study.schema import read, validate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--configfile",
        type=Path,
        default=Path("config/config.yaml"),
        help="the study (%(default)s)",
    )
    which.add_argument("--spec", type=json.loads, help="the whole study as JSON, in its place")
    parser.add_argument(
        "--machine",
        help=f"{machines.HERE}, {', '.join(machines.known())}, or a file of rates; else "
        "estimate.machine",
    )
    parser.add_argument("--measure", action="store_true", help="measure this machine again")
    parser.add_argument("--json", action="store_true", help="as JSON: seconds, bytes, FLOPs")
    args = parser.parse_args()
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")  # questions are looked up, never downloaded
    # Not before: it lays questions out with torch, which the options need not wait for.
    from isogloss.cost.estimate import as_table, estimate

    study = validate(args.spec, "--spec") if args.spec else read(args.configfile)
    shared = shared_names(study, otherwise="estimated")
    estimated = estimate(study, args.machine, args.measure, shared)
    machine, lines = estimated.machine, list(estimated.lines())
    if args.json:
        print(json.dumps([{"machine": machine.about, **asdict(x)} for x in lines], indent=1))
        return
    print(f"{study.study} on {machine.about}\n")
    print(as_table(lines), end="\n\n")
    for note in dict.fromkeys([*estimated.notes, *(line.note for line in lines if line.note)]):
        print(note)
    print(
        f"All times are for {machine.about}, of jobs in a row; memory is that of the largest job:"
        " on processors some run at once. What is there costs nothing. What these numbers rest on:"
        " docs/performance.md"
    )


if __name__ == "__main__":
    run(main)
