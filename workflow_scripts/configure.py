"""Write config/config.yaml and config/schema.json; or check a study's file, running nothing."""

import argparse
from pathlib import Path

from isogloss.artifacts import whole_file
from isogloss.config import Config, commented, read, schema
from isogloss.program import run, say

HEADER = """\
# The default study: two small models on questions in ten languages.
# A study of your own names only what differs: copy config/studies/own-data.yaml, not this file.
# What each key changes, and what reruns when it does: config/README.md.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("config"), help="where to write")
    parser.add_argument(
        "--check", type=Path, metavar="FILE", help="a study's file to check instead of writing"
    )
    args = parser.parse_args()

    if args.check:
        study = read(args.check)
        say(f"{args.check}: the study {study.study} can be planned")
        return

    texts = {"config.yaml": HEADER + commented(Config()) + "\n", "schema.json": schema()}
    for name, text in texts.items():
        with whole_file(args.folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(main)
