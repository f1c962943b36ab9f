"""Same place: whether the nearest state in another language is the translation.

Items of one cluster are alike, so a gallery never holds two of them: it is the translation and one
item each of some other clusters. Then unrelated languages find one translation in as many look-ups
as the gallery has candidates, however alike the items of a cluster are.
"""

import numpy as np
from scipy.special import gammaln

from isogloss.measures.statistics import cluster_codes, sum_by_cluster

N_NEIGHBOURS = 10  # of CSLS, as published
ALL_LAYERS_TO = 30  # languages, up to which retrieval is taken at every layer
FEW_LAYERS = 7  # with retrieval where there are more, evenly spread
MOST_GALLERIES = 5  # of which each takes another item of the larger clusters


def layers_with_retrieval(n_layers: int, n_languages: int, wanted: int | None) -> set[int]:
    """The layers at which retrieval is taken."""
    if wanted is None:
        wanted = n_layers if n_languages <= ALL_LAYERS_TO else FEW_LAYERS
    return set(np.linspace(0, n_layers - 1, min(wanted, n_layers)).round().astype(int).tolist())


def unit_states(z: np.ndarray) -> np.ndarray:
    """States (..., feature) of length 1; NaN where they have none."""
    norm = np.linalg.norm(z, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(z / norm)


def hubness(cosine: np.ndarray, k: int = N_NEIGHBOURS) -> np.ndarray:
    """Mean cosine of each state with the k nearest of the other language: (pair, item).

    CSLS is 2 cos(x, y) - r(x) - r(y), with r this mean for x and for y.

    Args:
        cosine: (pair, item, item), of rows with columns.

    Source: Conneau et al. (2018), Word translation without parallel data.
    """
    n_items = cosine.shape[2]
    k = min(k, n_items)
    return np.asarray(np.partition(cosine, n_items - k, axis=2)[..., n_items - k :].mean(axis=2))


def retrieval_of_pairs(
    rows: np.ndarray, columns: np.ndarray, clusters: np.ndarray, gallery: int
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Retrieval between one language and some others, both ways.

    Args:
        rows: (language, item, feature) unit states of the others.
        columns: (item, feature) unit states of the language.
        clusters: (item,).
        gallery: candidates per look-up.

    Returns:
        Of rows looking up in columns, and of columns looking up in rows, each: accuracy
        (language,), that with each cluster left out (cluster, language), accuracy by CSLS.
    """
    n_items = len(columns)
    cosine = (rows.reshape(-1, rows.shape[2]) @ columns.T).reshape(-1, n_items, n_items)
    turned = np.ascontiguousarray(cosine.transpose(0, 2, 1))
    hubs, hubs_turned = hubness(cosine), hubness(turned)
    both = [
        (
            *retrieval(similarities, clusters, gallery),
            # What CSLS takes off a row changes no order in it.
            retrieval(similarities - hub[:, None] / 2, clusters, gallery)[0],
        )
        for similarities, hub in ((cosine, hubs_turned), (turned, hubs))
    ]
    return both[0], both[1]


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
        similarities: (pair, item, item), from items to candidates.
        clusters: (item,).
        gallery: candidates per look-up, the translation included.

    Returns:
        accuracy: (pair,), rows look up in columns.
        left_out: (cluster, pair), the same with each cluster left out (of CSLS' neighbourhoods it
            is not).

    Raises:
        ValueError: the gallery is larger than the number of clusters.

    Source: our choice (fixed gallery size: nearest neighbours get harder with more items).
    """
    if gallery > largest_gallery(clusters):
        raise ValueError(f"a gallery of {gallery} needs {gallery - 1} other clusters of items")
    codes = cluster_codes(clusters)
    translation = np.einsum("pii->pi", similarities)[..., None]
    drawn = [
        _with_candidates(_of_candidates(similarities, items) >= translation, codes, gallery)
        for items in candidates(clusters)
    ]
    accuracy, left_out = (np.mean(part, axis=0) for part in zip(*drawn, strict=True))
    return accuracy, left_out


def _of_candidates(similarities: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Columns of some items; all of them, in their order, are not copied."""
    if np.array_equal(items, np.arange(similarities.shape[2])):
        return similarities
    return similarities.take(items, axis=2)


def _with_candidates(
    nearer: np.ndarray, codes: np.ndarray, gallery: int
) -> tuple[np.ndarray, np.ndarray]:
    """`retrieval` with one candidate a cluster.

    Args:
        nearer: (pair, item, cluster) bool, no less near than the translation; changed.
        codes: (item,) numbers of the clusters.
    """
    n_items, n_clusters = len(codes), nearer.shape[2]
    nearer[:, np.arange(n_items), codes] = False
    n_nearer = nearer.sum(axis=2)
    accuracy = _gallery_accuracy(n_nearer, n_clusters - 1, gallery).mean(axis=1)
    # Without a cluster, its candidate was among the nearer ones or it was not.
    smaller = min(gallery, n_clusters - 1)
    stays = _gallery_accuracy(n_nearer, n_clusters - 2, smaller)
    gains = _gallery_accuracy(np.maximum(n_nearer - 1, 0), n_clusters - 2, smaller) - stays
    gained = (gains[:, None].astype(np.float32) @ nearer.astype(np.float32))[:, 0]
    total = stays.sum(axis=1)[:, None] + gained - sum_by_cluster(stays.T, codes).T
    return accuracy, (total / (n_items - np.bincount(codes))).T


def _gallery_accuracy(n_nearer: np.ndarray, n_other: int, gallery: int) -> np.ndarray:
    """C(n_other - n_nearer, gallery - 1) / C(n_other, gallery - 1), 0 where it is impossible."""
    farther, drawn = np.arange(n_other + 1), gallery - 1
    log = gammaln(farther + 1.0) - gammaln(np.maximum(farther - drawn, 0) + 1.0)
    chance = np.where(farther >= drawn, np.exp(log - log[-1]), 0.0)
    return np.where(n_nearer <= n_other, chance[np.maximum(n_other - n_nearer, 0)], 0.0)
