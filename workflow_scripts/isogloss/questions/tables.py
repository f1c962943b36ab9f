"""Parallel items in local tables, one per language: CSV, TSV, Parquet, or saved by `datasets`.

`<language>.csv`, `.tsv`, `.parquet`, or a folder `<language>/` as `Dataset.save_to_disk`
writes it. Cells of CSV and TSV are the text that they are: 007 stays 007, None and N/A are words.
In CSV quotation marks around a cell are quoting, in TSV they are text: nothing is quoted there.
"""

import csv
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
        columns: where each part of an item is (`isogloss.questions.columns`); of what is not named,
            columns that are called as the parts are: item_id, context, question, choices or
            choice_1, choice_2, ..., answer (an index from 0), category, cluster.
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
    try:
        if path.is_dir():
            import datasets

            table = datasets.load_from_disk(str(path))
            return dict(table.features), table.to_list()
        if path.suffix == ".parquet":
            import pyarrow.parquet

            arrow = pyarrow.parquet.read_table(path)
            return dict.fromkeys(arrow.column_names), arrow.to_pylist()
        lines = _lines(path)
    except Exception as error:  # of many kinds, by format: all are about the file
        raise InputError(
            f"{path}: ({language}) cannot be read ({type(error).__name__}: {one_line(error)}):"
            " save it again as UTF-8 CSV, TSV, Parquet or with Dataset.save_to_disk"
        ) from error
    _check_lines(lines, path, language)
    (_, header), *rows = lines
    return dict.fromkeys(header), [dict(zip(header, row, strict=True)) for _, row in rows]


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The cells of a CSV or TSV file, and the number of the line in which each row ends.

    Quoting that is not whole is an error: `"Honey", said the bee.` would lose its quotation marks.
    """
    csv.field_size_limit(2**31 - 1)  # contexts may be long
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix == ".tsv":
            rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            rows = csv.reader(file, strict=True)
        return [(rows.line_num, row) for row in rows if row]


def _check_lines(lines: Sequence[tuple[int, list[str]]], path: Path, language: str) -> None:
    """Refuse what would be read as other text, or in other columns, than was meant."""
    if not lines:
        raise InputError(
            f"{path}: ({language}) the file is empty: give it a header and one item per row"
        )
    first, header = lines[0]
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise InputError(
            f'{path}:{first}: ({language}) two columns "{twice[0]}": give each its own name'
        )
    for number, row in lines:
        place = f"{path}:{number}: ({language})"
        if path.suffix == ".tsv" and (cell := next(filter(_may_be_quoted, row), None)):
            raise InputError(
                f"{place} the cell {cell[:40]} may be quoted, and TSV has no quoting here: save"
                " the table as CSV"
            )
        if len(row) != len(header):
            raise InputError(
                f"{place} {len(row)} cells, the header has {len(header)}: give every row as many"
            )


def _may_be_quoted(cell: str) -> bool:
    """Whether a program that quotes could have written a cell, or its part before a tab.

    >>> [_may_be_quoted(cell) for cell in ('"Honey"', '"Honey', '"Honey", said the bee.')]
    [True, True, False]
    """
    return cell.startswith('"') and (cell.endswith('"') or cell.count('"') % 2 == 1)


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
