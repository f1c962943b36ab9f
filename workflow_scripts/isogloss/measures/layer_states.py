"""The states of one layer: looked over once, then read by features or by languages, as fits.

Iterating gives the languages one by one. Whatever is standardised needs to know first which
dimensions vary in all languages. So every language is read once for that, and again for the sums
over features, which take some features of all languages, and for the products of states, which
take all features of some languages.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.states import (
    degenerate_reason,
    mean_and_spread,
    shared_dimensions,
    without_length,
)

AS_MANY_BYTES = 40  # that all measures of a state take together, for each of its features


def joined_reasons(languages: Sequence[str], reasons: Sequence[str]) -> str:
    """Reasons by language in one line, "" where there are none."""
    return "; ".join(f"{name}: {why}" for name, why in zip(languages, reasons, strict=True) if why)


class LayerStates:
    """States (language, item, feature) of one layer, never more in memory than there is room for.

    Args:
        states: of all layers.
        layer: which.
        room: memory that states and what is computed from them may take [byte].
    """

    def __init__(self, states: ParallelStates, layer: int, room: float) -> None:
        self.states, self.layer, self.room = states, layer, room
        self.n_languages, self.n_items = states.n_tokens.shape
        self.all_languages = range(self.n_languages)
        first = states.of_language(layer, 0)
        self.n_features = first.shape[1]
        # Kept where it is a small part of the room: then files are read once.
        fits = 4 * first.size * self.n_languages < room / 4
        self._kept = states.at(layer) if fits else None

    def __len__(self) -> int:
        return self.n_languages

    def __iter__(self) -> Iterator[np.ndarray]:
        """States (item, feature) in float64, language by language."""
        return (self.of(language).astype(np.float64) for language in self.all_languages)

    def features(self, part: slice) -> np.ndarray:
        """Some features of all languages in float64: (language, item, feature)."""
        return np.stack([self.of(n)[:, part].astype(np.float64) for n in self.all_languages])

    def of(self, language: int) -> np.ndarray:
        """The states (item, feature) of one language."""
        if self._kept is not None:
            return np.asarray(self._kept[language])
        return self.states.of_language(self.layer, language)

    def adjusted(self, language: int) -> np.ndarray:
        """The states of one language without what follows the number of tokens."""
        return without_length(self.of(language)[None], self.states.n_tokens[language][None])[0]

    @cached_property
    def reasons(self) -> list[str]:
        """Why a language's states have no similarity, "" where they have."""
        return [degenerate_reason(self.of(language)) for language in self.all_languages]

    @cached_property
    def sound(self) -> np.ndarray:
        """(language,) bool: languages whose states are not degenerate."""
        return np.array(self.reasons) == ""

    @cached_property
    def dimensions(self) -> np.ndarray:
        """(feature,) bool: dimensions that vary in every sound language."""
        return self._shared(self.of)

    @cached_property
    def adjusted_dimensions(self) -> np.ndarray:
        """(feature,) bool: the same of states without their length."""
        return self._shared(self.adjusted)

    def _shared(self, read: Callable[[int], np.ndarray]) -> np.ndarray:
        if not self.sound.any():
            return np.zeros(self.n_features, dtype=bool)
        kept = np.flatnonzero(self.sound).tolist()
        return shared_dimensions(np.stack([mean_and_spread(read(n))[1] for n in kept]))

    def standardised(self, language: int, features: Any = slice(None)) -> np.ndarray:
        """States (item, feature) of one language, as `states.standardised` has them.

        NaN where the language is degenerate: it costs the others nothing.

        Args: features are some of those that vary in all languages, by their place among them.
        """
        return self._standardised(language, self.of, self.dimensions, features)

    def adjusted_standardised(self, language: int, features: Any = slice(None)) -> np.ndarray:
        """The same of states without their length."""
        return self._standardised(language, self.adjusted, self.adjusted_dimensions, features)

    def _standardised(
        self,
        language: int,
        read: Callable[[int], np.ndarray],
        dimensions: np.ndarray,
        features: Any,
    ) -> np.ndarray:
        chosen = np.flatnonzero(dimensions)[features]
        if not self.sound[language]:
            return np.full((self.n_items, len(chosen)), np.nan, np.float32)
        x = read(language)[:, chosen]
        mean, spread = mean_and_spread(x)
        return ((x - mean) / spread).astype(np.float32, order="C")

    def feature_parts(self, n_features: int) -> Iterator[slice]:
        """Features in parts of which all languages fit into the room."""
        bytes_each = AS_MANY_BYTES * self.n_languages * self.n_items + 12 * self.n_languages**2
        step = max(1, int(self.room / 2 / bytes_each))
        for start in range(0, n_features, step):
            yield slice(start, min(start + step, n_features))

    def language_blocks(self, bytes_each: float) -> list[slice]:
        """Languages in blocks of which two fit into the room."""
        size = max(1, int(self.room / 3 / bytes_each))
        return [
            slice(start, min(start + size, self.n_languages))
            for start in range(0, self.n_languages, size)
        ]
