"""Same shape: debiased linear CKA of parallel items, with clusters of items as the unit.

Items of one cluster (questions on one passage, say) are alike in every language, whatever the
languages have in common: pairs of them would pass for a shared geometry. So no pair of items of one
cluster enters.

**The estimator.** The Hilbert-Schmidt independence criterion of two languages with Gram matrices k
and m is E[k_ij m_ij] - 2 E[k_ij m_iq] + E[k_ij m_qr] over independent i, j, q, r (Song et al.,
2012, equation 5). Items are independent where their clusters differ, so the U-statistic runs over
all ordered quadruples of *different clusters* a, b, c, d, with one item of each, any item of a
cluster as likely as another:

    HSIC = sum over a, b, c, d of mean over i in a, j in b, q in c, r in d of
           (k_ij m_ij - 2 k_ij m_iq + k_ij m_qr) / (C (C - 1) (C - 2) (C - 3)),  C clusters.

Every summand has the expectation HSIC, so their mean is unbiased however large the clusters and
however alike their items; where every cluster is one item it is Song's estimator.

**Its computation.** All three terms come from the same quadruples, so k_ij + f_i + f_j gives the
same sum for any f. Choose f so that every item's mean similarity to each other cluster sums to 0
over those clusters, for k and for m (`Centred`). With clusters' means a bar,

    sum over b, c of k_ib m_ic                 = 0 - sum over b of k_ib m_ib   (b, c different)
    sum over a, b, c, d of k_ab m_cd           = 0 - 0 + 2 sum over a, b of k_ab m_ab

so that HSIC is the sum of three inner products (of items with items, items with clusters and
clusters with clusters), CKA their cosine, and the whole O(n^2) for n items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isogloss.measures.in_threads import in_threads
from isogloss.measures.shuffles import Shuffle
from isogloss.measures.statistics import cluster_codes, sum_by_cluster

ROWS_AT_ONCE = 64  # of a shuffled matrix


@dataclass(frozen=True)
class Centred:
    """Gram matrices of every language whose every item is centred over the other clusters.

    A cluster weighs the same whatever its size, so an item weighs w = 1 / items of its cluster.

    Attributes:
        items: (language, item, item) entries times sqrt(w_i w_j), 0 within clusters.
        means: (language, item, cluster) mean over a cluster's items, times sqrt(w_i).
        blocks: (language, cluster, cluster) mean over both clusters' items.
        codes: (item,) number of each item's cluster.
    """

    items: np.ndarray
    means: np.ndarray
    blocks: np.ndarray
    codes: np.ndarray

    @property
    def n_clusters(self) -> int:
        return self.blocks.shape[1]

    @property
    def single(self) -> bool:
        """Whether every cluster is one item: then all three hold the same entries."""
        return self.blocks.shape[1] == self.items.shape[1]


def centred_over_clusters(grams: np.ndarray, clusters: np.ndarray) -> Centred:
    """Gram matrices without what is additive in the items.

    Args:
        grams: (language, item, item) of each language's states, centred or not.
        clusters: (item,).

    Raises:
        ValueError: fewer than 4 clusters.
    """
    codes = cluster_codes(clusters)
    size = np.bincount(codes)
    n = len(size)
    if n < 4:
        raise ValueError(f"unbiased HSIC needs 4 clusters of items, got {n}")
    apart = codes[:, None] != codes
    k = np.where(apart, grams, 0.0)
    means = _cluster_means(k, codes)
    block_sums = _cluster_means(means.transpose(0, 2, 1), codes).sum(axis=1)
    half = block_sums.sum(axis=1, keepdims=True) / (2 * n - 2)
    by_cluster = (block_sums - half) / (n - 2)
    by_item = (means.sum(axis=2) - half + by_cluster[:, codes]) / (n - 1)
    k -= (by_item[:, :, None] + by_item[:, None]) * apart
    means = _cluster_means(k, codes)
    blocks = _cluster_means(means.transpose(0, 2, 1), codes)
    weight = 1 / np.sqrt(size[codes])
    k *= weight[:, None] * weight
    return Centred(k, means * weight[:, None], blocks, codes)


def _cluster_means(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Means within clusters over the last axis: (..., item) to (..., cluster)."""
    sizes = np.bincount(codes)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    together = values.take(np.argsort(codes, kind="stable"), -1)
    if (sizes == 1).all():
        return together
    return np.add.reduceat(together, starts, axis=-1) / sizes


def side_by_side(centred: Sequence[Centred], dtype: type = np.float64) -> Centred:
    """The Gram matrices of several languages, each centred by itself, as one."""
    first = centred[0]

    def together(name: str) -> np.ndarray:
        return np.concatenate([getattr(c, name) for c in centred]).astype(dtype, copy=False)

    if first.single:
        items = together("items")
        return Centred(items, items, items, first.codes)
    return Centred(together("items"), together("means"), together("blocks"), first.codes)


def pair_cka(centred: Centred) -> np.ndarray:
    """Debiased linear CKA of every pair of languages.

    Returns:
        (language, language), -1 to 1; NaN where the items of a language have no geometry.

    Source: Kornblith et al. (2019) with the unbiased HSIC of Song et al. (2012) over clusters.
    """
    return cosine(hsic(centred, centred))


def hsic(first: Centred, second: Centred) -> np.ndarray:
    """Unbiased HSIC of the languages of one with those of another: (language, language)."""
    n = first.n_clusters
    pairs = _products(first.items, second.items)
    if first.single:
        return pairs / (n * (n - 3))
    means = 2 * _products(first.means, second.means)
    blocks = 2 * _products(first.blocks, second.blocks)
    return (pairs + (means + blocks / (n - 3)) / (n - 2)) / (n * (n - 1))


def _products(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Inner products (language, language) of (language, ...) arrays."""
    return first.reshape(len(first), -1) @ second.reshape(len(second), -1).T


def cosine(hsics: np.ndarray) -> np.ndarray:
    """CKA from HSIC (..., language, language); NaN where a language has none with itself."""
    alone = np.diagonal(hsics, axis1=-2, axis2=-1)
    alone = np.where(alone > 0, alone, np.nan)
    return hsics / np.sqrt(alone[..., :, None] * alone[..., None, :])


def left_out_hsics(first: Centred, second: Centred) -> np.ndarray:
    """`hsic` with each cluster left out, times what CKA divides out: (cluster, language, language).

    The sums over all clusters are taken once and each cluster's part subtracted; without it an
    item's mean similarities sum to minus its similarity to that cluster.

    Raises:
        ValueError: fewer than 5 clusters.
    """
    n, codes = first.n_clusters - 1, first.codes
    if n < 4:
        raise ValueError(f"unbiased HSIC without a cluster needs 5 clusters of items, got {n + 1}")
    of_items = sum_by_cluster(_row_products(first.items, second.items), codes)
    of_rows, of_columns, of_blocks = of_items, of_items, of_items
    if not first.single:
        of_rows = sum_by_cluster(_row_products(first.means, second.means), codes)
        columns = (part.means.transpose(0, 2, 1) for part in (first, second))
        of_columns = _row_products(*columns)
        of_blocks = _row_products(first.blocks, second.blocks)
    pairs = of_items.sum(axis=0) - 2 * of_items
    triples = of_columns - (of_rows.sum(axis=0) - of_rows - of_columns)
    quadruples = 2 * (of_blocks.sum(axis=0) - 2 * of_blocks) - 4 * of_blocks
    return pairs - 2 * triples / (n - 2) + quadruples / ((n - 2) * (n - 3))


def _row_products(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Inner products of each row of (language, row, column): (row, language, language)."""
    return first.transpose(1, 0, 2) @ second.transpose(1, 2, 0)


Shuffles = Sequence[Shuffle]
"""Shuffled pairings of some languages, one per permutation."""


def shuffled_hsics(
    first: Centred, second: Centred, shuffles: Shuffles, other_shuffles: Shuffles
) -> np.ndarray:
    """`hsic` under shuffled pairings: (permutation, language, language).

    Signs of clusters go with both sides of the centred entries, so that what a cluster alone in its
    size shares with itself has the expectation 0, and a language's HSIC with itself stays as it is.

    Args:
        first, second: the same object for the pairs of its languages among themselves.
        shuffles, other_shuffles: of the languages of each.
    """
    n, same = first.n_clusters, first is second
    scales = _largest(first), _largest(second)
    weights = {"items": 1.0}
    if not first.single:
        weights |= {"means": 2 / (n - 2), "blocks": 2 / ((n - 2) * (n - 3))}
    sums = np.zeros((len(shuffles), len(first.items), len(second.items)))
    for name, weight in weights.items():
        ours = _Shuffled(first, name, scales[0])
        theirs = ours if same else _Shuffled(second, name, scales[1])

        def products(
            shuffle: tuple[Shuffle, Shuffle], ours: _Shuffled = ours, theirs: _Shuffled = theirs
        ) -> np.ndarray:
            total = np.zeros(sums.shape[1:])
            for rows in ours.row_parts():
                moved = ours.moved(shuffle[0], rows)
                total += moved @ (moved if same else theirs.moved(shuffle[1], rows)).T
            return total

        both = zip(shuffles, other_shuffles, strict=True)
        for number, of_shuffle in enumerate(in_threads(products, both)):
            sums[number] += weight * of_shuffle
    return sums * np.multiply.outer(*scales) / (n * (n - 3 if first.single else n - 1))


def _largest(centred: Centred) -> np.ndarray:
    """(language,) largest entry, by which entries are divided so that float32 holds them."""
    return np.abs(centred.items).max(axis=(1, 2)).clip(min=np.finfo(float).tiny)


class _Shuffled:
    """One of the matrices of `Centred` in float32, whose rows and columns are put in other orders.

    Some rows at a time, so that they stay in the cache. Of a symmetric matrix only what is right of
    the diagonal is moved, and counts twice.
    """

    def __init__(self, centred: Centred, name: str, scale: np.ndarray) -> None:
        matrix = getattr(centred, name)
        scale = scale[:, None, None].astype(matrix.dtype)
        self.matrix, self.codes = (matrix / scale).astype(np.float32, copy=False), centred.codes
        self.rows_are_items, self.columns_are_items = name != "blocks", name == "items"
        self.symmetric = name != "means"
        self.first_items = np.unique(centred.codes, return_index=True)[1]

    def row_parts(self) -> list[slice]:
        """The rows in parts."""
        n = self.matrix.shape[1]
        return [slice(start, min(start + ROWS_AT_ONCE, n)) for start in range(0, n, ROWS_AT_ONCE)]

    def moved(self, shuffle: Shuffle, rows: slice) -> np.ndarray:
        """Some rows under another pairing of the items: (language, entry)."""
        order = shuffle.order
        of_clusters = self.codes[order][:, self.first_items]
        row_order = order if self.rows_are_items else of_clusters
        column_order = order if self.columns_are_items else of_clusters
        start, height = rows.start if self.symmetric else 0, rows.stop - rows.start
        width = self.matrix.shape[2] - start
        moved = np.empty((len(self.matrix), height, width), np.float32)
        for matrix, of_rows, of_columns, out in zip(
            self.matrix, row_order[:, rows], column_order[:, start:], moved, strict=True
        ):
            # Places are inside; NumPy looks them up a third faster where it may wrap than clip.
            matrix.take(of_rows, 0).take(of_columns, 1, out=out, mode="wrap")
        if (shuffle.signs != 1).any():
            of_clusters = shuffle.signs[:, self.first_items]
            row_signs = shuffle.signs if self.rows_are_items else of_clusters
            column_signs = shuffle.signs if self.columns_are_items else of_clusters
            moved *= row_signs[:, rows, None] * column_signs[:, None, start:]
        if self.symmetric:
            moved[:, :, height:] *= np.float32(np.sqrt(2))
        return moved.reshape(len(moved), -1)
