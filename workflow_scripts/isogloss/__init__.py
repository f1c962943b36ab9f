"""Isogloss: where languages part ways inside a multilingual language model.

In a notebook: `import isogloss as iso; study = iso.open("results")`.
"""

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isogloss.results import StudyResults

__all__: list[str] = []  # a star import must not replace the builtin `open`


def open(where: "str | PathLike[str]") -> "StudyResults":
    """The results of a study: a method per file, see `isogloss.results.StudyResults`.

    Args:
        where: its results folder, or its configuration file.

    Raises:
        InputError: neither of them, or not a valid configuration.
    """
    from isogloss.results import open_study

    return open_study(where)
