"""Same place: item share, the variance that parallel items have in common across languages.

All of it is sums over paired items, so that it costs items x features for every pair of languages,
and no matrix of items. The sums are of some features at a time: they are added up, and
divided by the number of features at the end.
"""

import numpy as np
from scipy.sparse import csc_array

from isogloss.measures.in_threads import in_threads
from isogloss.measures.statistics import cluster_codes, sum_by_cluster

ITEMS_AT_ONCE = 16  # whose products are summed in float32, before they are in float64
FEATURES_AT_ONCE = 32  # of states that meet: as many as make adding them worth their look-up
SUMS_AT_ONCE = 250_000  # numbers that they are added to, which stay in the cache


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
    n_items, n_features = z.shape[1:]
    starts = range(0, n_features, FEATURES_AT_ONCE)
    parts = [np.concatenate(z[..., start : start + FEATURES_AT_ONCE]) for start in starts]
    several = max(1, SUMS_AT_ONCE // (n_items * FEATURES_AT_ONCE))

    def of_some(those: slice) -> np.ndarray:
        meeting, sums = _meeting(orders[those], signs[those], z.dtype), np.zeros(len(orders[those]))
        for part in parts:
            of_items = meeting @ part
            sums += (of_items**2).reshape(len(sums), -1).sum(axis=1, dtype=np.float64)
        return sums

    some = [slice(at, at + several) for at in range(0, len(orders), several)]
    return np.concatenate([np.zeros(0), *in_threads(of_some, some)]) - squares_alone


def _meeting(orders: np.ndarray, signs: np.ndarray, dtype: np.dtype) -> csc_array:
    """A matrix (permutation x item, language x item) that sums the states which meet as one item.

    By columns: a state is read once, and added to the sums of all permutations.

    Args: orders and signs (permutation, language, item).
    """
    n_permutations, n_languages, n_items = orders.shape
    of_states = np.empty((n_languages, n_items, n_permutations), np.int32)
    data = np.empty(of_states.shape, dtype)
    places = np.arange(n_permutations * n_items, dtype=np.int32).reshape(n_permutations, 1, n_items)
    for array, values in ((of_states, places), (data, signs)):
        np.put_along_axis(array.transpose(2, 0, 1), orders.astype(np.intp), values, axis=2)
    starts = np.arange(0, data.size + 1, n_permutations, dtype=np.int32)
    shape = (n_permutations * n_items, n_languages * n_items)
    return csc_array((data.ravel(), of_states.ravel(), starts), shape)


def _rows(order: np.ndarray) -> np.ndarray:
    """Rows of states (language x item, feature) in the order (language, item) of each language."""
    return order + np.arange(len(order), dtype=np.int32)[:, None] * np.int32(order.shape[1])
