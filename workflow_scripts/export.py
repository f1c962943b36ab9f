"""Write a study's results item by item, as lm-evaluation-harness writes its samples."""

import argparse
import json
from pathlib import Path

from isogloss.files.atomic import whole_file
from isogloss.program import run, say


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="folder of a study's results")
    parser.add_argument(
        "--output", type=Path, default=Path("samples"), help="folder to write to (%(default)s)"
    )
    args = parser.parse_args()

    from isogloss.results import open_study
    from isogloss.samples import samples

    study = open_study(args.results)
    for model in study.config.models:
        for dataset in study.config.questions:
            for language in study.config.languages_of(dataset):
                path = args.output / model / f"samples_{dataset}_{language}.jsonl"
                path.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
                    for record in samples(study, model, dataset, language):
                        file.write(json.dumps(record, ensure_ascii=False) + "\n")
                say(str(path))


if __name__ == "__main__":
    run(main)
