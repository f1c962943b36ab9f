"""Write the tables of variables into docs/reference.md, from a small study on a tiny model."""

import argparse
import subprocess
import sys
from pathlib import Path

from isogloss.errors import InputError
from isogloss.files.atomic import whole_file, write_json
from isogloss.program import run, say
from isogloss.reference import datasets, variable_table, with_tables
from isogloss.results import StudyResults, open_study

FOLDER = Path("store/reference")
"""Where the small study lies: what of it is up to date is not computed again."""

STUDY = {
    "study": "reference",
    "results": str(FOLDER / "results"),
    "store": str(FOLDER / "store"),
    "languages": ["en", "de", "sw"],
    "pivots": "all",
    "models": {
        "tiny": {
            "source": "path", "path": str(FOLDER / "tiny"), "family": "tiny", "parameters": 60000,
            "dtype": "float32",
        }
    },
    "datasets": {"everyday": {"source": "jsonl", "path": "data/everyday", "max_items": 24}},
    "prompt": {"variants": {"plain": {"default": "{context}\n{question}"}}},
    "extraction": {"control": ["de", "sw"], "precision_items": 0},
    "similarity": {"permutations": 19, "map_permutations": 19},
    "subspaces": {"layers": 2, "permutations": 19},
    "steering": {
        "languages": ["de"], "layers": [0.5, 0.75], "strengths": [1.0], "random_draws": 1,
    },
    "statistics": {"folds": 2},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--document", type=Path, default=Path("docs/reference.md"), help="document to renew"
    )
    parser.add_argument(
        "--results",
        type=Path,
        help="results folder of a finished study with steering and several wordings; without it, a "
        "small study on a random tiny model is run as far as it is needed (a minute at most, no "
        "downloads)",
    )
    args = parser.parse_args()

    study = open_study(args.results) if args.results else small_study()
    tables = {name: variable_table(dataset) for name, dataset in datasets(study).items()}
    text = with_tables(args.document.read_text(encoding="utf-8"), tables)
    with whole_file(args.document) as temporary:
        temporary.write_text(text, encoding="utf-8")
    say(f"{args.document}: {len(tables)} tables")


def small_study() -> StudyResults:
    """The study of a random tiny model, its tables computed where they are missing."""
    file = FOLDER / "study.json"
    write_json(STUDY, file)
    if not (FOLDER / "tiny").exists():
        _python("workflow_scripts/make_tiny_model.py", str(FOLDER / "tiny"))
    kinds = "behaviour breakdown pivots trajectories similarity subspaces variants".split()
    results = FOLDER / "results"
    targets = [results / "tiny/everyday" / f"{kind}.nc" for kind in [*kinds, "steering_everyday"]]
    targets += [results / "scale/everyday.nc", results / "verdicts.nc"]
    options = ("--cores", "all", "--quiet", "all", "--configfile", str(file))
    _python("-m", "snakemake", *map(str, targets), *options)
    return open_study(file)


def _python(*arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments])
    if done.returncode != 0:
        raise InputError(f"{' '.join(arguments[:2])}: failed, see above: nothing was written")


if __name__ == "__main__":
    run(main)
