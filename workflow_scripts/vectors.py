"""Fit steering vectors on the states of one dataset, fold by fold."""

import argparse
import json
from pathlib import Path

from isogloss.files.activation_file import open_states
from isogloss.files.netcdf import write_artifact
from isogloss.program import add_store, run, say
from isogloss.questions.items import FIT, evaluation_folds
from isogloss.steering.vectors import fit_vectors
from isogloss.store.local import Store, read_manifest, write_manifest
from isogloss.study.keys import artifact_name
from isogloss.study.specs import vectors_spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path, help="manifest of the activation files")
    parser.add_argument("--spec", type=json.loads, required=True, help="settings as JSON")
    add_store(parser)
    parser.add_argument("--output", type=Path, required=True, help="manifest to write (JSON)")
    args = parser.parse_args()

    steering, fold = args.spec["steering"], args.spec["folds"]
    sources = read_manifest(args.manifest)
    spec = vectors_spec({tag: path.stem for tag, path in sources.items()}, fold, steering)
    name = artifact_name("vectors", args.spec["slug"], args.spec["name"], "all", spec, ".nc")
    store = Store.of(args.store, args.sharing, say)
    if store.missing({"all": name}):
        files = list(sources.values())
        mean, last = (open_states(files, pooling) for pooling in ("prompt_mean", "prompt_last"))
        n_layers = len(mean.depths) - 1
        fold_of = evaluation_folds(mean.clusters, fold["folds"], fold["seed"], fold["split"])
        if fold["split"] is not None:
            chosen = fold_of == FIT
            mean, last, fold_of = mean.of_items(chosen), last.of_items(chosen), fold_of[chosen]
        vectors = fit_vectors(
            mean,
            last,
            fold_of,
            args.spec["pivot"],
            sorted({round(depth * n_layers) for depth in steering["layers"]}),
            steering["methods"],
            draws=steering["random_draws"],
            seed=fold["seed"],
        )
        write_artifact(vectors, store.path(name), spec)
        store.keep(name)
    write_manifest(args.output, "vectors", args.spec, {"all": store.path(name)})


if __name__ == "__main__":
    run(main)
