"""Logit lens: latent log-probabilities at every stored layer, one file per language."""

from functools import partial
from pathlib import Path

from isogloss.files.netcdf import write_artifact
from isogloss.program import artifact_parser, progress, run, say
from isogloss.store.local import Store
from isogloss.store.manifests import read_manifest, write_manifest
from isogloss.study.keys import artifact_name, lens_identity


def main() -> None:
    parser = artifact_parser(__doc__)
    parser.add_argument("manifest", type=Path, help="manifest of the activation files")
    parser.add_argument("--readout", type=Path, required=True, help="the model's readout")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--output", type=Path, required=True, help="manifest to write (JSON)")
    args = parser.parse_args()

    model, dataset = args.settings["slug"], args.settings["name"]
    sources = read_manifest(args.manifest)
    identities = {tag: lens_identity(path.stem, args.readout.stem) for tag, path in sources.items()}
    names = {tag: artifact_name("lens", model, dataset, tag, identities[tag]) for tag in sources}
    store = Store.of(args.store, args.sharing, say)
    missing = store.missing(names, partial(progress, label="fetch", unit="file"))
    if len(missing) < len(names):
        say(f"{model}, {dataset}: lens of {len(missing)} of {len(names)} languages to compute")
    if missing:
        from isogloss.model.logit_lens import lens_of_files  # torch takes seconds to import

        activations = {tag: sources[tag] for tag in missing}
        job = f"lens {model} {dataset}"
        for tag, lens in lens_of_files(activations, args.readout, args.device, job):
            write_artifact(lens, store.path(names[tag]), identities[tag])
            store.keep(names[tag])
    write_manifest(args.output, "lens", args.settings, store.paths(names))


if __name__ == "__main__":
    run(main)
