"""What identifies things: canonical JSON, the keys of specs, the digests of files."""

import hashlib
import json
from pathlib import Path
from typing import Any


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


def fields_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, as `object_pairs_hook`; of a field that is there twice, one would be lost.

    Raises:
        ValueError: a field is there twice.
    """
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f'field "{twice[0]}" is there twice: keep one of them')
    return dict(pairs)
