"""The errors that a user can cause and mend."""

import re
import unicodedata
from shlex import quote
from typing import Any

LONGEST = 2000
"""Characters of a message that are shown: what is quoted in it may be a whole file."""


class InputError(ValueError):
    """Bad input, said in one line: where, what, what to do.

    Programs print its message and exit with code 1; anything else is a fault of Isogloss
    and keeps its traceback. What comes from data cannot break the line or steer a terminal.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(str(message)))


class OutOfMemory(InputError):
    """Memory ran out, on the device or on the host."""


class Damaged(InputError):
    """An artifact that is not what it should be: refused by name, never used."""

    def __init__(self, where: Any, reason: str) -> None:
        command = f"python workflow_scripts/share.py set-aside {quote(str(where))}"
        remedy = f"set it aside (`{command}`), run again"
        super().__init__(f"{where}: {reason}: {remedy}")
        self.reason = reason


def printable(text: str) -> str:
    """Text on one line, with its control characters spelled out and its middle left out if long.

    >>> print(printable("two" + chr(10) + "lines" + chr(27) + "[2J"))
    two lines\\x1b[2J
    """
    line = " ".join(text.splitlines())
    shown = "".join(_spelled(c) if is_unprintable(c) else c for c in line)
    if len(shown) <= LONGEST:
        return shown
    return f"{shown[: LONGEST // 2]} ... {shown[-LONGEST // 2 :]}"


def one_line(error: object) -> str:
    """Another library's error on one line, not too long to read, without passwords in addresses.

    >>> one_line("no answer\\nfrom https://me:secret@example.org/simple")
    'no answer from https://***@example.org/simple'
    """
    text = re.sub(r"//[^/\s@]+@", "//***@", " ".join(str(error).split()))
    return text if len(text) <= 200 else text[:197] + "..."


def is_unprintable(character: str) -> bool:
    """Whether a character steers a terminal, turns the direction of a line, or is half of one.

    >>> [is_unprintable(c) for c in ("a", "é", chr(27), chr(0x202E), chr(0xD800), chr(0x200D))]
    [False, False, True, True, True, False]
    """
    turns = "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"
    return turns or unicodedata.category(character) in ("Cc", "Cs")


def _spelled(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
