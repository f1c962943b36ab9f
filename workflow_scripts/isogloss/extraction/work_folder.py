"""The work folder of an extraction that is not finished: whole shards, and nothing else.

A shard is a cache: it is published whole, computed again where it is damaged, and removed when
the activation file that it belongs to has been published. Several processes may use one folder.
"""

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from isogloss.errors import InputError
from isogloss.files.atomic import whole_file

PARTS = ("last", "mean", "lens", "log_probability")


def work_folder(target: Path) -> Path:
    """Where the shards of an activation file lie while it is made."""
    return target.with_suffix(".work")


def clear(target: Path) -> None:
    """Remove the shards of an activation file that has been published."""
    shutil.rmtree(work_folder(target), ignore_errors=True)


@contextmanager
def unless_published(target: Path) -> Iterator[None]:
    """Let pass what fails because another process was quicker.

    It publishes the activation file, then removes the shards and their folder: whoever still
    uses them finds them gone, and the file there.
    """
    try:
        yield
    except (InputError, OSError):
        if not target.exists():
            raise


def write_shard(file: Path, shard: dict[str, np.ndarray]) -> None:
    """Publish a shard."""
    with whole_file(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **shard)


def is_whole(file: Path) -> bool:
    """Whether a shard is there with all its parts, every checksum compared."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = {f"{name}.npy" for name in PARTS}
            return set(archive.namelist()) == names and archive.testzip() is None
    except Exception:  # zipfile has many kinds for a damaged file, and all mean the same here
        return False


def read_shard(file: Path) -> dict[str, np.ndarray]:
    """Everything of a shard.

    Raises:
        InputError: the file is gone or damaged.
    """
    try:
        with np.load(file, allow_pickle=False) as shard:
            return {name: shard[name] for name in PARTS}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{file}: not a whole shard ({error}): run `extract` again") from error
