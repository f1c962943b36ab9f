"""Artifacts: what they are (canonical specs and keys) and how they reach the disk whole."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4


def canonical_json(spec: Any) -> str:
    """JSON with sorted keys and no spaces: equal specs give equal text.

    >>> canonical_json({"b": 1, "a": [2.0, "é"]})
    '{"a":[2.0,"é"],"b":1}'
    """
    return json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


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
    under its own name is a whole one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(content: Any, path: Path) -> None:
    """Write JSON for people and programs: indented, sorted, whole or not at all."""
    with whole_file(path) as temporary:
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8")
