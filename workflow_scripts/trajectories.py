"""Trajectories of the logit lens over layers, from the lens files of all languages."""

from pathlib import Path

from isogloss.files.netcdf import open_artifact, write_netcdf
from isogloss.measures.trajectories import trajectories
from isogloss.program import analysis_parser, run
from isogloss.store.manifests import read_manifest


def main() -> None:
    parser = analysis_parser(__doc__)
    parser.add_argument("manifest", type=Path, help="manifest of the lens files")
    args = parser.parse_args()

    lens = {tag: open_artifact(path) for tag, path in read_manifest(args.manifest).items()}
    results = trajectories(lens, **args.settings)
    write_netcdf(results, args.output, args.settings, inputs=[args.manifest])


if __name__ == "__main__":
    run(main)
