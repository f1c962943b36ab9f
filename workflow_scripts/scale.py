"""Scale: dissociation, behaviour and their association, over the models of a study."""

from pathlib import Path

from isogloss.files.activation_file import open_scores
from isogloss.files.netcdf import open_netcdf, write_netcdf
from isogloss.measures.model_results import ModelResult
from isogloss.measures.scale import scale
from isogloss.program import analysis_parser, run
from isogloss.store.manifests import read_manifest


def main() -> None:
    parser = analysis_parser(__doc__)
    for name, text in (
        ("manifests", "manifests of the activation files, one per model"),
        ("similarity", "similarity.nc, one per model in the same order"),
        ("behaviour", "behaviour.nc, one per model in the same order"),
    ):
        parser.add_argument(f"--{name}", nargs="+", type=Path, required=True, help=text)
    args = parser.parse_args()

    models = [
        ModelResult(
            slug=model["slug"],
            family=model["family"],
            parameters=model["parameters"],
            seed=model.get("seed"),
            similarity=open_netcdf(similarity),
            behaviour=open_netcdf(behaviour),
            scores=open_scores(list(read_manifest(manifest).values())),
        )
        for model, manifest, similarity, behaviour in zip(
            args.settings["models"], args.manifests, args.similarity, args.behaviour, strict=True
        )
    ]
    settings = {name: args.settings[name] for name in ("permutations", "seed", "confidence")}
    tables = [table for model in models for table in (model.similarity, model.behaviour)]
    inputs = [*args.manifests, *tables]
    write_netcdf(scale(models, **settings), args.output, args.settings, inputs=inputs)


if __name__ == "__main__":
    run(main)
