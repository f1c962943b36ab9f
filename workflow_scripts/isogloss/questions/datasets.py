"""Datasets: parallel items read from files or from the Hugging Face hub, and refused when bad.

A dataset is described by a specification (a part of the configuration) with a `source`:

| source | keys |
| --- | --- |
| `jsonl` | `path` (folder of `<language>.jsonl`), `licence` |
| `sentences` | `path` (folder of line-aligned `<language>.txt`), `licence` |
| `hub` | `path`, `configs`, `split`, `columns`, `revision`, `licence` (see `HUB_EXAMPLES`) |
| `lexicon` | `items` (how many), `seed`, `kinds` (see `isogloss.questions.lexicon`) |

Clusters come from the items of one *reference* language, English where the dataset has it, else
its first in alphabetical order, whichever languages are asked for: adding a language to a study
moves no item to another cluster.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Formatter
from typing import Any

from isogloss.errors import InputError, is_unprintable, one_line
from isogloss.files.atomic import fields_once
from isogloss.questions.items import Item, ParallelItems, check_parallel, find_clusters, normalise
from isogloss.questions.languages import canonical_tag

# Worked examples of the `hub` source. `columns` says where each part of an item is: `context`,
# `question`, `category` and `cluster` are templates over the columns' names; `item_id` lists the
# columns that name an item together (none: the row's number); `choices` lists columns, or names
# one column that holds a list; `answer_from` says what the column `answer` holds: an index from
# 0, an index from 1, or a letter. A language's entry under `configs` is a configuration's name,
# or a mapping that overrides `path`, `split`, `revision` or `columns` for that language.
# Pin `revision` to a commit in a study: the artifacts' keys rest on it.
HUB_EXAMPLES: dict[str, dict[str, Any]] = {
    "belebele": {
        "source": "hub",
        "path": "facebook/belebele",
        "configs": {"en": "eng_Latn", "de": "deu_Latn", "zh": "zho_Hans", "sw": "swh_Latn"},
        "split": "test",
        "columns": {
            "item_id": ["link", "question_number"],
            "context": "{flores_passage}",
            "question": "{question}",
            "choices": ["mc_answer1", "mc_answer2", "mc_answer3", "mc_answer4"],
            "answer": "correct_answer_num",
            "answer_from": "1",
            "cluster": "{link}",
        },
        "licence": "CC-BY-SA-4.0",
    },
    # XCOPA has no English of its own; `question` holds the words "cause" or "effect".
    "xcopa": {
        "source": "hub",
        "path": "cambridgeltl/xcopa",
        "configs": {"et": "et", "id": "id", "sw": "sw", "zh": "zh"},
        "split": "test",
        "columns": {
            "item_id": ["idx"],
            "context": "{premise}",
            "question": "{question}",
            "choices": ["choice1", "choice2"],
            "answer": "label",
            "answer_from": "0",
            "category": "{question}",
        },
        "licence": "CC-BY-4.0",
    },
    # MMMLU translates the test questions of MMLU, whose English is a dataset of its own: rows are
    # matched by number, and a loader that finds another answer in a row refuses both.
    "mmmlu": {
        "source": "hub",
        "path": "openai/MMMLU",
        "configs": {
            "en": {
                "path": "cais/mmlu",
                "config": "all",
                "columns": {
                    "question": "{question}",
                    "choices": "choices",
                    "answer": "answer",
                    "answer_from": "0",
                    "category": "{subject}",
                },
            },
            "fr": "FR_FR",
            "sw": "SW_KE",
        },
        "split": "test",
        "columns": {
            "question": "{Question}",
            "choices": ["A", "B", "C", "D"],
            "answer": "Answer",
            "answer_from": "letter",
            "category": "{Subject}",
        },
        "licence": "MIT",
    },
}


def load_dataset(spec: Mapping[str, Any], languages: Sequence[str], name: str) -> ParallelItems:
    """The items of a dataset in some languages, or a seeded draw of `max_items` of them.

    Args:
        spec: its specification, see the module's first lines.
        languages: tags; the result has them in canonical form, in this order.
        name: of the dataset.

    Raises:
        InputError: an unknown source, or whatever is wrong with the dataset.
    """
    items = _load(spec, languages, name)
    most = spec.get("max_items")
    return items if most is None else items.sample(most, spec.get("seed", 0))


def _load(spec: Mapping[str, Any], languages: Sequence[str], name: str) -> ParallelItems:
    """All items of a dataset."""
    wanted = _distinct(languages)
    source = spec.get("source")
    licence = spec.get("licence", "")
    if source == "jsonl":
        return load_jsonl(Path(spec["path"]), wanted, name, licence)
    if source == "sentences":
        return load_sentences(Path(spec["path"]), wanted, name, licence)
    if source == "hub":
        keys = ("path", "configs", "split", "columns", "revision")
        return load_hub(
            **{key: spec[key] for key in keys if key in spec},
            languages=wanted,
            name=name,
            licence=licence,
        )
    if source == "lexicon":
        from isogloss.questions.lexicon import lexicon_items

        names = {"items": "n_items", "seed": "seed", "kinds": "kinds"}
        options = {names[key]: value for key, value in spec.items() if key in names}
        return replace(lexicon_items(wanted, **options), name=name)
    raise InputError(
        f'dataset {name}: source is "{source}": use one of jsonl, sentences, hub, lexicon'
    )


def dataset_files(spec: Mapping[str, Any], languages: Sequence[str]) -> list[Path]:
    """The files that `load_dataset` reads for these languages; none for hub and lexicon.

    Raises:
        InputError: the folder or a language's file is missing.
    """
    suffix = {"jsonl": ".jsonl", "sentences": ".txt"}.get(spec["source"])
    if suffix is None:
        return []
    return list(_language_files(Path(spec["path"]), suffix, _distinct(languages)).values())


def load_jsonl(
    folder: Path, languages: Sequence[str], name: str, licence: str = ""
) -> ParallelItems:
    """Items from a folder with one `<language>.jsonl` a language, one JSON object a line.

    An object has `item_id`, `context` (may be left out), `question`, `choices`, `answer` (counted
    from 0), and may have `category` and `cluster`. Names of files go through `canonical_tag`.

    Args:
        folder: of the files.
        languages: tags to read.
        name: of the dataset.
        licence: of the dataset.

    Raises:
        InputError: a file is missing, empty, not UTF-8 or not JSON, or an item is not what
            METHOD 1 asks for; with file, line, item and language.
    """
    return _load_files(folder, ".jsonl", _item_of_line, languages, name, licence)


def load_sentences(
    folder: Path, languages: Sequence[str], name: str, licence: str = ""
) -> ParallelItems:
    """Parallel sentences from a folder with one `<language>.txt` a language, aligned by line.

    A sentence becomes the question of an item without choices, whose id is its line's number.

    Args:
        folder: of the files.
        languages: tags to read.
        name: of the dataset.
        licence: of the dataset.

    Raises:
        InputError: a file is missing, empty or not UTF-8, a line is empty, or another number of
            lines than in the reference language.
    """
    return _load_files(folder, ".txt", _sentence_of_line, languages, name, licence)


@dataclass
class _Rows:
    """Items of one language as read, with the place of each and what normalisation changed."""

    items: list[Item]
    places: list[str]
    normalised: int


def _distinct(languages: Iterable[str]) -> list[str]:
    """Canonical tags, each once, in the order given."""
    return list(dict.fromkeys(map(canonical_tag, languages)))


def _parallel(
    rows: Mapping[str, _Rows], languages: Sequence[str], name: str, licence: str
) -> ParallelItems:
    """Check the rows, reference language first, and keep the languages asked for."""

    def where(language: str, row: int) -> str:
        return rows[language].places[row]

    check_parallel({language: read.items for language, read in rows.items()}, where)
    reference = next(iter(rows.values())).items
    return ParallelItems(
        name=name,
        items={language: tuple(rows[language].items) for language in languages},
        clusters=find_clusters(reference),
        licence=licence,
        normalised={language: rows[language].normalised for language in languages},
    )


# --- files -------------------------------------------------------------------------------------


def _load_files(
    folder: Path,
    suffix: str,
    read_line: Callable[[str, str, str, int], tuple[Item, int]],
    languages: Sequence[str],
    name: str,
    licence: str,
) -> ParallelItems:
    """Read one file a language, the reference language first."""
    wanted = _distinct(languages)
    rows = {
        language: _read_file(path, language, read_line)
        for language, path in _language_files(folder, suffix, wanted).items()
    }
    if suffix == ".txt":
        _check_line_counts(rows)
    return _parallel(rows, wanted, name, licence)


def _language_files(folder: Path, suffix: str, languages: Sequence[str]) -> dict[str, Path]:
    """The reference language's file, then those of the languages asked for."""
    if not os.path.isdir(folder):  # whatever the path: too long, a loop of links
        raise InputError(f"{folder}: no such folder: give the folder of the <language>{suffix}")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(f"*{suffix}")):
        try:
            found.setdefault(canonical_tag(path.stem), []).append(path)
        except InputError:
            continue  # other files may lie in the folder
    missing = [language for language in languages if language not in found]
    if missing or not found:
        wanted, here = (missing or ["<language>"])[0], ", ".join(found) or "nothing"
        raise InputError(f"{folder}: no {wanted}{suffix}: add it, or choose from {here}")
    return {
        language: _one_file(language, found[language])
        for language in (_reference(found), *languages)
    }


def _one_file(language: str, paths: Sequence[Path]) -> Path:
    """The file of a language: the one that bears its tag, else the only one."""
    exact = [path for path in paths if path.stem == language]
    if not exact and len(paths) > 1:
        one, other = paths[:2]
        raise InputError(
            f"{other}: {one.name} is {language} as well: keep one of them, or call one"
            f" {language}{one.suffix}"
        )
    path = (exact or paths)[0]
    if not os.path.isfile(path):
        raise InputError(f"{path}: ({language}) is no file: put the items of the language there")
    return path


def _reference(languages: Iterable[str]) -> str:
    """The language that clusters come from: English, else the first by the alphabet."""
    tags = sorted(languages)
    return "en" if "en" in tags else tags[0]


def _read_file(
    path: Path, language: str, read_line: Callable[[str, str, str, int], tuple[Item, int]]
) -> _Rows:
    """Items of one file, one a line; empty lines at its end do not count.

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
        raise InputError(f"{path}: the file is empty: give it one item a line")
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
    return _Rows(items, places, changed)


def _sentence_of_line(text: str, place: str, language: str, number: int) -> tuple[Item, int]:
    """A line of text as an item without choices."""
    line = text.removesuffix("\r")
    if "\r" in line:
        raise InputError(
            f"{place}: ({language}) ends lines by a carriage return alone: end them by a line feed"
        )
    sentence = _text(line, f'{place}: item "{number}" ({language})')
    if not sentence:
        raise InputError(
            f'{place}: item "{number}" ({language}): the line is empty: give every line a'
            " sentence, the same one in every language"
        )
    return Item(str(number), "", sentence, (), -1), int(sentence != line)


def _check_line_counts(rows: Mapping[str, _Rows]) -> None:
    """Refuse sentences that cannot be aligned by line."""
    counts = {language: len(read.items) for language, read in rows.items()}
    reference, expected = next(iter(counts.items()))
    for language, count in counts.items():
        if count != expected:
            file = rows[language].places[0].rpartition(":")[0]
            raise InputError(
                f"{file}:{min(count, expected) + 1}: ({language}) {count} lines, {reference} has"
                f" {expected}: give every language the same sentences, one a line"
            )


def _item_of_line(text: str, place: str, language: str, number: int) -> tuple[Item, int]:
    """A JSON object as an item."""
    bare = text.lstrip("\ufeff")
    try:
        record = json.loads(bare, object_pairs_hook=fields_once)
    except (ValueError, RecursionError) as error:  # also a number of too many digits
        raise InputError(
            f"{place}: ({language}) not JSON ({error}): write one JSON object a line"
        ) from error
    if not isinstance(record, dict):
        raise InputError(
            f"{place}: ({language}) a JSON {type(record).__name__}: write one JSON object a line"
        )
    identity = record.get("item_id")
    shown = identity if isinstance(identity, str) else f"of line {number}"
    item, changed = _item_of_record(record, f'{place}: item "{shown}" ({language})')
    return item, changed + int(bare != text)


_KINDS: dict[str, tuple[Callable[[Any], bool], str, bool]] = {
    # field: (test, what it must be, required)
    "item_id": (lambda v: isinstance(v, str), "a string", True),
    "context": (lambda v: isinstance(v, str), "a string", False),
    "question": (lambda v: isinstance(v, str), "a string", True),
    "choices": (
        lambda v: isinstance(v, list) and all(isinstance(choice, str) for choice in v),
        "a list of strings",
        True,
    ),
    "answer": (
        lambda v: isinstance(v, int) and not isinstance(v, bool),
        "a whole number, counted from 0",
        True,
    ),
    "category": (lambda v: v is None or isinstance(v, str), "a string", False),
    "cluster": (lambda v: v is None or isinstance(v, str), "a string", False),
}


def _item_of_record(record: Mapping[str, Any], place: str) -> tuple[Item, int]:
    """An item from a mapping with its fields, and how many strings normalisation changed.

    Raises:
        InputError: a field is missing, unknown or not of its kind, or text that is not Unicode.
    """
    unknown = sorted(set(record) - set(_KINDS))
    if unknown:
        raise InputError(f'{place}: unknown field "{unknown[0]}": use {", ".join(_KINDS)}')
    for name, (test, what, required) in _KINDS.items():
        if required and name not in record:
            raise InputError(f'{place}: no field "{name}": add it, {what}')
        if name in record and not test(record[name]):
            raise InputError(f'{place}: "{name}" is not {what}: make it {what}')
    for name in ("item_id", "category", "cluster"):
        if any(is_unprintable(character) for character in record.get(name) or ""):
            raise InputError(f'{place}: "{name}" has a character that is not printed: remove it')
    raw = [record.get("context", ""), record["question"], *record["choices"]]
    clean = [_text(text, place) for text in raw]
    item = Item(
        item_id=record["item_id"],
        context=clean[0],
        question=clean[1],
        choices=tuple(clean[2:]),
        answer=record["answer"],
        category=record.get("category"),
        cluster=record.get("cluster"),
    )
    if not item.choices:
        raise InputError(f"{place}: has 0 choices: give at least 2")
    return item, sum(one != other for one, other in zip(raw, clean, strict=True))


def _text(raw: str, place: str) -> str:
    """Text in its normal form.

    Raises:
        InputError: half a surrogate pair, or a control character other than tab and line ends.
    """
    if found := _NO_TEXT.search(raw):
        if found[0] >= "\ud800":
            raise InputError(f"{place}: half a surrogate pair is no text: save it as UTF-8")
        raise InputError(f"{place}: control character U+{ord(found[0]):04X} in the text: remove it")
    return normalise(raw)


# Control characters that are no white space (others stand in published data), and surrogates.
_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1b\ud800-\udfff]")


# --- the hub -----------------------------------------------------------------------------------


def load_hub(
    path: str,
    configs: Mapping[str, str | Mapping[str, Any]],
    languages: Sequence[str],
    columns: Mapping[str, Any],
    name: str,
    split: str = "test",
    revision: str | None = None,
    licence: str = "",
) -> ParallelItems:
    """Items from a dataset of the Hugging Face hub, or a local folder laid out like one.

    Args:
        path: repository, or local folder.
        configs: by language, the configuration's name, or a mapping with `config` and whatever
            of `path`, `split`, `revision`, `columns` differs for this language.
        languages: tags to read.
        columns: where each part of an item is, see `HUB_EXAMPLES`.
        name: of the dataset.
        split: of the dataset.
        revision: commit, tag or branch; a study should pin a commit.
        licence: of the dataset.

    Raises:
        InputError: a language without configuration, a dataset that cannot be had, a column
            that is not there, or an item that is not what METHOD 1 asks for.
    """
    by_tag = {canonical_tag(tag): config for tag, config in configs.items()}
    wanted = _distinct(languages)
    missing = [language for language in wanted if language not in by_tag]
    if missing:
        raise InputError(
            f"dataset {name}: no configuration for {missing[0]}: add it to configs, which has"
            f" {', '.join(by_tag)}"
        )
    usual: dict[str, Any] = {"path": path, "split": split, "revision": revision, "columns": columns}
    rows = {}
    for language in dict.fromkeys((_reference(by_tag), *wanted)):
        entry = by_tag[language]
        own: dict[str, Any] = {"config": entry} if isinstance(entry, str) else dict(entry)
        rows[language] = _read_hub(language, **{**usual, **own})
    return _parallel(rows, wanted, name, licence)


def _read_hub(
    language: str,
    path: str,
    config: str,
    split: str,
    revision: str | None,
    columns: Mapping[str, Any],
) -> _Rows:
    """Items of one language from one configuration of a dataset."""
    table = _open_hub(path, config, split, revision)
    place = f"{path} ({config}, {split})"
    _check_columns(columns, table.column_names, place)
    items, places, changed = [], [], 0
    for number, row in enumerate(table):
        places.append(f"{place}:{number}")
        record = _record_of_row(row, number, columns, f"{places[-1]} ({language})")
        shown = f'{places[-1]}: item "{record["item_id"]}" ({language})'
        item, count = _item_of_record(record, shown)
        items.append(item)
        changed += count
    if not items:
        raise InputError(f"{place}: the split is empty: name another split")
    return _Rows(items, places, changed)


def _open_hub(path: str, config: str, split: str, revision: str | None) -> Any:
    """A table of the datasets library; whatever keeps it from being had becomes an InputError."""
    import datasets

    try:
        return datasets.load_dataset(path, config, split=split, revision=revision)
    except Exception as error:  # of many kinds, by format and transport: all are about the data
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(
            f"{path} ({config}, {split}): cannot be had ({reason}): check"
            " its name, configuration, split and revision; without a network fill the cache"
            " ahead (snakemake download); for a gated one log in (hf auth login)"
        ) from error


def _check_columns(columns: Mapping[str, Any], names: Sequence[str], place: str) -> None:
    """Refuse a mapping that is incomplete or names columns that are not there."""
    for key in ("question", "choices", "answer", "answer_from"):
        if key not in columns:
            raise InputError(f'{place}: columns has no "{key}": say where it is')
    if columns["answer_from"] not in _ANSWERS:
        raise InputError(
            f'{place}: answer_from is "{columns["answer_from"]}": use {", ".join(_ANSWERS)}'
        )
    choices = columns["choices"]
    if unknown := sorted(set(columns) - {*_KINDS, "answer_from"}):
        raise InputError(f'{place}: columns has "{unknown[0]}": no such part of an item')
    used = [columns["answer"], *columns.get("item_id", ())]
    used += [choices] if isinstance(choices, str) else list(choices)
    for key in ("context", "question", "category", "cluster"):
        used += [field for _, field, _, _ in Formatter().parse(columns.get(key, "")) if field]
    absent = [column for column in used if column not in names]
    if absent:
        raise InputError(
            f'{place}: no column "{absent[0]}": choose from {", ".join(map(str, names))}'
        )


def _whole(value: Any) -> int:
    """A whole number, also one that is written as text or kept as a float."""
    if isinstance(value, bool) or isinstance(value, float) and not value.is_integer():
        raise ValueError("not a whole number")
    return int(value)


def _place_of_letter(value: str) -> int:
    letter = value.strip().upper()
    if len(letter) != 1:
        raise ValueError("not one letter")
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ".index(letter)


_ANSWERS: dict[str, Callable[[Any], int]] = {
    "0": _whole,
    "1": lambda value: _whole(value) - 1,
    "letter": _place_of_letter,
}


def _record_of_row(
    row: Mapping[str, Any], number: int, columns: Mapping[str, Any], place: str
) -> dict[str, Any]:
    """A row of a table as the fields of an item."""
    ids, choices = columns.get("item_id"), columns["choices"]
    value = row[columns["answer"]]
    try:
        answer = _ANSWERS[columns["answer_from"]](value)
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f'{place}: the answer is "{value}": check answer_from, which is'
            f' "{columns["answer_from"]}"'
        ) from error
    known = {name: "" if value is None else value for name, value in row.items()}
    filled: dict[str, Any] = {
        key: columns[key].format(**known)
        for key in ("context", "question", "category", "cluster")
        if key in columns
    }
    listed = row[choices] if isinstance(choices, str) else [row[column] for column in choices]
    if not isinstance(listed, list):
        raise InputError(
            f'{place}: column "{choices}" holds no list of choices: name one column a choice'
        )
    return {
        **filled,
        "item_id": ":".join(str(row[column]) for column in ids) if ids else str(number),
        "choices": listed,
        "answer": answer,
    }
