"""What a store has: which names are artifacts, and what their headers say of them.

Every command takes names through `parse_name`: nothing else in a folder or a bucket is touched.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np

from isogloss.errors import InputError
from isogloss.files.hdf5 import DAMAGE
from isogloss.store.places import Place
from isogloss.study.keys import parse_name

LARGEST_HEADER = 10_000_000
"""A readout's own header is a few kB; a larger number is damage [byte]."""


def split(path: str) -> tuple[str, str] | None:
    """A path or an address as the root of a store and an artifact's name in it.

    >>> split("s3://b/p/readouts/tiny/" + "0" * 64 + ".safetensors")[0]
    's3://b/p'
    """
    parts = path.split("/")
    for length in (3, 5):
        name = "/".join(parts[-length:])
        if len(parts) > length and parse_name(name):
            return "/".join(parts[:-length]) or "/", name
    return None


def artifacts(place: Place) -> dict[str, int]:
    """Every artifact of a place, with its size [byte], in the order of their names."""
    return {name: size for name, size in sorted(place.names().items()) if parse_name(name)}


def header(place: Place, name: str) -> dict[str, Any]:
    """Attributes of an artifact, `spec` and `record` as values; only its header is read.

    Raises:
        InputError: it cannot be read, or what is there is no header.
    """
    with place.open(name) as file:
        try:
            attributes = _safetensors(file) if name.endswith(".safetensors") else _hdf5(file)
            for attribute in {"spec", "record"} & attributes.keys():
                attributes[attribute] = dict(json.loads(attributes[attribute]))
        except (*DAMAGE, struct.error) as error:
            raise InputError(f"{place.url}/{name}: its header cannot be read ({error})") from error
    return attributes


def _hdf5(file: Any) -> dict[str, Any]:
    with h5py.File(file, "r") as opened:
        return {name: np.ravel(value)[0] for name, value in opened.attrs.items()}


def _safetensors(file: Any) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > LARGEST_HEADER:
        raise ValueError(f"a header of {length} bytes")
    metadata = json.loads(file.read(length))["__metadata__"]
    attributes: dict[str, Any] = json.loads(metadata["isogloss"])
    return attributes


def made_with(about: Mapping[str, Any]) -> str:
    """What an artifact was made with, in a few words, from its header.

    >>> made_with({"spec": {"dtype": "float32", "lens_version": 1}, "schema_version": 2})
    'float32, schema 2, lens 1'
    """
    spec, record = about.get("spec", {}), about.get("record", {})
    words = [spec.get("dtype") or spec.get("loaded", {}).get("dtype")]
    words.append(spec.get("prompt", {}).get("mode"))
    words += [f"schema {about['schema_version']}"] if "schema_version" in about else []
    versions = {n: v for n, v in spec.items() if n.endswith("_version")}
    words += [f"{n.removesuffix('_version')} {v}" for n, v in versions.items()]
    libraries = record.get("versions", {})
    words += [f"{n} {libraries[n]}" for n in ("torch", "transformers") if n in libraries]
    return ", ".join(word for word in words if word)


def size_text(size: int) -> str:
    """A size for people.

    >>> size_text(999), size_text(1_234_567)
    ('999 B', '1.2 MB')
    """
    value, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def aligned(rows: list[list[str]]) -> Iterator[str]:
    """Rows of a table as lines whose columns begin below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
