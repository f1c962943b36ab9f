"""States of parallel items in several languages, as measures take them: read layer by layer.

Where a layer of all languages is more than fits, it is read language by language.
"""

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
        read: layer and language index -> (item, feature) float32; None: `at` alone reads.
    """

    languages: tuple[str, ...]
    item_ids: tuple[str, ...]
    clusters: np.ndarray
    depths: np.ndarray
    n_tokens: np.ndarray
    at: Callable[[int], np.ndarray]
    read: Callable[[int, int], np.ndarray] | None = None

    def of_language(self, layer: int, language: int) -> np.ndarray:
        """The states (item, feature) of one language at one layer."""
        return self.read(layer, language) if self.read else self.at(layer)[language]

    def of_items(self, chosen: np.ndarray) -> "ParallelStates":
        """The same states of some items only; `chosen` (item,) bool."""
        return ParallelStates(
            self.languages,
            tuple(np.array(self.item_ids, dtype=object)[chosen]),
            self.clusters[chosen],
            self.depths,
            self.n_tokens[:, chosen],
            lambda layer: self.at(layer)[:, chosen],
            lambda layer, language: self.of_language(layer, language)[chosen],
        )
