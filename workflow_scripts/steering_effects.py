"""Effects of steering: against no steering and against the controls."""

from pathlib import Path

from isogloss.files.activation_file import open_scores
from isogloss.files.netcdf import open_artifact, write_netcdf
from isogloss.program import analysis_parser, run
from isogloss.steering.effects import steering_effects
from isogloss.store.manifests import read_manifest


def main() -> None:
    parser = analysis_parser(__doc__)
    parser.add_argument("manifest", type=Path, help="manifest of the steered files")
    parser.add_argument("--activations", type=Path, required=True, help="manifest of the scores")
    args = parser.parse_args()

    steered = {tag: open_artifact(path) for tag, path in read_manifest(args.manifest).items()}
    scores = open_scores(list(read_manifest(args.activations).values()))
    results = steering_effects(steered, scores, **args.settings)
    inputs = [args.manifest, args.activations]
    write_netcdf(results, args.output, args.settings, inputs=inputs)


if __name__ == "__main__":
    run(main)
