"""What a study will cost: time, memory, disk and GPU hours of every job, before it runs."""

import argparse
import json
import os
from dataclasses import asdict

from isogloss.program import add_settings, run
from isogloss.study.schema import validate

RESTS_ON = """\
All times are for {machine},
of jobs in a row; memory is that of the largest job: on processors some run at once. What is there
costs nothing. Not counted: downloads, and the tables and figures of all models together (seconds).
What these numbers rest on: docs/performance.md"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_settings(parser)
    parser.add_argument("--machine", help="in place of the study's `estimate.machine`")
    parser.add_argument("--json", action="store_true", help="as JSON: seconds, bytes")
    args = parser.parse_args()
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")  # questions are looked up, never downloaded
    # Not before: it lays questions out with torch, which the options need not wait for.
    from isogloss.cost.estimate import Estimate, as_table

    study = validate(args.settings, "--spec")
    estimated = Estimate(study, args.machine)
    about, lines = estimated.machine.about, list(estimated.lines())
    if args.json:
        print(json.dumps([{"machine": about, **asdict(line)} for line in lines], indent=1))
        return
    notes = dict.fromkeys([*estimated.notes, *(line.note for line in lines if line.note)])
    texts = [f"{study.study} on {about}", as_table(lines), "\n".join(notes)]
    print(*texts, RESTS_ON.format(machine=about), sep="\n\n")


if __name__ == "__main__":
    run(main)
