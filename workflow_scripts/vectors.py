"""Fit steering vectors on the states of one dataset, fold by fold."""

from pathlib import Path

from isogloss.files.netcdf import write_artifact
from isogloss.program import artifact_parser, run, say
from isogloss.steering.vectors import vectors_of_files
from isogloss.store.local import Store
from isogloss.store.manifests import read_manifest, write_manifest
from isogloss.study.keys import artifact_name, vectors_identity


def main() -> None:
    parser = artifact_parser(__doc__)
    parser.add_argument("manifest", type=Path, help="manifest of the activation files")
    parser.add_argument("--output", type=Path, required=True, help="manifest to write (JSON)")
    args = parser.parse_args()

    steering, folds = args.settings["steering"], args.settings["folds"]
    sources = read_manifest(args.manifest)
    identity = vectors_identity({tag: path.stem for tag, path in sources.items()}, folds, steering)
    name = artifact_name("vectors", args.settings["slug"], args.settings["name"], "all", identity)
    store = Store.of(args.store, args.sharing, say)
    if store.missing({"all": name}):
        vectors = vectors_of_files(list(sources.values()), args.settings["pivot"], folds, steering)
        write_artifact(vectors, store.path(name), identity)
        store.keep(name)
    write_manifest(args.output, "vectors", args.settings, {"all": store.path(name)})


if __name__ == "__main__":
    run(main)
