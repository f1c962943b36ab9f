"""Parallel items in local files, one per language: JSON lines, or line-aligned sentences."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from isogloss.errors import InputError
from isogloss.files.canonical import fields_once
from isogloss.questions.items import Item, ParallelItems
from isogloss.questions.languages import canonical_tag
from isogloss.questions.records import (
    NOTHING,
    Exclude,
    Rows,
    distinct,
    item_of_record,
    parallel,
    reference_of,
    text_of,
)


def load_files(
    folder: Path,
    languages: Sequence[str],
    name: str,
    licence: str = "",
    exclude: Exclude = NOTHING,
    suffix: str = ".jsonl",
) -> ParallelItems:
    """Items from a folder with one file per language; names of files go through `canonical_tag`.

    `<language>.jsonl` has one JSON object per line, with `item_id`, `context` (may be left out),
    `question`, `choices` and `answer` (counted from 0); it may have `category` and `cluster`.
    `<language>.txt` has one sentence per line, aligned by line: a sentence becomes the question of
    an item without choices, whose id is its line's number.

    Args:
        folder: of the files.
        languages: tags to read.
        exclude: items to leave out in every language.
        suffix: a key of `READERS`.

    Raises:
        InputError: a file is missing, empty, not UTF-8 or not JSON, an item is not whole
            (docs/reference.md, "Items, clusters, folds"), or a language has another number of
            sentences than the reference language; with file, line, item, language.
    """
    wanted = distinct(languages)
    rows = {
        language: _read_file(path, language, READERS[suffix])
        for language, path in language_files(folder, [suffix], wanted).items()
    }
    if suffix == ".txt":
        _check_line_counts(rows)
    return parallel(rows, wanted, name, licence, exclude)


def language_files(
    folder: Path, suffixes: Sequence[str], languages: Sequence[str]
) -> dict[str, Path]:
    """The reference language's file, then those of the languages asked for.

    Args:
        suffixes: of the files; "" for a folder per language.
    """
    shown = "|".join(filter(None, suffixes))
    if not os.path.isdir(folder):  # whatever the path: too long, a loop of links
        raise InputError(f"{folder}: no such folder: give the folder of the <language>{shown}")
    by_language: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in suffixes and (path.suffix or path.is_dir()):
            try:
                by_language.setdefault(canonical_tag(path.stem), []).append(path)
            except InputError:
                continue  # other files may lie in the folder
    missing = [language for language in languages if language not in by_language]
    if missing or not by_language:
        wanted, here = (missing or ["<language>"])[0], ", ".join(by_language)
        remedy = f"add it, or choose from {here}" if here else _other_kind(folder)
        raise InputError(f"{folder}: no {wanted}{shown}: {remedy}")
    return {
        language: _one_file(language, by_language[language])
        for language in (reference_of(by_language), *languages)
    }


SOURCES = {
    ".jsonl": "jsonl", ".txt": "sentences", ".csv": "table", ".tsv": "table", ".parquet": "table",
}  # fmt: skip
"""The source that reads a folder of such files."""


def _other_kind(folder: Path) -> str:
    """What to do with a folder that has no file of the kind that was looked for."""
    for path in sorted(folder.iterdir()):
        if source := SOURCES.get(path.suffix):
            return f"the folder has {path.name}, which `source: {source}` reads"
    return "the folder has no such file: put one per language there"


def _one_file(language: str, paths: Sequence[Path]) -> Path:
    """The file of a language: the one that bears its tag, else the only one."""
    exact = [path for path in paths if path.stem == language]
    path, *others = exact or paths
    if others:
        remedy = "" if exact else f", or call one {language}{path.suffix}"
        raise InputError(
            f"{others[0]}: {path.name} is {language} as well: keep one of them{remedy}"
        )
    if not os.path.isfile(path) and path.suffix:
        raise InputError(f"{path}: ({language}) is no file: put the items of the language there")
    return path


def _read_file(
    path: Path, language: str, read_line: Callable[[str, str, str, int], tuple[Item, int]]
) -> Rows:
    """Items of one file, one per line; empty lines at its end do not count.

    `read_line` gets the line, the place ("path:line"), the language and the line's number, and
    returns the item and how many of its strings normalisation changed.
    """
    try:
        lines = path.read_bytes().rstrip().split(b"\n")
    except OSError as error:
        raise InputError(
            f"{path}: ({language}) cannot be read ({error.strerror}): correct its permissions"
        ) from error
    if lines == [b""]:
        raise InputError(f"{path}: the file is empty: give it one item per line")
    items, places, changed = [], [], 0
    for number, line in enumerate(lines, start=1):
        place = f"{path}:{number}"
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{place}: ({language}) byte {error.start + 1} of the line is not UTF-8:"
                " save the file as UTF-8"
            ) from error
        item, count = read_line(text, place, language, number)
        items.append(item)
        places.append(place)
        changed += count
    return Rows(items, places, changed)


def _sentence_of_line(text: str, place: str, language: str, number: int) -> tuple[Item, int]:
    """A line of text as an item without choices."""
    line = text.removesuffix("\r")
    if "\r" in line:
        raise InputError(
            f"{place}: ({language}) ends lines by a carriage return alone: end them by a line feed"
        )
    sentence = text_of(line, f'{place}: item "{number}" ({language})')
    if not sentence:
        raise InputError(
            f'{place}: item "{number}" ({language}): the line is empty: give every line a'
            " sentence, the same one in every language"
        )
    return Item(str(number), "", sentence, (), -1), int(sentence != line)


def _check_line_counts(rows: Mapping[str, Rows]) -> None:
    """Refuse sentences that cannot be aligned by line."""
    counts = {language: len(read.items) for language, read in rows.items()}
    reference, expected = next(iter(counts.items()))
    for language, count in counts.items():
        if count != expected:
            file = rows[language].places[0].rpartition(":")[0]
            raise InputError(
                f"{file}:{min(count, expected) + 1}: ({language}) {count} lines, {reference} has"
                f" {expected}: give every language the same sentences, one per line"
            )


def _item_of_line(text: str, place: str, language: str, number: int) -> tuple[Item, int]:
    """A JSON object as an item."""
    bare = text.lstrip("\ufeff")
    try:
        record = json.loads(bare, object_pairs_hook=fields_once)
    except (ValueError, RecursionError) as error:  # also a number of too many digits
        raise InputError(
            f"{place}: ({language}) not JSON ({error}): write one JSON object per line"
        ) from error
    if not isinstance(record, dict):
        raise InputError(
            f"{place}: ({language}) a JSON {type(record).__name__}: write one JSON object per line"
        )
    identity = record.get("item_id")
    shown = identity if isinstance(identity, str) else f"of line {number}"
    item, changed = item_of_record(record, f'{place}: item "{shown}" ({language})')
    return item, changed + int(bare != text)


READERS = {".jsonl": _item_of_line, ".txt": _sentence_of_line}
"""What makes an item of a line, by suffix of the files."""
