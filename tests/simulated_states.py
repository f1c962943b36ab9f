"""Simulated hidden states whose truth is known: what languages share, and how items cluster."""

from collections.abc import Sequence

import numpy as np

from isogloss.files.parallel_states import ParallelStates

# Questions on a passage, as in Belebele: 900 questions of 488 passages.
PASSAGES = {1: 76, 2: 412}


def cluster_sizes(counts: dict[int, int], seed: int = 0) -> np.ndarray:
    """(item,) cluster of each item, `counts` clusters of each size in random order.

    >>> cluster_sizes({2: 2}).tolist()
    [0, 0, 1, 1]
    """
    sizes = np.repeat(list(counts), list(counts.values()))
    return np.repeat(np.arange(len(sizes)), np.random.default_rng(seed).permutation(sizes))


# Questions whose answers chain them: 60 items in 33 clusters, the largest of 10.
UNEVEN = cluster_sizes({1: 22, 2: 5, 3: 3, 4: 1, 5: 1, 10: 1})


def spectrum(width: int, decay: float = 0.0) -> np.ndarray:
    """(feature,) standard deviations that fall by a power of their number; 0: all alike."""
    return np.arange(1, width + 1) ** -float(decay)


def clustered_states(
    rng: np.random.Generator,
    clusters: np.ndarray,
    n_languages: int = 2,
    scales: np.ndarray | Sequence[float] = (1.0,) * 64,
    shared: float = 0.0,
    within: float = 0.0,
) -> np.ndarray:
    """States (language, item, feature) of which parts are shared by languages and by clusters.

    Args:
        clusters: (item,) numbered from 0.
        scales: (feature,) standard deviation of each feature.
        shared: share of the variance that parallel items have in common.
        within: share of the variance, of what is shared as of the rest, that the items of a
            cluster have in common: their intraclass correlation.
    """
    n, width = int(clusters.max()) + 1, len(scales)

    def draw(n_drawn: int) -> np.ndarray:
        whole = rng.normal(size=(n_drawn, n, width))[:, clusters]
        apart = rng.normal(size=(n_drawn, len(clusters), width))
        return np.sqrt(within) * whole + np.sqrt(1 - within) * apart

    states = np.sqrt(shared) * draw(1) + np.sqrt(1 - shared) * draw(n_languages)
    return states * np.asarray(scales)


def grams_of(states: np.ndarray) -> np.ndarray:
    """Gram matrices (language, item, item) of states, each language centred."""
    centred = states - states.mean(axis=1, keepdims=True)
    return centred @ centred.transpose(0, 2, 1)


def planted(
    share: float,
    rng: np.random.Generator,
    n_languages: int = 3,
    n_items: int = 40,
    width: int = 30,
    distance: float = 3.0,
) -> np.ndarray:
    """States whose items have `share` of their variance in common, and whose means differ."""
    clusters, scales = np.arange(n_items), np.ones(width)
    offsets = distance * rng.normal(size=(n_languages, 1, width))
    return clustered_states(rng, clusters, n_languages, scales, share) + offsets


def parallel_states(
    layers: Sequence[np.ndarray],
    clusters: np.ndarray | None = None,
    n_tokens: np.ndarray | None = None,
) -> ParallelStates:
    """States of (language, item, feature) arrays, one a layer; English, the pivot, is the first."""
    n_languages, n = layers[0].shape[:2]
    return ParallelStates(
        languages=("en", "it", "sw", "th", "de", "ja")[:n_languages],
        item_ids=tuple(f"i{i}" for i in range(n)),
        clusters=np.arange(n) if clusters is None else clusters,
        depths=np.linspace(0, 1, len(layers)),
        n_tokens=np.full((n_languages, n), 9) if n_tokens is None else n_tokens,
        at=lambda layer: layers[layer].astype(np.float32),
    )
