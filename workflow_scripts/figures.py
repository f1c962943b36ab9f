"""Figures of one model on one dataset, or of several models: all whose results are given.

Each is written as NAME.FORMAT, with the numbers behind it (NAME.csv) and a caption (NAME.rst).
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr

from isogloss.figures import behaviour, lens, lens_items, scale, similarity, steering, subspaces
from isogloss.figures.style import Drawing, Subject, save, use_style
from isogloss.files.netcdf import open_artifact, open_netcdf
from isogloss.program import run
from isogloss.store.local import read_manifest

RESULTS = ("behaviour", "trajectories", "similarity", "subspaces")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in RESULTS:
        parser.add_argument(f"--{name}", type=Path, help=f"{name}.nc")
    parser.add_argument("--lenses", type=Path, help="manifest of the lens files")
    parser.add_argument(
        "--steering", type=Path, nargs="*", default=[], help="steering_<vectors' dataset>.nc"
    )
    parser.add_argument(
        "--scale", type=Path, nargs="*", default=[], help="<dataset>.nc of several models"
    )
    parser.add_argument("--spec", type=json.loads, required=True, help="settings as JSON")
    parser.add_argument("--folder", type=Path, required=True, help="where to write")
    args = parser.parse_args()

    options = args.spec["figures"]
    use_style(options["font_size"], options["dpi"])
    for name, drawing in drawings(args):
        save(drawing, args.folder / name, options["formats"])


def drawings(args: Any) -> Iterator[tuple[str, Drawing]]:
    """Every figure that the given results allow, by name."""
    spec = args.spec
    held = {n: open_netcdf(path) for n in RESULTS if (path := getattr(args, n)) is not None}
    subject = Subject(
        model=spec["models"][spec["model"]] if "model" in spec else "",
        dataset=spec.get("dataset", ""),
        pivot=spec["pivot"],
        near_chance=near_chance(held.get("behaviour")),
        width=spec["figures"]["width"],
    )
    if "behaviour" in held:
        yield "accuracy", behaviour.accuracy_and_consistency(held["behaviour"], subject)
        yield "transfer", behaviour.transfer(held["behaviour"], subject)
    if "trajectories" in held:
        yield "lens_accuracy", lens.latent_accuracy(held["trajectories"], subject)
        yield "lens_language", lens.latent_language(held["trajectories"], subject)
    if args.lenses is not None:
        yield "lens_items", single_items(args, held["trajectories"], subject)
    if "similarity" in held:
        yield "place_and_shape", similarity.place_and_shape(held["similarity"], subject)
        yield "language_pairs", similarity.language_pairs(held["similarity"], subject)
    if "subspaces" in held:
        yield "language_subspace", subspaces.language_subspace(held["subspaces"], subject)
    for path in args.steering:
        effects, fitted = open_netcdf(path), path.stem.removeprefix("steering_")
        yield f"steering_surface_{fitted}", steering.surface(effects, subject, fitted)
        yield f"steering_effect_{fitted}", steering.effect(effects, subject, fitted)
    for path in args.scale:
        models = replace(subject, dataset=path.stem)
        drawn = scale.against_scale(open_netcdf(path), models, spec["models"])
        yield f"scale_{path.stem}", drawn


def near_chance(behaviour: xr.Dataset | None) -> frozenset[str]:
    """Languages whose accuracy is not above chance; none where accuracy is not known."""
    if behaviour is None:
        return frozenset()
    marked = behaviour["near_chance"].astype(bool)
    return frozenset(str(tag) for tag in behaviour["language"].values[marked.values])


def single_items(args: Any, trajectories: xr.Dataset, subject: Subject) -> Drawing:
    """The lens picture of single items, with their texts."""
    from isogloss.questions.datasets import load_dataset

    lenses = {tag: open_artifact(path) for tag, path in read_manifest(args.lenses).items()}
    items = load_dataset(args.spec["questions"], list(lenses), args.spec["dataset"])
    count = args.spec["figures"]["lens_items"]
    return lens_items.item_lenses(lenses, trajectories, items, subject, count)


if __name__ == "__main__":
    run(main)
