"""Write config.yaml, schema.json and settings.md of config; or check a study and its questions."""

import argparse
from pathlib import Path

from isogloss.files.atomic import whole_file
from isogloss.program import run, say
from isogloss.study.default_study import commented, schema, tables
from isogloss.study.local_questions import check_questions
from isogloss.study.schema import Config, read

HEADER = """\
# yaml-language-server: $schema=schema.json
# The default study: two small models on questions in ten languages.
# A study of your own names only what differs: copy config/studies/own-data.yaml, not this file.
# What reruns when a key changes, and examples: config/README.md.

"""
TABLES = """\
# Settings

Every key of a study, its default and its meaning; rules and examples are in [README.md](README.md).
This file is written by `python workflow_scripts/configure.py`.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("config"), help="where to write")
    parser.add_argument(
        "--check",
        type=Path,
        metavar="FILE",
        help="a study's file to check with its local questions, instead of writing; runs nothing",
    )
    args = parser.parse_args()

    if args.check:
        study = read(args.check)
        unread = check_questions(study)
        say(f"{args.check}: no fault found in the study {study.study}")
        if unread:
            say(f"not read, because they have to be fetched: questions of {', '.join(unread)}")
        return

    texts = {
        "config.yaml": HEADER + commented(Config()) + "\n",
        "schema.json": schema(),
        "settings.md": TABLES + tables(),
    }
    for name, text in texts.items():
        with whole_file(args.folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(main)
