"""Language subspaces, from the activation files of all languages."""

from pathlib import Path

from isogloss.files.activation_file import open_states
from isogloss.files.netcdf import write_netcdf
from isogloss.measures.subspaces import subspaces
from isogloss.program import analysis_parser, run
from isogloss.questions.items import folds
from isogloss.store.manifests import read_manifest


def main() -> None:
    parser = analysis_parser(__doc__)
    parser.add_argument("manifest", type=Path, help="manifest of the activation files")
    args = parser.parse_args()

    settings = args.settings
    states = open_states(list(read_manifest(args.manifest).values()), settings["pooling"])
    fold_of = folds(states.clusters, settings["folds"], settings["fold_seed"])
    dataset = subspaces(
        states,
        fold_of,
        n_layers=settings["layers"],
        permutations=settings["permutations"],
        seed=settings["seed"],
        memory_gb=settings["memory_gb"],
    )
    write_netcdf(dataset, args.output, settings, inputs=[args.manifest])


if __name__ == "__main__":
    run(main)
