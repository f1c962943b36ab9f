"""Files and folders that are there whole or not at all.

They are written under a temporary name that says whose it is, and renamed at the end. A process
that is killed cannot remove what it was writing. Its file is removed by whoever next writes in the
same folder, and only when it is certain that nobody writes it any more.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from isogloss.errors import InputError

STALE_SECONDS = 7 * 24 * 3600.0
_OWNED = re.compile(r"\..+\.([0-9a-f]{12})-(\d+)-[0-9a-f]{8}\.tmp")


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
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name only when the block succeeds.

    When another process was quicker, its folder stays and this one is dropped.
    """
    temporary = temporary_name(folder)
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder.parent)
        temporary.mkdir()
        try:
            yield temporary
            try:
                os.replace(temporary, folder)
            except OSError:
                if not folder.is_dir():
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


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


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty when the file is missing or damaged (it is only a memory)."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def temporary_name(path: Path) -> Path:
    """A new hidden name beside `path` that holds the machine and the process using it."""
    return path.with_name(f".{path.name}.{_machine()}-{os.getpid()}-{uuid4().hex[:8]}.tmp")


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files and folders whose process is dead.

    A process of this machine is asked for; what another machine began goes when it has not
    changed for a week.
    """
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):  # removed by another process meanwhile, or not ours to remove
            if _is_left(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_left(path: Path) -> bool:
    owner = _OWNED.fullmatch(path.name)
    if owner is None:
        return False
    if owner[1] == _machine():
        return not _alive(int(owner[2]))
    return time.time() - path.stat().st_mtime > STALE_SECONDS


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


@cache
def _machine() -> str:
    """Where a process id means the same: this host, since its start, and this container.

    Host names repeat, and containers of one host count their processes anew.
    """
    facts = [socket.gethostname()]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        facts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
