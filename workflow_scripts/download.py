"""Fill the local cache with models, ahead of a run on nodes without a network."""

import argparse
import json
from pathlib import Path

from isogloss.model_sources import fetch
from isogloss.program import run, say
from isogloss.specs import source_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("specs", nargs="+", type=json.loads, help="a model's settings as JSON")
    parser.add_argument("--cache", type=Path, required=True, help="folder of models")
    args = parser.parse_args()

    for spec in args.specs:
        say(f"{spec['slug']}: {fetch(source_of(spec), args.cache)}")


if __name__ == "__main__":
    run(main)
