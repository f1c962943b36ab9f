"""Language subspaces, from the activation files of all languages."""

import argparse
import json
from pathlib import Path

from isogloss.files.activation_file import open_states
from isogloss.files.netcdf import write_netcdf
from isogloss.measures.subspaces import subspaces
from isogloss.program import run
from isogloss.questions.items import folds
from isogloss.store.manifests import read_manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path, help="manifest of the activation files")
    parser.add_argument("--spec", type=json.loads, required=True, help="settings as JSON")
    parser.add_argument("--output", type=Path, required=True, help="netCDF to write")
    args = parser.parse_args()

    spec = args.spec
    states = open_states(list(read_manifest(args.manifest).values()), spec["pooling"])
    fold_of = folds(states.clusters, spec["folds"], spec["fold_seed"])
    found = subspaces(
        states,
        fold_of,
        n_layers=spec["layers"],
        permutations=spec["permutations"],
        seed=spec["seed"],
    )
    write_netcdf(found, args.output, spec)


if __name__ == "__main__":
    run(main)
