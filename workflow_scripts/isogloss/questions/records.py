"""Items of one language as a source gives them: rows, their places, and what is wrong with them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isogloss.errors import InputError, is_unprintable
from isogloss.questions.items import Item, ParallelItems, check_parallel, find_clusters, normalise
from isogloss.questions.languages import canonical_tag


@dataclass
class Rows:
    """Items of one language as read, with the place of each and what normalisation changed."""

    items: list[Item]
    places: list[str]
    normalised: int

    def at(self, rows: Sequence[int]) -> "Rows":
        """Some rows, in this order."""
        return Rows([self.items[i] for i in rows], [self.places[i] for i in rows], self.normalised)


def distinct(languages: Iterable[str]) -> list[str]:
    """Canonical tags, each once, in the order given."""
    return list(dict.fromkeys(map(canonical_tag, languages)))


RULES: dict[str, Callable[[Item], bool]] = {
    "repeated_choices": lambda item: len(set(item.choices)) < len(item.choices),
    "empty_choices": lambda item: not all(item.choices),
}
"""What an item can be left out for: what makes it unusable, and stands in published data."""
INCOMPLETE = "incomplete"
"""The rule for items that not every language has, whose ids are what says so."""


@dataclass(frozen=True)
class Exclude:
    """Items to leave out in every language.

    Attributes:
        ids: of items, by name.
        rules: of `RULES`, an item goes where one holds in any of the languages that are read; or
            `INCOMPLETE`, it goes where any of them lacks it.
    """

    ids: Sequence[str] = ()
    rules: Sequence[str] = ()


NOTHING = Exclude()


def parallel(
    rows: Mapping[str, Rows],
    languages: Sequence[str],
    name: str,
    licence: str,
    exclude: Exclude,
    by_id: bool = True,
) -> ParallelItems:
    """Check the rows, reference language first, and keep the languages asked for.

    Args:
        rows: of each language, the reference language first.
        languages: to keep.
        exclude: items to leave out.
        by_id: ids name items, whatever their order; else the rows' order does.

    Raises:
        InputError: as `check_parallel`; or an id to leave out that no item has.
    """
    if INCOMPLETE in exclude.rules and not by_id:
        raise InputError(
            f"dataset {name}: exclude.rules: {INCOMPLETE}: rows without ids are never missing, only"
            " others: give columns.item_id"
        )
    rows, excluded = _without(rows, exclude, name)
    reference = next(iter(rows.values())).items
    if by_id:
        rows = {language: _in_order_of(reference, read) for language, read in rows.items()}

    def where(language: str, row: int) -> str:
        return rows[language].places[row]

    check_parallel({language: read.items for language, read in rows.items()}, where, by_id)
    return ParallelItems(
        name=name,
        items={language: tuple(rows[language].items) for language in languages},
        clusters=find_clusters(reference),
        licence=licence,
        normalised={language: rows[language].normalised for language in languages},
        excluded=excluded,
    )


def _without(
    rows: Mapping[str, Rows], exclude: Exclude, name: str
) -> tuple[dict[str, Rows], dict[str, int]]:
    """The rows that stay, and by rule how many items went."""
    wrong: dict[str, set[str]] = {"ids": set(exclude.ids)} if exclude.ids else {}
    everything = [item for read in rows.values() for item in read.items]
    there = {item.item_id for item in everything}
    if absent := [item_id for item_id in exclude.ids if item_id not in there]:
        raise InputError(
            f'dataset {name}: exclude.ids has "{absent[0]}", which no item is: correct it'
        )
    for rule in exclude.rules:
        if rule == INCOMPLETE:
            ids = [{item.item_id for item in read.items} for read in rows.values()]
            wrong[rule] = {item for item in there if not all(item in read for read in ids)}
        else:
            wrong[rule] = {item.item_id for item in everything if RULES[rule](item)}
    gone = set().union(*wrong.values())
    kept = {
        language: read.at([i for i, item in enumerate(read.items) if item.item_id not in gone])
        for language, read in rows.items()
    }
    if not any(read.items for read in kept.values()):
        raise InputError(f"dataset {name}: exclude leaves no item: correct it")
    return kept, {rule: len(ids) for rule, ids in wrong.items()}


def _in_order_of(reference: Sequence[Item], read: Rows) -> Rows:
    """The rows in the reference's order, where they are the same items."""
    order = {item.item_id: place for place, item in enumerate(reference)}
    ids = [item.item_id for item in read.items]
    if len(ids) != len(order) or set(ids) != set(order):
        return read  # and `check_parallel` says which is missing
    return read.at(sorted(range(len(ids)), key=lambda row: order[ids[row]]))


def reference_of(languages: Iterable[str]) -> str:
    """The language that clusters come from: English, else the first by the alphabet."""
    tags = sorted(languages)
    return "en" if "en" in tags else tags[0]


FIELDS: dict[str, tuple[Callable[[Any], bool], str, bool]] = {
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


def item_of_record(record: Mapping[str, Any], place: str) -> tuple[Item, int]:
    """An item from a mapping with its fields, and how many strings normalisation changed.

    Raises:
        InputError: a field is missing, unknown or not of its kind, or text that is not Unicode.
    """
    unknown = sorted(set(record) - set(FIELDS))
    if unknown:
        raise InputError(f'{place}: unknown field "{unknown[0]}": use {", ".join(FIELDS)}')
    for name, (test, what, required) in FIELDS.items():
        if required and name not in record:
            raise InputError(f'{place}: no field "{name}": add it, {what}')
        if name in record and not test(record[name]):
            raise InputError(
                f'{place}: "{name}" is not {what}: make it {_instead(record[name], what)}'
            )
    for name in ("item_id", "category", "cluster"):
        if any(is_unprintable(character) for character in record.get(name) or ""):
            raise InputError(f'{place}: "{name}" has a character that is not printed: remove it')
    raw = [record.get("context", ""), record["question"], *record["choices"]]
    clean = [text_of(text, place) for text in raw]
    item = Item(
        item_id=record["item_id"],
        context=clean[0],
        question=clean[1],
        choices=tuple(clean[2:]),
        answer=record["answer"],
        category=record.get("category"),
        cluster=record.get("cluster") or None,
    )
    if not item.choices:
        raise InputError(f"{place}: has 0 choices: give at least 2")
    return item, sum(text != other for text, other in zip(raw, clean, strict=True))


def rows_of(records: Iterable[tuple[str, Mapping[str, Any]]], language: str) -> Rows:
    """The items of one language.

    Args:
        records: the place of each, for messages, and its fields.

    Raises:
        InputError: as `item_of_record`.
    """
    items, places, changed = [], [], 0
    for place, record in records:
        item, count = item_of_record(
            record, f'{place}: item "{record.get("item_id")}" ({language})'
        )
        items.append(item)
        places.append(place)
        changed += count
    return Rows(items, places, changed)


def _instead(value: Any, what: str) -> str:
    """What a field has to be; the number of a letter where that was given."""
    letter = value.strip().upper() if isinstance(value, str) else ""
    if what.startswith("a whole number") and re.fullmatch("[A-Z]", letter):
        return f'{ord(letter) - ord("A")} for "{value}"'
    return what


def text_of(raw: str, place: str) -> str:
    """Text in its normal form.

    Raises:
        InputError: half a surrogate pair, or a control character other than tab and line ends.
    """
    if match := _NO_TEXT.search(raw):
        if match[0] >= "\ud800":
            raise InputError(f"{place}: half a surrogate pair is no text: save it as UTF-8")
        raise InputError(f"{place}: control character U+{ord(match[0]):04X} in the text: remove it")
    return normalise(raw)


# Control characters that are no white space (others stand in published data), and surrogates.
_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1b\ud800-\udfff]")
