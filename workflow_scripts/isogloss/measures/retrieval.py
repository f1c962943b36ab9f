"""Same place: whether the nearest state in another language is the translation.

Items of one cluster are alike, so a gallery never holds two of them: it is the translation and one
item each of some other clusters. Then unrelated languages find one translation in as many look-ups
as the gallery has candidates, however alike the items of a cluster are.
"""

import numpy as np
from scipy.special import gammaln

from isogloss.measures.statistics import cluster_codes, sum_by_cluster

N_NEIGHBOURS = 10  # of CSLS, as published
MOST_GALLERIES = 5  # of which each takes another item of the larger clusters


def cosines(gram: np.ndarray) -> np.ndarray:
    """Cosine of every two states from their Gram matrix (language, item, language, item)."""
    norm = np.sqrt(np.einsum("lili->li", gram))
    with np.errstate(invalid="ignore", divide="ignore"):
        return gram / norm[:, :, None, None] / norm


def paired_mean(values: np.ndarray) -> np.ndarray:
    """Mean over parallel items of (language, item, language, item): (language, language)."""
    return np.einsum("limi->lm", values, dtype=np.float64) / values.shape[1]


def unpaired_mean(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Mean over items of different clusters of (language, item, language, item).

    What the mean over parallel items would be if pairing carried nothing.

    Returns:
        (language, language).
    """
    apart = (clusters[:, None] != clusters).astype(values.dtype)
    return np.einsum("limj,ij->lm", values, apart, dtype=np.float64) / apart.sum()


def csls(cosine: np.ndarray, k: int = N_NEIGHBOURS) -> np.ndarray:
    """Cosines of (language, item, language, item) corrected for hubs.

    2 cos(x, y) - r(x) - r(y), with r the mean cosine with the k nearest states of the other
    language.

    Source: Conneau et al. (2018), Word translation without parallel data.
    """
    n_items = cosine.shape[1]
    k = min(k, n_items)
    nearest = np.partition(cosine, n_items - k, axis=3)[..., n_items - k :].mean(axis=3)
    # nearest[l, i, m]: of item i of l among the items of m.
    return 2 * cosine - nearest[..., None] - nearest.transpose(2, 0, 1)[:, None]


def candidates(clusters: np.ndarray) -> np.ndarray:
    """(draw, cluster) an item of each cluster: its first, its second and so on, round and round.

    As many draws as the largest cluster has items, at most MOST_GALLERIES.

    >>> candidates(np.array([0, 0, 1])).tolist()
    [[0, 2], [1, 2]]
    """
    codes = cluster_codes(clusters)
    sizes = np.bincount(codes)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    draws = np.arange(min(int(sizes.max()), MOST_GALLERIES))[:, None]
    return np.argsort(codes, kind="stable")[starts + draws % sizes]


def largest_gallery(clusters: np.ndarray) -> int:
    """Candidates of the largest gallery: the translation and one item of every other cluster."""
    return len(np.unique(clusters))


def retrieval(
    similarities: np.ndarray, clusters: np.ndarray, gallery: int
) -> tuple[np.ndarray, np.ndarray]:
    """How often the nearest neighbour in another language is the translation.

    Each item is looked up in a gallery of its translation and one item of each of `gallery - 1`
    other clusters. The mean over all such clusters is exact: where the items of m of the N other
    clusters are nearer than the translation, the chance that a gallery has none of them is
    C(N - m, gallery - 1) / C(N, gallery - 1). Ties count as nearer.

    Args:
        similarities: (language, item, language, item), from items to candidates.
        clusters: (item,).
        gallery: candidates per look-up, the translation included.

    Returns:
        accuracy: (language, language), rows look up in columns.
        left_out: (cluster, language, language), the same with each cluster left out (of CSLS'
            neighbourhoods it is not).

    Raises:
        ValueError: the gallery is larger than the number of clusters.

    Source: our choice (fixed gallery size: nearest neighbours get harder with more items).
    """
    if gallery > largest_gallery(clusters):
        raise ValueError(f"a gallery of {gallery} needs {gallery - 1} other clusters of items")
    codes = cluster_codes(clusters)
    translation = np.einsum("limi->lim", similarities)[..., None]
    drawn = [
        _with_candidates(similarities[..., items] >= translation, codes, gallery)
        for items in candidates(clusters)
    ]
    accuracy, left_out = (np.mean(part, axis=0) for part in zip(*drawn, strict=True))
    return accuracy, left_out


def _with_candidates(
    nearer: np.ndarray, codes: np.ndarray, gallery: int
) -> tuple[np.ndarray, np.ndarray]:
    """`retrieval` with one candidate a cluster.

    Args:
        nearer: (language, item, language, cluster) bool, no less near than the translation.
        codes: (item,) numbers of the clusters.
    """
    n_items, n_clusters = len(codes), nearer.shape[3]
    nearer = nearer & (codes[:, None] != np.arange(n_clusters))[:, None]
    n_nearer = nearer.sum(axis=3)
    accuracy = _gallery_accuracy(n_nearer, n_clusters - 1, gallery).mean(axis=1)
    # Without a cluster, its candidate was among the nearer ones or it was not.
    smaller = min(gallery, n_clusters - 1)
    stays = _gallery_accuracy(n_nearer, n_clusters - 2, smaller)
    gains = _gallery_accuracy(np.maximum(n_nearer - 1, 0), n_clusters - 2, smaller) - stays
    total = stays.sum(axis=1) + np.einsum("lim,limc->clm", gains, nearer, optimize=True)
    total -= sum_by_cluster(stays.transpose(1, 0, 2), codes)
    return accuracy, total / (n_items - np.bincount(codes))[:, None, None]


def _gallery_accuracy(n_nearer: np.ndarray, n_other: int, gallery: int) -> np.ndarray:
    """C(n_other - n_nearer, gallery - 1) / C(n_other, gallery - 1), 0 where it is impossible."""
    farther, drawn = np.arange(n_other + 1), gallery - 1
    log = gammaln(farther + 1.0) - gammaln(np.maximum(farther - drawn, 0) + 1.0)
    chance = np.where(farther >= drawn, np.exp(log - log[-1]), 0.0)
    return np.where(n_nearer <= n_other, chance[np.maximum(n_other - n_nearer, 0)], 0.0)
