"""Keyed artifacts in HDF5 (netCDF too): what a file is, and digests of what it holds.

The file is named by the key of its spec, holds that spec, and is sealed when it is whole. The seal
is a digest of the bytes before it, at the end of the file, where HDF5 does not look. So a changed
bit is found before HDF5 reads it: its reader may crash or never end on a damaged address.
"""

import hashlib
import io
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from isogloss.errors import Damaged, InputError, one_line
from isogloss.files.canonical import canonical_json, key_of
from isogloss.versions import SCHEMA_VERSION

DAMAGE = (OSError, RuntimeError, LookupError, ValueError, AttributeError, TypeError)
"""What HDF5 and its readers make of a damaged file."""

HDF5_FORMAT = ("v110", "v110")
"""Since 1.10 HDF5 checksums its own structure too, not only the values."""

MARK = b"isogloss sha256:"
"""Before the 32 bytes of the digest that end a sealed file."""

BOOKKEEPING = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "content_digest"}
"""Attributes with addresses in the file, which say nothing of what it holds."""


def header(spec: Any) -> dict[str, Any]:
    """Attributes of a keyed artifact: what it is, and the layout that it was written in."""
    return {"schema_version": SCHEMA_VERSION, "spec": canonical_json(spec), "key": key_of(spec)}


def seal(path: Path) -> None:
    """Finish a file: keep the digest of its content in it, and that of its bytes behind it."""
    digest = content_digest(path)
    with DiskFile(path, "r+") as disk:
        with h5py.File(disk, "r+", libver=HDF5_FORMAT) as file:
            file.attrs["content_digest"] = digest
        disk.check()
    with path.open("r+b") as raw:
        digest_of_bytes = hashlib.file_digest(raw, "sha256").digest()
        raw.seek(0, os.SEEK_END)
        raw.write(MARK + digest_of_bytes)


def check_seal(path: Path) -> None:
    """Read every byte and compare with the digest at the end.

    Raises:
        InputError: missing.
        Damaged: no such end, or a bit has changed since.
    """
    if not path.exists():
        raise InputError(f"{path}: no such artifact: run the rule that makes it again")
    digest, left = hashlib.sha256(), path.stat().st_size - len(MARK) - 32
    with path.open("rb") as file:
        while left > 0 and (piece := file.read(min(left, 2**20))):
            digest.update(piece)
            left -= len(piece)
        end = file.read()
    if not end.startswith(MARK):
        reason = "cut short, written to since, or of another version"
        raise Damaged(path, f"it does not end with its digest: {reason}")
    if end != MARK + digest.digest():
        raise Damaged(path, "its bytes are not those of its digest: it has changed since")


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
        raise Damaged(path, f"not a whole HDF5 file ({one_line(error)})") from error
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


def verify_hdf5(path: Path) -> None:
    """Whether a file is what its name says, and every bit of it as it was written.

    Raises:
        InputError: missing.
        Damaged: as `check_seal` and `check_header`.
    """
    check_seal(path)
    check_header(path)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what HDF5 makes of a damaged file in the block into an error that names the file.

    Raises:
        Damaged: it is.
    """
    try:
        yield
    except InputError:
        raise
    except DAMAGE as error:
        raise Damaged(path, f"cannot be read whole ({one_line(error)})") from error


class DiskFile(io.FileIO):
    """A file to give to h5py in place of its path: no write to it fails while HDF5 looks on.

    Where HDF5 cannot write what it still holds, closing the file ends the process by a segmentation
    fault. So the first error is kept, what comes after it is dropped, and `check` raises it.
    """

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data)
        try:
            while left and self._error is None:
                left = left[super().write(left) :]
        except OSError as error:
            self._error = error
        return len(data)

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, with zeros where what was written has been dropped."""
        size = super().readinto(buffer) or 0
        if self._error is not None:
            memoryview(buffer)[size:] = bytes(len(buffer) - size)
        return len(buffer) if self._error is not None else size

    def check(self) -> None:
        """Raise what was kept."""
        if self._error is not None:
            raise self._error


def content_digest(path: Path, leave_out: Collection[str] = ()) -> str:
    """SHA-256 over every object's name, type, values and attributes: equal for equal content.

    Args:
        leave_out: attributes of the root that do not count, such as `record` (times, versions).
    """
    digest = hashlib.sha256()
    with h5py.File(path) as file:
        objects: dict[str, Any] = {"": file}
        file.visititems(objects.__setitem__)
        for name in sorted(objects):
            item = objects[name]
            attributes = _attributes(item, () if name else leave_out)
            digest.update(canonical_json([name, attributes]).encode())
            if isinstance(item, h5py.Dataset):
                digest.update(f"{item.dtype.str}{item.shape}".encode())
                for piece in _in_pieces(item):
                    digest.update(piece)
    return digest.hexdigest()


def _attributes(item: Any, leave_out: Collection[str]) -> dict[str, Any]:
    """Attributes as plain values, without those that are about the file."""
    named = (n for n in item.attrs if n not in {*BOOKKEEPING, *leave_out} and n[:2] != "_N")
    return {name: np.asarray(item.attrs[name]).astype(str).tolist() for name in named}


def _in_pieces(dataset: h5py.Dataset, rows: int = 1024) -> Iterator[bytes]:
    if dataset.ndim == 0:
        yield repr(dataset[()]).encode()
        return
    for start in range(0, dataset.shape[0], rows):
        values = dataset[start : start + rows]
        strings = values.dtype.kind == "O"
        yield "\0".join(map(str, values.ravel())).encode() if strings else values.tobytes()
