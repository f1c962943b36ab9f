"""Same place: item share, the variance that parallel items have in common across languages."""

import numpy as np


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
    flat = z.reshape(len(z), -1)
    if not flat.shape[1]:
        return np.full((len(z), len(z)), np.nan)
    return (flat @ flat.T).astype(np.float64) / flat.shape[1]


def left_out_item_shares(z: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """`pair_item_share` with each cluster left out and the rest standardised anew.

    Args:
        z: (language, item, feature) from `standardised`.
        clusters: (item,).

    Returns:
        (cluster, language, language).
    """
    n_items = z.shape[1]
    by_feature = np.ascontiguousarray(z.transpose(2, 0, 1))  # (feature, language, item)
    products = by_feature @ by_feature.transpose(0, 2, 1)
    shares = []
    for cluster in np.unique(clusters):
        out = by_feature[..., clusters == cluster]
        n = n_items - out.shape[2]
        mean = -out.sum(axis=2) / n
        moments = (products - out @ out.transpose(0, 2, 1)) / n
        moments -= mean[:, :, None] * mean[:, None]
        scale = 1 / np.sqrt(np.diagonal(moments, axis1=1, axis2=2).clip(min=1e-6))
        shares.append(np.einsum("dlm,dl,dm->lm", moments, scale, scale) / len(z[0, 0]))
    return np.array(shares, dtype=np.float64)


def shuffled_pair_shares(products: np.ndarray, orders: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Item shares under shuffled pairings.

    Args:
        products: (language, item, language, item) mean over features of products of
            standardised states.
        orders: (permutation, language, item) from `shuffles.shuffled_orders`.
        signs: (permutation, language, item) from `shuffles.rare_signs`.

    Returns:
        (permutation, language, language), the diagonal NaN.
    """
    n_languages, n_items = products.shape[:2]
    shares = np.full((len(orders), n_languages, n_languages), np.nan)
    for first in range(n_languages):
        for second in range(first):
            paired = products[first, :, second][orders[:, first], orders[:, second]]
            mean = (paired * (signs[:, first] * signs[:, second])).sum(axis=1) / n_items
            shares[:, first, second] = shares[:, second, first] = mean
    return shares
