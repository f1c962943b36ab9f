"""Calibration: every measure of models with planted sharing, against that sharing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from isogloss.files.activation_file import open_states
from isogloss.files.netcdf import open_netcdf, write_netcdf
from isogloss.measures.calibration import PlantedModel, calibration
from isogloss.measures.custom import load_measure, middle_value
from isogloss.program import analysis_parser, run
from isogloss.questions.world import World, asked_facts
from isogloss.store.manifests import read_manifest

RESULTS = ("similarity", "subspaces", "behaviour", "trajectories", "steering")


def main() -> None:
    parser = analysis_parser(__doc__)
    parser.add_argument("--manifests", type=Path, nargs="+", required=True, help="one per model")
    for name in RESULTS:
        parser.add_argument(
            f"--{name}", type=Path, nargs="*", default=[], help="one per model, or none"
        )
    args = parser.parse_args()

    models = list(planted_models(args))
    table = calibration(models, args.settings["confidence"])
    inputs = [*args.manifests, *(given for model in models for given in model.results.values())]
    write_netcdf(table, args.output, args.settings, inputs=inputs)


def planted_models(args: Any) -> Iterator[PlantedModel]:
    """Every model of the settings with its results."""
    settings, asked = args.settings, args.settings["questions"]
    world = World.from_spec(asked["world"])
    facts = asked_facts(world, asked["items"], asked["seed"])
    seen = dict(zip(world.languages, world.seen[:, facts.entity, facts.relation], strict=True))
    measures = {name: load_measure(place) for name, place in settings["measures"].items()}
    for row, model in enumerate(settings["models"]):
        paths = {name: getattr(args, name) for name in RESULTS}
        results = {name: open_netcdf(given[row]) for name, given in paths.items() if given}
        files = list(read_manifest(args.manifests[row]).values())
        yield PlantedModel(
            slug=model["slug"],
            sharing=model["sharing"],
            seed=model["seed"],
            results=results,
            seen=np.array([seen[tag] for tag in results["behaviour"]["language"].values]),
            custom={
                name: middle_value(measure, open_states(files, settings["pooling"]), name)
                for name, measure in measures.items()
            },
        )


if __name__ == "__main__":
    run(main)
