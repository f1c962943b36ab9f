"""Steered evaluation: score questions again with the residual stream changed."""

import argparse
import json
from functools import partial
from pathlib import Path

from isogloss.files.netcdf import open_artifact, write_artifact
from isogloss.program import add_store, progress, run, say
from isogloss.store.local import Store
from isogloss.store.manifests import read_manifest, write_manifest
from isogloss.study.keys import artifact_name, steered_identity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("activations", type=Path, help="manifest of the evaluated dataset")
    parser.add_argument("--vectors", type=Path, required=True, help="manifest of the vectors")
    parser.add_argument("--spec", type=json.loads, required=True, help="settings as JSON")
    add_store(parser)
    parser.add_argument("--cache", type=Path, required=True, help="folder of models")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--batch-tokens", type=int, default=2048, help="tokens of a batch")
    parser.add_argument("--output", type=Path, required=True, help="manifest to write (JSON)")
    args = parser.parse_args()

    spec = args.spec
    sources = read_manifest(args.activations)
    vectors = read_manifest(args.vectors)["all"]
    pivot_key = sources[spec["pivot"]].stem
    specs = {
        tag: steered_identity(spec, vectors.stem, sources[tag].stem, pivot_key, tag)
        for tag in spec["languages"]
    }
    place = f"{spec['fitted']}.{spec['name']}"
    names = {
        tag: artifact_name("steered", spec["slug"], place, tag, specs[tag])
        for tag in spec["languages"]
    }
    store = Store.of(args.store, args.sharing, say)
    missing = store.missing(names, partial(progress, label="fetch", unit="file"))
    say(f"{spec['slug']}, {place}: steering {len(missing)} of {len(names)} languages")
    if missing:
        from isogloss.steering.evaluate import steered_files  # PyTorch, where a model is needed

        steered = steered_files(
            spec,
            sources,
            open_artifact(vectors),
            missing,
            cache=args.cache,
            device=args.device,
            budget=args.batch_tokens,
        )
        for tag, scores in steered:
            write_artifact(scores, store.path(names[tag]), specs[tag])
            store.keep(names[tag])
    write_manifest(args.output, "steered", spec, store.paths(names))


if __name__ == "__main__":
    run(main)
