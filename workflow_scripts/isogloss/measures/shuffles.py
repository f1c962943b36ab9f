"""What chance gives: pairings and labels shuffled by whole clusters, and tests of whole maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isogloss.measures.statistics import cluster_codes

ROUNDING = 1e-9  # in spreads of a null: scores as near are equal
FEW = 5  # clusters of one size, below which they often keep their places


def shuffled_orders(
    clusters: np.ndarray, n_languages: int, n_permutations: int, seed: int | Sequence[int]
) -> np.ndarray:
    """Orders of the items that break their pairing: (permutation, language, item).

    Independently for every language, clusters take the places of clusters of as many items, and
    items random places within them. So clusters meet whole clusters, as they do where languages
    are unrelated: with misaligned ones the null is too narrow (.13 of tests err at .05 where 60
    items are in 33 clusters, the largest of 10). A cluster alone in its size keeps its place.
    """
    rng = np.random.default_rng(seed)
    codes = cluster_codes(clusters)
    size = np.bincount(codes)[codes]
    shape = (n_permutations, n_languages)
    place = rng.random((*shape, codes.max() + 1))[..., codes]
    within = rng.random((*shape, len(codes)))
    orders = np.empty(within.shape, int)
    orders[..., np.lexsort((codes, size))] = np.lexsort(
        (within, place, np.broadcast_to(size, place.shape)), axis=-1
    )
    return orders


def rare_signs(
    clusters: np.ndarray, n_languages: int, n_permutations: int, seed: int | Sequence[int]
) -> np.ndarray:
    """Random signs of clusters that have few of their size to trade places with, 1 elsewhere.

    A cluster that keeps its place meets itself, so that a null of products would hold what the
    languages share. Centred states of both signs are as likely where they share nothing.

    Returns:
        (permutation, language, item) int8.
    """
    codes = cluster_codes(clusters)
    sizes = np.bincount(codes)
    rare = np.bincount(sizes)[sizes] < FEW
    rng = np.random.default_rng(seed)
    signs = rng.choice(np.array([-1, 1], np.int8), (n_permutations, n_languages, len(sizes)))
    return np.where(rare, signs, np.int8(1))[..., codes]


@dataclass(frozen=True)
class Shuffle:
    """One shuffled pairing: an order of `shuffled_orders` with its signs of `rare_signs`."""

    order: np.ndarray
    signs: np.ndarray

    def of(self, states: np.ndarray) -> np.ndarray:
        """Centred states (language, item, feature) under this pairing."""
        return np.take_along_axis(states, self.order[..., None], axis=1) * self.signs[..., None]


def label_orders(
    clusters: np.ndarray, n_languages: int, n_permutations: int, seed: int | Sequence[int]
) -> np.ndarray:
    """Language labels permuted within every cluster of items: (permutation, language, item).

    Entry [p, l, i] is the language whose state of item i goes under the label l, the same for all
    items of a cluster.
    """
    codes = cluster_codes(clusters)
    drawn = np.random.default_rng(seed).random((n_permutations, n_languages, codes.max() + 1))
    return drawn.argsort(axis=1)[..., codes]


def max_t(observed: np.ndarray, null: np.ndarray, confidence: float) -> tuple[np.ndarray, ...]:
    """Family-wise thresholds and p values of a map against a permutation null.

    Every entry is put in units of its own spread, and the largest of a permutation counts, so
    that an entry above its threshold is so among all of them. The data are one of the equally
    likely pairings, so they belong to what mean, spread and largest entries are taken from:
    compared with shuffled ones alone, they err in up to .11 of families instead of .05.

    Args:
        observed: (...), NaN where there is no number.
        null: (permutation, ...).
        confidence: one minus the share of families in which any entry may err.

    Returns:
        mean of the null, threshold, adjusted one-sided p: (...) each, NaN where observed is. An
        entry exceeds its threshold where p is at most 1 - confidence; the threshold is the value
        that this entry would have to exceed, the others as they are.

    Source: Westfall and Young (1993), single-step max-T.
    """
    rows = np.concatenate([observed[None], null])
    spread = rows.std(axis=0)
    usable = np.isfinite(spread) & (spread > 0)
    if not usable.any():
        nothing = np.full_like(observed, np.nan)
        return nothing, nothing, nothing
    scores = (rows[:, usable] - rows[:, usable].mean(axis=0)) / spread[usable]
    largest, n = np.sort(scores.max(axis=1)), len(null)
    p = np.full(observed.shape, np.nan)
    p[usable] = (1 + n - np.searchsorted(largest, scores[0] - ROUNDING)) / (1 + n)
    bound = largest[n - int((1 - confidence) * (1 + n) + ROUNDING)] + ROUNDING
    # A value d spreads of the null from its mean scores n d / sqrt((n + 1) n + n d^2) < sqrt(n).
    away = bound * np.sqrt((n + 1) / (n - bound**2)) if bound**2 < n else np.inf
    mean = np.where(usable, null.mean(axis=0), np.nan)
    return mean, mean + away * null.std(axis=0), p


def normalised(value: np.ndarray, null: np.ndarray | float) -> np.ndarray:
    """(value - null) / (1 - null): 0 at the null, 1 at the most there can be."""
    return (value - null) / (1 - null)
