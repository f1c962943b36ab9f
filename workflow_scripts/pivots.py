"""Every language of a list as pivot: what the others share with it."""

from pathlib import Path

from isogloss.files.activation_file import open_scores, open_states
from isogloss.files.netcdf import write_netcdf
from isogloss.measures.pivots import pivots
from isogloss.program import analysis_parser, run
from isogloss.store.manifests import read_manifest


def main() -> None:
    parser = analysis_parser(__doc__)
    parser.add_argument("manifest", type=Path, help="manifest of the activation files")
    args = parser.parse_args()

    settings, files = args.settings, list(read_manifest(args.manifest).values())
    results = pivots(
        open_scores(files),
        open_states(files, settings["pooling"]),
        settings["pivots"],
        settings["score"],
        settings["confidence"],
    )
    write_netcdf(results, args.output, settings, inputs=[args.manifest])


if __name__ == "__main__":
    run(main)
