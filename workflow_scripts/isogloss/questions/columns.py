"""Where each part of an item is in a table's row: the `columns` of a `hub` dataset.

| part | what it is |
| --- | --- |
| `context`, `question`, `category`, `cluster` | templates over columns: "{premise} {question}" |
| `item_id` | columns that name an item together; none: the row's number |
| `choices` | a column each (empty ones at the end are left out), or one column that holds a list |
| `labels` | a column that holds a list of the choices' labels, which answers are looked up in |
| `answer` | the column of the answer |
| `answer_from` | what it holds: "0" or "1" (an index from there), letter, text, label |

`letter`: A is the first choice; a digit among letters counts from 1, as in ARC. `text`: the right
choice itself. `label`: one of `labels`. A field of a nested column is named with a dot:
`choices.text`. A column of choices that holds both `text` and `label`, as ARC's does, gives both
without more words.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from string import Formatter
from typing import Any

from isogloss.errors import InputError
from isogloss.questions.records import FIELDS, Rows, rows_of

TEMPLATES = ("context", "question", "category", "cluster")
PARTS = (*FIELDS, "labels", "answer_from")


def check_columns(columns: Mapping[str, Any], features: Mapping[str, Any], place: str) -> None:
    """Refuse a mapping that is incomplete or names columns that are not there.

    Args:
        columns: the mapping.
        features: types of the table's columns, by name; those of nested ones are mappings.
        place: of the table, for messages.

    Raises:
        InputError: names the part or the column.
    """
    if "choices" not in columns:
        raise InputError(
            f'{place}: columns has no "choices": say where they are; questions without choices, as'
            " MGSM's, cannot be scored: add wrong answers as columns in a local copy"
        )
    for key in ("question", "answer", "answer_from"):
        if key not in columns:
            raise InputError(f'{place}: columns has no "{key}": say where it is')
    if columns["answer_from"] not in ANSWERS:
        raise InputError(
            f'{place}: answer_from is "{columns["answer_from"]}": use {", ".join(ANSWERS)}'
        )
    if unknown := sorted(set(columns) - set(PARTS)):
        raise InputError(f'{place}: columns has "{unknown[0]}": no such part of an item')
    choices = columns["choices"]
    used = [columns["answer"], *columns.get("item_id", ())]
    used += [choices] if isinstance(choices, str) else list(choices)
    used += [columns["labels"]] if "labels" in columns else []
    for key in TEMPLATES:
        used += [field for _, field, _, _ in Formatter().parse(columns.get(key, "")) if field]
    names = list(_names(features))
    if absent := [column for column in used if column not in names]:
        raise InputError(f'{place}: no column "{absent[0]}": choose from {", ".join(names)}')


def check_letters(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Any], place: str
) -> None:
    """Refuse answers that are digits throughout where letters are expected: from 0, or from 1?

    Raises:
        InputError: names the first.
    """
    answers = [str(_cell(row, columns["answer"])) for row in rows]
    if columns["answer_from"] == "letter" and answers and all(text.isdigit() for text in answers):
        raise InputError(
            f'{place}: the answer is "{answers[0]}": check answer_from, which is "letter"'
        )


def _names(features: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Names of columns, and of the fields of nested ones with a dot."""
    for name, feature in features.items():
        yield above + str(name)
        if isinstance(feature, Mapping):
            yield from _names(feature, f"{above}{name}.")


def record_of_row(
    row: Mapping[str, Any], number: int, columns: Mapping[str, Any], place: str
) -> dict[str, Any]:
    """A row of a table as the fields of an item.

    Raises:
        InputError: a cell that is no text, no list of choices, or no answer among the choices.
    """
    ids = columns.get("item_id")
    choices, labels = _choices(row, columns, place)
    value = _cell(row, columns["answer"])
    try:
        answer = ANSWERS[columns["answer_from"]](value, choices, labels)
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f'{place}: the answer is "{value}": check answer_from, which is'
            f' "{columns["answer_from"]}"'
        ) from error
    filled = {key: _filled(columns[key], row, place) for key in TEMPLATES if key in columns}
    return {
        **filled,
        "item_id": ":".join(str(_cell(row, column)) for column in ids) if ids else str(number),
        "choices": choices,
        "answer": answer,
    }


def rows_of_table(
    table: Sequence[Mapping[str, Any]],
    features: Mapping[str, Any],
    columns: Mapping[str, Any],
    place: str,
    language: str,
    first: int = 0,
) -> Rows:
    """Items of one language from the rows of a table.

    Args:
        table: rows by column.
        features: types of its columns, as `check_columns` takes them.
        columns: the mapping.
        place: of the table, for messages.
        language: of its items.
        first: number of its first row, as messages count them.

    Raises:
        InputError: the mapping does not fit the table, a row is no whole item, or there is no row.
    """
    check_columns(columns, features, place)
    check_letters(table, columns, place)
    if not table:
        raise InputError(
            f"{place}: the table is empty: give it one item per row, or name another split"
        )
    places = [f"{place}:{number}" for number in range(first, first + len(table))]
    records = [
        record_of_row(row, number, columns, f"{where} ({language})")
        for number, (row, where) in enumerate(zip(table, places, strict=True))
    ]
    return rows_of(zip(places, records, strict=True), language)


def _cell(row: Mapping[str, Any], column: str) -> Any:
    """What a column holds; a name with a dot is looked for as it is, then as a nested one."""
    if column in row:
        return row[column]
    outer, _, inner = column.partition(".")
    nested = row.get(outer)
    return _cell(nested, inner) if inner and isinstance(nested, Mapping) else None


def _filled(template: str, row: Mapping[str, Any], place: str) -> str:
    """A template with the texts of its columns."""
    return "".join(
        words + ("" if field is None else _text(_cell(row, field), field, place))
        for words, field, _, _ in Formatter().parse(template)
    )


def _text(value: Any, column: str, place: str) -> str:
    """A cell as text; nothing as an empty one.

    Raises:
        InputError: a float, a date, a list: as text they would not be what the file says.
    """
    if value is None:
        return ""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    raise InputError(
        f'{place}: column "{column}" holds a {type(value).__name__}, {value!r}: keep it as text'
    )


def _choices(
    row: Mapping[str, Any], columns: Mapping[str, Any], place: str
) -> tuple[list[str], list[Any]]:
    """The choices, and their labels where there are some."""
    named = columns["choices"]
    labels = _cell(row, columns["labels"]) if "labels" in columns else []
    if not isinstance(named, str):
        cells = [_text(_cell(row, column), column, place) for column in named]
        return _without_empty_end(cells, named, place), labels
    listed = _cell(row, named)
    if isinstance(listed, Mapping) and isinstance(listed.get("text"), list):
        labels = labels or listed.get("label") or []
        listed = listed["text"]
    if not isinstance(listed, list):
        raise InputError(
            f'{place}: column "{named}" holds no list of choices: name one column per choice'
        )
    return [_text(value, named, place) for value in listed], labels


def _without_empty_end(cells: list[str], columns: Sequence[str], place: str) -> list[str]:
    """Choices without the empty columns at the end: items have three options or five.

    Raises:
        InputError: an empty column before one that is not.
    """
    n = max((i + 1 for i, text in enumerate(cells) if text.strip()), default=0)
    if empty := [column for column, text in zip(columns, cells[:n], strict=False) if not text]:
        raise InputError(
            f'{place}: column "{empty[0]}" is empty and "{columns[n - 1]}" is not: correct the row'
        )
    return cells[:n]


def _whole(value: Any) -> int:
    """A whole number, also one that is written as text or kept as a float."""
    if isinstance(value, bool) or isinstance(value, float) and not value.is_integer():
        raise ValueError("not a whole number")
    return int(value)


def _place_of_letter(value: str, labels: Sequence[Any]) -> int:
    """Place of a label, else of a letter, else of a digit that counts from 1, as in ARC.

    Letters count from A only where labels are digits or absent, digits from 1 where they are
    letters: in choices labelled B, C, D the first is B, and in 0, 1, 2 it is 0.
    """
    if value in labels:
        return list(labels).index(value)
    letter = str(value).strip().upper()
    named = [str(label).strip().upper() for label in labels]
    if letter in named or any(name.isdigit() == letter.isdigit() for name in named):
        return named.index(letter)
    if letter.isascii() and letter.isdigit():
        return int(letter) - 1
    if len(letter) != 1:
        raise ValueError("not one letter")
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ".index(letter)


ANSWERS: dict[str, Callable[[Any, list[str], Sequence[Any]], int]] = {
    "0": lambda value, choices, labels: _whole(value),
    "1": lambda value, choices, labels: _whole(value) - 1,
    "letter": lambda value, choices, labels: _place_of_letter(value, labels),
    "text": lambda value, choices, labels: choices.index(str(value)),
    "label": lambda value, choices, labels: list(labels).index(value),
}
