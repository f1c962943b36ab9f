"""The summary of a study: its main table, what was measured, and what was not found."""

import argparse
import json
from pathlib import Path
from typing import Any

from isogloss.errors import InputError
from isogloss.figures.summary import Result, main_table, summary
from isogloss.files.atomic import whole_file
from isogloss.files.netcdf import open_netcdf
from isogloss.program import add_settings, run
from isogloss.store.manifests import manifest_settings, read_manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifests", nargs="+", type=Path, help="manifests of activation files")
    add_settings(parser)
    parser.add_argument("--output", type=Path, required=True, help="Markdown to write")
    parser.add_argument("--table", type=Path, required=True, help="the main table as CSV")
    parser.add_argument(
        "--organisms", nargs="*", type=Path, default=[], help="calibration.nc, ladder.nc"
    )
    args = parser.parse_args()

    results = results_of(args.settings, args.manifests)
    verdicts = open_netcdf(Path(args.settings["results"]) / "verdicts.nc")
    names = {model["slug"]: model["name"] for model in args.settings["models"]}
    sections = [section_of(path) for path in args.organisms]
    text = summary(results, args.settings["study"], verdicts, names, sections)
    with whole_file(args.output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    with whole_file(args.table) as temporary:
        main_table(results).to_csv(temporary, index=False, float_format="%.6g")


def section_of(path: Path) -> str:
    """What the calibration or the ladder came to."""
    # With matplotlib, which no other study's summary needs.
    from isogloss.figures.calibration import calibration_section
    from isogloss.figures.ladder import ladder_section

    sections = {"calibration": calibration_section, "ladder": ladder_section}
    return sections[path.stem](open_netcdf(path))


def results_of(settings: dict[str, Any], manifests: list[Path]) -> list[Result]:
    """Every model on every dataset in the study's order, each with the manifest that is its own.

    Raises:
        InputError: none of the manifests is of a model and dataset.
    """
    by_pair = {
        (about["slug"], about["name"]): path
        for path in manifests
        for about in [manifest_settings(path)]
    }
    pairs = [(model, dataset) for model in settings["models"] for dataset in settings["datasets"]]
    for model, dataset in pairs:
        if (model["slug"], dataset["name"]) not in by_pair:
            raise InputError(
                f"summary: no manifest of {model['slug']} on {dataset['name']} among "
                f"{len(manifests)}: give one for each model and dataset"
            )
    return [
        result_of(
            Path(settings["results"]), model, dataset, by_pair[model["slug"], dataset["name"]]
        )
        for model, dataset in pairs
    ]


def result_of(
    results: Path, model: dict[str, str], dataset: dict[str, Any], manifest: Path
) -> Result:
    """What one model gave on one dataset, from its files in the results folder."""
    folder = results / model["slug"] / dataset["name"]
    return Result(
        model=model["name"],
        dtype=model["dtype"],
        dataset=dataset["name"],
        behaviour=open_netcdf(folder / "behaviour.nc"),
        similarity=open_netcdf(folder / "similarity.nc"),
        steering={
            fitted: open_netcdf(folder / f"steering_{fitted}.nc") for fitted in dataset["fitted"]
        },
        trajectories=open_netcdf(folder / "trajectories.nc") if dataset["lens"] else None,
        variants=open_netcdf(folder / "variants.nc") if dataset["variants"] else None,
        records={tag: record_of(path) for tag, path in read_manifest(manifest).items()},
    )


def record_of(path: Path) -> dict[str, Any]:
    """What the extraction of one activation file recorded."""
    import h5py  # after isogloss, which says how it opens files

    with h5py.File(path) as file:
        record: dict[str, Any] = json.loads(file.attrs["record"])
    return record


if __name__ == "__main__":
    run(main)
