"""Simulated worlds whose truth is known: what tests and the coverage table draw their data from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

CHOICES = ("language", "item", "choice")
# How many clusters of each size the shipped questions have.
EVERYDAY_SIZES = {1: 87, 2: 8, 3: 4, 5: 1}


def clusters_of(n_items: int, how: str) -> np.ndarray:
    """(item,) cluster of each item: "none" (each its own), "everyday" or "threes".

    >>> clusters_of(5, "threes").tolist()
    [0, 0, 0, 1, 1]
    """
    if how == "none":
        return np.arange(n_items)
    if how == "threes":
        return np.arange(n_items) // 3
    pattern = np.repeat(list(EVERYDAY_SIZES), list(EVERYDAY_SIZES.values()))
    sizes = np.random.default_rng(0).permutation(pattern)
    return np.repeat(np.arange(len(sizes) * 4), np.tile(sizes, 4))[:n_items]


@dataclass(frozen=True)
class Answers:
    """How a simulated model answers parallel questions in several languages.

    A choice's score is `ability` where it is right, less the item's difficulty there, plus what
    all languages think of this choice, plus what each language alone thinks of it.

    Attributes:
        abilities: of the languages, the pivot first.
        shared: standard deviation of what languages have in common about a choice; the rest of a
            choice's noise, the language's, has 1.
        difficulty: standard deviation of items' difficulty.
        by_cluster: share of the variance of difficulty and of what is shared that whole clusters
            have in common.
        n_choices: of an item.
    """

    abilities: Sequence[float] = (1.6, 1.2, 0.9, 0.6, 0.2)
    shared: float = 1.0
    difficulty: float = 0.7
    by_cluster: float = 0.5
    n_choices: int = 4

    def scores(self, rng: np.random.Generator, clusters: np.ndarray) -> xr.Dataset:
        """Scores of the choices as `open_scores` gives them; the pivot is the first language."""
        n_items, codes = len(clusters), np.unique(clusters, return_inverse=True)[1]
        n_clusters = int(codes.max()) + 1

        def clustered(*shape: int) -> np.ndarray:
            whole = rng.normal(size=(n_clusters, *shape))[codes]
            apart = rng.normal(size=(n_items, *shape))
            return np.sqrt(self.by_cluster) * whole + np.sqrt(1 - self.by_cluster) * apart

        n_languages = len(self.abilities)
        answers = rng.integers(0, self.n_choices, n_items)
        values = self.shared * clustered(self.n_choices)
        values = values + rng.normal(size=(n_languages, n_items, self.n_choices))
        ease = np.asarray(self.abilities)[:, None] - self.difficulty * clustered()
        values[:, np.arange(n_items), answers] += ease
        return scores_dataset(values, answers, clusters=clusters)


def scores_dataset(
    values: np.ndarray,
    answers: np.ndarray,
    n_choices: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
    identical: np.ndarray | None = None,
    lengths: np.ndarray | None = None,
    spelling: np.ndarray | None = None,
) -> xr.Dataset:
    """What `behaviour` reads, from token-mean scores; the pivot is the first language, l0.

    Choices are spelled differently in all languages unless `spelling` says otherwise, or
    `identical` which are spelled as in the pivot.
    """
    n_languages, n_items, width = values.shape
    n_choices = np.full(n_items, width) if n_choices is None else n_choices
    lengths = np.ones(values.shape) if lengths is None else lengths
    values = np.where(np.arange(width) < n_choices[:, None], values, np.nan)
    identical = np.zeros(values.shape, bool) if identical is None else identical
    if spelling is None:
        spelling = np.arange(values.size).reshape(values.shape)
        spelling = np.where(identical, spelling[0], spelling)
    return xr.Dataset(
        {
            "sum": (CHOICES, values * lengths),
            "n_tokens": (CHOICES, lengths),
            "n_characters": (CHOICES, 2 * lengths),
            "n_bytes": (CHOICES, 3 * lengths),
            "answer": ("item", answers),
            "n_choices": ("item", n_choices),
            "cluster": ("item", np.arange(n_items) if clusters is None else clusters),
            "identical_to_pivot": (CHOICES, identical),
            "spelling": (CHOICES, spelling),
        },
        {
            "language": [f"l{i}" for i in range(n_languages)],
            "item": [f"i{i}" for i in range(n_items)],
        },
        {"pivot": "l0"},
    )
