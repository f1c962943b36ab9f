"""The activation file: states and scores of one language's questions, from one pass.

One netCDF-4 (HDF5) file a (model, dataset, language), named by the key of its spec. `LAYOUT` lists
what it holds:

- root: states of the prompts, scores of the phrases, and what the items are;
- `rows`: every state that predicts a token of a phrase, the state at the prompt's end once for all
  phrases; only where layers are kept for the lens;
- `targets`: one row a predicted token: which row predicts it, of which item, latent language,
  choice and position, and the model's own log-probability.

Layer 0 is the embedding that enters the first block; the last layer is the residual stream
before the final norm. bfloat16 is stored as its raw 16 bits with `stored_as = "bfloat16"`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from isogloss.errors import InputError
from isogloss.files.canonical import canonical_json
from isogloss.files.hdf5 import HDF5_FORMAT, DiskFile, check_header, header, reading, seal
from isogloss.files.parallel_states import ParallelStates

TEXT = h5py.string_dtype()


@dataclass(frozen=True)
class Variable:
    """How one variable of the file is stored.

    Attributes:
        dimensions: their names.
        long_name, units: its attributes.
        dtype: of the values; of states it is the model's.
        rows_of_a_chunk: of states, whose chunks hold one layer of so many rows, so that reading a
            layer of all rows takes few, sequential pieces.
    """

    dimensions: tuple[str, ...]
    long_name: str
    units: str = "1"
    dtype: Any = np.int32
    rows_of_a_chunk: int = 0


_ITEM, _CHOICE, _PHRASE = ("item",), ("item", "choice"), ("item", "latent", "choice")
_STATE, _ROW, _TARGET = ("item", "layer", "feature"), ("row", "lens_layer", "feature"), ("target",)

LAYOUT: dict[str, dict[str, Variable]] = {
    "": {
        "item_id": Variable(_ITEM, "item", dtype=TEXT),
        "cluster": Variable(_ITEM, "cluster of the item"),
        "answer": Variable(_ITEM, "index of the gold choice"),
        "n_choices": Variable(_ITEM, "choices of the item"),
        "mismatched_item": Variable(
            _ITEM, "item whose right choice is the mismatched phrase, -1 for none"
        ),
        "n_prompt_tokens": Variable(_ITEM, "tokens of the prompt, BOS included"),
        "n_truncated_tokens": Variable(_ITEM, "tokens dropped from the left"),
        "n_characters": Variable(_CHOICE, "code points of the choice"),
        "n_bytes": Variable(_CHOICE, "UTF-8 bytes of the choice"),
        "identical_to_pivot": Variable(_CHOICE, "choice spelled as in the pivot", dtype=np.int8),
        "latent": Variable(("latent",), "whose words are scored", dtype=TEXT),
        "log_probability": Variable(
            _PHRASE, "log-likelihood of the phrase after the prompt", "nat", np.float32
        ),
        "phrase_tokens": Variable(_PHRASE, "tokens of the phrase"),
        "unconditional": Variable(
            _CHOICE, "log-likelihood after the prompt without a question", "nat", np.float32
        ),
        "letter": Variable(
            _CHOICE, "log-likelihood of the choice's letter, mean over rotations", "nat", np.float32
        ),
        "layer": Variable(("layer",), "layer; 0 is the embedding", dtype=np.int64),
        "relative_depth": Variable(("layer",), "relative depth", dtype=np.float64),
        "prompt_last": Variable(
            _STATE, "residual stream at the prompt's last token", rows_of_a_chunk=64
        ),
        "prompt_mean": Variable(
            _STATE,
            "residual stream, mean over the prompt without its first token",
            rows_of_a_chunk=64,
        ),
    },
    "rows": {
        "lens_layer": Variable(("lens_layer",), "layers kept for the lens", dtype=np.int64),
        "state": Variable(
            _ROW, "residual stream that predicts a scored token", rows_of_a_chunk=1024
        ),
    },
    "targets": {
        "row": Variable(_TARGET, "row whose state predicts the token", dtype=np.int64),
        "token": Variable(_TARGET, "token predicted", dtype=np.int64),
        "item": Variable(_TARGET, "item", dtype=np.int64),
        "latent": Variable(_TARGET, "index of the latent language", dtype=np.int64),
        "choice": Variable(_TARGET, "choice", dtype=np.int64),
        "position": Variable(_TARGET, "place in the phrase", dtype=np.int64),
        "log_probability": Variable(_TARGET, "the model's own log-probability", "nat", np.float32),
        "lens": Variable(
            ("lens_layer", "target"), "log-probability by the logit lens", "nat", np.float32
        ),
    },
}
"""By group, every variable that an activation file can hold."""


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """The raw 16 bits of bfloat16 as float32, exactly.

    >>> widen_bfloat16(np.array([0x3F80, 0xC000], dtype=np.uint16)).tolist()
    [1.0, -2.0]
    """
    return (bits.astype(np.uint32) << 16).view(np.float32)


def decode_states(values: np.ndarray, stored_as: str) -> np.ndarray:
    """Stored states as float32."""
    return widen_bfloat16(values) if stored_as == "bfloat16" else values.astype(np.float32)


class _StoredStates(BackendArray):
    """A stored variable that decodes what is asked of it, and nothing else."""

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], stored_as: str) -> None:
        self.path, self.name, self.stored_as = path, name, stored_as
        self.shape, self.dtype = shape, np.dtype("float32")

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER_1VECTOR, self._read
        )

    def _read(self, key: tuple) -> np.ndarray:
        with reading(self.path), h5py.File(self.path) as file:
            return decode_states(np.asarray(file[self.name][key]), self.stored_as)


def open_activations(path: Path) -> xr.Dataset:
    """An activation file as one lazy dataset: states are read when they are asked for.

    Returns:
        Dataset with dimensions item, layer, feature, latent, choice, and, where the file keeps
        the rows of the lens (or, without them, what it reads), row, lens_layer and target. States
        are float32.

    Raises:
        InputError: missing, not an activation file, or of another schema version.

    >>> # open_activations(path).prompt_mean.sel(layer=9)  reads one layer
    """
    check_header(path)
    with reading(path):
        parts = [_open_group(path, name) for name in ("", "rows", "targets")]
        return xr.merge([part for part in parts if part is not None], combine_attrs="no_conflicts")


def _open_group(path: Path, group: str) -> xr.Dataset | None:
    prefix = f"{group}_" if group else ""
    with h5netcdf.File(path, "r", decode_vlen_strings=True) as file:
        if group and group not in file.groups:
            return None
        node = file.groups[group] if group else file
        variables = {}
        for name, stored in node.variables.items():
            attrs = {k: v for k, v in stored.attrs.items() if k != "stored_as"}
            if stored.dtype.kind in "uf" and stored.ndim == 3 and "feature" in stored.dimensions:
                lazy = _StoredStates(
                    path, f"{group}/{name}", stored.shape, stored.attrs.get("stored_as", "")
                )
                data: Any = indexing.LazilyIndexedArray(lazy)
            else:
                data = stored[...]
            label = name if name in stored.dimensions else f"{prefix}{name}"
            variables[label] = xr.Variable(stored.dimensions, data, attrs)
        attrs = {} if group else {k: v for k, v in file.attrs.items()}
    coordinates = [n for n in variables if n in ("item_id", "layer", "lens_layer", "latent")]
    return xr.Dataset(variables, attrs=attrs).set_coords(coordinates)


def open_states(paths: Sequence[Path], pooling: str = "prompt_mean") -> ParallelStates:
    """States of the same items in several languages, from their activation files.

    Args:
        paths: one activation file per language, of one model and one dataset.
        pooling: "prompt_mean" (BOS and sinks left out) or "prompt_last".

    Raises:
        InputError: fewer than two files, or files of different models, items or layers.
    """
    if len(paths) < 2:
        raise InputError(f"{len(paths)} activation files: comparing languages needs two or more")
    specs = [check_header(path) for path in paths]
    for path, spec in zip(paths, specs, strict=True):
        for field in ("model", "dtype", "dataset", "extraction_version"):
            if spec.get(field) != specs[0].get(field):
                raise InputError(f"{path}: {field} differs from that of {paths[0]}: extract anew")
    tokens = []
    with reading(paths[0]), h5netcdf.File(paths[0], "r", decode_vlen_strings=True) as file:
        item_ids = tuple(file["item_id"][...])
        clusters, depths = file["cluster"][...], file["relative_depth"][...]
    for path in paths:
        with reading(path), h5netcdf.File(path, "r", decode_vlen_strings=True) as file:
            if tuple(file["item_id"][...]) != item_ids:
                raise InputError(f"{path}: item_id differs from that of {paths[0]}: extract anew")
            tokens.append(file["n_prompt_tokens"][...])

    def read(layer: int, language: int) -> np.ndarray:
        with reading(paths[language]), h5py.File(paths[language]) as file:
            stored = file[pooling]
            return decode_states(stored[:, layer, :], stored.attrs.get("stored_as", ""))

    def at(layer: int) -> np.ndarray:
        return np.stack([read(layer, language) for language in range(len(paths))])

    languages = tuple(spec["language"] for spec in specs)
    return ParallelStates(languages, item_ids, clusters, depths, np.stack(tokens), at, read)


def open_scores(paths: Sequence[Path]) -> xr.Dataset:
    """What the model gave each choice, from the activation files of all languages.

    Returns:
        Dataset (language, item, choice), NaN where an item has fewer choices: `sum` [nat],
        `n_tokens`, `n_characters`, `n_bytes`, `identical_to_pivot`, and `pmi`, `letter` where
        they were extracted; `n_truncated_tokens` (language, item); `answer`, `n_choices`,
        `cluster` (item).
    """
    parts: list[xr.Dataset] = []
    for path in paths:
        whole = open_activations(path)
        of_prompt = whole.sel(latent="prompt", drop=True)
        part = xr.Dataset(
            {
                "sum": of_prompt.log_probability,
                "n_tokens": of_prompt.phrase_tokens,
                "n_characters": whole.n_characters,
                "n_bytes": whole.n_bytes,
                "identical_to_pivot": whole.identical_to_pivot.astype(bool),
                "n_truncated_tokens": whole.n_truncated_tokens,
            }
        )
        if "unconditional" in whole:
            part["pmi"] = of_prompt.log_probability - whole.unconditional
        if "letter" in whole:
            part["letter"] = whole.letter
        part = part.assign_coords(item=np.asarray(whole.item_id)).drop_vars("item_id")
        if parts and not np.array_equal(part.item, parts[0].item):
            raise InputError(f"{path}: item_id differs from that of {paths[0]}: extract anew")
        language = json.loads(whole.attrs["spec"])["language"]
        with reading(path):
            parts.append(part.expand_dims(language=[language]).load())
    shared = open_activations(paths[0])[["answer", "n_choices", "cluster"]].load()
    scores = xr.concat(parts, "language", join="exact")
    for name in shared.data_vars:
        scores[name] = ("item", shared[name].values, shared[name].attrs)
    pivot = json.loads(open_activations(paths[0]).attrs["spec"])["pivot"]
    return scores.assign_attrs(pivot=pivot)


def check_items(paths: Mapping[str, Path], digest: Callable[[str], str]) -> None:
    """Refuse questions that are not those of the activation files: they were edited meanwhile.

    Args:
        paths: by language, the files.
        digest: of the items of a language, as they are now.

    Raises:
        InputError: names the file.
    """
    for language, path in paths.items():
        if check_header(path)["items"][language] != digest(language):
            raise InputError(
                f"{path}: its questions ({language}) are not those that are read now: they have"
                " changed since extraction: run again"
            )


class WholeChunks:
    """Fills a variable along its first dimension, a number of whole chunks at a time.

    HDF5 takes parts of chunks three times as long: each goes through its cache, and where that is
    full to the disk and back.

    >>> import h5py
    >>> file = h5py.File("filled", "w", driver="core", backing_store=False)
    >>> variable = file.create_dataset("x", 5, "i4", chunks=(2,))
    >>> filled = WholeChunks(variable)
    >>> for part in ([1], [2, 2], [3, 3]):
    ...     filled.append(np.array(part))
    >>> filled.finish()
    >>> variable[:].tolist()
    [1, 2, 2, 3, 3]
    """

    def __init__(self, variable: Any) -> None:
        self._variable, self._at = variable, 0
        self._held: list[np.ndarray] = []

    def append(self, values: np.ndarray) -> None:
        """What comes next; kept until it fills a chunk."""
        self._held.append(values)
        size = sum(map(len, self._held))
        self._write(size - size % self._variable.chunks[0])

    def finish(self) -> None:
        """The last chunk, which need not be full."""
        self._write(sum(map(len, self._held)))

    def _write(self, size: int) -> None:
        if size:
            values = np.concatenate(self._held)
            self._variable[self._at : self._at + size] = values[:size]
            self._held, self._at = [values[size:].copy()], self._at + size


class ActivationWriter:
    """Writes one activation file piece by piece, in memory that does not grow with the items.

    The caller gives a temporary name and publishes it: a half-written file never has the name
    of a whole one. What can be written is in `LAYOUT`; a dimension has the size of the first
    variable that has it.

    Args:
        path: temporary name.
        spec: what the file is.
        record: how it was made (times, versions), which is no part of what it is.
    """

    def __init__(self, path: Path, spec: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        self.path = path
        self._disk = DiskFile(path, "w+")
        self._file = h5netcdf.File(self._disk, "w", decode_vlen_strings=True, libver=HDF5_FORMAT)
        for name, value in header(spec).items():
            self._file.attrs[name] = value
        self._file.attrs["record"] = canonical_json(record)

    def write(self, group: str = "", /, **values: Any) -> None:
        """Small variables of the root or a group, whole."""
        for name, given in values.items():
            dtype = LAYOUT[group][name].dtype
            array = np.asarray(given, dtype=object if dtype is TEXT else dtype)
            self._create(group, name, array.shape, dtype)[...] = array

    def states(
        self, name: str, shape: tuple[int, int, int], dtype: Any, group: str = ""
    ) -> "WholeChunks":
        """A variable of states, to be filled piece by piece; uint16 is bfloat16's raw bits."""
        return WholeChunks(self._create(group, name, shape, dtype))

    def _create(self, group: str, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        """An empty variable, its numbers checksummed."""
        about = LAYOUT[group][name]
        node = self._file
        if group:
            there = group in self._file.groups
            node = self._file.groups[group] if there else self._file.create_group(group)
        for dimension, size in zip(about.dimensions, shape, strict=True):
            if dimension not in node.dimensions:
                node.dimensions[dimension] = size
        chunks = None
        if about.rows_of_a_chunk:  # HDF5 refuses chunks larger than what they divide
            rows, _, width = (max(1, size) for size in shape)
            chunks = (min(about.rows_of_a_chunk, rows), 1, width)
        variable = node.create_variable(
            name, about.dimensions, dtype=dtype, chunks=chunks, fletcher32=dtype is not TEXT
        )
        variable.attrs["long_name"], variable.attrs["units"] = about.long_name, about.units
        if about.rows_of_a_chunk and dtype == np.uint16:
            variable.attrs["stored_as"] = "bfloat16"
        return variable

    def __enter__(self) -> "ActivationWriter":
        return self

    def __exit__(self, kind: type | None, *_: Any) -> None:
        """Close the file; where nothing failed, take its content's digest and keep it in it.

        Raises:
            OSError: something could not be written, which is also why HDF5 may have failed.
        """
        with self._disk:
            self._file.close()
        self._disk.check()
        if kind is None:
            seal(self.path)
