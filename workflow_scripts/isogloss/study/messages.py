"""What is said of a wrong value in a study: the key, what is wrong, what is allowed."""

import difflib
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from isogloss.study.sections import BRANCHES
from isogloss.study.setting_types import DEVICE, SLUG


def fault_text(fault: ErrorDetails, study: type[BaseModel]) -> str:
    """A wrong key: its path, what is wrong, what was given.

    Args:
        fault: as pydantic reports it.
        study: the whole configuration, whose keys may have been meant.
    """
    kind, path, given = fault["type"], fault["loc"], fault["input"]
    name = ".".join(str(part) for part in path if part not in (*BRANCHES, "[key]"))
    place = f"{name}: " if name else ""
    if kind == "extra_forbidden":
        return f"{place}no such key{_place_or_spelling(str(path[-1]), study)}"
    if kind == "missing":
        return f"{place}is needed: add it"
    context = fault.get("ctx", {})
    message = MESSAGES.get(kind) or PATTERNS.get(context.get("pattern")) or fault["msg"]
    message = message.format(**context) if kind == "literal_error" else message
    shown = "" if isinstance(given, dict | list) else f" (got {_short(given)})"
    advice = ": put it in quotes" if kind == "string_type" and shown and given is not None else ""
    return f"{place}{message.removeprefix('Value error, ')}{shown}{advice}"


MESSAGES = {
    "int_parsing": "use a whole number, without a letter behind it",
    "list_type": "use a list: [one, another]",
    "literal_error": "use {expected}",
    "string_type": "use a text",
}
"""What to write, by pydantic's name of the fault."""

PATTERNS: dict[str | None, str] = {
    SLUG: "use lower-case letters, digits and . _ -, a letter or digit first",
    DEVICE: "use auto, cpu, cuda, cuda:1, ... or mps",
}
"""The same by pattern."""


def _short(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _place_or_spelling(key: str, study: type[BaseModel]) -> str:
    """Where an unknown key belongs, or which key it may have been meant to be."""
    sections = sections_of(study)
    places = [place for place, section in sections if key in section.model_fields]
    if places:
        return f" here: it belongs to {' or '.join(at or 'the top level' for at in places)}"
    known = [name for _, section in sections for name in section.model_fields]
    close = difflib.get_close_matches(key, known, n=1)
    return f": did you mean {close[0]}?" if close else ": config/config.yaml has all of them"


def sections_of(section: type[BaseModel], place: str = "") -> list[tuple[str, type[BaseModel]]]:
    """A section and those in it, each with its place; `<name>` is for names that users choose."""
    sections = [(place, section)]
    for key, field in section.model_fields.items():
        for inner, name in _sections_in(field.annotation):
            sections += sections_of(inner, ".".join(filter(None, [place, key, name])))
    return sections


def _sections_in(annotation: Any, name: str = "") -> list[tuple[type[BaseModel], str]]:
    """Sections that a key has: itself, or some under names that users choose."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(annotation, name)]
    name = "<name>" if get_origin(annotation) is dict else name
    return [section for inner in get_args(annotation) for section in _sections_in(inner, name)]
