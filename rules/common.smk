"""
What every rule file uses: the checked configuration, paths, keys, and a program's modules.

Settings reach a rule through one canonical JSON slice of the configuration (`spec`), so that
a rule reruns when its own settings change and at no other time. No rules here.
"""

import ast
import os
import sys
from pathlib import Path

PROGRAMS = Path("workflow_scripts")
sys.path.insert(0, str(Path(workflow.basedir) / PROGRAMS))

from isogloss.artifacts import canonical_json, key_of
from isogloss.config import validate
from isogloss.datasets import dataset_files
from isogloss.errors import InputError

try:
    STUDY = validate(config)
except InputError as error:
    sys.exit(f"error: {error}")

PYTHON = sys.executable
STORE, RESULTS = STUDY.store, STUDY.results
CACHE = STUDY.cache or os.environ.get("ISOGLOSS_CACHE") or "~/.cache/isogloss"
CACHE = str(Path(CACHE).expanduser())
QUESTIONS = [name for name, d in STUDY.datasets.items() if d.source != "sentences"]
HEAVY_THREADS = max(1, min(8, workflow.cores or 1))


wildcard_constraints:
    model="|".join(map(re.escape, STUDY.models)),
    dataset="|".join(map(re.escape, STUDY.datasets)),
    fitted="|".join(map(re.escape, STUDY.datasets)),
    key="[0-9a-f]{16}",


def imported_modules(program: str) -> list[str]:
    """Files of the library that a program imports, directly or through other modules."""
    found, queue = set(), [PROGRAMS / program]
    while queue:
        for node in ast.walk(ast.parse(queue.pop().read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    modules = [a.name for a in names]
                case ast.ImportFrom(module=str(module), names=names):
                    modules = [module, *(f"{module}.{a.name}" for a in names)]
                case _:
                    modules = []
            for name in modules:
                stem = PROGRAMS / name.replace(".", "/")
                for path in (stem.with_suffix(".py"), stem / "__init__.py"):
                    if path.exists() and path not in found:
                        found.add(path)
                        queue.append(path)
    return sorted(map(str, found))


def dump(part, **options) -> dict:
    """A part of the configuration as plain values."""
    return part.model_dump(mode="json", exclude_none=True, **options)


def extraction_slice(model: str, dataset: str) -> dict:
    """What the activation files of one model and dataset depend on."""
    return {
        "slug": model,
        "model": dump(STUDY.models[model], exclude={"family", "parameters"}),
        "name": dataset,
        "dataset": dump(STUDY.datasets[dataset], exclude={"prompt", "languages"}),
        "languages": STUDY.languages_of(dataset),
        "pivot": STUDY.pivot,
        "prompt": dump(STUDY.prompt_of(dataset)),
        "extraction": dump(STUDY.extraction, exclude={"batch_tokens"}),
    }


def lens_slice(model: str, dataset: str) -> dict:
    """What the lens files of one model and dataset depend on."""
    return {"slug": model, "name": dataset, "extraction": extraction_slice(model, dataset)}


def vectors_slice(model: str, dataset: str) -> dict:
    """What the steering vectors of one model and dataset depend on."""
    return {
        "slug": model,
        "name": dataset,
        "pivot": STUDY.pivot,
        "extraction": extraction_slice(model, dataset),
        "steering": dump(STUDY.steering, include={"methods", "layers", "random_draws"}),
        "folds": dump(STUDY.statistics, include={"folds", "seed"}),
    }


def steer_slice(model: str, fitted: str, dataset: str) -> dict:
    """What the steered scores of one model depend on: vectors' dataset, evaluated dataset."""
    return {
        "slug": model,
        "model": dump(STUDY.models[model], exclude={"family", "parameters"}),
        "fitted": fitted,
        "name": dataset,
        "dataset": dump(STUDY.datasets[dataset], exclude={"prompt", "languages"}),
        "prompt": dump(STUDY.prompt_of(dataset)),
        "languages": [t for t in STUDY.steering.languages if t in STUDY.languages_of(dataset)],
        "all_languages": STUDY.languages_of(dataset),
        "pivot": STUDY.pivot,
        "score": STUDY.behaviour.score,
        "steering": dump(STUDY.steering, exclude={"fit_on", "evaluate_on", "languages"}),
        "folds": dump(STUDY.statistics, include={"folds", "seed"}),
        "activations": extraction_slice(model, dataset),
        "vectors": vectors_slice(model, fitted),
    }


def manifest(stage: str, model: str, dataset: str, content: dict) -> str:
    """The file that lists a stage's artifacts; its name changes with what they depend on."""
    return f"{STORE}/manifests/{model}/{dataset}/{stage}-{key_of(content)[:16]}.json"


def activations(wildcards) -> str:
    """The manifest of the activation files of a model and dataset."""
    model, dataset = wildcards.model, wildcards.dataset
    return manifest("activations", model, dataset, extraction_slice(model, dataset))


def with_code(program: str) -> dict:
    """A program and every module that it imports, as inputs: an edit reruns what uses it."""
    return {"program": str(PROGRAMS / program), "library": imported_modules(program)}


def mem_mb(parameters: int, least: int = 3000) -> int:
    """Memory of a job that holds a model: weights in float32 and as much again, at most."""
    return max(least, int(parameters * 8 / 1e6) + 2000)


def model_resources(wildcards, attempt=1) -> int:
    """Memory for the model of a job, half as much again at each further attempt."""
    return int(mem_mb(STUDY.models[wildcards.model].parameters) * (1 + 0.5 * (attempt - 1)))
