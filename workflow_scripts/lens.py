"""Logit lens: latent log-probabilities at every stored layer, one file a language."""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import h5netcdf

from isogloss.errors import InputError
from isogloss.files.hdf5 import check_header, reading
from isogloss.files.netcdf import write_artifact
from isogloss.program import add_store, progress, run, say
from isogloss.store.local import Store
from isogloss.store.manifests import read_manifest, write_manifest
from isogloss.study.keys import artifact_name, lens_identity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path, help="manifest of the activation files")
    parser.add_argument("--spec", type=json.loads, required=True, help="settings as JSON")
    add_store(parser)
    parser.add_argument("--readout", type=Path, required=True, help="the model's readout")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--output", type=Path, required=True, help="manifest to write (JSON)")
    args = parser.parse_args()

    model, dataset = args.spec["slug"], args.spec["name"]
    sources = read_manifest(args.manifest)
    specs = {tag: lens_identity(path.stem, args.readout.stem) for tag, path in sources.items()}
    names = {tag: artifact_name("lens", model, dataset, tag, specs[tag]) for tag in sources}
    store = Store.of(args.store, args.sharing, say)
    missing = store.missing(names, partial(progress, label="fetch", unit="file"))
    say(f"{model}, {dataset}: lens of {len(missing)} of {len(names)} languages to compute")
    if missing:
        compute(args, sources, specs, store, names, missing)
    write_manifest(args.output, "lens", args.spec, store.paths(names))


def compute(
    args: Any, sources: dict, specs: dict, store: Store, names: dict, missing: list[str]
) -> None:
    """Read the readout once and compute the missing languages."""
    from isogloss.model.load import device_named
    from isogloss.model.logit_lens import lens_dataset
    from isogloss.model.memory import memory_errors
    from isogloss.model.readout import read_readout

    with memory_errors(f"lens {args.spec['slug']} {args.spec['name']}: readout"):
        readout = read_readout(args.readout, device_named(args.device))
    for tag in missing:
        source = sources[tag]
        about = check_header(source)
        with reading(source), h5netcdf.File(source, "r", decode_vlen_strings=True) as file:
            if "rows" not in file.groups:
                raise InputError(
                    f"{source}: keeps no rows for the lens: set extraction.lens_layers"
                )
            label = f"lens {args.spec['slug']} {args.spec['name']} {tag}"
            with memory_errors(label):
                found = lens_dataset(file, readout, partial(progress, label=label, unit="layer"))
        found = found.assign_attrs(
            language=tag,
            pivot=about["pivot"],
            control=about["control"] or "",
        )
        write_artifact(found, store.path(names[tag]), specs[tag])
        store.keep(names[tag])


if __name__ == "__main__":
    run(main)
