"""Results by category of the items, and by script, family and resources of the languages."""

from pathlib import Path

import xarray as xr

from isogloss.files.activation_file import check_items, open_scores, open_states
from isogloss.files.netcdf import open_artifact, write_netcdf
from isogloss.measures.breakdown import breakdown
from isogloss.measures.groups import groups_of
from isogloss.program import analysis_parser, run
from isogloss.questions.datasets import load_dataset
from isogloss.steering.breakdown import steering_breakdown
from isogloss.store.manifests import read_manifest


def main() -> None:
    parser = analysis_parser(__doc__)
    parser.add_argument("manifest", type=Path, help="manifest of the activation files")
    parser.add_argument(
        "--steered", type=Path, nargs="*", default=[], help="manifests in the order of `fitted`"
    )
    args = parser.parse_args()

    settings, files = args.settings, read_manifest(args.manifest)
    scores = open_scores(list(files.values()))
    every = [str(tag) for tag in scores["language"].values]
    items = load_dataset(settings["questions"], every, settings["dataset"])
    check_items(files, items.digest)
    pivot = str(scores.attrs["pivot"])
    languages = [tag for tag in every if tag != pivot]
    groups = groups_of([item.category or "" for item in items.items[pivot]], languages)
    about = {"score": settings["score"], "confidence": settings["confidence"]}
    states = open_states(list(files.values()), settings["pooling"])
    results = breakdown(scores, states, groups, **about)
    if args.steered:
        steered = {
            fitted: {tag: open_artifact(file) for tag, file in read_manifest(path).items()}
            for fitted, path in zip(settings["fitted"], args.steered, strict=True)
        }
        effects = steering_breakdown(
            steered, scores, groups, languages, seed=settings["seed"], **about
        )
        results = xr.merge([results, effects.assign_coords(group=results["group"])])
    write_netcdf(results, args.output, settings, inputs=[args.manifest, *args.steered])


if __name__ == "__main__":
    run(main)
