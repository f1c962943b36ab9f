"""Write config/config.yaml and config/schema.json from the configuration's models."""

import argparse
from pathlib import Path

from isogloss.artifacts import whole_file
from isogloss.config import Config, commented, schema
from isogloss.program import run

HEADER = """\
# The default study: two small models on questions in ten languages.
# A study of your own names only what differs: copy config/studies/own-data.yaml, not this file.
# What each key changes, and what reruns when it does: config/README.md.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("config"), help="where to write")
    args = parser.parse_args()

    texts = {"config.yaml": HEADER + commented(Config()) + "\n", "schema.json": schema()}
    for name, text in texts.items():
        with whole_file(args.folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(main)
