"""Types of single settings: what a value may be, and limits against slips of the pen."""

import re
from pathlib import Path
from string import Formatter
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from isogloss.errors import InputError
from isogloss.questions.columns import PARTS, TEMPLATES
from isogloss.questions.languages import canonical_tag


def _tag(value: str) -> str:
    """A language's canonical tag; names and codes of countries get a suggestion."""
    tag = canonical_tag(value)
    if not re.fullmatch(TAG, value):  # tags name files
        raise ValueError(f'language "{value}": write {tag}')
    return tag


SLUG, TAG = r"^[a-z0-9][a-z0-9._-]*$", r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$"
DEVICE = r"^(auto|cpu|cuda(:[0-9]+)?|mps)$"
Slug = Annotated[str, Field(pattern=SLUG, max_length=64)]
Tag = Annotated[str, AfterValidator(_tag), Field(json_schema_extra={"pattern": TAG})]
Depth = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(allow_inf_nan=False)]
# Names on the hub: no way out of its cache, no option of a program.
Repository = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?$")]
Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][\w./-]*$", max_length=200)]
Package = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*==[\w.!+-]+$")]
FileName = Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]
Digest = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{64}$")]
# Bounds against slips of the pen: what is beyond them never ends, or does not fit a float.
Count = Annotated[int, Field(le=1_000_000)]
Size = Annotated[int, Field(gt=0, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


def no_repeats(value: Any) -> Any:
    """Refuse a list that names something twice."""
    if isinstance(value, list):
        for place, entry in enumerate(value):
            if entry in value[:place]:
                raise ValueError(f"{entry} is named twice")
    return value


class Strict(BaseModel):
    """No unknown keys: a misspelt one is an error, not a silent default."""

    model_config = ConfigDict(extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _true_and_false_only_where_meant(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false in keys that are not yes or no.

        YAML reads yes, no, on and off as true and false: `languages: [no]` is Norwegian to its
        author. And pydantic takes true for the number 1.
        """
        if cls.model_fields[str(info.field_name)].annotation is bool:
            return value
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, bool):
                raise ValueError(
                    f"{str(entry).lower()} has no place here: YAML reads yes, no, on and off so;"
                    " put a text in quotes"
                )
        return value


def plain_fields(template: str, also: str = "") -> list[str] | None:
    """Names of a template's fields; None where one is more than a name, or a brace is alone.

    A conversion, a width or an attribute has no use here, and a width of 10^10 no end. `also` are
    characters that names may have; a name is then looked up, and no attribute taken.

    >>> plain_fields("{context} {{}} {question}"), plain_fields("{question:>9}"), plain_fields("{")
    (['context', 'question'], None, None)
    """
    try:
        parts = [part[1:] for part in Formatter().parse(template) if part[1] is not None]
    except ValueError:
        return None
    names = [str(name) for name, _, _ in parts]
    bare = all(not spec and not conversion for _, spec, conversion in parts)
    never = set(".[]{}") - set(also)
    return names if bare and all(name and not set(name) & never for name in names) else None


def usable_templates(place: str, templates: dict[str, str]) -> dict[str, str]:
    """Templates by canonical tag, and `default`.

    Args: place: their key, for messages.

    Raises:
        ValueError: no `default`, no language tag, a field other than {context} and {question}.
    """
    if "default" not in templates:
        raise ValueError(f"{place} needs an entry `default`")
    by_tag: dict[str, str] = {}
    for key, template in templates.items():
        try:
            tag = key if key == "default" else canonical_tag(key)
        except InputError as error:
            raise ValueError(
                f"{place}.{key} is neither a language tag nor `default`: correct it"
            ) from error
        if tag in by_tag:
            raise ValueError(f"{place}.{key}: {tag} is named twice")
        by_tag[tag] = template
    for tag, template in by_tag.items():
        names = plain_fields(template)
        if names is None or (others := sorted({*names} - {"context", "question"})):
            detail = "" if names is None else f": {', '.join(others)}"
            raise ValueError(
                f"{place}.{tag} has a field other than {{context}} and {{question}}{detail}"
            )
        if "question" not in names:
            raise ValueError(f"{place}.{tag} does not use {{question}}")
    return by_tag


def _known_columns(columns: Any) -> Any:
    """Refuse parts of an item that there are not, and templates that are more than names."""
    if not isinstance(columns, dict):
        return columns
    lists, templates = ("item_id", "choices"), TEMPLATES
    for part, value in columns.items():
        if part not in PARTS:
            raise ValueError(f"{part}: no such part of an item")
        texts = value if part in lists and isinstance(value, list) else [value]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{part}: name columns in quotes, {value!r} is no text")
        if part == "item_id" and not isinstance(value, list):
            raise ValueError("item_id: give a list of columns")
        if part in templates and plain_fields(value, also=".") is None:
            raise ValueError(f"{part}: {value!r} has a field that is more than a column's name")
    return columns


Columns = Annotated[dict[str, Any], BeforeValidator(_known_columns)]
OWN = (
    ".git", ".snakemake", ".venv", "config", "data", "docs", "logs", "profiles", "report", "rules",
    "tests", "workflow_scripts",
)  # fmt: skip
"""Folders of the workflow itself: results or artifacts among them would replace its files."""


ONLY_READ = {"only_read": True}
"""Context of a configuration under which nothing is written: its folders may lie anywhere."""


def _folder(text: str, info: ValidationInfo) -> str:
    """Refuse a folder to write to that is a place for something else, or cannot be a pattern."""
    if info.context is ONLY_READ:
        return text
    if set(text) & set("{}<>") or text.startswith(("-", "~")):
        raise ValueError("braces, < and >, a leading - or ~ cannot be in this path: rename it")
    try:
        folder = Path(text).resolve()
        files = [part for part in (folder, *folder.parents) if part.is_file()]
    except (OSError, RuntimeError) as error:
        raise ValueError(f"cannot be a folder ({type(error).__name__}): correct it") from error
    if files:
        raise ValueError(f"{files[0]} is a file: name a folder")
    for here in (Path.cwd().resolve(), Path(__file__).resolve().parents[3]):
        if folder == here or folder in here.parents:
            raise ValueError("is the workflow's own folder or one above it: name a folder in it")
        if here in folder.parents and folder.relative_to(here).parts[0] in OWN:
            raise ValueError("is among the workflow's own files: name another folder")
    return text


Folder = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_folder)]
