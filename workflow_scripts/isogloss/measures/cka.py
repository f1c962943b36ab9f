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

from dataclasses import dataclass

import numpy as np

from isogloss.measures.statistics import cluster_codes, sum_by_cluster


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

    def shuffled(self, orders: np.ndarray) -> "Centred":
        """The same with items in other orders (language, item), in which clusters stay whole."""
        first = np.unique(self.codes, return_index=True)[1]
        of_clusters = self.codes[orders][:, first]
        items = _taken(self.items, orders, orders)
        if self.single:
            return Centred(items, items, items, self.codes)
        means = _taken(self.means, orders, of_clusters)
        return Centred(items, means, _taken(self.blocks, of_clusters, of_clusters), self.codes)


def _taken(part: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Rows and columns of (language, row, column), others in each language."""
    each = zip(part, rows, columns, strict=True)
    return np.stack([of_one.take(r, 0).take(c, 1) for of_one, r, c in each])


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
    return np.add.reduceat(together, starts, axis=-1) / sizes


def pair_cka(centred: Centred) -> np.ndarray:
    """Debiased linear CKA of every pair of languages.

    Returns:
        (language, language), -1 to 1; NaN where the items of a language have no geometry.

    Source: Kornblith et al. (2019) with the unbiased HSIC of Song et al. (2012) over clusters.
    """
    return _cosine(_hsic(centred))


def _hsic(centred: Centred) -> np.ndarray:
    """Unbiased HSIC (language, language) of centred Gram matrices."""
    n = centred.n_clusters
    pairs = _products(centred.items)
    if centred.single:
        return pairs / (n * (n - 3))
    means, blocks = 2 * _products(centred.means), 2 * _products(centred.blocks)
    return (pairs + (means + blocks / (n - 3)) / (n - 2)) / (n * (n - 1))


def _products(part: np.ndarray) -> np.ndarray:
    """Inner products (language, language) of (language, ...) arrays."""
    flat = part.reshape(len(part), -1)
    return flat @ flat.T


def _cosine(hsic: np.ndarray) -> np.ndarray:
    """CKA from HSIC (..., language, language); NaN where a language has none with itself."""
    alone = np.diagonal(hsic, axis1=-2, axis2=-1)
    alone = np.where(alone > 0, alone, np.nan)
    return hsic / np.sqrt(alone[..., :, None] * alone[..., None, :])


def left_out_ckas(centred: Centred) -> np.ndarray:
    """`pair_cka` with each cluster left out: (cluster, language, language).

    The sums over all clusters are taken once and each cluster's part subtracted; without it an
    item's mean similarities sum to minus its similarity to that cluster.

    Raises:
        ValueError: fewer than 5 clusters.
    """
    n, codes = centred.n_clusters - 1, centred.codes
    if n < 4:
        raise ValueError(f"unbiased HSIC without a cluster needs 5 clusters of items, got {n + 1}")
    of_items = sum_by_cluster(_row_products(centred.items), codes)
    of_rows = sum_by_cluster(_row_products(centred.means), codes)
    of_columns = _row_products(centred.means.transpose(0, 2, 1))
    of_blocks = _row_products(centred.blocks)
    pairs = of_items.sum(axis=0) - 2 * of_items
    triples = of_columns - (of_rows.sum(axis=0) - of_rows - of_columns)
    quadruples = 2 * (of_blocks.sum(axis=0) - 2 * of_blocks) - 4 * of_blocks
    # A factor that CKA divides out is left out.
    return _cosine(pairs - 2 * triples / (n - 2) + quadruples / ((n - 2) * (n - 3)))


def _row_products(part: np.ndarray) -> np.ndarray:
    """Inner products of each row of (language, row, column): (row, language, language)."""
    by_row = part.transpose(1, 0, 2)
    return by_row @ by_row.transpose(0, 2, 1)


def shuffled_ckas(centred: Centred, orders: np.ndarray) -> np.ndarray:
    """Debiased CKA under shuffled pairings: (permutation, language, language).

    Args:
        orders: (permutation, language, item) of `shuffles.shuffled_orders`.
    """
    return np.array([pair_cka(centred.shuffled(order)) for order in orders])
