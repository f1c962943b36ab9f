"""
Shared by the other files: the checked configuration, paths, keys, the modules of a program.

Settings reach a rule through one canonical JSON slice of the configuration (`spec`), so that
a rule reruns when its own settings change and at no other time. No rules here.
"""

import functools
import os
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

PROGRAMS = Path("workflow_scripts")
if not PROGRAMS.exists():
    sys.exit(
        f"error: run Snakemake in {workflow.basedir}, without --directory: "
        "`results`, `store` and folders of questions may lie elsewhere"
    )
sys.path.insert(0, str(Path(workflow.basedir) / PROGRAMS))

# Jobs use the Python that runs Snakemake, wherever it is: its path is no part of a command.
# Captions are read with docutils, which would otherwise include files and pass HTML on.
os.environ.update(
    PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    DOCUTILSCONFIG=str(Path(workflow.basedir) / "report/docutils.conf"),
)

from isogloss.files.canonical import canonical_json, key_of
from isogloss.study.schema import validate
from isogloss.study.yaml_files import mapping_of
from isogloss.questions.datasets import dataset_files
from isogloss.errors import InputError
from isogloss.model.sources import ModelSource, cache_folder, model_digest
from isogloss.study.settings import Slices, dump
from isogloss.study.specs import readout_spec
from isogloss.study.keys import readout_name

try:
    # Snakemake has read them, but takes what is not plain values too.
    for file in workflow.configfiles:
        mapping_of(Path(file))
    STUDY = validate(config, ", ".join(map(str, workflow.configfiles)))
except InputError as error:
    sys.exit(f"error: {error}")

STORE, RESULTS = STUDY.store, STUDY.results
CACHE = str(cache_folder(STUDY.cache))
QUESTIONS = STUDY.questions


wildcard_constraints:
    model="|".join(map(re.escape, STUDY.models)),
    dataset="|".join(map(re.escape, STUDY.datasets)),
    fitted="|".join(map(re.escape, STUDY.datasets)),
    key="[0-9a-f]{16,64}",


# Python's own parser would take a fifth of a second of every start.
IMPORT = re.compile(
    r"^[ \t]*(?:from +(isogloss[\w.]*) +import +(\([^)]*\)|[^\n(]*)|import +(isogloss[\w.]*))",
    re.MULTILINE,
)


@functools.cache
def imports_of(path: Path) -> list[Path]:
    """Files of the library that a Python file imports itself."""
    found = []
    for package, names, module in IMPORT.findall(path.read_text(encoding="utf-8")):
        of_package = [f"{package}.{name}" for name in re.findall(r"\w+", names)]
        for name in [package or module, *of_package]:
            stem = PROGRAMS / name.replace(".", "/")
            found += [stem.with_suffix(".py"), stem / "__init__.py"]
    return [file for file in found if file.exists()]


@functools.cache
def imported_modules(program: str) -> list[str]:
    """Files of the library that a program imports, directly or through other modules."""
    found, queue = set(), [PROGRAMS / program]
    while queue:
        new = set(imports_of(queue.pop())) - found
        found |= new
        queue += new
    return sorted(map(str, found))


@functools.cache
def weights_of(model: str) -> str:
    """What identifies a model's weights, known without fetching them where they are pinned."""
    source = ModelSource.from_spec(model, dump(STUDY.models[model]))
    try:
        return model_digest(source, Path(CACHE))
    except InputError as error:
        sys.exit(f"error: {error}")


SLICES = Slices(STUDY, weights_of)


def bootstrap_slice() -> dict:
    """How intervals are drawn."""
    return dump(STUDY.statistics, include={"n_boot", "seed", "confidence"})


def manifest(stage: str, model: str, dataset: str, content: dict) -> str:
    """The file that lists a stage's artifacts; its name changes with what they depend on."""
    return f"{STORE}/manifests/{model}/{dataset}/{stage}-{key_of(content)[:16]}.json"


def activations(wildcards) -> str:
    """The manifest of the activation files of a model and dataset."""
    model, dataset = wildcards.model, wildcards.dataset
    return manifest("activations", model, dataset, SLICES.extraction(model, dataset))


def with_code(program: str) -> dict:
    """A program and every module that it imports, as inputs: an edit reruns what uses it."""
    return {"program": str(PROGRAMS / program), "library": imported_modules(program)}


def readout(wildcards) -> str:
    model = wildcards.model
    return f"{STORE}/{readout_name(model, readout_spec(SLICES.readout(model)))}"


def question_files(wildcards) -> list[str]:
    dataset = STUDY.datasets[wildcards.dataset]
    try:
        return list(
            map(
                str, dataset_files(dump(dataset), STUDY.languages_of(wildcards.dataset))
            )
        )
    except InputError as error:
        sys.exit(f"error: datasets.{wildcards.dataset}: {error}")


def lenses(wildcards) -> str:
    model, dataset = wildcards.model, wildcards.dataset
    return manifest("lens", model, dataset, SLICES.lens(model, dataset))


def vectors(wildcards) -> str:
    model, fitted = wildcards.model, wildcards.fitted
    return manifest("vectors", model, fitted, SLICES.vectors(model, fitted))


def steered(wildcards) -> str:
    model, fitted, dataset = wildcards.model, wildcards.fitted, wildcards.dataset
    content = SLICES.steered(model, fitted, dataset)
    return manifest(f"steered-{fitted}", model, dataset, content)


def of_every_model(name: str):
    """An input function: one result file a model, in the study's order."""
    return lambda w: [
        f"{RESULTS}/{model}/{w.dataset}/{name}.nc" for model in STUDY.models
    ]


def on_this_machine(*names: str):
    """An input function of options that no result depends on: where things lie, on what
    they run.

    Snakemake leaves a function of `output` out of what it compares, so that another device or
    cache reruns nothing. One of `threads` too, but it would work out all resources of every job,
    which lists the shared place and reads the questions where nothing is to be done.
    """
    values = {
        "store": STORE,
        "sharing": canonical_json(dump(STUDY.sharing)),
        "cache": CACHE,
        "device": STUDY.device,
        "batch-tokens": STUDY.extraction.batch_tokens,
        "precision-items": STUDY.extraction.precision_items,
        "folds": STUDY.statistics.folds,
    }
    options = " ".join(f"--{name}={shlex.quote(str(values[name]))}" for name in names)
    return lambda wildcards, output: options


@functools.cache
def manifests() -> dict[str, list[tuple[str, str]]]:
    """Model and file of every list of what costs a model, by the rule that makes it."""
    found = {rule: [] for rule in ("extract", "lens", "vectors", "steer")}
    for model in STUDY.models:
        for name in STUDY.datasets:
            at = SimpleNamespace(model=model, dataset=name, fitted=name)
            found["extract"].append((model, activations(at)))
            if STUDY.with_lens and name in QUESTIONS:
                found["lens"].append((model, lenses(at)))
            if name in STUDY.vectors_of:
                found["vectors"].append((model, vectors(at)))
        for fitted, name in STUDY.steered_pairs:
            at = SimpleNamespace(model=model, dataset=name, fitted=fitted)
            found["steer"].append((model, steered(at)))
    return found


def all_manifests() -> list[str]:
    """The lists of what costs a model: one that is gone is made again, whatever rests on it."""
    return [file for made in manifests().values() for _, file in made]


def hub_datasets() -> str:
    """The option that names the datasets to fetch from the hub; nothing where there are none."""
    wanted = [
        {"name": name, "dataset": dump(dataset), "languages": STUDY.languages_of(name)}
        for name, dataset in STUDY.datasets.items()
        if dataset.source == "hub"
    ]
    options = " ".join(shlex.quote(canonical_json(one)) for one in wanted)
    return f"--datasets {options}" if wanted else ""
