"""Fill the local caches with models and hub datasets, for a run on nodes without a network."""

import argparse
import json
from pathlib import Path

from isogloss.model.fetching import fetch
from isogloss.model.sources import model_digest
from isogloss.program import run, say
from isogloss.questions.datasets import load_dataset
from isogloss.study.settings import source_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("specs", nargs="*", type=json.loads, help="a model's settings as JSON")
    parser.add_argument(
        "--datasets",
        nargs="*",
        type=json.loads,
        default=[],
        help="a hub dataset's settings as JSON",
    )
    parser.add_argument("--cache", type=Path, required=True, help="folder of models")
    args = parser.parse_args()

    for settings in args.specs:
        source = source_of(settings)
        folder = fetch(source, args.cache)
        say(f"{settings['slug']}: {folder}, digest {model_digest(source, args.cache)}")
    for dataset in args.datasets:
        items = load_dataset(dataset["dataset"], dataset["languages"], dataset["name"])
        say(f"{dataset['name']}: {len(items.item_ids)} items in {' '.join(items.languages)}")


if __name__ == "__main__":
    run(main)
