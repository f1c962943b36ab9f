"""Write config.yaml, schema.json and settings.md of config; or check a study and its questions."""

import argparse
import os
import sys
from pathlib import Path

from isogloss.files.atomic import whole_file
from isogloss.program import run, say
from isogloss.study.default_study import commented, schema, tables
from isogloss.study.schema import Config, read

HEADER = """\
# yaml-language-server: $schema=schema.json
# The default study: two small models on questions in ten languages.
# A study of your own names only what differs: copy config/studies/own-data.yaml, not this file.
# What reruns when a key changes, and examples: config/README.md.

"""
TABLES = """\
# Settings

Every key of a study, its default and its meaning; rules and examples are in [README.md](README.md).
This file is written by `python workflow_scripts/configure.py`.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("config"), help="where to write")
    parser.add_argument(
        "--check",
        type=Path,
        metavar="FILE",
        help="a study's file to check, with its questions, models, disk and cost; writes nothing",
    )
    args = parser.parse_args()

    if args.check:
        check(args.check)
        return

    texts = {
        "config.yaml": HEADER + commented(Config()) + "\n",
        "schema.json": schema(),
        "settings.md": TABLES + tables(),
    }
    for name, text in texts.items():
        with whole_file(args.folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def check(path: Path) -> None:
    """Say what would end the study, what it cannot show and what it costs; exit 1 for a fault."""
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }  # it looks, and fetches nothing
    # What writing the configuration need not wait for.
    from isogloss.cost.estimate import Estimate, duration
    from isogloss.cost.stages import Cost
    from isogloss.preflight import check_disk, check_study
    from isogloss.store.names import size_text

    study = read(path)
    findings = check_study(study)
    for line in findings.facts:
        say(line)
    if findings.to_fetch:
        say(f"not looked at, because they have to be fetched: {', '.join(findings.to_fetch)}")
    estimated = Estimate(study, items=findings.items, tokens=findings.tokens)
    lines = list(estimated.lines())
    left = sum((line.to_do for line in lines), Cost())
    disk, memory = (size_text(round(size)) for size in (left.disk, left.memory))
    unknown = [line.note for line in lines if line.note]
    say(
        f"left to compute: {duration(left.seconds)} of one job after the other, {memory} of memory,"
        f" {disk} of disk, on {estimated.machine.about} (by job: `snakemake --cores 1 estimate`)"
        + (f"; unknown: {unknown[0]}" if unknown else "")
    )
    findings.attempt(lambda: check_disk(Path(study.store), left.disk))
    for line in findings.warnings:
        say(f"warning: {line}")
    for line in findings.faults:
        say(f"error: {line}")
    if findings.faults:
        sys.exit(1)
    say(f"{path}: no fault found in the study {study.study}")


if __name__ == "__main__":
    run(main)
