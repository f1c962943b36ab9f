"""Parallel items from the Hugging Face hub, or from a local folder laid out like one."""

from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any

from isogloss.errors import InputError, one_line
from isogloss.questions.items import ParallelItems
from isogloss.questions.languages import canonical_tag
from isogloss.questions.records import (
    FIELDS,
    Rows,
    distinct,
    item_of_record,
    parallel,
    reference_of,
)

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
    wanted = distinct(languages)
    missing = [language for language in wanted if language not in by_tag]
    if missing:
        raise InputError(
            f"dataset {name}: no configuration for {missing[0]}: add it to configs, which has"
            f" {', '.join(by_tag)}"
        )
    usual: dict[str, Any] = {"path": path, "split": split, "revision": revision, "columns": columns}
    rows = {}
    for language in dict.fromkeys((reference_of(by_tag), *wanted)):
        entry = by_tag[language]
        own: dict[str, Any] = {"config": entry} if isinstance(entry, str) else dict(entry)
        rows[language] = _read_hub(language, **{**usual, **own})
    return parallel(rows, wanted, name, licence)


def _read_hub(
    language: str,
    path: str,
    config: str,
    split: str,
    revision: str | None,
    columns: Mapping[str, Any],
) -> Rows:
    """Items of one language from one configuration of a dataset."""
    table = _open_hub(path, config, split, revision)
    place = f"{path} ({config}, {split})"
    _check_columns(columns, table.column_names, place)
    items, places, changed = [], [], 0
    for number, row in enumerate(table):
        places.append(f"{place}:{number}")
        record = _record_of_row(row, number, columns, f"{places[-1]} ({language})")
        shown = f'{places[-1]}: item "{record["item_id"]}" ({language})'
        item, count = item_of_record(record, shown)
        items.append(item)
        changed += count
    if not items:
        raise InputError(f"{place}: the split is empty: name another split")
    return Rows(items, places, changed)


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
    if unknown := sorted(set(columns) - {*FIELDS, "answer_from"}):
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
