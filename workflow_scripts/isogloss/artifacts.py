"""Artifacts: what they are (canonical specs and keys) and how they reach the disk whole."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import xarray as xr

from isogloss.errors import InputError


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


def write_netcdf(dataset: xr.Dataset, path: Path, spec: Any = None) -> None:
    """Write a dataset as netCDF-4, whole or not at all, with the spec that made it.

    Args:
        dataset: named dimensions; every variable with `long_name` and `units`.
        path: file to write; its folder is made.
        spec: the settings behind the numbers, kept as canonical JSON in the attribute `spec`.

    Raises:
        ValueError: a variable without `long_name` or `units`.
    """
    bare = [n for n, v in dataset.data_vars.items() if not {"long_name", "units"} <= set(v.attrs)]
    if bare:
        raise ValueError(f"{path.name}: variables without long_name and units: {bare}")
    if spec is not None:
        dataset = dataset.assign_attrs(spec=canonical_json(spec))
    packed = {
        name: {"zlib": True, "complevel": 1}
        for name, variable in dataset.data_vars.items()
        if variable.ndim and variable.dtype.kind in "fiu"
    }
    with whole_file(path) as temporary:
        dataset.to_netcdf(temporary, engine="h5netcdf", encoding=packed)


def confidence_of(dataset: xr.Dataset) -> float:
    """Confidence of an artifact's intervals and tests: an attribute of it or of its spec.

    >>> confidence_of(xr.Dataset(attrs={"spec": '{"confidence":0.9}'})), confidence_of(xr.Dataset())
    (0.9, 0.95)
    """
    spec = json.loads(dataset.attrs.get("spec", "{}"))
    return float(dataset.attrs.get("confidence", spec.get("confidence", 0.95)))


def open_netcdf(path: Path) -> xr.Dataset:
    """A netCDF artifact, in memory.

    Raises:
        InputError: the file is missing or is not a whole netCDF file.
    """
    if not path.exists():
        raise InputError(f"{path}: no such artifact: run the rule that makes it")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as dataset:
            return dataset.load()
    except (OSError, KeyError) as error:
        raise InputError(
            f"{path}: not a whole netCDF file ({error}): delete it and run again"
        ) from error
