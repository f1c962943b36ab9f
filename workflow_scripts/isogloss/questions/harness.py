"""Multiple-choice tasks of lm-evaluation-harness as parallel items: one task file per language.

Of a task's YAML these keys are read: `dataset_path`, `dataset_name`, `test_split` (else
`validation_split`), `doc_to_text`, `doc_to_choice`, `doc_to_target`, `include`. What runs code
(`!function`, `process_docs`) is refused. What `doc_to_text` gives becomes the question, so that the
prompt's template is "{question}".

Source: the task guide of lm-evaluation-harness 0.4 (Gao et al., zenodo.12608602).
"""

import ast
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from isogloss.errors import InputError, one_line
from isogloss.questions.hub import table_of
from isogloss.questions.items import ParallelItems
from isogloss.questions.languages import canonical_tag
from isogloss.questions.records import (
    NOTHING,
    Exclude,
    Rows,
    distinct,
    parallel,
    reference_of,
    rows_of,
)

NEEDED = ("dataset_path", "doc_to_text", "doc_to_choice", "doc_to_target")


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a call of a function is refused by name."""


def _refuse_function(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    raise InputError(f"!function {node.value}: a task that runs code cannot be read as data")


_Loader.add_constructor("!function", _refuse_function)


def load_tasks(
    folder: Path,
    files: Mapping[str, str],
    languages: Sequence[str],
    name: str,
    licence: str = "",
    exclude: Exclude = NOTHING,
) -> ParallelItems:
    """Items from task files.

    Args:
        folder: that the files lie in.
        files: name of the task's file by language.
        languages: tags to read.
        exclude: items to leave out in every language.

    Raises:
        InputError: a task that is missing, incomplete, not multiple choice or runs code, data that
            cannot be had, or rows that are not items.
    """
    wanted, by_tag = distinct(languages), {canonical_tag(tag): file for tag, file in files.items()}
    if missing := [tag for tag in wanted if tag not in by_tag]:
        raise InputError(f"dataset {name}: no task file for {missing[0]}: add it to configs")
    rows = {
        tag: _read_task(folder / by_tag[tag], tag)
        for tag in dict.fromkeys((reference_of(by_tag), *wanted))
    }
    return parallel(rows, wanted, name, licence, exclude, by_id=False)


def task_files(folder: Path, files: Mapping[str, str]) -> list[Path]:
    """The task files with what they include."""
    return list(dict.fromkeys(path for file in files.values() for path in _chain(folder / file)))


def data_folders(folder: Path, files: Mapping[str, str], languages: Sequence[str]) -> list[Path]:
    """The folders of this machine that the tasks of these languages have their data in."""
    by_tag = {canonical_tag(tag): folder / file for tag, file in files.items()}
    read = {reference_of(by_tag), *distinct(languages)}
    paths = [_data_path(file) for tag, file in by_tag.items() if tag in read]
    return [path for path in dict.fromkeys(paths) if os.path.isdir(path)]


def tasks_are_local(folder: Path, files: Mapping[str, str]) -> bool:
    """Whether the data of all tasks are folders of this machine."""
    return all(os.path.isdir(_data_path(folder / file)) for file in files.values())


def _data_path(file: Path) -> Path:
    """A folder's path as `table_of` reads it; a repository's name is that of no folder."""
    return Path(str(task(file)["dataset_path"])).expanduser()


def task(path: Path) -> dict[str, Any]:
    """A task's keys, included files below its own.

    Raises:
        InputError: it cannot be read, a key is missing, or it is no multiple choice.
    """
    content: dict[str, Any] = {}
    for file in reversed(_chain(path)):
        content |= _keys(file)
    if missing := [key for key in NEEDED if key not in content]:
        raise InputError(f"{path}: no {missing[0]}: give a multiple_choice task of the harness")
    kind = content.get("output_type", "multiple_choice")
    if kind != "multiple_choice":
        raise InputError(f"{path}: output_type is {kind}: only multiple_choice can be scored")
    if "process_docs" in content:
        raise InputError(f"{path}: process_docs runs code: save the processed rows as a dataset")
    return content


def _chain(path: Path) -> list[Path]:
    """A file, then what it includes, and so on."""
    chain = [path]
    while included := _keys(chain[-1]).get("include"):
        following = chain[-1].parent / str(included)
        if following in chain:
            raise InputError(f"{chain[-1]}: includes itself: correct it")
        chain.append(following)
    return chain


def _keys(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({one_line(error)}): correct it") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: no keys and values: give a task of the harness")
    return content


def _read_task(path: Path, language: str) -> Rows:
    """Items of one language."""
    about = task(path)
    split = str(about.get("test_split") or about.get("validation_split") or "test")
    config = str(about.get("dataset_name") or "default")
    path_of_data = str(about["dataset_path"])
    # Templates are written for the library's types: `label == 1` is false of the text "1".
    with table_of(path_of_data, config, split, None, as_text=False) as table:
        rows = table.to_list()
    if not rows:
        raise InputError(f"{path}: the split {split} is empty: name another")
    places = [f"{path}:{number}" for number in range(len(rows))]
    records = [
        _record(row, number, about, f"{place} ({language})")
        for number, (row, place) in enumerate(zip(rows, places, strict=True))
    ]
    return rows_of(zip(places, records, strict=True), language)


def _record(row: Mapping[str, Any], number: int, about: Mapping[str, Any], place: str) -> dict:
    """A row as the fields of an item, as the harness makes its request of it."""
    choices = _value(about["doc_to_choice"], row, place)
    if isinstance(choices, Mapping):
        choices = list(choices.values())
    if not isinstance(choices, list) or not choices:
        raise InputError(f"{place}: doc_to_choice gives no list: correct the task")
    if no_text := [choice for choice in choices if not isinstance(choice, str)]:
        raise InputError(f"{place}: doc_to_choice gives {no_text[0]!r}, no text: correct the task")
    target = _value(about["doc_to_target"], row, place)
    answer = choices.index(target) if isinstance(target, str) and target in choices else target
    if not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise InputError(
            f"{place}: doc_to_target gives {target!r}, which is none of the choices, nor an index"
            " from 0: correct the task (digits are an index in a template, text in a text column)"
        )
    question = _value(about["doc_to_text"], row, place, lists=False)
    if isinstance(question, int):
        raise InputError(
            f"{place}: doc_to_text gives the number {question}, by which the harness means several"
            " texts before one choice: give a task with one question and several choices"
        )
    return {"item_id": str(number), "question": question, "choices": choices, "answer": answer}


def _value(template: Any, row: Mapping[str, Any], place: str, lists: bool = True) -> Any:
    """A column by its name, else a Jinja template over the row, whose digits are a number.

    So does the harness (`doc_to_target` in its api/task.py): "1" in a column is text, which is
    looked for among the choices; from a template it is an index, whatever the choices are called.
    """
    if not isinstance(template, str):
        return template
    if template in row:
        return row[template]
    try:
        text = str(_jinja().from_string(template).render(**row))
    except Exception as error:  # of many kinds, by what the template does
        raise InputError(f"{place}: {template!r} fails ({one_line(error)}): correct it") from error
    if not (text.isdigit() or lists and text.strip().startswith("[")):
        return text
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text


@cache
def _jinja() -> Any:
    """Templates as the harness reads them, without a way to the machine."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
