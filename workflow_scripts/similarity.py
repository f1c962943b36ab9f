"""Similarity of parallel items between languages, from their activation files."""

from pathlib import Path

from isogloss.files.activation_file import open_states
from isogloss.files.netcdf import write_netcdf
from isogloss.measures.similarity import similarity
from isogloss.program import analysis_parser, run
from isogloss.store.manifests import read_manifest


def main() -> None:
    parser = analysis_parser(__doc__)
    parser.add_argument("manifest", type=Path, help="manifest of the activation files")
    args = parser.parse_args()

    settings = dict(args.settings)
    files = list(read_manifest(args.manifest).values())
    states = open_states(files, settings.pop("pooling"))
    results = similarity(states, **settings)
    write_netcdf(results, args.output, args.settings, inputs=[args.manifest])


if __name__ == "__main__":
    run(main)
