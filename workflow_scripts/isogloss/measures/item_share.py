"""Same place: item share, the variance that parallel items have in common across languages.

All of it is sums over paired items, so that it costs items x features for every pair of languages,
and no matrix of items. The sums are of some features at a time: they are added up, and
divided by the number of features at the end.
"""

import numpy as np
from scipy.sparse import csr_array

from isogloss.measures.in_threads import in_threads
from isogloss.measures.statistics import cluster_codes, sum_by_cluster

ITEMS_AT_ONCE = 16  # whose products are summed in float32, before they are in float64
AT_ONCE = 4_000_000  # states times features of all languages that shuffled sums are taken of
FEWEST_FEATURES = 64  # of them, below which moving a state is not worth its look-up


def pair_item_share(z: np.ndarray) -> np.ndarray:
    """Item share of every pair of languages: variance that parallel items have in common.

    0 when pairing carries nothing, 1 when parallel items coincide, whatever the width; unlike CKA
    it sees rotation. Its mean over pairs is the intraclass correlation of the item means
    (MS_item - MS_rest) / (MS_item + (L - 1) MS_rest), per dimension and averaged.

    Args:
        z: (language, item, feature) from `standardised`.

    Returns:
        (language, language): correlation over items, averaged over features; 1 on the diagonal.

    Source: our choice; ICC(1) of Shrout and Fleiss (1979).

    >>> from isogloss.measures.states import standardised
    >>> states = np.random.default_rng(0).normal(size=(1, 50, 8))
    >>> float(pair_item_share(standardised(np.repeat(states, 3, axis=0)))[0, 1].round(6))
    1.0
    """
    if not z.shape[2]:
        return np.full((len(z), len(z)), np.nan)
    return paired_sums(z) / (z.shape[1] * z.shape[2])


def paired_sums(z: np.ndarray) -> np.ndarray:
    """Sums over items and features of products of parallel states: (language, language) float64.

    Args:
        z: (language, item, feature).
    """
    flat = z.reshape(len(z), -1)
    step = ITEMS_AT_ONCE * max(z.shape[2], 1)
    total = np.zeros((len(z), len(z)))
    for start in range(0, flat.shape[1], step):
        part = flat[:, start : start + step]
        total += part @ part.T
    return total


def left_out_sums(z: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Sums over features of correlations over the items, each cluster left out.

    Without a cluster the others are standardised anew. Over the number of features they are
    `pair_item_share` without it.

    Args:
        z: (language, item, feature) from `standardised`, of which any features.
        clusters: (item,).

    Returns:
        (cluster, language, language).
    """
    codes = cluster_codes(clusters)
    left = (z.shape[1] - np.bincount(codes))[:, None].astype(z.dtype)
    by_item = z.transpose(1, 0, 2)
    mean = -sum_by_cluster(by_item, codes).transpose(1, 0, 2) / left
    square = z.shape[1] - sum_by_cluster(by_item**2, codes).transpose(1, 0, 2)
    scale = 1 / np.sqrt((square / left - mean**2).clip(min=1e-6))
    # The products of all items, by feature, in the scale that each cluster leaves.
    by_feature = np.ascontiguousarray(z.transpose(2, 0, 1))
    products = np.ascontiguousarray((by_feature @ by_feature.transpose(0, 2, 1)).transpose(1, 2, 0))
    total, scaled = np.empty((len(left), len(z), len(z))), np.empty_like(scale[0])
    for first in range(len(z)):
        for second in range(first + 1):
            np.multiply(scale[first], scale[second], out=scaled)
            total[:, first, second] = total[:, second, first] = scaled @ products[first, second]
    # Less those of the cluster's own items, and less the means.
    rescaled = by_item * scale[:, codes].transpose(1, 0, 2)
    total -= sum_by_cluster(rescaled @ rescaled.transpose(0, 2, 1), codes)
    means = (mean * scale).transpose(1, 0, 2)
    return total / left[..., None] - means @ means.transpose(0, 2, 1)


def shuffled_paired_sums(z: np.ndarray, orders: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """`paired_sums` under shuffled pairings: (permutation, language, language).

    Args:
        z: (language, item, feature), standardised.
        orders: (permutation, language, item) from `shuffles.shuffled_orders`.
        signs: (permutation, language, item) from `shuffles.rare_signs`.
    """
    flat = z.reshape(-1, z.shape[2])

    def sums(shuffle: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        order, sign = shuffle
        rows, total = _rows(order), np.zeros((len(z), len(z)))
        for start in range(0, z.shape[1], ITEMS_AT_ONCE):
            items = slice(start, start + ITEMS_AT_ONCE)
            moved = flat.take(rows[:, items], axis=0, mode="clip")
            if (sign[:, items] != 1).any():
                moved *= sign[:, items, None]
            part = moved.reshape(len(z), -1)
            total += part @ part.T
        return total

    return np.array(list(in_threads(sums, zip(orders, signs, strict=True))))


def shuffled_sums_of_pairs(z: np.ndarray, orders: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """`shuffled_paired_sums`, summed over ordered pairs of two languages: (permutation,).

    The sum of all languages' states squared, less their own squares: no pair is looked at.
    """
    squares_alone = sum(float(np.vdot(of_item, of_item)) for of_item in z.transpose(1, 0, 2))
    n_languages, n_items, n_features = z.shape
    step = max(FEWEST_FEATURES, AT_ONCE // (n_languages * n_items))
    sums = np.zeros(len(orders))
    for start in range(0, n_features, step):
        part = np.ascontiguousarray(z[..., start : start + step]).reshape(n_languages * n_items, -1)
        # A matrix of as many permutations as leave their sums in the cache.
        several = max(1, AT_ONCE // 4 // max(n_items * part.shape[1], n_languages * n_items * 10))
        some = [slice(at, at + several) for at in range(0, len(orders), several)]

        def of_some(those: slice, part: np.ndarray = part) -> np.ndarray:
            of_items = _picking(orders[those], signs[those], z.dtype) @ part
            squares = (of_items**2).sum(axis=1).reshape(-1, n_items)
            return np.asarray(squares.sum(axis=1, dtype=np.float64))

        sums += np.concatenate(list(in_threads(of_some, some)))
    return sums - squares_alone


def _picking(orders: np.ndarray, signs: np.ndarray, dtype: np.dtype) -> csr_array:
    """A matrix (permutation x item, language x item) that sums the states which meet as one item.

    Args: orders and signs (permutation, language, item).
    """
    n_permutations, n_languages, n_items = orders.shape
    members = orders + np.arange(n_languages, dtype=np.int32)[:, None] * np.int32(n_items)
    members, data = (a.transpose(0, 2, 1).ravel() for a in (members, signs.astype(dtype)))
    starts = np.arange(n_permutations * n_items + 1, dtype=np.int32) * np.int32(n_languages)
    return csr_array((data, members, starts), (len(starts) - 1, n_languages * n_items))


def _rows(order: np.ndarray) -> np.ndarray:
    """Rows of states (language x item, feature) in the order (language, item) of each language."""
    return order + np.arange(len(order), dtype=np.int32)[:, None] * np.int32(order.shape[1])
