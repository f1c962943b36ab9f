"""Steered evaluation: score questions again with the residual stream changed."""

from functools import partial
from pathlib import Path

from isogloss.files.netcdf import open_artifact, write_artifact
from isogloss.program import artifact_parser, progress, run, say
from isogloss.store.checkpoints import unpack_organism
from isogloss.store.local import Store
from isogloss.store.manifests import read_manifest, write_manifest
from isogloss.study.keys import artifact_name, steered_identity


def main() -> None:
    parser = artifact_parser(__doc__)
    parser.add_argument("activations", type=Path, help="manifest of the evaluated dataset")
    parser.add_argument("--vectors", type=Path, required=True, help="manifest of the vectors")
    parser.add_argument("--cache", type=Path, required=True, help="folder of models")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--batch-tokens", type=int, default=2048, help="tokens of a batch")
    parser.add_argument("--output", type=Path, required=True, help="manifest to write (JSON)")
    args = parser.parse_args()

    settings = args.settings
    sources = read_manifest(args.activations)
    vectors = read_manifest(args.vectors)["all"]
    pivot_key = sources[settings["pivot"]].stem
    identities = {
        tag: steered_identity(settings, vectors.stem, sources[tag].stem, pivot_key, tag)
        for tag in settings["languages"]
    }
    place = f"{settings['fitted']}.{settings['name']}"
    names = {
        tag: artifact_name("steered", settings["slug"], place, tag, identities[tag])
        for tag in settings["languages"]
    }
    store = Store.of(args.store, args.sharing, say)
    missing = store.missing(names, partial(progress, label="fetch", unit="file"))
    if len(missing) < len(names):
        say(f"{settings['slug']}, {place}: steering {len(missing)} of {len(names)} languages")
    if missing:
        from isogloss.steering.evaluate import steered_files  # PyTorch, where a model is needed

        unpack_organism(settings, store, args.cache)
        steered = steered_files(
            settings,
            sources,
            open_artifact(vectors),
            missing,
            cache=args.cache,
            device=args.device,
            budget=args.batch_tokens,
        )
        for tag, scores in steered:
            write_artifact(scores, store.path(names[tag]), identities[tag])
            store.keep(names[tag])
    write_manifest(args.output, "steered", settings, store.paths(names))


if __name__ == "__main__":
    run(main)
