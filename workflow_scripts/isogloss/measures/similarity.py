"""Similarity of parallel items between languages: same place, same shape, and dissociation.

Two things are measured and never mixed. *Same place*: parallel items lie at the same point once
each language is centred; item share and retrieval give all dimensions equal weight, the centred
cosine does not. *Same shape*: the items of two languages have the same geometry, in whatever
directions (debiased CKA).

What is about paired items is a sum over them, CKA needs one Gram matrix of the items per
language, and only retrieval needs the products of all items of every two languages. How much
memory this takes is bounded, whatever the number of languages: see `layer_states`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from isogloss.errors import InputError
from isogloss.files.parallel_states import ParallelStates
from isogloss.measures import cka
from isogloss.measures import dissociation as middle_half
from isogloss.measures.in_threads import in_threads
from isogloss.measures.item_share import (
    left_out_sums,
    paired_sums,
    shuffled_paired_sums,
    shuffled_sums_of_pairs,
)
from isogloss.measures.layer_pairs import centred_pairs, fill, layer_ckas
from isogloss.measures.layer_states import LayerStates, joined_reasons
from isogloss.measures.pooled import BOUNDS, CORRELATIONS, SHARES, Values, pooled, with_bounds
from isogloss.measures.retrieval import (
    Galleries,
    largest_gallery,
    layers_with_retrieval,
    retrieval_of_pairs,
    unit_states,
)
from isogloss.measures.shuffles import MaxT, Shuffle, normalised, rare_signs, shuffled_orders
from isogloss.measures.states import share_of_few
from isogloss.measures.statistics import cluster_codes, sum_by_cluster
from isogloss.measures.variables import from_the_paper

PAIR = ("layer", "language", "language_2")
MIN_CLUSTERS = 5  # of items, that CKA without one of them needs
PRODUCTS_AT_ONCE = 1_000_000  # products of states that stay in the cache
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
    "share_of_few": "share of the variance over items that a twentieth of them has",
    "few_decide": "a few items have most of the variance, mean over the middle half",
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
        middle_orders, middle_signs: the same of the dissociation score.
        gallery: candidates of a retrieval.
        confidence: of the intervals.
        room: memory for states and what is computed from them [byte].
    """

    clusters: np.ndarray
    row: int
    orders: np.ndarray
    signs: np.ndarray
    middle_orders: np.ndarray
    middle_signs: np.ndarray
    gallery: int
    confidence: float
    room: float

    @property
    def sizes(self) -> np.ndarray:
        """(cluster,) items of each cluster."""
        return np.bincount(cluster_codes(self.clusters))

    def shuffles(self, languages: slice) -> list[Shuffle]:
        """The shuffled pairings of the maps, of some languages."""
        both = self.orders[:, languages], self.signs[:, languages]
        return [Shuffle(*of_each) for of_each in zip(*both, strict=True)]


class _Middle:
    """Means over the layers of the middle half: left out (cluster, language, language), and null.

    Attributes:
        share, cka: item share and CKA with each cluster left out.
        null: (permutation,) item share of shuffled items, mean over pairs.
    """

    def __init__(self, n_layers: int) -> None:
        self.n_layers = n_layers
        self.share = self.cka = self.null = np.zeros(())

    def add(self, share: np.ndarray, cka_left_out: np.ndarray, null: np.ndarray) -> None:
        self.share = self.share + share / self.n_layers
        self.cka = self.cka + cka_left_out / self.n_layers
        self.null = self.null + null / self.n_layers


def similarity(
    states: ParallelStates,
    pivot: str,
    permutations: int = 999,
    map_permutations: int = 199,
    seed: int = 0,
    confidence: float = 0.95,
    gallery: int = 50,
    retrieval_layers: int | None = None,
    memory_gb: float = 4.0,
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
        retrieval_layers: layers with retrieval, evenly spread; None: all up to ALL_LAYERS_TO
            languages, FEW_LAYERS where there are more (both of `retrieval`).
        memory_gb: for states and what is computed from them; the shuffled orders (2 to 4 bytes
            per permutation, language and item) and the results come on top.

    Returns:
        The variables of LONG_NAMES: maps over (layer, language, language_2), their means over
        pairs by layer, `degenerate` (layer, language) with `reason` (layer), and `dissociation`:
        1 - item share, mean over the middle half of relative depth. NaN, with a reason, where a
        language's states are degenerate; retrieval is NaN at layers without it. `*_low` and
        `*_high` bound for other items, `*_crossed_low` and `*_crossed_high` for other items and
        other languages.

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
        middle_orders=shuffled_orders(clusters, n_languages, permutations, (seed, 1)),
        middle_signs=rare_signs(clusters, n_languages, permutations, (seed, 3)),
        gallery=min(gallery, largest_gallery(clusters)),
        confidence=confidence,
        room=memory_gb * 1e9,
    )
    inside = middle_half.is_middle(states.depths)
    with_retrieval = layers_with_retrieval(len(states.depths), n_languages, retrieval_layers)
    middle, reasons, layers = _Middle(int(inside.sum())), [], []
    tests = {name: MaxT(map_permutations) for name in TESTED}
    for index in range(len(states.depths)):
        layer = LayerStates(states, index, settings.room)
        reasons.append(layer.reasons)
        values, share_left_out, null = _paired_part(layer, settings, tests, inside[index])
        of_cka, cka_left_out = _cka_part(layer, settings, tests)
        values |= of_cka | _cosine_part(layer, clusters)
        values |= _retrieval_part(layer, settings, index in with_retrieval)
        layers.append(values)
        if inside[index]:
            middle.add(share_left_out, cka_left_out, null)
    dataset = _assemble(states, layers, reasons, tests, settings)
    of_few = dataset["share_of_few"].isel(layer=inside) if inside.any() else dataset["share_of_few"]
    dataset["few_decide"] = of_few.mean("layer") > 0.5
    if inside.any():
        score = middle_half.dissociation(
            dataset,
            inside,
            middle.share,
            middle.cka,
            middle.null,
            settings.sizes,
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
    if n < MIN_CLUSTERS:
        raise InputError(f"similarity: {n} clusters of items: give {MIN_CLUSTERS} or more")


TESTED = ("item_share_pair", "cka_pair")


def _paired_part(
    layer: LayerStates, settings: _Settings, tests: dict[str, MaxT], in_middle: bool
) -> tuple[Values, np.ndarray, np.ndarray]:
    """Item share of one layer, a part of the features at a time.

    Returns:
        values; the map with each cluster left out (cluster, language, language); its mean over
        pairs of shuffled items (permutation,), zeros outside the middle half.
    """
    of_pairs = (layer.n_languages, layer.n_languages)
    n_clusters, n_features = len(np.unique(settings.clusters)), int(layer.dimensions.sum())
    pairs, left_out = np.zeros(of_pairs), np.zeros((n_clusters, *of_pairs))
    null, of_middle = np.zeros((len(settings.orders), *of_pairs)), np.zeros(0)
    if in_middle:
        of_middle = np.zeros(len(settings.middle_orders))
    for features in layer.feature_parts(n_features):
        z = np.stack([layer.standardised(n, features) for n in range(layer.n_languages)])
        pairs += paired_sums(z)
        left_out += left_out_sums(z, settings.clusters)
        null += shuffled_paired_sums(z, settings.orders, settings.signs)
        if in_middle:
            of_middle += shuffled_sums_of_pairs(z, settings.middle_orders, settings.middle_signs)
    entries = layer.n_items * n_features or np.nan
    pairs, left_out, null = pairs / entries, left_out / (n_features or np.nan), null / entries
    of_middle = of_middle / entries / (layer.n_languages * (layer.n_languages - 1))
    values = _with_means("item_share_pair", pairs, left_out, settings)
    values["item_share_length_adjusted"] = np.asarray(_adjusted_share(layer))
    _test(tests["item_share_pair"], pairs, null)
    return values, left_out, of_middle


def _test(test: MaxT, pairs: np.ndarray, null: np.ndarray) -> None:
    """Add a layer's map to the test of all layers, without its diagonal."""
    apart = np.where(np.eye(len(pairs), dtype=bool), np.nan, 1.0)
    test.add(pairs * apart, null * apart)


def _adjusted_share(layer: LayerStates) -> float:
    """Item share without the length, mean over pairs: a sum of all languages shows it."""
    n_features, n_languages = int(layer.adjusted_dimensions.sum()), layer.n_languages
    of_pairs = 0.0
    for features in layer.feature_parts(n_features):
        total = np.zeros((layer.n_items, features.stop - features.start))
        for n in range(n_languages):
            z = layer.adjusted_standardised(n, features).astype(np.float64)
            total += z
            of_pairs -= float(np.vdot(z, z))
        of_pairs += float(np.vdot(total, total))
    entries = layer.n_items * n_features or np.nan
    return of_pairs / entries / (n_languages * (n_languages - 1))


def _cka_part(
    layer: LayerStates, settings: _Settings, tests: dict[str, MaxT]
) -> tuple[Values, np.ndarray]:
    """Debiased CKA of one layer, and the same with each cluster left out."""
    null = np.empty((len(settings.orders), layer.n_languages, layer.n_languages))
    clusters = settings.clusters
    # In float32: half the bytes to move, and sums in which the last digits do not matter.
    for rows, columns, first, second in centred_pairs(layer, clusters, np.float32):
        both = settings.shuffles(rows), settings.shuffles(columns)
        shuffled = cka.shuffled_hsics(first, second, *both)
        fill(null, rows, columns, shuffled)
    pairs, left_out = layer_ckas(layer, clusters)
    _test(tests["cka_pair"], pairs, cka.cosine(null))
    return _with_means("cka_pair", pairs, left_out, settings), left_out


def _cosine_part(layer: LayerStates, clusters: np.ndarray) -> Values:
    """Mean cosine of parallel items and of items of different clusters, centred and as they are."""
    values: Values = {}
    for name in ("cosine_centred", "cosine_raw"):
        centred = name == "cosine_centred"
        norms = [np.linalg.norm(_states(layer, n, centred), axis=1) for n in layer.all_languages]
        values[name], values[f"{name}_null"] = _cosines(layer, centred, norms, clusters)
        if centred:
            values["share_of_few"] = np.array([share_of_few(of_language) for of_language in norms])
    return values


def _states(
    layer: LayerStates, language: int, centred: bool, features: slice = slice(None)
) -> np.ndarray:
    """States of one language in float64, centred or as they are; NaN where it is degenerate."""
    x = layer.of(language)[:, features].astype(np.float64)
    if not layer.sound[language]:
        return np.full_like(x, np.nan)
    return x - x.mean(axis=0) if centred else x


def _cosines(
    layer: LayerStates, centred: bool, norms: list[np.ndarray], clusters: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean cosine of parallel items, and of items of different clusters: (language, language)."""
    codes = cluster_codes(clusters)
    sizes = np.bincount(codes)
    paired, apart = (np.zeros((layer.n_languages, layer.n_languages)) for _ in range(2))
    for features in layer.feature_parts(layer.n_features):
        unit = np.stack([_states(layer, n, centred, features) for n in layer.all_languages])
        for states, norm in zip(unit, norms, strict=True):
            states /= np.where(norm > 0, norm, np.nan)[:, None]
        paired += paired_sums(unit)
        of_clusters = sum_by_cluster(unit.transpose(1, 0, 2), codes)
        total = of_clusters.sum(axis=0)
        apart += total @ total.T - paired_sums(of_clusters.transpose(1, 0, 2))
    return paired / layer.n_items, apart / (sizes.sum() ** 2 - (sizes**2).sum())


def _retrieval_part(layer: LayerStates, settings: _Settings, measured: bool) -> Values:
    """Retrieval of one layer, plain and corrected for hubs; NaN where it is not measured.

    Standardised: of centred states a few massive dimensions alone decide what is near.
    """
    of_pairs = (layer.n_languages, layer.n_languages)
    accuracy, without_hubs = np.full(of_pairs, np.nan), np.full(of_pairs, np.nan)
    left_out = np.full((len(np.unique(settings.clusters)), *of_pairs), np.nan)
    galleries = Galleries(settings.clusters, settings.gallery)

    def both_ways(looked_up: LookedUp) -> tuple[int, np.ndarray, Any]:
        language, others, (of_language, of_others) = looked_up
        return language, others, retrieval_of_pairs(of_others, of_language, galleries)

    of_layer = in_threads(both_ways, _looked_up(layer) if measured else ())
    for language, others, both in of_layer:
        places: tuple[tuple[Any, Any], ...] = ((others, language), (language, others))
        for at, (of_each, left, corrected) in zip(places, both, strict=True):
            accuracy[at], without_hubs[at], left_out[:, *at] = of_each, corrected, left
    values = _with_means("retrieval", accuracy, left_out, settings)
    return values | {"retrieval_csls": without_hubs}


LookedUp = tuple[int, np.ndarray, tuple[np.ndarray, np.ndarray]]
"""A language, some others, and the unit states of both."""


def _looked_up(layer: LayerStates) -> Iterator[LookedUp]:
    """Every two languages once."""
    sound = np.flatnonzero(layer.sound) if layer.dimensions.any() else np.zeros(0, int)
    at_once = max(1, PRODUCTS_AT_ONCE // layer.n_items**2)

    def units(languages: np.ndarray) -> np.ndarray:
        return np.stack([unit_states(layer.standardised(n)) for n in languages])

    blocks = [
        sound[np.isin(sound, layer.all_languages[block])]
        for block in layer.language_blocks(16 * layer.n_items * layer.n_features)
    ]
    blocks = [block for block in blocks if len(block)]
    for number, rows in enumerate(blocks):
        of_rows = units(rows)
        for columns in blocks[number:]:
            of_columns = of_rows if columns is rows else units(columns)
            for place, language in enumerate(rows):
                later = np.flatnonzero(columns > language)
                for start in range(0, len(later), at_once):
                    chosen = later[start : start + at_once]
                    yield int(language), columns[chosen], (of_rows[place], of_columns[chosen])


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
    sizes = settings.sizes if name == "item_share_pair" else None
    values = with_bounds(name, pairs, left_out, confidence, limits, sizes)
    values |= pooled(all_pairs, pairs, left_out, confidence, None, limits, sizes)
    values |= pooled(pivot_pairs, pairs, left_out, confidence, settings.row, limits, sizes)
    # By layer, nothing compares models: what a slope would need is for the middle half alone.
    return {key: value for key, value in values.items() if "_without_" not in key}


def _assemble(
    states: ParallelStates,
    layers: Sequence[Values],
    reasons: Sequence[Sequence[str]],
    tests: dict[str, MaxT],
    settings: _Settings,
) -> xr.Dataset:
    """Put the layers together, add the nulls of the maps, and blank the diagonals."""
    values = {name: np.array([layer[name] for layer in layers]) for name in layers[0]}
    same = np.eye(len(states.languages), dtype=bool)
    for value in values.values():
        if value.ndim == 3:
            value[:, same] = np.nan
    for name, test in tests.items():
        tested = test.tested(settings.confidence)
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
    dataset["reason"] = ("layer", [joined_reasons(states.languages, whys) for whys in reasons])
    return dataset


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
