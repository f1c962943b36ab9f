"""A file on a disk that may be full, as HDF5 can bear it."""

import io
from pathlib import Path
from typing import Any


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
        found = super().readinto(buffer) or 0
        if self._error is not None:
            memoryview(buffer)[found:] = bytes(len(buffer) - found)
        return len(buffer) if self._error is not None else found

    def check(self) -> None:
        """Raise what was kept."""
        if self._error is not None:
            raise self._error
