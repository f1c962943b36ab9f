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

from isogloss.errors import InputError
from isogloss.files.parallel_states import ParallelStates
from isogloss.measures import dissociation as middle_half
from isogloss.measures.cka import centred_over_clusters, left_out_ckas, pair_cka, shuffled_ckas
from isogloss.measures.item_share import (
    left_out_item_shares,
    pair_item_share,
    shuffled_pair_shares,
)
from isogloss.measures.pooled import (
    BOUNDS,
    CORRELATIONS,
    SHARES,
    Values,
    mean_over_pairs,
    pooled,
    with_bounds,
)
from isogloss.measures.retrieval import (
    cosines,
    csls,
    largest_gallery,
    paired_mean,
    retrieval,
    unpaired_mean,
)
from isogloss.measures.shuffles import max_t, normalised, rare_signs, shuffled_orders
from isogloss.measures.states import degenerate_reason, standardised, without_length
from isogloss.measures.statistics import cluster_codes, sum_by_cluster
from isogloss.measures.variables import from_the_paper

PAIR = ("layer", "language", "language_2")
LONG_NAMES = {
    "item_share": "item share over all languages",
    "item_share_pivot": "item share, mean over pairs with the pivot",
    "item_share_length_adjusted": "item share without log token count",
    "item_share_pair": "item share of a pair of languages",
    "item_share_pair_null": "item share of a pair, items shuffled",
    "item_share_pair_threshold": "item share that chance exceeds nowhere (max-T)",
    "item_share_pair_p": "p of the item share of a pair, max-T over layers and pairs",
    "cka": "debiased CKA, mean over pairs",
    "cka_pivot": "debiased CKA, mean over pairs with the pivot",
    "cka_pair": "debiased linear CKA",
    "cka_pair_null": "debiased linear CKA, items shuffled",
    "cka_pair_threshold": "debiased CKA that chance exceeds nowhere (max-T)",
    "cka_pair_p": "p of the debiased CKA, max-T over layers and pairs",
    "cosine_centred": "cosine of parallel items, each language centred",
    "cosine_centred_null": "cosine of items of different clusters, each language centred",
    "cosine_centred_normalised": "centred cosine between its null and 1",
    "cosine_raw": "cosine of parallel items as they are (saturated: a warning)",
    "cosine_raw_null": "cosine of items of different clusters as they are",
    "cosine_raw_normalised": "cosine as it is, between its null and 1",
    "retrieval": "translations retrieved from language_2 by language",
    "retrieval_csls": "translations retrieved, corrected for hubs",
    "retrieval_normalised": "translations retrieved, between chance and 1",
    "retrieval_csls_normalised": "translations retrieved, corrected for hubs, chance to 1",
    "retrieval_mean": "translations retrieved, mean over pairs",
    "retrieval_pivot": "translations retrieved, mean over pairs with the pivot",
    "retrieval_chance": "translations retrieved by chance",
    "degenerate": "states that can have no similarity",
    "reason": "why states can have no similarity",
} | middle_half.LONG_NAMES


@dataclass(frozen=True)
class _Settings:
    """What every layer is measured with.

    Attributes:
        clusters: (item,).
        row: index of the pivot.
        orders, signs: (permutation, language, item) shuffled pairings of the maps.
        gallery: candidates of a retrieval.
        confidence: of the intervals.
    """

    clusters: np.ndarray
    row: int
    orders: np.ndarray
    signs: np.ndarray
    gallery: int
    confidence: float


@dataclass(frozen=True)
class _Layer:
    """What one layer leaves behind: its measures, and what nulls and the middle half need.

    Attributes:
        values: by name.
        products: (language, item, language, item) of standardised states, mean over features.
        share_left_out, cka_left_out: (cluster, language, language).
        share_null, cka_null: (permutation, language, language).
    """

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
        confidence: of the jackknife intervals and max-T thresholds.
        gallery: candidates of a retrieval; as many as there are clusters, if that is fewer.

    Returns:
        The variables of LONG_NAMES: maps over (layer, language, language_2), their means over
        pairs by layer, `degenerate` (layer, language) with `reason` (layer), and `dissociation`:
        1 - item share, mean over the middle half of relative depth. NaN, with a reason, where a
        language's states are degenerate. `*_low` and `*_high` bound for other items,
        `*_crossed_low` and `*_crossed_high` for other items and other languages.

    Raises:
        InputError: too few languages or items, or an unknown pivot.
    """
    _check(states, pivot)
    clusters, n_languages = np.asarray(states.clusters), len(states.languages)
    settings = _Settings(
        clusters=clusters,
        row=states.languages.index(pivot),
        orders=shuffled_orders(clusters, n_languages, map_permutations, (seed, 0)),
        signs=rare_signs(clusters, n_languages, map_permutations, (seed, 2)),
        gallery=min(gallery, largest_gallery(clusters)),
        confidence=confidence,
    )
    middle = middle_half.is_middle(states.depths)
    reasons, layers = [], []
    products = np.zeros(1)
    for index in range(len(states.depths)):
        x = states.at(index)
        reasons.append([degenerate_reason(language) for language in x])
        layer = _one_layer(x, states.n_tokens, np.array(reasons[-1]) == "", settings)
        if middle[index]:
            products = products + layer.products / middle.sum()
        # Large, and only their sum over the middle half is needed.
        layers.append(replace(layer, products=np.empty(0)))
    dataset = _assemble(states, layers, reasons, settings)
    if middle.any():
        orders = shuffled_orders(clusters, n_languages, permutations, (seed, 1))
        signs = rare_signs(clusters, n_languages, permutations, (seed, 3))
        chosen = [layer for layer, inside in zip(layers, middle, strict=True) if inside]
        score = middle_half.dissociation(
            dataset,
            middle,
            np.mean([layer.share_left_out for layer in chosen], axis=0),
            np.mean([layer.cka_left_out for layer in chosen], axis=0),
            shuffled_pair_shares(products, orders, signs),
            settings.row,
            confidence,
        )
    else:
        score = middle_half.no_dissociation(dataset)
    described = _described(dataset.merge(score).assign_attrs(pivot=pivot))
    return from_the_paper(described, ["cka_pair", "cka", "cosine_raw", "cosine_centred"])


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
    within = np.stack([gram[i, :, i] for i in range(n_languages)]).astype(np.float64)
    centred = centred_over_clusters(within, settings.clusters)
    cka_left_out = left_out_ckas(centred)
    values |= _with_means("cka_pair", pair_cka(centred), cka_left_out, settings)
    values |= _cosine_means(cosines(gram), x, sound, settings.clusters)
    # Standardised: of centred states a few massive dimensions alone decide what is near.
    values |= _retrieved(cosines(products), sound, settings)
    share_null = shuffled_pair_shares(products, settings.orders, settings.signs)
    cka_null = shuffled_ckas(centred, settings.orders)
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


def _cosine_means(
    cosine: np.ndarray, x: np.ndarray, sound: np.ndarray, clusters: np.ndarray
) -> Values:
    """Mean cosine of parallel items and of items of different clusters, centred and as they are.

    Args:
        cosine: (language, item, language, item) of centred states.
        x: (language, item, feature) states as they are.
    """
    norm = np.linalg.norm(x.astype(np.float64), axis=2, keepdims=True)
    unit = np.where(sound[:, None, None], x / np.where(norm > 0, norm, np.nan), np.nan)
    flat, codes = unit.reshape(len(x), -1), cluster_codes(clusters)
    of_clusters = sum_by_cluster(unit.transpose(1, 0, 2), codes)
    total, sizes = of_clusters.sum(axis=0), np.bincount(codes)
    apart = total @ total.T - np.einsum("cld,cmd->lm", of_clusters, of_clusters, optimize=True)
    return {
        "cosine_centred": paired_mean(cosine),
        "cosine_centred_null": unpaired_mean(cosine, clusters),
        "cosine_raw": flat @ flat.T / x.shape[1],
        "cosine_raw_null": apart / (sizes.sum() ** 2 - (sizes**2).sum()),
    }


def _retrieved(cosine: np.ndarray, sound: np.ndarray, settings: _Settings) -> Values:
    """Retrieval, plain and corrected for hubs.

    Args:
        cosine: (language, item, language, item) of standardised states.
    """
    # A comparison with NaN is False, which would count as a translation found.
    both = np.where(sound[:, None] & sound, 1.0, np.nan)
    accuracy, left_out = retrieval(cosine, settings.clusters, settings.gallery)
    values = _with_means("retrieval", accuracy * both, left_out * both, settings)
    without_hubs = retrieval(csls(cosine), settings.clusters, settings.gallery)[0]
    return values | {"retrieval_csls": without_hubs * both}


# A map over pairs, its mean over all pairs and its mean over pairs with the pivot.
MEANS = {
    "item_share_pair": ("item_share", "item_share_pivot"),
    "cka_pair": ("cka", "cka_pivot"),
    "retrieval": ("retrieval_mean", "retrieval_pivot"),
}


def _with_means(name: str, pairs: np.ndarray, left_out: np.ndarray, settings: _Settings) -> Values:
    """A map over pairs of languages and its means, with their intervals.

    Args:
        name: a key of MEANS.
        pairs: (language, language).
        left_out: (cluster, language, language).
    """
    all_pairs, pivot_pairs = MEANS[name]
    confidence = settings.confidence
    limits = SHARES if name == "retrieval" else CORRELATIONS
    values = with_bounds(name, pairs, left_out, confidence, limits)
    values |= pooled(all_pairs, pairs, left_out, confidence, None, limits)
    values |= pooled(pivot_pairs, pairs, left_out, confidence, settings.row, limits)
    # By layer, nothing compares models: what a slope would need is for the middle half alone.
    return {key: value for key, value in values.items() if "_without_" not in key}


def _assemble(
    states: ParallelStates,
    layers: Sequence[_Layer],
    reasons: Sequence[Sequence[str]],
    settings: _Settings,
) -> xr.Dataset:
    """Put the layers together, add the nulls of the maps, and blank the diagonals."""
    values = {name: np.array([layer.values[name] for layer in layers]) for name in layers[0].values}
    same = np.eye(len(states.languages), dtype=bool)
    for value in values.values():
        if value.ndim == 3:
            value[:, same] = np.nan
    share_null = np.stack([layer.share_null for layer in layers], axis=1)
    cka_null = np.stack([layer.cka_null for layer in layers], axis=1)
    for name, null in (("item_share_pair", share_null), ("cka_pair", cka_null)):
        null[..., same] = np.nan
        tested = max_t(values[name], null, settings.confidence)
        for key, value in zip(("null", "threshold", "p"), tested, strict=True):
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
            "cluster": np.unique(settings.clusters),
        },
        attrs={"gallery": settings.gallery, "middle": middle_half.MIDDLE},
    )
    dataset["retrieval_chance"] = chance
    dataset["degenerate"] = (PAIR[:2], np.array(reasons) != "")
    dataset["reason"] = ("layer", [_joined(states.languages, whys) for whys in reasons])
    return dataset


def _joined(languages: Sequence[str], reasons: Sequence[str]) -> str:
    """Reasons by language in one line, "" where there are none."""
    return "; ".join(f"{name}: {why}" for name, why in zip(languages, reasons, strict=True) if why)


def _described(dataset: xr.Dataset) -> xr.Dataset:
    """Give every variable its long name and units."""
    for name, variable in dataset.data_vars.items():
        variable.attrs.update(long_name=_long_name(str(name)), units="1")
    return dataset


def _long_name(name: str) -> str:
    """What a variable is; of a bound, what it bounds and for what."""
    if name in LONG_NAMES:
        return LONG_NAMES[name]
    # The longest first: `crossed_low` ends with `low`.
    for end in sorted(BOUNDS, key=len, reverse=True):
        if name.endswith(f"_{end}"):
            return f"{LONG_NAMES[name.removesuffix(f'_{end}')]}: {BOUNDS[end]}"
    raise KeyError(name)
