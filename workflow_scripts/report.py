"""The page of a study: verdicts, main table, figures, lens explorer, language map, in one file."""

import argparse
from pathlib import Path

from isogloss.files.atomic import whole_file
from isogloss.program import run
from isogloss.report.page import render_page
from isogloss.results import open_study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="config.yaml of the results")
    parser.add_argument("--output", type=Path, required=True, help="HTML to write, beside it")
    args = parser.parse_args()

    page = render_page(open_study(args.config))
    with whole_file(args.output) as temporary:
        temporary.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    run(main)
