"""Same place: whether the nearest state in another language is the translation.

Items of one cluster are alike, so a gallery never holds two of them: it is the translation and one
item each of some other clusters. Then unrelated languages find one translation in as many look-ups
as the gallery has candidates, however alike the items of a cluster are.
"""

import math

import numpy as np
from scipy.special import gammaln

from isogloss.measures.statistics import cluster_codes, sum_by_cluster

N_NEIGHBOURS = 10  # of CSLS, as published
ALL_LAYERS_TO = 30  # languages, up to which retrieval is taken at every layer
FEW_LAYERS = 7  # with retrieval where there are more, evenly spread
IN_A_GROUP = 10  # items of whose similarities the largest is taken first
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
    return np.asarray(largest(cosine, min(k, cosine.shape[2])).mean(axis=2))


def largest(values: np.ndarray, k: int) -> np.ndarray:
    """The k largest along the last axis, in no order: (pair, item, k).

    They lie in the k groups whose maxima are largest, and only those are looked through: a
    maximum is one pass at the speed of memory, and a selection is not.
    """
    n_groups = values.shape[2] // IN_A_GROUP
    if n_groups > k:
        *shape, n = values.shape
        grouped, left_over = np.split(values, [n_groups * IN_A_GROUP], axis=2)
        maxima = grouped.reshape(*shape, IN_A_GROUP, n_groups).max(axis=2)
        best = np.argpartition(maxima, n_groups - k, axis=2)[..., n_groups - k :]
        best += n * np.arange(math.prod(shape)).reshape(*shape, 1)
        places = best[:, :, None] + n_groups * np.arange(IN_A_GROUP)[:, None]
        inside = values.reshape(-1).take(places.reshape(*shape, -1))
        values = np.concatenate([inside, left_over], axis=2)
    n = values.shape[2]
    return np.partition(values, n - k, axis=2)[..., n - k :]


def retrieval_of_pairs(
    rows: np.ndarray, columns: np.ndarray, galleries: "Galleries"
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Retrieval between one language and some others, both ways.

    Args:
        rows: (language, item, feature) unit states of the others.
        columns: (item, feature) unit states of the language.
        galleries: that items are looked up in.

    Returns:
        Of rows looking up in columns, and of columns looking up in rows, each: accuracy
        (language,), that with each cluster left out (cluster, language), accuracy by CSLS.
    """
    n_items = len(columns)
    cosine = (rows.reshape(-1, rows.shape[2]) @ columns.T).reshape(-1, n_items, n_items)
    turned = np.ascontiguousarray(cosine.transpose(0, 2, 1))
    hubs, hubs_turned = hubness(cosine), hubness(turned)
    both = []
    for similarities, hub in ((cosine, hubs_turned), (turned, hubs)):
        plain = galleries.retrieval(similarities)
        # What CSLS takes off a row changes no order in it.
        similarities -= hub[:, None] / 2
        both.append((*plain, galleries.accuracy(similarities)))
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


class Galleries:
    """Galleries of a fixed size, of one item per cluster, that items are looked up in.

    Each item is looked up in a gallery of its translation and one item of each of `size - 1`
    other clusters. The mean over all such clusters is exact: where the items of m of the N other
    clusters are nearer than the translation, the chance that a gallery has none of them is
    C(N - m, size - 1) / C(N, size - 1). Ties count as nearer.

    Args:
        clusters: (item,).
        size: candidates per look-up, the translation included.

    Raises:
        ValueError: a gallery is larger than the number of clusters.

    Source: our choice (fixed gallery size: nearest neighbours get harder with more items).
    """

    def __init__(self, clusters: np.ndarray, size: int) -> None:
        n_clusters = largest_gallery(clusters)
        if size > n_clusters:
            raise ValueError(f"a gallery of {size} needs {size - 1} other clusters of items")
        self.codes = cluster_codes(clusters)
        self.sizes = np.bincount(self.codes)
        self.items = candidates(clusters)
        self.is_candidate = np.zeros((len(self.codes), len(self.items)), np.float32)
        for draw, items in enumerate(self.items):
            self.is_candidate[items, draw] = 1
        self.of_a_cluster = np.nonzero(self.codes[:, None] == self.codes)
        self.chances = _chances(n_clusters - 1, size)
        # Without a cluster, a gallery of all of them is smaller.
        self.chances_without = _chances(n_clusters - 2, min(size, n_clusters - 1))

    def accuracy(self, similarities: np.ndarray) -> np.ndarray:
        """How often the nearest neighbour in another language is the translation: (pair,).

        Args:
            similarities: (pair, item, item), from items to candidates.
        """
        return self._accuracy(self._nearer(similarities) @ self.is_candidate)

    def retrieval(self, similarities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`accuracy`, and the same with each cluster left out: (pair,) and (cluster, pair).

        Of CSLS' neighbourhoods no cluster is left out.
        """
        nearer = self._nearer(similarities)
        n_nearer = nearer @ self.is_candidate
        # Without a cluster, its candidate was among the nearer ones or it was not.
        stays = _at(self.chances_without, n_nearer)
        gains = _at(self.chances_without, np.maximum(n_nearer - 1, 0)) - stays
        of_each = gains.transpose(0, 2, 1).astype(np.float32) @ nearer
        gained = np.mean([of_each[:, draw, items] for draw, items in enumerate(self.items)], axis=0)
        stay = stays.mean(axis=2)
        total = stay.sum(axis=1)[:, None] + gained - sum_by_cluster(stay.T, self.codes).T
        return self._accuracy(n_nearer), (total / (len(self.codes) - self.sizes)).T

    def _nearer(self, similarities: np.ndarray) -> np.ndarray:
        """1 where an item of another cluster is no less near than the translation, else 0."""
        translation = np.einsum("pii->pi", similarities)[..., None]
        nearer = similarities >= translation
        nearer[:, *self.of_a_cluster] = False
        return nearer.astype(np.float32)

    def _accuracy(self, n_nearer: np.ndarray) -> np.ndarray:
        return np.asarray(_at(self.chances, n_nearer).mean(axis=(1, 2)))


def _chances(n_other: int, gallery: int) -> np.ndarray:
    """C(n - m, gallery - 1) / C(n, gallery - 1) for m = 0 to n + 1, 0 where it is impossible."""
    farther, drawn = np.arange(n_other, -1, -1), gallery - 1
    log = gammaln(farther + 1.0) - gammaln(np.maximum(farther - drawn, 0) + 1.0)
    return np.append(np.where(farther >= drawn, np.exp(log - log[0]), 0.0), 0.0)


def _at(chances: np.ndarray, n_nearer: np.ndarray) -> np.ndarray:
    """The chance for each number of clusters that are nearer."""
    return chances[n_nearer.astype(np.intp)]
