"""States of parallel items in several languages, as measures take them: read layer by layer."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ParallelStates:
    """States of parallel items in several languages, one layer in memory at a time.

    Attributes:
        languages: the first axis of what `at` returns.
        item_ids: the second axis.
        clusters: (item,) cluster of each item.
        depths: (layer,) relative depth, 0 at the embedding, 1 before the final norm.
        n_tokens: (language, item) tokens of the prompt.
        at: layer index -> (language, item, feature) float32.
    """

    languages: tuple[str, ...]
    item_ids: tuple[str, ...]
    clusters: np.ndarray
    depths: np.ndarray
    n_tokens: np.ndarray
    at: Callable[[int], np.ndarray]

    def of_items(self, chosen: np.ndarray) -> "ParallelStates":
        """The same states of some items only; `chosen` (item,) bool."""
        return ParallelStates(
            self.languages,
            tuple(np.array(self.item_ids, dtype=object)[chosen]),
            self.clusters[chosen],
            self.depths,
            self.n_tokens[:, chosen],
            lambda layer: self.at(layer)[:, chosen],
        )
