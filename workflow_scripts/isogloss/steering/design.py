"""What each item is used for in steering: fitted on, selected on, evaluated.

Two designs: cross-fitting, where every item is evaluated with what other folds gave; and sets of
their own for fit, selection and test (docs/reference.md, "Items, clusters, folds").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from isogloss.questions.items import check_disjoint, folds, split

# Label of the vectors fitted on all items that the fit was given.
ALL_ITEMS = -1


@dataclass(frozen=True)
class Design:
    """How the items of one dataset are steered.

    Attributes:
        items: (used,) indices of the items that are steered; the arrays below are theirs.
        folds: (used,) fold of each: its layer and strength are chosen on items of other folds.
        vector_folds: (used,) fold of the vectors that steer each: its own, or ALL_ITEMS where
            nothing was fitted on any of these items.
        reported: folds evaluated at their chosen setting; the others are only selected on.
    """

    items: np.ndarray
    folds: np.ndarray
    vector_folds: np.ndarray
    reported: tuple[int, ...]

    @property
    def evaluated(self) -> np.ndarray:
        """Places among the used items of those that are evaluated at their chosen setting."""
        return np.flatnonzero(np.isin(self.folds, self.reported))

    def vectors_of(self, fold: int) -> int:
        """Fold of the vectors that steer the items of a fold."""
        return int(self.vector_folds[self.folds == fold][0])


def fitting_design(
    clusters: np.ndarray, settings: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Which items vectors are fitted on, and in which folds.

    Args:
        clusters: (item,) labels.
        settings: `folds` (their number), `seed`, and `split`: shares of separate sets or None.

    Returns:
        (item,) bool; and the fold of each of these items, None where the fit has its own set.

    >>> fitting_design(np.arange(4), {"folds": 2, "seed": 0, "split": None})[0].tolist()
    [True, True, True, True]
    """
    if settings["split"] is None:
        fold = folds(clusters, settings["folds"], settings["seed"])
        return np.ones(len(clusters), bool), fold
    return split(clusters, settings["split"], settings["seed"]) == "fit", None


def evaluation_design(
    clusters: np.ndarray, settings: Mapping[str, Any], *, fitted_here: bool
) -> Design:
    """How the items of a dataset are steered and evaluated.

    Args:
        clusters, settings: as `fitting_design`.
        fitted_here: the vectors are of this dataset; of another one they are fitted on all of
            that, and what would be this one's fitting set is selected on.
    """
    if settings["split"] is None:
        fold = folds(clusters, settings["folds"], settings["seed"])
        numbers = np.unique(fold)
        for number in numbers:
            check_disjoint(np.flatnonzero(fold != number), np.flatnonzero(fold == number), clusters)
        vectors = fold if fitted_here else np.full_like(fold, ALL_ITEMS)
        return Design(np.arange(len(fold)), fold, vectors, tuple(numbers.tolist()))
    roles = split(clusters, settings["split"], settings["seed"])
    used = np.flatnonzero(roles != "fit") if fitted_here else np.arange(len(roles))
    test = (roles[used] == "test").astype(int)
    return Design(used, test, np.full(len(used), ALL_ITEMS), (1,))
