"""What a study will cost: time, memory, disk and GPU hours of every job, before it runs."""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from isogloss.cost import machines
from isogloss.cost.run_times import measured_jobs
from isogloss.errors import InputError
from isogloss.files.atomic import whole_file
from isogloss.program import run, say
from isogloss.store.places import place_of
from isogloss.study.keys import Artifacts
from isogloss.study.schema import Config, read, validate
from isogloss.study.settings import Settings

if TYPE_CHECKING:  # it lays questions out with torch, which the options need not wait for
    from isogloss.cost.estimate import Estimator, Line


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
        help=f"{', '.join(machines.known())}, or a file of --calibrate; else estimate.machine",
    )
    parser.add_argument("--json", action="store_true", help="as JSON: seconds, bytes, FLOPs")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="beside what finished jobs of this folder took, and what their files weigh",
    )
    parser.add_argument(
        "--calibrate", type=Path, metavar="FILE", help="measure this machine's rates, write them"
    )
    args = parser.parse_args()
    from isogloss.cost.estimate import as_json, as_table

    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")  # questions are looked up, never downloaded

    if args.calibrate:
        calibrate(args.calibrate)
        return
    study = validate(args.spec, "--spec") if args.spec else read(args.configfile)
    name = args.machine or study.estimate.machine or default_machine(study)
    machine = machines.named(name)
    estimator = estimator_of(study, machine)
    lines = list(estimator.lines())
    if args.json:
        print(json.dumps([as_json(line) for line in lines], indent=1))
    elif args.compare:
        print(comparison(study, machine, lines))
    else:
        print(f"{study.study} on {name}: {machine.about}\n")
        print(as_table(lines, machine))
        print()
        for note in [*estimator.notes, *dict.fromkeys(line.note for line in lines if line.note)]:
            print(note)
        print(
            "Times are of jobs in a row, memory is that of the largest job: on processors some run"
            " at once. What is there costs nothing. What these numbers rest on: docs/performance.md"
        )


def calibrate(path: Path) -> None:
    """Measure this machine and write its rates."""
    found = machines.measure()
    with whole_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(found, sort_keys=False), encoding="utf-8")
    say(f"{path}: {found['about']}; use it with --machine {path} or estimate.machine")


def default_machine(study: Config) -> str:
    """A GPU where the study names one."""
    return "h100" if study.device.startswith("cuda") else "cpu"


def estimator_of(study: Config, machine: machines.Machine) -> "Estimator":
    """The estimator of a study, with what its store and its shared place have."""
    from isogloss.cost.estimate import Estimator, present_in

    try:
        place = place_of(study)
        shared: Any = place.names() if place else ()
    except InputError as error:
        say(f"{error} (estimated as if nothing were there)")
        shared = ()
    return Estimator(
        study,
        machine,
        Artifacts(Settings(study)),
        present_in(Path(study.store), shared),
        lambda name: Path(study.results, name).exists(),
    )


def comparison(study: Config, machine: machines.Machine, lines: "list[Line]") -> str:
    """Predicted and measured run time and disk of the jobs that were finished here.

    On processors, of a study that ran on this one machine; on GPUs, wherever.

    Below the table: the shares of the machine's rates that would suit these run times. Readouts
    are left out there: their jobs fetch the models.
    """
    from isogloss.cost.estimate import duration, size, table
    from isogloss.cost.fitting import fitted_shares

    cores = None if machine.gpu else os.cpu_count()
    times = measured_jobs(Path(".snakemake/metadata"), study.store, study.results, cores)
    run_time, held = (["predicted", "measured", "ratio"] for _ in range(2))
    rows, finished, took = [["model", "dataset", "stage", *run_time, *held]], [], []
    for line in lines:
        found = times.get((line.stage, line.model, line.dataset))
        if found is None or not line.whole.seconds:
            continue
        (seconds, disk), own = found, line.whole.seconds
        held = [size(disk), f"{line.whole.disk / disk:.2f}"] if disk else ["-", "-"]
        run_time = [duration(own), duration(seconds), f"{own / seconds:.2f}"]
        rows.append([line.model, line.dataset, line.stage, *run_time, size(line.whole.disk), *held])
        if line.stage != "readout":
            finished.append(line.whole)
            took.append(seconds)
    if not finished:
        raise InputError("no finished job of this study here: run it first, in this folder")
    shares = fitted_shares(machine.share, finished, took)
    said = ", ".join(f"{name}: {value:g}" for name, value in shares.items())
    return f"{table(rows)}\n\nshares that would suit these run times:\nshare: {{{said}}}"


if __name__ == "__main__":
    run(main)
