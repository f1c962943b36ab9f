"""Similarity beside its ceiling: how alike a language's states are under another wording.

Translations cannot be more alike than a question and its own rewording. So every similarity between
languages stands beside the same one within a language, between wordings, and what a language has of
its own (item x language) is told from what the wording does. Layer by layer, over all wordings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from isogloss.errors import InputError
from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.dissociation import is_middle
from isogloss.measures.language_pairs import CORRELATIONS, pair_means
from isogloss.measures.layer_pairs import layer_ckas, layer_item_shares
from isogloss.measures.layer_states import LayerStates
from isogloss.measures.pooled import centre_of
from isogloss.measures.retrieval import Galleries, largest_gallery, unit_states
from isogloss.measures.self_consistency import Agreement, corrected, noise_share
from isogloss.measures.statistics import (
    Interval,
    cluster_codes,
    divide,
    holding,
    jackknife_interval,
    within,
)
from isogloss.measures.variables import interval_variables, variable
from isogloss.measures.variance_shares import CROSSED_SOURCES, crossed_share_sums

GALLERY = 50
NAMES = {"item_share": "item share", "cka": "debiased CKA"}
PAIR = ("language", "language_2")


@dataclass(frozen=True)
class _Intervals:
    """How the intervals of a measure are made, around what `pooled.centre_of` says.

    Attributes:
        confidence: of the intervals.
        sizes: (cluster,) items of each cluster, of item share.
    """

    confidence: float
    sizes: np.ndarray | None = None

    def of(self, rows: np.ndarray, limits: tuple[float, float] = CORRELATIONS) -> Interval:
        """Interval of (row, ...)."""
        centre = centre_of(rows[0], rows[1:], self.sizes)
        around = jackknife_interval(centre, rows[1:], self.confidence)
        return holding(rows[0], within(around, limits))


def variant_similarity(
    states: Sequence[ParallelStates], confidence: float = 0.95, memory_gb: float = 4.0
) -> xr.Dataset:
    """Similarity within each language, between wordings, at every layer.

    Args:
        states: of the same items in the same languages, one per wording.
        confidence: of the intervals, over clusters of items and for these wordings.
        memory_gb: for states and what is computed from them; less of it changes no value but by
            rounding. Values without each cluster, of all pairs of languages and wordings, are
            beside it.

    Returns:
        Dataset over layer, language, language_2 and source. `<measure>_self` is within a language,
        `_across` between languages under different wordings, `_corrected` the latter corrected for
        the former; `_middle` their means over the middle half of relative depth. NaN where a
        language's states are degenerate under any wording.

    Raises:
        InputError: fewer than two wordings, or other items, languages or layers.
    """
    first = states[0]
    for other in states:
        for field in ("languages", "item_ids", "depths"):
            if not np.array_equal(getattr(first, field), getattr(other, field)):
                raise InputError(f"variants: {field} of the wordings differ: extract anew")
    if len(states) < 2:
        raise InputError("variants: states of one wording: two or more are needed")
    clusters, middle = np.asarray(first.clusters), is_middle(first.depths)
    sizes = np.bincount(cluster_codes(clusters))
    intervals = {"item_share": _Intervals(confidence, sizes), "cka": _Intervals(confidence)}
    layers: list[Mapping[str, xr.Variable]] = []
    inside: dict[str, Agreement] = {}
    together = _side_by_side(states)
    for index in range(len(first.depths)):
        layer = LayerStates(together, index, 1e9 * memory_gb)
        measured, described = _one_layer(layer, len(states), clusters)
        layers.append(described | _summaries(measured, intervals))
        if middle[index]:
            share = 1 / middle.sum()
            for name, of in measured.items():
                same, across = inside.get(name, (0.0, 0.0))
                inside[name] = Agreement(same + share * of.same, across + share * of.across)
    stacked = {name: xr.Variable.concat([of[name] for of in layers], "layer") for name in layers[0]}
    coordinates = {
        "layer": np.arange(len(layers)),
        "relative_depth": ("layer", np.asarray(first.depths, float)),
        "language": list(first.languages),
        "language_2": list(first.languages),
        "source": list(CROSSED_SOURCES),
    }
    return xr.Dataset(stacked | _middle(inside, intervals), coordinates)


def _side_by_side(states: Sequence[ParallelStates]) -> ParallelStates:
    """The languages of the first wording, then those of the second, ...: as languages of one."""
    first, n = states[0], len(states[0].languages)
    return replace(
        first,
        languages=tuple(tag for of_wording in states for tag in of_wording.languages),
        n_tokens=np.concatenate([of_wording.n_tokens for of_wording in states]),
        at=lambda layer: np.concatenate([of_wording.at(layer) for of_wording in states]),
        read=lambda layer, place: states[place // n].of_language(layer, place % n),
    )


def _one_layer(
    layer: LayerStates, n_wordings: int, clusters: np.ndarray
) -> tuple[dict[str, Agreement], dict[str, xr.Variable]]:
    """Agreement of each measure, and what has no interval.

    Args: layer: of all wordings, `_side_by_side`.
    """
    places = np.arange(layer.n_languages).reshape(n_wordings, -1)
    sound = np.asarray(layer.sound[places].all(axis=0))
    measured = {
        "item_share": _by_wording(*layer_item_shares(layer, clusters), n_wordings),
        "cka": _by_wording(*layer_ckas(layer, clusters), n_wordings),
    }
    alone = {name: np.full(places.shape[1], np.nan) for name in ("retrieval_self", "cosine_self")}
    for language in np.flatnonzero(sound) if layer.dimensions.any() else ():
        wordings = places[:, language].tolist()
        z = np.stack([layer.standardised(n) for n in wordings])
        alone["retrieval_self"][language] = _retrieved(z, clusters)
        centred = np.stack([layer.of(n) - layer.of(n).mean(axis=0) for n in wordings])
        alone["cosine_self"][language] = _cosine(centred)
    texts = {
        "retrieval_self": "questions retrieved from their own rewordings, within a language",
        "cosine_self": "cosine of a question and its own rewording, each wording centred",
    }
    described = {
        name: variable(("language",), values, texts[name]) for name, values in alone.items()
    }
    text = "share of the states' variance, mean over dimensions"
    shares = _state_shares(layer, places[:, sound])
    return measured, described | {"state_share": variable(("source",), shares, text)}


def _state_shares(layer: LayerStates, places: np.ndarray) -> np.ndarray:
    """(source,) shares of variance of some languages, a part of the features at a time.

    Args: places (wording, language) of the layer's; NaN with fewer than two languages.
    """
    total, n_varying = np.zeros(len(CROSSED_SOURCES)), 0
    for part in layer.feature_parts(layer.n_features) if places.shape[1] > 1 else ():
        sums, varying = crossed_share_sums(layer.features(part)[places])
        total, n_varying = total + sums, n_varying + varying
    return divide(total, np.asarray(n_varying))


def _by_wording(pairs: np.ndarray, left_out: np.ndarray, n_wordings: int) -> Agreement:
    """Means between the same wordings, and between different ones; NaN where any is.

    Args: pairs (n, n) and left_out (cluster, n, n) of n = wordings x languages.
    """
    n_languages = len(pairs) // n_wordings
    shape = (n_wordings, n_languages, n_wordings, n_languages)
    parts = np.concatenate([pairs[None], left_out]).reshape(-1, *shape)
    same = np.einsum("rvlvm->rlm", parts) / n_wordings
    total = parts.sum(axis=(1, 3))
    return Agreement(same, (total - n_wordings * same) / (n_wordings * (n_wordings - 1)))


def _retrieved(z: np.ndarray, clusters: np.ndarray) -> float:
    """Retrieval between wordings (wording, item, feature), mean over their ordered pairs."""
    unit = unit_states(z)
    galleries = Galleries(clusters, min(GALLERY, largest_gallery(clusters)))
    accuracy = [
        galleries.accuracy((rows @ columns.T)[None])
        for first, rows in enumerate(unit)
        for second, columns in enumerate(unit)
        if first != second
    ]
    return float(np.mean(accuracy))


def _cosine(centred: np.ndarray) -> float:
    """Cosine of parallel items (wording, item, feature), mean over pairs of wordings."""
    unit, n = unit_states(centred), len(centred)
    together = (unit.sum(axis=0) ** 2).sum(axis=-1)
    return float(((together - n) / (n * (n - 1))).mean())


def _corrected_rows(agreed: Agreement, intervals: _Intervals) -> np.ndarray:
    """Agreement between languages corrected for that within them: (row, language, language)."""
    return corrected(agreed.across, intervals.of(agreed.alone).low > 0)


def _mean_rows(rows: np.ndarray) -> np.ndarray:
    """Means over pairs of languages that have a value: (row,)."""
    scope = ~np.eye(rows.shape[-1], dtype=bool)
    return pair_means(rows, scope[None])[:, 0]


def _summaries(
    measured: Mapping[str, Agreement], intervals: Mapping[str, _Intervals]
) -> dict[str, xr.Variable]:
    """Each measure within a language, between languages and corrected, of one layer."""
    made: dict[str, xr.Variable] = {}
    for name, agreed in measured.items():
        text = f"{NAMES[name]} within a language, between wordings"
        alone, level = intervals[name].of(agreed.alone), intervals[name].confidence
        made |= interval_variables(f"{name}_self", ("language",), alone, text, confidence=level)
        apart = ~np.eye(agreed.same.shape[-1], dtype=bool)
        fixed = _corrected_rows(agreed, intervals[name])
        for end, rows, text in (
            ("same", agreed.same, "between languages, under the same wording"),
            ("across", agreed.across, "between languages, under different wordings"),
            ("corrected", fixed, "between languages, corrected for that within them"),
        ):
            text = f"{NAMES[name]} {text}"
            made[f"{name}_{end}"] = variable(PAIR, np.where(apart, rows[0], np.nan), text)
        made |= _means(name, agreed, fixed, intervals[name])
    return made


def _means(
    name: str, agreed: Agreement, fixed: np.ndarray, intervals: _Intervals, end: str = "mean"
) -> dict[str, xr.Variable]:
    """Means over languages and pairs, with intervals."""
    made: dict[str, xr.Variable] = {}
    limited, free = CORRELATIONS, (-np.inf, np.inf)
    for kind, rows, text, limits in (
        ("self", agreed.alone.mean(axis=1), "within a language, between wordings", limited),
        ("same", _mean_rows(agreed.same), "between languages, under the same wording", limited),
        ("across", _mean_rows(agreed.across), "between languages, different wordings", limited),
        ("corrected", _mean_rows(fixed), "between languages, corrected", free),
    ):
        interval, level = intervals.of(rows, limits), intervals.confidence
        text = f"{NAMES[name]} {text}, mean" + (" over the middle half" if end == "middle" else "")
        made |= interval_variables(f"{name}_{kind}_{end}", (), interval, text, "1", level)
    return made


def _middle(
    inside: Mapping[str, Agreement], intervals: Mapping[str, _Intervals]
) -> dict[str, xr.Variable]:
    """Means over the middle half of relative depth, and the noise in dissociation.

    Args: inside: mean agreement of the layers there, of each measure; empty where there are none.
    """
    made: dict[str, xr.Variable] = {}
    for name, agreed in inside.items():
        how = intervals[name]
        made |= _means(name, agreed, _corrected_rows(agreed, how), how, "middle")
        if name == "item_share":
            rows = noise_share(agreed.alone.mean(axis=1), _mean_rows(agreed.across))
            interval = how.of(rows, (-np.inf, np.inf))
            text = "share of dissociation that is there within a language too, middle half of depth"
            made |= interval_variables(
                "dissociation_noise_share", (), interval, text, "1", how.confidence
            )
    return made
