"""Memory: an error that says what to do where it runs out, and glibc's allocator.

By default glibc often returns the memory of freed tensors to the system, which hands it out again
page by page, cleared: a fifth of the run time of SmolLM2 135M over 48 rows of 42 tokens in
bfloat16 (two cores; Gemma 3 270M: nothing measurable).
"""

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from isogloss.errors import OutOfMemory, one_line

# Names and numbers of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_ON_HEAP = 32 * 2**20
NEVER = 2**31 - 1


@contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """Turn running out of memory in the block into an error that names the settings to change.

    Raises:
        OutOfMemory: an InputError: memory ran out, on the device or on the host.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and not re.search("can't allocate memory|out of memory", str(error)):
            raise
        raise OutOfMemory(
            f"{what}: out of memory ({one_line(error) or 'host memory'}): use dtype bfloat16, a "
            "smaller batch_tokens, or device_map auto to spread the model over devices"
        ) from error


def keep_freed_memory() -> bool:
    """Take allocations of up to 32 MiB from the heap, and never give the heap's end back.

    Returns:
        Whether this is glibc, which has such settings.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_ON_HEAP) and mallopt(M_TRIM_THRESHOLD, NEVER))
