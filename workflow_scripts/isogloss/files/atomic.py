"""Artifacts: what they are (canonical specs and keys) and how they reach the disk whole."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isogloss.errors import InputError
from isogloss.files.temporary_files import remove_leftovers, temporary_name


def canonical_json(spec: Any) -> str:
    """JSON with sorted keys and no spaces: equal specs give equal text.

    >>> canonical_json({"b": 1, "a": [2.0, "é"]})
    '{"a":[2.0,"é"],"b":1}'
    """
    return json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fields_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, as `object_pairs_hook`; of a field that is there twice, one would be lost.

    Raises:
        ValueError: a field is there twice.
    """
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f'field "{twice[0]}" is there twice: keep one of them')
    return dict(pairs)


def key_of(spec: Any) -> str:
    """SHA-256 (hex) of a spec's canonical JSON: the name of the artifact that it describes."""
    return hashlib.sha256(canonical_json(spec).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name in the folder of `path` that becomes `path` only when the block succeeds.

    The bytes are flushed to the disk before the name is given, so that a file that exists
    under its own name is a whole one. What killed processes left in the folder is removed.

    Raises:
        InputError: the disk is full.
    """
    temporary = temporary_name(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk in the block into an error that names what was being written.

    Raises:
        InputError: no space is left, or the user's share of it is used up.
    """
    try:
        yield
    except Exception as error:  # HDF5 and safetensors raise kinds of their own, without errno
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if not full and not re.search("No space left on device|Disk quota exceeded", str(error)):
            raise
        raise InputError(
            f"{path}: no space left on the disk: free some and run again; what was finished is kept"
        ) from error


def write_json(content: Any, path: Path) -> None:
    """Write JSON for people and programs: indented, sorted, whole or not at all."""
    with whole_file(path) as temporary:
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8")
