"""Keyed artifacts in HDF5 (netCDF too): what a file is, and a digest of what it holds.

The file is named by the key of its spec, holds that spec, and is sealed when it is whole: a digest
over every name, type, value and attribute, so that a changed bit that a reader would see is found.
"""

import hashlib
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from isogloss.artifacts import canonical_json, key_of
from isogloss.errors import Damaged, InputError
from isogloss.versions import SCHEMA_VERSION

DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError)
"""What HDF5 makes of a damaged file."""

BOOKKEEPING = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "content_digest"}
"""Attributes with addresses in the file, which say nothing of what it holds."""


def header(spec: Any) -> dict[str, Any]:
    """Attributes of a keyed artifact: what it is, and the layout that it was written in."""
    return {
        "schema_version": SCHEMA_VERSION,
        "spec": canonical_json(spec),
        "key": key_of(spec),
    }


def seal(path: Path) -> None:
    """Take the digest of a finished file and keep it in the file."""
    digest = content_digest(path)
    with h5py.File(path, "r+") as file:
        file.attrs["content_digest"] = digest


def check_header(path: Path) -> dict[str, Any]:
    """The spec of a keyed artifact, checked against the key that names the file.

    Raises:
        InputError: missing.
        Damaged: truncated, another schema version, or a key that does not match.
    """
    if not path.exists():
        raise InputError(f"{path}: no such artifact: run the rule that makes it again")
    try:
        with h5py.File(path) as file:
            attrs = {name: np.ravel(value)[0] for name, value in file.attrs.items()}
    except DAMAGE as error:
        raise Damaged(path, f"not a whole HDF5 file ({error})") from error
    version, key = (str(attrs.get(name, "absent")) for name in ("schema_version", "key"))
    if version != str(SCHEMA_VERSION):
        raise Damaged(path, f"schema_version is {version}, this program reads {SCHEMA_VERSION}")
    try:
        spec: dict[str, Any] = json.loads(attrs["spec"])
    except (KeyError, ValueError, TypeError):
        spec = {}
    if key_of(spec) != key or path.stem != key:
        raise Damaged(path, f"key {key[:12]} does not match the spec that it holds")
    return spec


def verify(path: Path) -> None:
    """Read everything and compare with the digest taken when the file was made.

    Raises:
        Damaged: as `check_header`, or anything differs from what was written.
    """
    check_header(path)
    try:
        with h5py.File(path) as file:
            expected = str(file.attrs["content_digest"])
        found = content_digest(path)
    except DAMAGE as error:
        raise Damaged(path, f"cannot be read whole ({error})") from error
    if found != expected:
        raise Damaged(
            path,
            f"content_digest is {found[:12]}, {expected[:12]} was written: it has changed since",
        )


def content_digest(path: Path, leave_out: Collection[str] = ()) -> str:
    """SHA-256 over every object's name, type, values and attributes: equal for equal content.

    Args:
        path: an HDF5 file.
        leave_out: attributes of the root that do not count, such as `record` (times, versions).
    """
    digest = hashlib.sha256()
    with h5py.File(path) as file:
        objects: dict[str, Any] = {"": file}
        file.visititems(objects.__setitem__)
        for name in sorted(objects):
            held = objects[name]
            attributes = _attributes(held, () if name else leave_out)
            digest.update(canonical_json([name, attributes]).encode())
            if isinstance(held, h5py.Dataset):
                digest.update(f"{held.dtype.str}{held.shape}".encode())
                for piece in _in_pieces(held):
                    digest.update(piece)
    return digest.hexdigest()


def _attributes(held: Any, leave_out: Collection[str]) -> dict[str, Any]:
    """Attributes as plain values, without those that are about the file."""
    named = (n for n in held.attrs if n not in {*BOOKKEEPING, *leave_out} and n[:2] != "_N")
    return {name: np.asarray(held.attrs[name]).astype(str).tolist() for name in named}


def _in_pieces(dataset: h5py.Dataset, rows: int = 1024) -> Iterator[bytes]:
    if dataset.ndim == 0:
        yield repr(dataset[()]).encode()
        return
    for start in range(0, dataset.shape[0], rows):
        values = dataset[start : start + rows]
        strings = values.dtype.kind == "O"
        yield "\0".join(map(str, values.ravel())).encode() if strings else values.tobytes()
