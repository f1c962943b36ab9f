"""Steering with the vectors of each dataset, evaluated on each: one table of all models."""

from itertools import product
from pathlib import Path

from isogloss.files.netcdf import open_netcdf, write_netcdf
from isogloss.program import analysis_parser, run
from isogloss.steering.matrix import steering_matrix


def main() -> None:
    parser = analysis_parser(__doc__)
    parser.add_argument(
        "effects",
        nargs="+",
        type=Path,
        help="effects of steering by model, dataset of the vectors and evaluated dataset, the last "
        "changing fastest",
    )
    args = parser.parse_args()

    axes = (args.settings[name] for name in ("models", "fit_on", "evaluate_on"))
    effects = {
        key: open_netcdf(path) for key, path in zip(product(*axes), args.effects, strict=True)
    }
    table = steering_matrix(effects)
    write_netcdf(table, args.output, args.settings, inputs=effects.values())


if __name__ == "__main__":
    run(main)
