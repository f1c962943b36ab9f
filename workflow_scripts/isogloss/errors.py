"""The errors that a user can cause and mend."""


class InputError(ValueError):
    """Bad input, said in one line: where, what, what to do.

    Programs print its message and exit with code 1; anything else is a fault of Isogloss
    and keeps its traceback.
    """


class OutOfMemory(InputError):
    """Memory ran out, on the device or on the host."""


def one_line(error: object) -> str:
    """An error's text on one line, not too long to read."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:197] + "..."
