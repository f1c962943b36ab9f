"""Isogloss beside other tools: every agreement with its bound, written into a document.

Exits with 1 where a number is beyond its bound or a tool is missing.
"""

import argparse
import datetime
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml
from benchmarks.machine import machine
from benchmarks.material import ROOT
from verification.agreements import Agreement, markdown
from verification.models import Peers, of_model
from verification.numbers import of_numbers
from verification.ours import FEW, OWN, OWN_FORWARD, PUBLISHED, Isogloss, Sizes, everyday, published

from coverage import between_markers
from isogloss.errors import InputError
from isogloss.files.atomic import whole_file
from isogloss.model.fetching import fetch
from isogloss.model.sources import ModelSource
from isogloss.program import run

BEGIN, END = "<!-- verify: begin -->", "<!-- verify: end -->"


def main() -> None:
    parser = argparse.ArgumentParser(prog="verification", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, help="folder with xcopa and xquad_mc, one <language>.jsonl a "
        "language; without it, questions that come along")  # fmt: skip
    add("--cache", type=Path, help="folder of models",
        default=os.environ.get("ISOGLOSS_CACHE", "~/.cache/isogloss"))  # fmt: skip
    add("--models", nargs="+", help="of config/config.yaml; all by default")
    add("--quick", action="store_true", help="fewer questions, none with a passage")
    add("--document", type=Path, default=ROOT / "docs" / "verification.md")
    args = parser.parse_args()
    specs = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["models"]
    if unknown := sorted(set(args.models or ()) - set(specs)):
        raise InputError(f"--models {unknown[0]}: none of {', '.join(specs)}")
    for folder in PUBLISHED if args.data else ():
        if not (args.data / folder).is_dir():
            raise InputError(f"--data {args.data}: holds no folder {folder}: add it, or leave out")
    rows = []
    cache = args.cache.expanduser()
    for slug in args.models or specs:
        source, sizes = ModelSource.from_spec(slug, specs[slug]), FEW if args.quick else Sizes()
        for row in _of_one(source, cache, args.data, sizes):
            rows.append(row)
            mark = "ok" if row.holds else "BEYOND" if row.n else row.note
            difference = f"{row.difference:.1e} (bound {row.bound})" if row.n else ""
            print(f"{row.what}; {row.against}: {difference} {mark}", file=sys.stderr, flush=True)
    text = markdown(rows, _conditions(args.data, args.quick))
    with whole_file(args.document) as temporary:
        title = "Numbers beside other tools"
        temporary.write_text(
            between_markers(args.document, text, title, BEGIN, END), encoding="utf-8"
        )
    if failed := sum(not row.holds for row in rows):
        raise InputError(
            f"{args.document}: {failed} of {len(rows)} comparisons are beyond their bound or were "
            "not made: they are named there"
        )


def _of_one(
    source: ModelSource, cache: Path, data: Path | None, sizes: Sizes
) -> Iterator[Agreement]:
    """All comparisons of a model; ours is computed first, with nothing of the peers loaded."""
    fetch(source, cache)
    isogloss = Isogloss.loaded(source, cache)
    with tempfile.TemporaryDirectory() as scratch:
        computed = isogloss.compute(everyday(OWN, sizes.measured), Path(scratch), lens=False)
        materials = (
            [published(data, name, sizes) for name in PUBLISHED if name == "xcopa" or sizes.long]
            if data
            else [everyday(OWN_FORWARD, sizes.short)]
        )
        every = [isogloss.compute(material, Path(scratch)) for material in materials]
        short = every[0]
        language = short.material.languages[-1]
        changes = isogloss.interventions(short, language)
        scores = isogloss.steered(short.asked[language][: sizes.every_layer], changes)
        yield from of_numbers(source.slug, computed)
        decoder = isogloss.decoder
        peers = Peers(source, cache, decoder.tokenizer, decoder.start, sizes.every_layer)
        yield from of_model(peers, short, every, changes, scores, language)


def _conditions(data: Path | None, quick: bool) -> dict[str, str]:
    """When, on what and with which versions."""
    versions = machine()
    kept = {name: versions[name] for name in ("CPU", "cores", "python", "torch", "transformers")}
    peers = ("lm-eval", "nnsight", "nnterp", "transformer-lens", "scipy", "pingouin")
    questions = "XCOPA, XQuAD-MC and `everyday`" if data else "`everyday`"
    if quick:
        questions = f"few (`--quick`) of {'XCOPA and ' if data else ''}`everyday`"
    return (
        {"date": datetime.date.today().isoformat(), "questions": questions, "type": "float32"}
        | kept
        | {name: _version(name) for name in peers}
    )


def _version(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    run(main)
