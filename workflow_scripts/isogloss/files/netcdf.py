"""netCDF artifacts: labelled datasets of results with the settings that made them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import xarray as xr

from isogloss.errors import InputError
from isogloss.files.atomic import whole_file
from isogloss.files.canonical import canonical_json
from isogloss.files.hdf5 import header, seal, verify_hdf5


def write_netcdf(
    dataset: xr.Dataset, path: Path, spec: Any = None, inputs: Iterable[Path | xr.Dataset] = ()
) -> None:
    """Write a dataset as netCDF-4, whole or not at all, with the spec that made it.

    Args:
        dataset: named dimensions; every variable with `long_name` and `units`.
        path: file to write; its folder is made.
        spec: the settings behind the numbers, kept as canonical JSON in the attribute `spec`.
        inputs: what the numbers are computed from: manifests, checkpoints, and opened results,
            which hand on what is behind them. Their names are kept: see `computed_from`.

    Raises:
        ValueError: a variable without `long_name` or `units`.
    """
    _check_labels(dataset, path)
    if spec is not None:
        dataset = dataset.assign_attrs(spec=canonical_json(spec))
    behind = [{store_name(i)} if isinstance(i, Path) else computed_from(i) for i in inputs]
    if behind:
        # What is behind all of them, or nothing: half of it would pass for the whole.
        names = sorted(set().union(*behind)) if all(behind) else []
        dataset = dataset.assign_attrs(computed_from=canonical_json(names))
    with whole_file(path) as temporary:
        _write(dataset, temporary)


def store_name(path: Path) -> str:
    """What a manifest or a checkpoint is called wherever its store lies; its key is part of it.

    >>> store_name(Path("/scratch/store/manifests/tiny/everyday/activations-0123456789abcdef.json"))
    'tiny/everyday/activations-0123456789abcdef.json'
    """
    return "/".join(path.parts[-3:])


def computed_from(dataset: xr.Dataset) -> set[str]:
    """The manifests and checkpoints behind a result, by `store_name`; none: it is not known."""
    return set(json.loads(dataset.attrs.get("computed_from", "[]")))


def write_artifact(dataset: xr.Dataset, path: Path, spec: Any) -> None:
    """Write a dataset that is named by the key of its spec, sealed (`isogloss.files.hdf5`).

    Raises:
        ValueError: a variable without `long_name` or `units`.
    """
    _check_labels(dataset, path)
    with whole_file(path) as temporary:
        _write(dataset.assign_attrs(header(spec)), temporary)
        seal(temporary)


def open_artifact(path: Path) -> xr.Dataset:
    """A keyed netCDF artifact, in memory, every byte as it was sealed.

    Raises:
        InputError: missing.
        Damaged: a bit has changed, or another key or schema version than the name and this
            program say.
    """
    verify_hdf5(path)
    return open_netcdf(path)


def _check_labels(dataset: xr.Dataset, path: Path) -> None:
    bare = [n for n, v in dataset.data_vars.items() if not {"long_name", "units"} <= set(v.attrs)]
    if bare:
        raise ValueError(f"{path.name}: variables without long_name and units: {bare}")


def _write(dataset: xr.Dataset, path: Path) -> None:
    packed = {
        name: {"zlib": True, "complevel": 1}
        for name, variable in dataset.data_vars.items()
        if variable.ndim and variable.dtype.kind in "fiu"
    }
    # In memory first: HDF5 ends the process where it cannot write on a full disk.
    path.write_bytes(dataset.to_netcdf(engine="h5netcdf", encoding=packed))


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
        # An eighth of h5netcdf's time a variable, and results hold hundreds.
        with xr.open_dataset(path, engine="netcdf4") as dataset:
            return dataset.load()
    except (OSError, KeyError) as error:
        raise InputError(
            f"{path}: not a whole netCDF file ({error}): delete it and run again"
        ) from error
