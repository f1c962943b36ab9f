"""Behaviour: accuracy, consistency and transfer between the languages of one dataset."""

from pathlib import Path
from typing import Any

import xarray as xr

from isogloss.files.activation_file import check_items, open_scores
from isogloss.files.netcdf import write_netcdf
from isogloss.measures.behaviour import behaviour
from isogloss.program import analysis_parser, run
from isogloss.questions.datasets import load_dataset
from isogloss.questions.items import spellings
from isogloss.store.manifests import read_manifest


def main() -> None:
    parser = analysis_parser(__doc__)
    parser.add_argument("manifest", type=Path, help="manifest of the activation files")
    args = parser.parse_args()

    files = read_manifest(args.manifest)
    scores = open_scores(list(files.values()))
    scores = with_spelling(scores, args.settings["questions"], args.settings["dataset"], files)
    results = behaviour(scores, args.settings["score"], args.settings["confidence"])
    write_netcdf(results, args.output, args.settings, inputs=[args.manifest])


def with_spelling(
    scores: xr.Dataset, questions: dict[str, Any], dataset: str, files: dict[str, Path]
) -> xr.Dataset:
    """The scores, with which choices of any two languages are the same text.

    Raises:
        InputError: the questions are not those that were scored.
    """
    languages = [str(language) for language in scores["language"].values]
    items = load_dataset(questions, languages, dataset)
    check_items(files, items.digest)
    spelling = spellings(items, languages)[..., : scores.sizes["choice"]]
    return scores.assign(spelling=(("language", "item", "choice"), spelling))


if __name__ == "__main__":
    run(main)
