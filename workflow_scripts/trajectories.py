"""Trajectories of the logit lens over layers, from the lens files of all languages."""

import argparse
import json
from pathlib import Path

from isogloss.files.netcdf import open_artifact, write_netcdf
from isogloss.measures.trajectories import trajectories
from isogloss.program import run
from isogloss.store.manifests import read_manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path, help="manifest of the lens files")
    parser.add_argument("--spec", type=json.loads, required=True, help="settings as JSON")
    parser.add_argument("--output", type=Path, required=True, help="netCDF to write")
    args = parser.parse_args()

    lens = {tag: open_artifact(path) for tag, path in read_manifest(args.manifest).items()}
    write_netcdf(trajectories(lens, **args.spec), args.output, args.spec)


if __name__ == "__main__":
    run(main)
