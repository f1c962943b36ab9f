"""Isogloss: where languages part ways inside a multilingual language model.

In a notebook: `import isogloss as iso; study = iso.open("results")`, or without a study
`iso.evaluate(model, tokenizer, questions)`.
"""

import os
from os import PathLike
from typing import TYPE_CHECKING, Any

# HDF5 locks what it opens, and some shared file systems have no locks. Artifacts need none: they
# get their names when they are whole, and are never written to again. Before h5py is imported.
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")

if TYPE_CHECKING:
    from isogloss.notebook import Evaluation
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


def evaluate(model: Any, tokenizer: Any, questions: Any, **options: Any) -> "Evaluation":
    """Scores, states, lens and similarity of a loaded model: `isogloss.notebook.evaluate`."""
    from isogloss.notebook import evaluate as evaluated

    return evaluated(model, tokenizer, questions, **options)
