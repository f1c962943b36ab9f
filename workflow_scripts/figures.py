"""Figures of one model on one dataset, or of several models: all whose results are given.

Each is written as NAME.FORMAT, with the numbers behind it (NAME.csv) and a caption (NAME.rst).
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr

from isogloss.figures import (
    behaviour,
    breakdown,
    lens,
    lens_items,
    matrix,
    pivots,
    scale,
    similarity,
    steering,
    subspaces,
    variants,
)
from isogloss.figures.style import Drawing, Subject, save, use_style
from isogloss.figures.titles import MATRIX_FIGURE, SCALE_FIGURE, figures_of
from isogloss.files.netcdf import open_artifact, open_netcdf
from isogloss.program import add_settings, run
from isogloss.store.manifests import read_manifest

DRAWN = {
    "accuracy": behaviour.accuracy_and_consistency,
    "transfer": behaviour.transfer,
    "breakdown": breakdown.breakdown,
    "pivots": pivots.pivots,
    "lens_accuracy": lens.latent_accuracy,
    "lens_language": lens.latent_language,
    "place_and_shape": similarity.place_and_shape,
    "language_pairs": similarity.language_pairs,
    "language_subspace": subspaces.language_subspace,
    "wordings": variants.consistency_and_ceiling,
    "wordings_states": variants.states_and_ceiling,
}
"""By name in `titles.FIGURES`; `lens_items` and `wordings_averaged` need more than a result."""

STEERING = {"steering_surface": steering.surface, "steering_effect": steering.effect}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, text in (
        ("results", "behaviour.nc, trajectories.nc, ..., steering_<vectors' dataset>.nc"),
        ("lenses", "manifest of the lens files"),
        ("scale", "<dataset>.nc of several models"),
        ("matrix", "steering_matrix.nc of several models"),
    ):
        parser.add_argument(f"--{name}", type=Path, nargs="*", default=[], help=text)
    add_settings(parser)
    parser.add_argument("--folder", type=Path, required=True, help="where to write")
    args = parser.parse_args()

    options = args.settings["figures"]
    use_style(options["font_size"], options["dpi"])
    for name, drawing in drawings(args):
        save(drawing, args.folder / name, options["formats"])


def drawings(args: Any) -> Iterator[tuple[str, Drawing]]:
    """Every figure that the given results allow, by name."""
    settings = args.settings
    results = {path.stem: open_netcdf(path) for path in args.results}
    subject = Subject(
        model=settings["models"][settings["model"]] if "model" in settings else "",
        dataset=settings.get("dataset", ""),
        pivot=settings["pivot"],
        near_chance=near_chance(results.get("behaviour")),
        width=settings["figures"]["width"],
    )
    fitted = [n.removeprefix("steering_") for n in results if n.startswith("steering_")]
    for figure in figures_of({*results, *(["lenses"] if args.lenses else [])}, fitted):
        if figure.fitted:
            draw = STEERING[figure.name.removesuffix(f"_{figure.fitted}")]
            effects = results[f"steering_{figure.fitted}"]
            yield figure.name, draw(effects, subject, figure.fitted)
        elif figure.result == "lenses":
            yield figure.name, single_items(args, results["trajectories"], subject)
        elif figure.name == "wordings_averaged":
            steered = {name: results[f"steering_{name}"] for name in fitted}
            yield figure.name, variants.ensembles(results[figure.result], subject, steered)
        else:
            yield figure.name, DRAWN[figure.name](results[figure.result], subject)
    for path in args.scale:
        models = replace(subject, dataset=path.stem)
        drawing = scale.against_scale(open_netcdf(path), models, settings["models"])
        yield f"{SCALE_FIGURE.name}_{path.stem}", drawing
    for path in args.matrix:
        drawing = matrix.across_datasets(open_netcdf(path), subject, settings["models"])
        yield MATRIX_FIGURE.name, drawing


def near_chance(behaviour: xr.Dataset | None) -> frozenset[str]:
    """Languages whose accuracy is not above chance; none where accuracy is not known."""
    if behaviour is None:
        return frozenset()
    marked = behaviour["near_chance"].astype(bool)
    return frozenset(str(tag) for tag in behaviour["language"].values[marked.values])


def single_items(args: Any, trajectories: xr.Dataset, subject: Subject) -> Drawing:
    """The lens picture of single items, with their texts."""
    from isogloss.questions.datasets import load_dataset

    lenses = {tag: open_artifact(path) for tag, path in read_manifest(*args.lenses).items()}
    items = load_dataset(args.settings["questions"], list(lenses), args.settings["dataset"])
    count = args.settings["figures"]["lens_items"]
    return lens_items.item_lenses(lenses, trajectories, items, subject, count)


if __name__ == "__main__":
    run(main)
