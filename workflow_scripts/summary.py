"""The summary of a study: its main table, what was measured, and what was not found."""

import argparse
import json
from pathlib import Path
from typing import Any

import h5py

from isogloss.artifacts import open_netcdf, whole_file
from isogloss.program import run
from isogloss.store import read_manifest
from isogloss.summary import Result, main_table, summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifests", nargs="+", type=Path, help="manifests of activation files")
    parser.add_argument("--spec", type=json.loads, required=True, help="what the study holds")
    parser.add_argument("--output", type=Path, required=True, help="Markdown to write")
    parser.add_argument("--table", type=Path, required=True, help="the main table as CSV")
    args = parser.parse_args()

    pairs = [(model, dataset) for model in args.spec["models"] for dataset in args.spec["datasets"]]
    results = [
        result_of(args.spec, model, dataset, manifest)
        for (model, dataset), manifest in zip(pairs, args.manifests, strict=True)
    ]
    with whole_file(args.output) as temporary:
        temporary.write_text(summary(results, args.spec["study"]), encoding="utf-8")
    with whole_file(args.table) as temporary:
        main_table(results).to_csv(temporary, index=False, float_format="%.6g")


def result_of(spec: dict[str, Any], model: str, dataset: str, manifest: Path) -> Result:
    """What one model gave on one dataset, from its files in the results folder."""
    folder = Path(spec["results"]) / model / dataset
    return Result(
        model=spec["models"][model],
        dataset=dataset,
        behaviour=open_netcdf(folder / "behaviour.nc"),
        similarity=open_netcdf(folder / "similarity.nc"),
        steering={
            fitted: open_netcdf(folder / f"steering_{fitted}.nc")
            for fitted in spec["datasets"][dataset]
        },
        records={tag: record_of(path) for tag, path in read_manifest(manifest).items()},
    )


def record_of(path: Path) -> dict[str, Any]:
    """What the extraction of one activation file recorded."""
    with h5py.File(path) as file:
        record: dict[str, Any] = json.loads(file.attrs["record"])
    return record


if __name__ == "__main__":
    run(main)
