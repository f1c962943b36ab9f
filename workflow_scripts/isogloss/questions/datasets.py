"""Datasets: parallel items read from files or from the Hugging Face hub, and refused when bad.

A dataset is described by a specification (a part of the configuration) with a `source`:

| source | keys |
| --- | --- |
| `jsonl` | `path` (folder of `<language>.jsonl`), `licence` |
| `sentences` | `path` (folder of line-aligned `<language>.txt`), `licence` |
| `table` | `path` (folder of `<language>.csv`, `.tsv`, `.parquet`), `columns`, `licence` |
| `hub` | `path`, `configs`, `split`, `columns`, `revision`, `licence` (see config/README.md) |
| `harness` | `path` (folder), `configs` (task file by language), see `isogloss.questions.harness` |
| `lexicon` | `items` (how many), `seed`, `kinds` (see `isogloss.questions.lexicon`) |
| `world` | `items`, `seed`, `world` (see `isogloss.questions.world`) |

All but the last two may have `exclude` (see `isogloss.questions.records.Exclude`).

Clusters come from the items of one *reference* language, English where the dataset has it, else
its first in alphabetical order, whichever languages are asked for: adding a language to a study
moves no item to another cluster.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from isogloss.errors import InputError
from isogloss.questions import harness, tables
from isogloss.questions.hub import load_hub, local_folders
from isogloss.questions.items import ParallelItems
from isogloss.questions.local_files import language_files, load_files
from isogloss.questions.records import Exclude, distinct
from isogloss.questions.world import World, world_items

SUFFIXES = {"jsonl": (".jsonl",), "sentences": (".txt",), "table": tables.SUFFIXES}
"""Of the files in a folder, by source."""


def load_dataset(spec: Mapping[str, Any], languages: Sequence[str], name: str) -> ParallelItems:
    """The items of a dataset in some languages, or a seeded draw of `max_items` of them.

    Args:
        spec: its specification, see the module's first lines.
        languages: tags; the result has them in canonical form, in this order.

    Raises:
        InputError: an unknown source, or whatever is wrong with the dataset.
    """
    items = _load(spec, languages, name)
    most = spec.get("max_items")
    return items if most is None else items.sample(most, spec.get("seed", 0))


def _load(spec: Mapping[str, Any], languages: Sequence[str], name: str) -> ParallelItems:
    """All items of a dataset."""
    wanted = distinct(languages)
    source = spec.get("source")
    licence, exclude = spec.get("licence", ""), Exclude(**spec.get("exclude", {}))
    if source == "table":
        columns = spec.get("columns", {})
        return tables.load_tables(Path(spec["path"]), wanted, name, columns, licence, exclude)
    if source in SUFFIXES:
        return load_files(Path(spec["path"]), wanted, name, licence, exclude, *SUFFIXES[source])
    if source == "hub":
        keys = ("path", "configs", "split", "columns", "revision")
        return load_hub(
            **{key: spec[key] for key in keys if key in spec},
            languages=wanted,
            name=name,
            licence=licence,
            exclude=exclude,
        )
    if source == "harness":
        folder, files = Path(spec["path"]), spec["configs"]
        return harness.load_tasks(folder, files, wanted, name, licence, exclude)
    if source == "lexicon":
        from isogloss.questions.lexicon import lexicon_items

        names = {"items": "n_items", "seed": "seed", "kinds": "kinds"}
        options = {names[key]: value for key, value in spec.items() if key in names}
        return replace(lexicon_items(wanted, **options), name=name)
    if source == "world":
        world = World.from_spec(spec["world"])
        return replace(world_items(world, wanted, spec["items"], spec["seed"]), name=name)
    raise InputError(
        f'dataset {name}: source is "{source}": use one of jsonl, sentences, table, hub, harness,'
        " lexicon, world"
    )


def dataset_files(spec: Mapping[str, Any], languages: Sequence[str]) -> list[Path]:
    """The files that `load_dataset` reads for these languages; none where it reads no folder.

    Raises:
        InputError: the folder or a language's file is missing.
    """
    if spec["source"] == "hub":
        folders = local_folders(spec["path"], spec.get("configs", {}), languages) or []
        return [file for folder in folders for file in _files_below(folder)]
    if spec["source"] == "harness":
        tasks = Path(spec["path"]), spec["configs"]
        data = harness.data_folders(*tasks, languages)
        return [
            *harness.task_files(*tasks),
            *(file for path in data for file in _files_below(path)),
        ]
    if spec["source"] not in SUFFIXES:
        return []
    files = language_files(Path(spec["path"]), SUFFIXES[spec["source"]], distinct(languages))
    return [file for path in files.values() for file in _files_of(path)]


def _files_of(path: Path) -> list[Path]:
    return _files_below(path) if path.is_dir() else [path]


def _files_below(folder: Path) -> list[Path]:
    """What the datasets library may read of a folder: its configurations can name any file."""
    inside = (file.relative_to(folder) for file in sorted(folder.rglob("*")) if file.is_file())
    return [folder / file for file in inside if not any(p.startswith(".") for p in file.parts)]


def is_local(spec: Mapping[str, Any], languages: Sequence[str]) -> bool:
    """Whether the questions lie in files of this machine."""
    if spec["source"] == "harness":
        return harness.tasks_are_local(Path(spec["path"]), spec["configs"])
    return spec["source"] in SUFFIXES or bool(dataset_files(spec, languages))
