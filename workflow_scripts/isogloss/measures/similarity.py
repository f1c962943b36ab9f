"""Similarity of parallel items between languages: same place, same shape, and dissociation.

Two things are measured and never mixed. *Same place*: parallel items lie at the same point once
each language is centred; item share and retrieval give all dimensions equal weight, the centred
cosine does not. *Same shape*: the items of two languages have the same geometry, in whatever
directions (debiased CKA).

Nearly everything follows from the Gram matrices of the items, so that a shuffled pairing is an
index and a left-out cluster a difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from scipy.special import gammaln, stdtrit

from isogloss.errors import InputError
from isogloss.files.parallel_states import ParallelStates

MIDDLE = (0.25, 0.75)  # relative depths that the dissociation score is a mean over
N_NEIGHBOURS = 10  # of CSLS, as published
CONSTANT = 1e-6  # spread over magnitude below which a dimension only holds rounding


# Kernels: states


def standardised(states: np.ndarray) -> np.ndarray:
    """Every dimension with mean 0 and variance 1 over the items of each language.

    Args:
        states: (language, item, feature).

    Returns:
        (language, item, feature), without the dimensions that are constant, up to rounding, in
        any language that varies at all; all NaN for a language in which none varies.
    """
    x = states.astype(np.float64)
    mean, spread = x.mean(axis=1, keepdims=True), x.std(axis=1, keepdims=True)
    varies = spread > CONSTANT * np.sqrt((x**2).mean(axis=1, keepdims=True))
    degenerate = ~varies.any(axis=2, keepdims=True)
    shared = (varies | degenerate).all(axis=(0, 1))
    spread = np.where(varies, spread, np.nan)
    return ((x - mean) / spread)[..., shared].astype(np.float32)


def without_length(states: np.ndarray, n_tokens: np.ndarray) -> np.ndarray:
    """States without what follows the logarithm of the number of tokens, by language.

    Args:
        states: (language, item, feature).
        n_tokens: (language, item), positive.

    Returns:
        (language, item, feature) residuals of a linear regression with intercept; centred states
        where the number of tokens is constant.
    """
    length = np.log(n_tokens.astype(np.float64))
    length = length - length.mean(axis=1, keepdims=True)
    energy = (length**2).sum(axis=1, keepdims=True)
    unit = np.divide(length, np.sqrt(energy), out=np.zeros_like(length), where=energy > 1e-12)
    x = states - states.mean(axis=1, keepdims=True)
    return x - unit[..., None] * (unit[:, None] @ x)


def degenerate_reason(states: np.ndarray) -> str:
    """Why states (item, feature) can have no similarity, "" where they can.

    A last token that all prompts share has one embedding: such states are equal whatever the
    question. Few distinct states group items by their last token, not by their meaning; the
    bound (half of the items) is our choice.

    >>> degenerate_reason(np.ones((5, 3)))
    'constant over items'
    """
    if not np.isfinite(states).all():
        return "not finite"
    x = states.astype(np.float64)
    spread = x.std(axis=0)
    varies = spread > CONSTANT * np.sqrt((x**2).mean(axis=0))
    if not varies.any():
        return "constant over items"
    # In units of the spread, so that states equal up to rounding count as one.
    n_distinct = len(np.unique((x[:, varies] / spread[varies]).round(3), axis=0))
    if 2 * n_distinct < len(states):
        return f"{n_distinct} distinct states for {len(states)} items"
    return ""


# Kernels: same place


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

    >>> one = np.random.default_rng(0).normal(size=(1, 50, 8))
    >>> float(pair_item_share(standardised(np.repeat(one, 3, axis=0)))[0, 1].round(6))
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


def cosines(gram: np.ndarray) -> np.ndarray:
    """Cosine of every two states from their Gram matrix (language, item, language, item)."""
    norm = np.sqrt(np.einsum("lili->li", gram))
    with np.errstate(invalid="ignore", divide="ignore"):
        return gram / norm[:, :, None, None] / norm


def paired_mean(values: np.ndarray) -> np.ndarray:
    """Mean over parallel items of (language, item, language, item): (language, language)."""
    return np.einsum("limi->lm", values, dtype=np.float64) / values.shape[1]


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


def retrieval(
    similarities: np.ndarray, clusters: np.ndarray, gallery: int
) -> tuple[np.ndarray, np.ndarray]:
    """How often the nearest neighbour in another language is the translation.

    Each item is looked up in a gallery that holds its translation and `gallery - 1` items of
    other clusters. The mean over all such galleries is exact: with m of the N other items
    nearer than the translation, the chance that a gallery holds none of them is
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
        ValueError: the gallery is larger than what some item has.

    Source: our choice (fixed gallery size: nearest neighbours get harder with more items).
    """
    other = clusters[:, None] != clusters
    if gallery > largest_gallery(clusters):
        raise ValueError(f"a gallery of {gallery} needs {gallery - 1} items of other clusters")
    own = np.einsum("limi->lim", similarities)[..., None]
    nearer = (similarities >= own) & other[:, None]  # (language, item, language, candidate)
    members = np.unique(clusters)[:, None] == clusters  # (cluster, item)
    n_nearer = nearer.sum(axis=3)
    of_cluster = nearer.astype(np.float32) @ members.T.astype(np.float32)
    n_other = other.sum(axis=1)
    accuracy = _gallery_accuracy(n_nearer, n_other[:, None], gallery).mean(axis=1)
    left_out = []
    for c, member in enumerate(members):
        rest = n_nearer - of_cluster[..., c].astype(int)
        fewer = np.maximum(n_other - member.sum(), 0)[:, None]
        size = min(gallery, int(fewer[~member].min()) + 1)
        left_out.append(_gallery_accuracy(rest, fewer, size)[:, ~member].mean(axis=1))
    return accuracy, np.array(left_out)


def _gallery_accuracy(n_nearer: np.ndarray, n_other: np.ndarray, gallery: int) -> np.ndarray:
    """C(n_other - n_nearer, gallery - 1) / C(n_other, gallery - 1), 0 where it is impossible."""
    drawn = gallery - 1
    farther = n_other - n_nearer
    with np.errstate(invalid="ignore", over="ignore"):
        log = _log_falling(farther, drawn) - _log_falling(n_other, drawn)
    return np.where(farther >= drawn, np.exp(log), 0.0)


def _log_falling(n: np.ndarray, k: int) -> np.ndarray:
    """log(n! / (n - k)!), by a table: there are few different n."""
    table = np.arange(max(int(n.max()), k) + 1)
    values = gammaln(table + 1.0) - gammaln(np.maximum(table - k, 0) + 1.0)
    return values[np.maximum(n, 0)]


def largest_gallery(clusters: np.ndarray) -> int:
    """The largest gallery that every item has: itself and all items of other clusters."""
    return int((clusters[:, None] != clusters).sum(axis=1).min()) + 1


# Kernels: same shape


def u_centred(gram: np.ndarray) -> np.ndarray:
    """U-centred Gram matrices: the mean product of two of them is their unbiased HSIC.

    Args:
        gram: (..., item, item), at least 4 items.

    Source: Szekely and Rizzo (2014), equation 2.1; equal to the unbiased HSIC of Song et al.
    (2012), equation 5.
    """
    n = gram.shape[-1]
    if n < 4:
        raise ValueError(f"unbiased HSIC needs 4 items, got {n}")
    own = np.eye(n, dtype=bool)
    k = np.where(own, 0.0, gram)
    rows = k.sum(axis=-1, keepdims=True) / (n - 2)
    total = k.sum(axis=(-2, -1), keepdims=True) / ((n - 1) * (n - 2))
    return np.where(own, 0.0, k - rows - np.swapaxes(rows, -2, -1) + total)


def pair_cka(grams: np.ndarray) -> np.ndarray:
    """Debiased linear CKA of every pair of languages.

    Args:
        grams: (language, item, item) Gram matrix of each language's states, centred or not.

    Returns:
        (language, language); NaN where a language's own unbiased HSIC is not positive.

    Raises:
        ValueError: fewer than 4 items.

    Source: Kornblith et al. (2019) with the unbiased HSIC of Song et al. (2012).
    """
    return _cka_of(u_centred(grams))


def _cka_of(centred: np.ndarray) -> np.ndarray:
    """CKA from U-centred Gram matrices (language, item, item)."""
    flat = centred.reshape(len(centred), -1)
    return _scaled(flat @ flat.T)


def _scaled(hsic: np.ndarray) -> np.ndarray:
    """CKA from HSIC (language, language); NaN where a language's own is not positive."""
    own = np.where(np.diag(hsic) > 0, np.diag(hsic), np.nan)
    return hsic / np.sqrt(own[:, None] * own)


def left_out_ckas(grams: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """`pair_cka` with each cluster left out: (cluster, language, language).

    The sums behind the unbiased HSIC are taken once and each cluster's part subtracted.

    Source: Song et al. (2012), equation 5; a factor that CKA divides out is left out.
    """
    k = np.where(np.eye(grams.shape[-1], dtype=bool), 0.0, grams)
    rows = k.sum(axis=2)
    by_item = k.transpose(1, 0, 2)
    traces = by_item @ by_item.transpose(0, 2, 1)  # (item, language, language)
    ckas = []
    for cluster in np.unique(clusters):
        out = clusters == cluster
        n = int((~out).sum())
        across, inside = k[:, ~out][:, :, out], k[:, out][:, :, out]
        trace = traces[~out].sum(axis=0) - traces[out].sum(axis=0)
        trace += np.einsum("lij,mij->lm", inside, inside)
        left = rows[:, ~out] - across.sum(axis=2)
        total = left.sum(axis=1)
        hsic = trace + np.outer(total, total) / ((n - 1) * (n - 2)) - 2 / (n - 2) * left @ left.T
        ckas.append(_scaled(hsic))
    return np.array(ckas)


# Kernels: nulls and intervals


def shuffled_orders(
    clusters: np.ndarray, n_languages: int, n_permutations: int, seed: int | Sequence[int]
) -> np.ndarray:
    """Orders of the items that break their pairing: (permutation, language, item).

    Independently for every language, clusters are put in random order and items in random
    order within them, so that what is dependent stays together.
    """
    rng = np.random.default_rng(seed)
    codes = np.unique(clusters, return_inverse=True)[1]
    shape = (n_permutations, n_languages)
    place = rng.random((*shape, codes.max() + 1)).argsort(axis=-1)[..., codes]
    return np.argsort(place + rng.random((*shape, len(codes))), axis=-1)


def shuffled_pair_shares(products: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Item shares under shuffled pairings.

    Args:
        products: (language, item, language, item) mean over features of products of
            standardised states.
        orders: (permutation, language, item) from `shuffled_orders`.

    Returns:
        (permutation, language, language), the diagonal NaN.
    """
    n_languages, n_items = products.shape[:2]
    shares = np.full((len(orders), n_languages, n_languages), np.nan)
    for one in range(n_languages):
        for two in range(one):
            block = products[one, :, two]
            paired = block[orders[:, one], orders[:, two]].sum(axis=1) / n_items
            shares[:, one, two] = shares[:, two, one] = paired
    return shares


def shuffled_ckas(grams: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Debiased CKA under shuffled pairings: (permutation, language, language)."""
    centred = u_centred(grams)
    return np.array(
        [
            _cka_of(np.stack([c[o[:, None], o] for c, o in zip(centred, order, strict=True)]))
            for order in orders
        ]
    )


def mean_over_pairs(matrix: np.ndarray, row: int | None = None) -> np.ndarray:
    """Mean over ordered pairs of languages (the last two axes), or over those with one of them.

    NaN where any of them is: a mean over what is left would be one of other languages.
    """
    n = matrix.shape[-1]
    if row is None:
        return np.asarray(matrix[..., ~np.eye(n, dtype=bool)].mean(axis=-1))
    others = [i for i in range(n) if i != row]
    both = matrix[..., row, others], matrix[..., others, row]
    return np.asarray((both[0].mean(axis=-1) + both[1].mean(axis=-1)) / 2)


def jackknife_bounds(
    estimate: np.ndarray | float, left_out: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of an estimate from its values with each cluster left out (axis 0).

    Source: Efron and Stein (1981); Student's t with one degree of freedom fewer than clusters.
    """
    n = len(left_out)
    spread = ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)
    half = np.sqrt((n - 1) / n * spread) * stdtrit(n - 1, (1 + confidence) / 2)
    return estimate - half, estimate + half


def max_t(observed: np.ndarray, null: np.ndarray, confidence: float) -> tuple[np.ndarray, ...]:
    """Family-wise thresholds and p values of a map against a permutation null.

    Every entry is put in units of its own null, and the largest of a permutation counts, so
    that an entry above its threshold is so among all of them.

    Args:
        observed: (...), NaN where there is no number.
        null: (permutation, ...).

    Returns:
        mean of the null, threshold, adjusted one-sided p: (...) each, NaN where observed is.

    Source: Westfall and Young (1993), single-step max-T.
    """
    mean, spread = null.mean(axis=0), null.std(axis=0)
    usable = np.isfinite(observed) & np.isfinite(spread) & (spread > 0)
    if not usable.any():
        nothing = np.full_like(observed, np.nan)
        return nothing, nothing, nothing
    largest = ((null[:, usable] - mean[usable]) / spread[usable]).max(axis=1)
    score = (observed[usable] - mean[usable]) / spread[usable]
    n = len(null)
    rank = np.searchsorted(np.sort(largest), score - 1e-9)
    p = np.full(observed.shape, np.nan)
    p[usable] = (1 + n - rank) / (1 + n)
    bound = np.quantile(largest, confidence, method="higher")
    keep = np.where(usable, 1.0, np.nan)
    return mean * keep, (mean + bound * spread) * keep, p


def normalised(value: np.ndarray, null: np.ndarray | float) -> np.ndarray:
    """(value - null) / (1 - null): 0 at the null, 1 at the most there can be."""
    return (value - null) / (1 - null)


# The labelled dataset

PAIR = ("layer", "language", "language_2")
LONG_NAMES = {
    "item_share": "item share over all languages",
    "item_share_pivot": "item share, mean over pairs with the pivot",
    "item_share_length_adjusted": "item share without log token count",
    "item_share_pair": "item share of a pair of languages",
    "item_share_pair_null": "item share of a pair, items shuffled",
    "item_share_pair_threshold": "item share that chance exceeds nowhere (max-T)",
    "item_share_pair_p": "p of the item share of a pair, max-T over layers and pairs",
    "item_share_middle": "item share of a pair, middle half of relative depth",
    "cka": "debiased CKA, mean over pairs",
    "cka_pivot": "debiased CKA, mean over pairs with the pivot",
    "cka_pair": "debiased linear CKA",
    "cka_pair_null": "debiased linear CKA, items shuffled",
    "cka_pair_threshold": "debiased CKA that chance exceeds nowhere (max-T)",
    "cka_pair_p": "p of the debiased CKA, max-T over layers and pairs",
    "cka_middle": "debiased CKA of a pair, middle half of relative depth",
    "cka_middle_mean": "debiased CKA, middle half of relative depth, mean over pairs",
    "cosine_centred": "cosine of parallel items, each language centred",
    "cosine_centred_null": "cosine of any two items, each language centred",
    "cosine_centred_normalised": "centred cosine between its null and 1",
    "cosine_raw": "cosine of parallel items as they are (saturated: a warning)",
    "cosine_raw_null": "cosine of any two items as they are",
    "cosine_raw_normalised": "cosine as it is, between its null and 1",
    "retrieval": "translations retrieved from language_2 by language",
    "retrieval_csls": "translations retrieved, corrected for hubs",
    "retrieval_normalised": "translations retrieved, between chance and 1",
    "retrieval_csls_normalised": "translations retrieved, corrected for hubs, chance to 1",
    "retrieval_mean": "translations retrieved, mean over pairs",
    "retrieval_pivot": "translations retrieved, mean over pairs with the pivot",
    "retrieval_chance": "translations retrieved by chance",
    "dissociation": "1 - item share, middle half of relative depth, all languages",
    "dissociation_pivot": "1 - item share, middle half of relative depth, pivot pairs",
    "dissociation_by_language": "1 - item share with the pivot, middle half of relative depth",
    "dissociation_length_adjusted": "dissociation without log token count",
    "dissociation_null": "dissociation, items shuffled",
    "dissociation_null_low": "dissociation that chance goes below with 1 - confidence",
    "dissociation_p": "p of the dissociation score against shuffled items",
    "dissociation_reason": "why there is no dissociation score",
    "degenerate": "states that can have no similarity",
    "reason": "why states can have no similarity",
}

Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class _Settings:
    """What every layer is measured with; `row` is the pivot's, `orders` those of the maps."""

    clusters: np.ndarray
    row: int
    orders: np.ndarray
    gallery: int
    confidence: float


@dataclass(frozen=True)
class _Layer:
    """What one layer leaves behind: its measures, and what nulls and the middle half need."""

    values: Values
    products: np.ndarray
    share_left_out: np.ndarray
    cka_left_out: np.ndarray
    share_null: np.ndarray
    cka_null: np.ndarray


def similarity(
    states: ParallelStates,
    pivot: str,
    permutations: int = 999,
    map_permutations: int = 199,
    seed: int = 0,
    confidence: float = 0.95,
    gallery: int = 50,
) -> xr.Dataset:
    """Similarity of parallel items at every layer, and the dissociation score.

    Args:
        states: parallel states, best pooled over the prompt without its first token.
        pivot: language that the pivot pairs are with.
        permutations: shuffled pairings behind the test of the dissociation score.
        map_permutations: the same for the maps over layers and pairs.
        seed: of the shuffles.
        confidence: of the jackknife intervals (`*_low`, `*_high`) and max-T thresholds.
        gallery: candidates of a retrieval; fewer where there are not as many items.

    Returns:
        The variables of LONG_NAMES: maps over (layer, language, language_2), their means over
        pairs by layer, `degenerate` (layer, language) with `reason` (layer), and `dissociation`:
        1 - item share, mean over the middle half of relative depth. NaN, with a reason, where a
        language's states are degenerate.

    Raises:
        InputError: too few languages or items, or an unknown pivot.
    """
    _check(states, pivot)
    clusters, n_languages = np.asarray(states.clusters), len(states.languages)
    settings = _Settings(
        clusters=clusters,
        row=states.languages.index(pivot),
        orders=shuffled_orders(clusters, n_languages, map_permutations, (seed, 0)),
        gallery=min(gallery, largest_gallery(clusters)),
        confidence=confidence,
    )
    middle = (states.depths >= MIDDLE[0]) & (states.depths <= MIDDLE[1])
    reasons, layers = [], []
    products = np.zeros(1)
    for index in range(len(states.depths)):
        x = states.at(index)
        reasons.append([degenerate_reason(one) for one in x])
        layer = _one_layer(x, states.n_tokens, np.array(reasons[-1]) == "", settings)
        if middle[index]:
            products = products + layer.products / middle.sum()
        # Large, and only their sum over the middle half is needed.
        layers.append(replace(layer, products=np.empty(0)))
    dataset = _assemble(states, layers, reasons, settings)
    if middle.any():
        drawn = shuffled_orders(clusters, n_languages, permutations, (seed, 1))
        null = shuffled_pair_shares(products, drawn)
        found = _middle_half(dataset, middle, layers, null, settings)
    else:
        found = _no_middle_half(dataset)
    return _described(dataset.merge(found).assign_attrs(pivot=pivot))


def _check(states: ParallelStates, pivot: str) -> None:
    """Refuse what has no similarity, in words that say what to change."""
    if len(states.languages) < 2 or pivot not in states.languages:
        known = ", ".join(states.languages)
        raise InputError(f"similarity: pivot {pivot!r} and another language needed, got: {known}")
    n = len(np.unique(states.clusters))
    if n < 5:
        raise InputError(f"similarity: {n} clusters of items: give 5 or more")


def _one_layer(
    x: np.ndarray, n_tokens: np.ndarray, sound: np.ndarray, settings: _Settings
) -> _Layer:
    """All measures of one layer.

    Args:
        x: (language, item, feature).
        n_tokens: (language, item).
        sound: (language,) bool, languages whose states are not degenerate.
    """
    n_languages, n_items, _ = x.shape
    z = _standardised_where(x, sound)
    flat = z.reshape(n_languages * n_items, -1)
    products = (flat @ flat.T / flat.shape[1]).reshape(n_languages, n_items, n_languages, n_items)
    share_left_out = left_out_item_shares(z, settings.clusters)
    values = _with_means("item_share_pair", paired_mean(products), share_left_out, settings)
    adjusted = _standardised_where(without_length(x, n_tokens), sound)
    values["item_share_length_adjusted"] = mean_over_pairs(pair_item_share(adjusted))

    gram = _gram(np.where(sound[:, None, None], x - x.mean(axis=1, keepdims=True), np.nan))
    own = np.stack([gram[i, :, i] for i in range(n_languages)]).astype(np.float64)
    cka_left_out = left_out_ckas(own, settings.clusters)
    values |= _with_means("cka_pair", pair_cka(own), cka_left_out, settings)
    cosine = cosines(gram)
    values["cosine_centred"] = paired_mean(cosine)
    values["cosine_centred_null"] = cosine.mean(axis=(1, 3), dtype=np.float64)
    values["cosine_raw"], values["cosine_raw_null"] = _raw_cosines(x, sound)
    # A comparison with NaN is False, which would count as a translation found.
    both = np.where(sound[:, None] & sound, 1.0, np.nan)
    # Standardised: of centred states a few massive dimensions alone decide what is near.
    near = cosines(products)
    found, without = retrieval(near, settings.clusters, settings.gallery)
    values |= _with_means("retrieval", found * both, without * both, settings)
    hubless = retrieval(csls(near), settings.clusters, settings.gallery)[0]
    values["retrieval_csls"] = hubless * both
    share_null = shuffled_pair_shares(products, settings.orders)
    cka_null = shuffled_ckas(own, settings.orders)
    return _Layer(values, products, share_left_out, cka_left_out, share_null, cka_null)


def _standardised_where(x: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """`standardised`, all NaN in languages that are not sound: they cost the others nothing."""
    z = standardised(x[sound]) if sound.any() else np.empty((0, x.shape[1], 1), np.float32)
    whole = np.full((len(x), x.shape[1], max(z.shape[2], 1)), np.nan, np.float32)
    if z.shape[2]:
        whole[sound] = z
    return whole


def _gram(x: np.ndarray) -> np.ndarray:
    """Gram matrix (language, item, language, item) of states, up to one common factor.

    The factor (the largest entry) keeps float32 from overflowing; no measure depends on it.
    """
    largest = np.nanmax(np.abs(x), initial=0.0)
    flat = (x / (largest or 1.0)).reshape(-1, x.shape[2]).astype(np.float32)
    return (flat @ flat.T).reshape(x.shape[0], x.shape[1], x.shape[0], x.shape[1])


def _raw_cosines(x: np.ndarray, sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean cosine of parallel items and of any two items: (language, language) each."""
    norm = np.linalg.norm(x.astype(np.float64), axis=2, keepdims=True)
    unit = np.where(sound[:, None, None], x / np.where(norm > 0, norm, np.nan), np.nan)
    flat, mean = unit.reshape(len(x), -1), unit.mean(axis=1)
    return flat @ flat.T / x.shape[1], mean @ mean.T


# A map over pairs, its mean over all pairs and its mean over pairs with the pivot.
MEANS = {
    "item_share_pair": ("item_share", "item_share_pivot"),
    "cka_pair": ("cka", "cka_pivot"),
    "retrieval": ("retrieval_mean", "retrieval_pivot"),
}


def _with_means(name: str, pairs: np.ndarray, left_out: np.ndarray, settings: _Settings) -> Values:
    """A map over pairs of languages and its means, each with its jackknife interval.

    Args:
        name: a key of MEANS.
        pairs: (language, language).
        left_out: (cluster, language, language).
    """
    row = settings.row
    all_pairs, pivot_pairs = MEANS[name]
    found = {
        name: (pairs, left_out),
        all_pairs: (mean_over_pairs(pairs), mean_over_pairs(left_out)),
        pivot_pairs: (mean_over_pairs(pairs, row), mean_over_pairs(left_out, row)),
    }
    values: Values = {}
    for key, (value, without) in found.items():
        values |= _bounded(key, value, without, settings.confidence)
        if name == "retrieval":  # a share, whatever its spread
            for end in ("low", "high"):
                values[f"{key}_{end}"] = np.clip(values[f"{key}_{end}"], 0, 1)
    return values


def _bounded(key: str, value: np.ndarray, left_out: np.ndarray, confidence: float) -> Values:
    """A value with its jackknife interval, as `key`, `key_low` and `key_high`."""
    low, high = jackknife_bounds(value, left_out, confidence)
    return {key: value, f"{key}_low": low, f"{key}_high": high}


def _assemble(
    states: ParallelStates,
    layers: Sequence[_Layer],
    reasons: Sequence[Sequence[str]],
    settings: _Settings,
) -> xr.Dataset:
    """Put the layers together, add the nulls of the maps, and blank the diagonals."""
    values = {name: np.array([layer.values[name] for layer in layers]) for name in layers[0].values}
    own = np.eye(len(states.languages), dtype=bool)
    for value in values.values():
        if value.ndim == 3:
            value[:, own] = np.nan
    share_null = np.stack([layer.share_null for layer in layers], axis=1)
    cka_null = np.stack([layer.cka_null for layer in layers], axis=1)
    for name, null in (("item_share_pair", share_null), ("cka_pair", cka_null)):
        found = max_t(values[name], null, settings.confidence)
        for key, value in zip(("null", "threshold", "p"), found, strict=True):
            values[f"{name}_{key}"] = value
    for name in ("cosine_centred", "cosine_raw"):
        values[f"{name}_normalised"] = normalised(values[name], values[f"{name}_null"])
    chance = 1 / settings.gallery
    for name in ("retrieval", "retrieval_csls"):
        values[f"{name}_normalised"] = normalised(values[name], chance)
    dataset = xr.Dataset(
        {name: (PAIR[: value.ndim], value) for name, value in values.items()},
        coords={
            "layer": np.arange(len(layers)),
            "relative_depth": ("layer", np.asarray(states.depths, float)),
            "language": list(states.languages),
            "language_2": list(states.languages),
        },
        attrs={"gallery": settings.gallery, "middle": MIDDLE},
    )
    dataset["retrieval_chance"] = chance
    dataset["degenerate"] = (PAIR[:2], np.array(reasons) != "")
    dataset["reason"] = ("layer", [_joined(states.languages, whys) for whys in reasons])
    return dataset


def _joined(languages: Sequence[str], reasons: Sequence[str]) -> str:
    """Reasons by language in one line, "" where there are none."""
    return "; ".join(f"{name}: {why}" for name, why in zip(languages, reasons, strict=True) if why)


def _middle_half(
    dataset: xr.Dataset,
    middle: np.ndarray,
    layers: Sequence[_Layer],
    null: np.ndarray,
    settings: _Settings,
) -> xr.Dataset:
    """The dissociation score and what stands beside it, over the middle half of the layers.

    Args:
        dataset: the maps by layer.
        middle: (layer,) bool.
        layers: of all layers.
        null: (permutation, language, language) item shares there, items shuffled.
    """
    row, confidence = settings.row, settings.confidence
    chosen = [layer for layer, inside in zip(layers, middle, strict=True) if inside]
    share = dataset["item_share_pair"].values[middle].mean(axis=0)
    cka = dataset["cka_pair"].values[middle].mean(axis=0)
    apart, alone = 1 - share, 1 - np.mean([layer.share_left_out for layer in chosen], axis=0)
    cka_alone = np.mean([layer.cka_left_out for layer in chosen], axis=0)
    score, shuffled = mean_over_pairs(apart), 1 - mean_over_pairs(null)
    lowest = np.quantile(shuffled, 1 - confidence)
    p = (1 + (shuffled <= score + 1e-9).sum()) / (1 + len(shuffled))
    adjusted = dataset["item_share_length_adjusted"].values[middle]
    scalars = _bounded("dissociation", score, mean_over_pairs(alone), confidence)
    scalars |= _bounded(
        "dissociation_pivot", mean_over_pairs(apart, row), mean_over_pairs(alone, row), confidence
    )
    scalars |= _bounded(
        "cka_middle_mean", mean_over_pairs(cka), mean_over_pairs(cka_alone), confidence
    )
    by_language = _bounded("dissociation_by_language", apart[row], alone[:, row], confidence)
    return xr.Dataset(
        {
            **scalars,
            **{name: ("language", value + 0 * apart[row]) for name, value in by_language.items()},
            "item_share_middle": (PAIR[1:], share),
            "cka_middle": (PAIR[1:], cka),
            "dissociation_null": shuffled.mean(),
            "dissociation_null_low": lowest,
            "dissociation_p": p if np.isfinite(score) else np.nan,
            "dissociation_length_adjusted": 1 - adjusted.mean(),
            "dissociation_reason": " | ".join(filter(None, dataset["reason"].values[middle])),
        }
    )


def _no_middle_half(dataset: xr.Dataset) -> xr.Dataset:
    """The same variables for a model without a layer in the middle half: NaN, and why."""
    n = dataset.sizes["language"]
    bounded = [
        f"{name}{end}"
        for end in ("", "_low", "_high")
        for name in ("dissociation", "dissociation_pivot", "cka_middle_mean")
    ]
    single = ("null", "null_low", "p", "length_adjusted")
    scalars = dict.fromkeys([*bounded, *(f"dissociation_{name}" for name in single)], np.nan)
    by_language = {
        f"dissociation_by_language{end}": ("language", np.full(n, np.nan))
        for end in ("", "_low", "_high")
    }
    maps = {
        name: (PAIR[1:], np.full((n, n), np.nan)) for name in ("item_share_middle", "cka_middle")
    }
    reason = {"dissociation_reason": "no layer in the middle half of relative depth"}
    return xr.Dataset({**scalars, **by_language, **maps, **reason})


def _described(dataset: xr.Dataset) -> xr.Dataset:
    """Give every variable its long name and units."""
    for name, variable in dataset.data_vars.items():
        base, _, end = str(name).rpartition("_")
        bound = {"low": ": lower bound", "high": ": upper bound"}.get(end)
        if str(name) in LONG_NAMES or bound is None:
            long_name = LONG_NAMES[str(name)]
        else:
            long_name = LONG_NAMES[base] + bound
        variable.attrs.update(long_name=long_name, units="1")
    return dataset
