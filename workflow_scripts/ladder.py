"""Ladder: models of one recipe and several sizes, compared by three rules of when to stop."""

from pathlib import Path

from isogloss.files.netcdf import write_netcdf
from isogloss.measures.ladder import TrainedModel, ladder
from isogloss.program import analysis_parser, run


def main() -> None:
    parser = analysis_parser(__doc__)
    parser.add_argument("checkpoints", nargs="+", type=Path, help="one per model of the settings")
    args = parser.parse_args()

    from isogloss.model.tensor_file import read_tensors  # torch takes seconds to import

    models = [
        TrainedModel(**model, history=read_tensors(path, "organism")[1]["record"]["history"])
        for model, path in zip(args.settings["models"], args.checkpoints, strict=True)
    ]
    options = {name: args.settings[name] for name in ("losses", "bridge_losses", "confidence")}
    table = ladder(models, **options)
    write_netcdf(table, args.output, args.settings, inputs=args.checkpoints)


if __name__ == "__main__":
    run(main)
