"""Verdicts: each claim of the paper, put to the models of a study."""

from pathlib import Path

from isogloss.files.netcdf import open_netcdf, write_netcdf
from isogloss.measures.verdicts import verdicts
from isogloss.program import analysis_parser, run


def main() -> None:
    parser = analysis_parser(__doc__)
    parser.add_argument("--scale", type=Path, required=True, help="scale of the verdicts' dataset")
    parser.add_argument(
        "--steering",
        nargs="*",
        default=[],
        type=Path,
        help="effects of steering, one a model in the settings' order; none without steering",
    )
    args = parser.parse_args()

    models = args.settings["models"] if args.settings["fitted"] else []
    steering = {model: open_netcdf(path) for model, path in zip(models, args.steering, strict=True)}
    about = {name: args.settings[name] or "" for name in ("dataset", "fitted")}
    scale = open_netcdf(args.scale)
    table = verdicts(scale, steering).assign_attrs(about)
    write_netcdf(table, args.output, args.settings, inputs=[scale, *steering.values()])


if __name__ == "__main__":
    run(main)
