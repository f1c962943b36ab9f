"""The errors that a user can cause and mend."""

from shlex import quote
from typing import Any


class InputError(ValueError):
    """Bad input, said in one line: where, what, what to do.

    Programs print its message and exit with code 1; anything else is a fault of Isogloss
    and keeps its traceback.
    """


class OutOfMemory(InputError):
    """Memory ran out, on the device or on the host."""


class Damaged(InputError):
    """An artifact that is not what it should be: refused by name, never used."""

    def __init__(self, where: Any, reason: str) -> None:
        command = f"python workflow_scripts/share.py set-aside {quote(str(where))}"
        remedy = f"set it aside (`{command}`), run again"
        super().__init__(f"{where}: {reason}: {remedy}")
        self.reason = reason
