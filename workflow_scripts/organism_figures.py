"""Figures of organisms: measures against planted sharing, and size by when models are compared."""

import argparse
from pathlib import Path

from isogloss.figures.calibration import against_sharing
from isogloss.figures.ladder import by_rule
from isogloss.figures.style import Subject, save, use_style
from isogloss.files.netcdf import open_netcdf
from isogloss.program import add_settings, run

DRAWN = {"calibration": against_sharing, "ladder": by_rule}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, help="calibration.nc, ladder.nc")
    add_settings(parser)
    parser.add_argument("--folder", type=Path, required=True, help="where to write")
    args = parser.parse_args()

    options = args.settings["figures"]
    use_style(options["font_size"], options["dpi"])
    subject = Subject("", "", args.settings["pivot"], width=options["width"])
    for path in args.results:
        drawing = DRAWN[path.stem](open_netcdf(path), subject)
        save(drawing, args.folder / path.stem, options["formats"])


if __name__ == "__main__":
    run(main)
