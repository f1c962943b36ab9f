"""Parallel items in local tables, one per language: CSV, TSV, Parquet, or saved by `datasets`.

`<language>.csv`, `.tsv`, `.parquet`, or a folder `<language>/` as `Dataset.save_to_disk`
writes it. Cells of CSV and TSV are the text that they are: 007 stays 007, None and N/A are words.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isogloss.errors import InputError, one_line
from isogloss.questions.columns import rows_of_table
from isogloss.questions.items import ParallelItems
from isogloss.questions.local_files import language_files
from isogloss.questions.records import NOTHING, Exclude, Rows, distinct, parallel

SUFFIXES = (".csv", ".tsv", ".parquet", "")
"""Of the tables in a folder; "" for the folders of the datasets library."""

ALIKE = ("context", "question", "category", "cluster")
CHOICE = re.compile(r"choice[_ ]?(\d+)")


def load_tables(
    folder: Path,
    languages: Sequence[str],
    name: str,
    columns: Mapping[str, Any],
    licence: str = "",
    exclude: Exclude = NOTHING,
) -> ParallelItems:
    """Items from a folder with one table per language; names of files go through `canonical_tag`.

    Args:
        folder: of the tables.
        languages: tags to read.
        name: of the dataset.
        columns: where each part of an item is (`isogloss.questions.columns`); of what is not named,
            columns that are called as the parts are: item_id, context, question, choices or
            choice_1, choice_2, ..., answer (an index from 0), category, cluster.
        licence: of the dataset.
        exclude: items to leave out in every language.

    Raises:
        InputError: a table is missing or cannot be read, a column is not there, or an item is not
            whole (docs/reference.md, "Items, clusters, folds").
    """
    wanted = distinct(languages)
    rows, by_id = {}, True
    for language, path in language_files(folder, SUFFIXES, wanted).items():
        rows[language], named = _read_table(path, language, columns)
        by_id &= named
    return parallel(rows, wanted, name, licence, exclude, by_id=by_id)


def _read_table(path: Path, language: str, columns: Mapping[str, Any]) -> tuple[Rows, bool]:
    """Items of one table, and whether it has their ids."""
    features, records = _content(path, language)
    mapping = _usual(features) | dict(columns)
    first = 2 if path.suffix in (".csv", ".tsv") else 1  # the line of the first row
    rows = rows_of_table(records, features, mapping, str(path), language, first)
    return rows, "item_id" in mapping


def _content(path: Path, language: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Types of the columns by name, and the rows."""
    import pandas

    try:
        if path.is_dir():
            import datasets

            table = datasets.load_from_disk(str(path))
            return dict(table.features), table.to_list()
        if path.suffix == ".parquet":
            import pyarrow.parquet

            arrow = pyarrow.parquet.read_table(path)
            return dict.fromkeys(arrow.column_names), arrow.to_pylist()
        separator = "\t" if path.suffix == ".tsv" else ","
        frame = pandas.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
        return dict.fromkeys(map(str, frame.columns)), frame.to_dict("records")
    except Exception as error:  # of many kinds, by format: all are about the file
        raise InputError(
            f"{path}: ({language}) cannot be read ({type(error).__name__}: {one_line(error)}):"
            " save it again as UTF-8 CSV, TSV, Parquet or with Dataset.save_to_disk"
        ) from error


def _usual(names: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping of columns that are called as the parts of an item are.

    >>> _usual(dict.fromkeys(["question", "choice_2", "choice_1", "answer"]))["choices"]
    ['choice_1', 'choice_2']
    """
    mapping: dict[str, Any] = {part: f"{{{part}}}" for part in ALIKE if part in names}
    numbered = sorted((int(m[1]), name) for name in names if (m := CHOICE.fullmatch(name)))
    if "choices" in names:
        mapping["choices"] = "choices"
    elif numbered:
        mapping["choices"] = [name for _, name in numbered]
    if "item_id" in names:
        mapping["item_id"] = ["item_id"]
    if "answer" in names:
        mapping |= {"answer": "answer", "answer_from": "0"}
    return mapping
