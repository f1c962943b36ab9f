"""Handing a study's artifacts on: to the shared place, into a bundle, and back out of one."""

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from isogloss.errors import Damaged, InputError
from isogloss.store.bundle import Steps, opened_bundle, today, write_bundle
from isogloss.store.names import artifacts, header, size_text
from isogloss.store.places import Place, folder_place, local_place
from isogloss.store.prune import verify
from isogloss.store.verification import verify_artifact
from isogloss.study.keys import Artifact
from isogloss.study.study import Study

SOFTWARE = "Isogloss 0.1.0"
"""What a bundle says it was made by: the version of pyproject.toml."""

OF_THIS_MACHINE = {"store", "sharing", "cache", "device"}
"""Keys of a configuration that say nothing of a study; some tell of its author's machines."""


@dataclass(frozen=True)
class Published:
    """What publishing a study did: names given, names there before, names not computed yet."""

    given: list[str]
    there: list[str]
    absent: list[str]


def publish(study: Study, place: Place, progress: Steps = iter) -> Published:
    """Give the place what the local store has and the study names, each verified first.

    Raises:
        InputError: the place cannot be written to; Damaged: an artifact here is.
    """
    local = local_place(study.store)
    here, shared = artifacts(local), artifacts(place)
    names = [artifact.name for artifact in study.artifacts()]
    there = [name for name in names if name in shared]
    wanted = [name for name in names if name in here and name not in shared]
    if wanted:
        place.check_writable()
    given: list[str] = []
    for name in progress(wanted):
        verify(local, name)
        (given if place.publish(study.store / name, name) else there).append(name)
    return Published(given, there, [n for n in names if n not in here and n not in shared])


def export(study: Study, place: Place | None, target: Path, progress: Steps = iter) -> int:
    """Make a bundle of a study's artifacts, from here or else from the place; how many.

    Raises:
        InputError: some are nowhere, or the bundle cannot be written; Damaged: one is.
    """
    named = study.artifacts()
    local = folder_place(str(study.store), study.store)
    here = artifacts(local) if study.store.is_dir() else {}
    shared = artifacts(place) if place is not None else {}
    missing = [a.name for a in named if a.name not in here and a.name not in shared]
    if missing:
        raise InputError(
            f"{study.path}: {len(missing)} of {len(named)} artifacts are computed nowhere yet, "
            f"such as {missing[0]}: run snakemake, then export"
        )
    sources = {a.name: local if a.name in here else place for a in named}

    def copy(name: str, path: Path) -> None:
        source = sources[name]
        assert source is not None
        if source is not local:
            return source.fetch(name, path)
        shutil.copyfile(study.store / name, path)
        try:
            verify_artifact(path)
        except Damaged as error:
            raise Damaged(study.store / name, error.reason) from error

    sizes = {name: here.get(name, shared.get(name, 0)) for name in sources}
    texts = {
        "config.yaml": _config_text(study),
        "LICENCES.md": _licences(named, sources),
        "README.md": _readme(study, sizes),
    }
    about = {
        "External-Identifier": study.config.study,
        "External-Description": "artifacts of an Isogloss study",
        "Bagging-Date": today(),
        "Bag-Software-Agent": SOFTWARE,
    }
    write_bundle(target, progress(list(sources)), copy, texts, about)
    return len(sources)


@dataclass(frozen=True)
class Imported:
    """What an import did: all names of the bundle, those new here, those given to the place."""

    names: list[str]
    new: list[str]
    given: list[str]


def import_bundle(
    bundle: Path, store: Path, place: Place | None, progress: Steps = iter
) -> Imported:
    """Copy a bundle's artifacts into the local store, and give them to the place.

    Nothing that is there is replaced. Where anything in the bundle is refused, nothing is copied.

    Raises:
        InputError: the bundle is refused, or the place cannot be written to.
    """
    store.mkdir(parents=True, exist_ok=True)
    local = local_place(store)
    with opened_bundle(bundle, store, progress) as bundled:
        here = artifacts(local)
        shared = artifacts(place) if place is not None else {}
        wanted = [name for name in bundled if name not in shared]
        if place is not None and wanted:
            place.check_writable()
        new = [n for n in bundled if n not in here and local.publish(bundled[n], n)]
        given = [] if place is None else [n for n in wanted if place.publish(bundled[n], n)]
        return Imported(list(bundled), new, given)


def _config_text(study: Study) -> str:
    """The study's configuration, without this machine's settings, with every digest pinned."""
    content = study.config.model_dump(mode="json", exclude=OF_THIS_MACHINE)
    for slug, model in content["models"].items():
        if model["source"] == "path":
            model["sha256"] = study.settings.weights_of(slug)
        if model["source"] == "hub":
            model["revision"] = study.settings.model(slug)["revision"]
    for name, dataset in content["datasets"].items():
        if dataset["source"] == "hub":
            dataset |= study.settings.pinned_dataset(name)
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=96)
    return text


def _licences(named: Sequence[Artifact], sources: Mapping[str, Place | None]) -> str:
    """The licences of every model and dataset, as the activation files record them."""
    models: dict[str, set[str]] = {}
    datasets: dict[str, set[str]] = {}
    for artifact in named:
        source = sources[artifact.name]
        if artifact.stage != "activations" or source is None:
            continue
        record: dict[str, Any] = header(source, artifact.name).get("record", {})
        licence = record.get("licence", {})
        stated, note = licence.get("model") or "not stated", record.get("note")
        models.setdefault(artifact.model, set()).add(f"{stated} ({note})" if note else stated)
        datasets.setdefault(artifact.dataset, set()).add(licence.get("data") or "not stated")
    lines = ["# Licences", "", "As recorded when the artifacts were made.", ""]
    for title, licences in (("Model", models), ("Dataset", datasets)):
        lines += [f"| {title} | Licence |", "| --- | --- |"]
        lines += [f"| {name} | {'; '.join(sorted(texts))} |" for name, texts in licences.items()]
        lines.append("")
    return "\n".join(lines)


def _readme(study: Study, sizes: Mapping[str, int]) -> str:
    languages: Collection[str] = study.config.languages
    return f"""# Artifacts of the Isogloss study `{study.config.study}`

{len(sizes)} artifacts, {size_text(sum(sizes.values()))}: what it takes a model to compute.
Models: {", ".join(study.config.models)}. Datasets: {", ".join(study.config.datasets)}.
Languages: {", ".join(languages)}.

In a clone of Isogloss:

    python workflow_scripts/share.py import <this bundle>
    snakemake --cores all --configfile <config.yaml of this bundle>

The import compares every file with its checksum, and every artifact with its own digest and key.
The run then needs no model, only the study's questions: they are not in the bundle. Paths in
`config.yaml` are those of the author; correct them where yours differ.

`LICENCES.md` names the licences of the models and datasets behind these numbers.
"""
