"""Temporary names that say whose they are, and the files that dead processes left under them.

A process that is killed cannot remove what it was writing. Its file is removed by whoever next
writes in the same folder, and only when it is certain that nobody writes it any more.
"""

import hashlib
import os
import re
import shutil
import socket
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

STALE_SECONDS = 7 * 24 * 3600.0
_OWNED = re.compile(r"\..+\.([0-9a-f]{12})-(\d+)-[0-9a-f]{8}\.tmp")


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
