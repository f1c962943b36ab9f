"""Parallel items from the Hugging Face hub, or from a local folder laid out like one.

A repository is fetched as it is at one commit, into the hub's own cache, and read from there as a
local folder is. A folder is read anew each time: the datasets library names its cache by the
folder's last name and the configuration, so that an edited file, or another folder of the same
name, would give the rows that were read before.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from isogloss.errors import InputError, one_line
from isogloss.files.commits import commit_of
from isogloss.questions.columns import rows_of_table
from isogloss.questions.items import ParallelItems
from isogloss.questions.languages import canonical_tag
from isogloss.questions.records import NOTHING, Exclude, Rows, distinct, parallel, reference_of


def load_hub(
    path: str,
    configs: Mapping[str, str | Mapping[str, Any]],
    languages: Sequence[str],
    columns: Mapping[str, Any],
    name: str,
    split: str = "test",
    revision: str | None = None,
    licence: str = "",
    exclude: Exclude = NOTHING,
) -> ParallelItems:
    """Items from a dataset of the Hugging Face hub, or a local folder laid out like one.

    Args:
        path: repository, or local folder.
        configs: by language, the configuration's name, or a mapping with `config` and whatever
            of `path`, `split`, `revision`, `columns` differs for this language.
        languages: tags to read.
        columns: where each part of an item is, see `isogloss.questions.columns`.
        revision: commit, tag or branch; a study should pin a commit.
        exclude: items to leave out in every language.

    Raises:
        InputError: a language without configuration, a dataset that cannot be had, a column
            that is not there, or an item that is not whole (docs/reference.md,
            "Items, clusters, folds").
    """
    usual: dict[str, Any] = {"path": path, "split": split, "revision": revision, "columns": columns}
    entries = _entries(configs, name)
    wanted = distinct(languages)
    missing = [language for language in wanted if language not in entries]
    if missing:
        raise InputError(
            f"dataset {name}: no configuration for {missing[0]}: add it to configs, which has"
            f" {', '.join(entries)}"
        )
    rows = {
        language: _read_hub(language, **{**usual, **entries[language]})
        for language in dict.fromkeys((reference_of(entries), *wanted))
    }
    return parallel(rows, wanted, name, licence, exclude, by_id="item_id" in columns)


def _entries(
    configs: Mapping[str, str | Mapping[str, Any]], name: str
) -> dict[str, dict[str, Any]]:
    """What each language has of its own, by canonical tag."""
    by_tag: dict[str, dict[str, Any]] = {}
    for given, entry in configs.items():
        tag = canonical_tag(given)
        if tag in by_tag:
            raise InputError(f"dataset {name}: configs names {tag} twice: keep one of them")
        by_tag[tag] = {"config": entry} if isinstance(entry, str) else dict(entry)
    return by_tag


def local_folders(
    path: str, configs: Mapping[str, str | Mapping[str, Any]], languages: Sequence[str]
) -> list[Path] | None:
    """The folders that these languages are read from; None where a repository is among them."""
    entries = _entries(configs, path)
    tags = dict.fromkeys((reference_of(entries), *distinct(languages)))
    paths = dict.fromkeys(str(entries.get(tag, {}).get("path", path)) for tag in tags)
    folders = [Path(path).expanduser() for path in paths]
    return folders if all(map(os.path.isdir, folders)) else None


def pinned_repositories(
    spec: Mapping[str, Any], languages: Sequence[str], memory: Path, where: str
) -> dict[str, Any]:
    """A `hub` dataset with commits in place of branches and tags, which can move.

    Args:
        spec: its specification.
        languages: that are read.
        memory, where: as `commit_of`.

    Raises:
        InputError: nobody knows which commit one stands for.
    """
    configs: dict[str, Any] = dict(spec["configs"])
    by_tag = {canonical_tag(given): given for given in configs}
    tags = dict.fromkeys((reference_of(_entries(configs, where)), *distinct(languages)))
    pinned = {**spec, "configs": configs}
    for given in filter(None, map(by_tag.get, tags)):
        configured = {} if isinstance(configs[given], str) else configs[given]
        path = str(configured.get("path", spec["path"]))
        revision = configured.get("revision", spec.get("revision"))
        if os.path.isdir(Path(path).expanduser()):
            continue
        commit = commit_of(path, revision, "dataset", memory, f"{where}.revision")
        if commit == revision:
            continue
        if "path" in configured or "revision" in configured:
            configs[given] = {**configured, "revision": commit}
        else:
            pinned["revision"] = commit
    return pinned


def _read_hub(
    language: str,
    path: str,
    config: str,
    split: str,
    revision: str | None,
    columns: Mapping[str, Any],
) -> Rows:
    """Items of one language from one configuration of a dataset."""
    place = f"{path} ({config}, {split})"
    with table_of(path, config, split, revision) as table:
        return rows_of_table(table.to_list(), table.features, columns, place, language)


@contextmanager
def table_of(
    path: str, config: str, split: str, revision: str | None, as_text: bool = True
) -> Iterator[Any]:
    """A table of the datasets library, made from the files as they are now.

    Args:
        path, config, split, revision: as `load_hub`.
        as_text: of CSV files every cell is the text that it is, not what the library makes of it.

    Raises:
        InputError: whatever keeps it from being had.
    """
    place = f"{path} ({config}, {split})"
    folder = Path(path).expanduser()
    if not os.path.isdir(folder):
        folder = _snapshot(path, revision, place)
    with TemporaryDirectory(prefix="isogloss-") as cache:
        try:
            table = _read_folder(folder, config, split, cache, as_text)
        except Exception as error:  # of many kinds, by format: all are about the data
            raise InputError(
                f"{place}: cannot be had ({type(error).__name__}: {one_line(error)}): check its"
                " name, configuration, split and revision"
            ) from error
        yield table


def _read_folder(folder: Path, config: str, split: str, cache: str, as_text: bool) -> Any:
    """The split of a configuration; of CSV files, if wanted, every cell as the text that it is.

    The library's CSV reader takes the words None and N/A for nothing, and a column of numbers
    for no text: 007 would be 7.
    """
    import datasets
    from datasets.packaged_modules.csv.csv import CsvConfig

    datasets.disable_progress_bars()
    builder = datasets.load_dataset_builder(str(folder), config, cache_dir=cache)
    table = datasets.load_dataset(str(folder), config, split=split, cache_dir=cache)
    if not (as_text and isinstance(builder.config, CsvConfig)):
        return table
    texts = datasets.Features({name: datasets.Value("string") for name in table.column_names})
    options = {"features": texts, "keep_default_na": False, "cache_dir": cache}
    return datasets.load_dataset(str(folder), config, split=split, **options)


def _snapshot(path: str, revision: str | None, place: str) -> Path:
    """The folder of a repository at a revision, fetched where the hub's cache does not have it."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path, repo_type="dataset", revision=revision))
    except Exception as error:  # of many kinds, by transport: all are about fetching
        raise InputError(
            f"{place}: cannot be had ({type(error).__name__}: {one_line(error)}): check"
            " its name and revision; without a network fill the cache"
            " ahead (`snakemake --cores 1 download`); for a gated one log in (hf auth login)"
        ) from error
