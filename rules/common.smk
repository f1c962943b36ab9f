"""
Shared by the other files: the checked study, where things lie, what a job depends on.

Settings reach a rule as canonical JSON (`--spec`) and as nothing else, by a method per rule in
`isogloss.study.settings`. The commands of the rules that cost a model stay as they are, letter for
letter: Snakemake compares them, and another word in one would plan every such job again.
No rules here.
"""

import functools
import os
import re
import shlex
import sys
from pathlib import Path

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

from isogloss.errors import InputError
from isogloss.files.canonical import canonical_json
from isogloss.imports import imported_modules
from isogloss.study.job_files import JobFiles
from isogloss.study.keys import STAGES, Artifacts
from isogloss.study.local_questions import check_pairs_apart
from isogloss.study.schema import validate
from isogloss.study.settings import Settings
from isogloss.study.study_file import check_free, mapping_of

try:
    # Snakemake has read them, but takes what is not plain values too.
    for file in workflow.configfiles:
        mapping_of(Path(file))
    STUDY = validate(config, ", ".join(map(str, workflow.configfiles)))
    check_free(Path(STUDY.results), STUDY.study)
    check_pairs_apart(STUDY)
    SETTINGS = Settings(STUDY, planning=True)
    MANIFESTS = SETTINGS.manifests()
    ARTIFACTS = Artifacts(SETTINGS)
    FILES = JobFiles(ARTIFACTS)
    FILES.check_times()
except InputError as error:
    sys.exit(f"error: {error}")

STORE, RESULTS = STUDY.store, STUDY.results


wildcard_constraints:
    model="|".join(map(re.escape, STUDY.models)),
    dataset="|".join(map(re.escape, STUDY.datasets)),
    fitted="|".join(map(re.escape, STUDY.datasets)),
    key="[0-9a-f]{16,64}",
    part=r"\d+-of-\d+",


def with_code(program: str) -> dict:
    """A program and every module that it imports, as inputs: an edit reruns what uses it."""
    path = PROGRAMS / program
    library = list(map(str, imported_modules(path, PROGRAMS)))
    return {"program": str(path), "library": library}


def values(wildcards, names) -> list:
    """What the wildcards of a job stand for; `model` and `dataset` where none are named.

    A job of `extract` is of a wording too: the variant of the questions that its key belongs to.
    """
    known = dict(wildcards.items())
    if "wording" in names:
        job = values(wildcards, ("model", "dataset", "key"))
        known["wording"] = SETTINGS.variant_of(*job)
    return [known[name] for name in names or ("model", "dataset")]


def values_of(*names):
    """wildcards -> `values`."""
    return lambda wildcards: values(wildcards, names)


def given(method, *names: str):
    """An input: what a method gives for what some wildcards name."""

    def of_job(wildcards):
        try:
            return method(*values(wildcards, names))
        except InputError as error:
            sys.exit(f"error: {error}")

    return of_job


def manifest(stage: str, *names: str):
    """An input: the list of a stage's artifacts, for what some wildcards name."""
    return given(functools.partial(FILES.manifest, stage), *names)


def settings(name: str, *names: str):
    """A parameter: the settings of a rule, for what some wildcards name; none: for the study."""
    return lambda wildcards: canonical_json(
        getattr(SETTINGS, name)(*(values(wildcards, names) if names else ()))
    )


def as_it_is(text: str):
    """A parameter in which braces are no wildcards."""
    return lambda wildcards: text


def on_this_machine(*names: str, more=lambda wildcards: ""):
    """A parameter: options that no result depends on, such as the device.

    It takes `output`, and Snakemake leaves functions of `output` out of what it compares: another
    device or cache reruns nothing. A function of `threads` would be left out too, but it would
    have the resources of every job worked out, even where nothing is to be done: they need a
    listing of the shared place and all questions.
    """
    known = SETTINGS.on_this_machine()
    options = " ".join(f"--{name}={shlex.quote(known[name])}" for name in names)
    return lambda wildcards, output: options + more(wildcards)
