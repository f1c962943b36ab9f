"""A study's file as plain values: safe YAML or JSON, refused where it is not what it seems.

Snakemake reads `--configfile` itself, before the workflow, and takes more than it should: of a key
that is there twice the last one, and with `__use_yte__` Python expressions, which it runs. So
the workflow reads the file again in this way; `configure.py --check` reads it in this way alone.
"""

import json
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from isogloss.errors import InputError, is_unprintable
from isogloss.files.canonical import fields_once

LARGEST = 100_000
"""Values that a study may have, aliases followed: a few lines of YAML can stand for billions."""

# Keys below which a text may have several lines.
SEVERAL_LINES = ("templates", "variants", "columns")


def mapping_of(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML or JSON file.

    Raises:
        InputError: no such file, not UTF-8, neither JSON nor YAML, with tags that make objects, a
            key twice, aliases without end, templates that are programs, or no keys at all.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path}: cannot be read: no such file")
        text = path.read_text(encoding="utf-8")
        content = _json(text) if text.lstrip().startswith("{") else _NOTHING
        if content is _NOTHING:
            content = yaml.load(text, Loader=_OnceLoader)  # a SafeLoader: plain values only
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise InputError(f"{place}: cannot be read: {error.problem or error.context}") from error
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read: {reason}") from error
    if content is None:
        raise InputError(f"{path}: is empty: config/studies/own-data.yaml is a study to copy")
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise InputError(f"{path}: expected keys and values, got {kind}: write `key: value`")
    if "__use_yte__" in content:
        raise InputError(
            f"{path}: __use_yte__: Snakemake runs such a file as a program: write plain values"
        )
    return content


def check_free(results: Path, study: str) -> None:
    """Refuse a results folder that another study has written to.

    Raises:
        InputError: names both studies.
    """
    try:
        there = mapping_of(results / "config.yaml").get("study")
    except InputError:
        return  # nothing, or nothing that can be read: this study writes it
    if there not in (None, study):
        raise InputError(
            f"results: {results} has the results of the study {there}, this is {study}: give it a"
            f" folder of its own; if it was only renamed, delete {results / 'config.yaml'}"
        )


_NOTHING = object()


def _json(text: str) -> Any:
    """The content as JSON; _NOTHING where it is not JSON."""
    try:
        return json.loads(text, object_pairs_hook=fields_once)
    except json.JSONDecodeError:
        return _NOTHING


class _OnceLoader(yaml.SafeLoader):
    """Safe YAML in which a key that is there twice, or aliases without end, are errors."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            _size(node, {}, ())
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = (key_node.tag, key_node.value)
            if isinstance(key_node, yaml.ScalarNode) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key_node.value}: the key is there twice", key_node.start_mark
                )
            seen.add(key if isinstance(key_node, yaml.ScalarNode) else id(key_node))
        return super().construct_mapping(node, deep)


def _size(node: Any, known: dict[int, int], above: tuple[int, ...]) -> int:
    """How many values a node stands for, each alias counted as what it repeats."""
    if id(node) in known:
        return known[id(node)]
    if id(node) in above:
        raise yaml.constructor.ConstructorError(
            None, None, "an alias stands for what it is in", node.start_mark
        )
    inner = node.value if isinstance(node, yaml.CollectionNode) else []
    parts = [part for pair in inner for part in (pair if isinstance(pair, tuple) else (pair,))]
    size = 1 + sum(_size(part, known, (*above, id(node))) for part in parts)
    if size > LARGEST:
        raise yaml.constructor.ConstructorError(
            None, None, f"more than {LARGEST} values, aliases followed", node.start_mark
        )
    known[id(node)] = size
    return size


def check_values(content: dict[str, Any], origin: str) -> None:
    """Refuse values that no setting may have, whatever its key.

    Texts reach commands, logs, tables and pages: they have no control characters, no halves of
    surrogate pairs, and lines only where several are meant. Numbers reach floats: of 64 bits.

    Raises:
        InputError: naming the key.
    """
    for place, value in _values(content):
        key = f"{origin}: {'.'.join(place)}"
        if isinstance(value, int) and value.bit_length() > 64:
            raise InputError(f"{key}: the number is too large: correct it")
        if isinstance(value, str):
            allowed = "\n\t" if set(place) & set(SEVERAL_LINES) else ""
            if wrong := [c for c in value if c not in allowed and is_unprintable(c)]:
                raise InputError(
                    f"{key}: character U+{ord(wrong[0]):04X} cannot be in a setting of one line: "
                    "remove it"
                )


def _values(content: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Texts, numbers and keys with the place of each."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield (*place, "a key"), str(key)
            yield from _values(value, (*place, str(key)))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from _values(value, (*place, str(number)))
    else:
        yield place, content
