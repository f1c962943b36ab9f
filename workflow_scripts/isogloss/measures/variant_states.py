"""Similarity beside its ceiling: how alike a language's states are under another wording.

Translations cannot be more alike than a question and its own rewording. So every similarity between
languages stands beside the same one within a language, between wordings, and what a language has of
its own (item x language) is told from what the wording does. Layer by layer, over all wordings.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from isogloss.errors import InputError
from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.cka import centred_over_clusters, left_out_ckas, pair_cka
from isogloss.measures.dissociation import is_middle
from isogloss.measures.item_share import left_out_sums, pair_item_share
from isogloss.measures.language_pairs import CORRELATIONS, pair_means
from isogloss.measures.retrieval import largest_gallery, retrieval, unit_states
from isogloss.measures.self_consistency import Agreement, corrected, noise_share
from isogloss.measures.states import degenerate_reason, standardised
from isogloss.measures.statistics import Interval, jackknife_interval, within
from isogloss.measures.variables import interval_variables, variable
from isogloss.measures.variance_shares import CROSSED_SOURCES, crossed_shares

GALLERY = 50
NAMES = {"item_share": "item share", "cka": "debiased CKA"}
PAIR = ("language", "language_2")


def variant_similarity(states: Sequence[ParallelStates], confidence: float = 0.95) -> xr.Dataset:
    """Similarity within each language, between wordings, at every layer.

    Args:
        states: of the same items in the same languages, one per wording.
        confidence: of the intervals, over clusters of items and for these wordings.

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
    layers: list[Mapping[str, xr.Variable]] = []
    agreed: list[dict[str, Agreement]] = []
    for index in range(len(first.depths)):
        x = np.stack([of_variant.at(index) for of_variant in states])
        measured, described = _one_layer(x, clusters)
        layers.append(described | _summaries(measured, confidence))
        agreed.append(measured if middle[index] else {})
    stacked = {name: xr.Variable.concat([of[name] for of in layers], "layer") for name in layers[0]}
    inside = [measured for measured, is_in in zip(agreed, middle, strict=True) if is_in]
    coordinates = {
        "layer": np.arange(len(layers)),
        "relative_depth": ("layer", np.asarray(first.depths, float)),
        "language": list(first.languages),
        "language_2": list(first.languages),
        "source": list(CROSSED_SOURCES),
    }
    return xr.Dataset(stacked | _middle(inside, confidence), coordinates)


def _one_layer(
    x: np.ndarray, clusters: np.ndarray
) -> tuple[dict[str, Agreement], dict[str, xr.Variable]]:
    """Agreement of each measure, and what has no interval.

    Args: x (wording, language, item, feature).
    """
    n_wordings, n_languages, n_items, _ = x.shape
    of_language = x.swapaxes(0, 1)
    sound = np.array([not any(map(degenerate_reason, wordings)) for wordings in of_language])
    whole = np.full((n_languages, n_languages), np.nan)
    measured = {name: Agreement(whole[None], whole[None]) for name in NAMES}
    alone = {name: np.full(n_languages, np.nan) for name in ("retrieval_self", "cosine_self")}
    shares = np.full(len(CROSSED_SOURCES), np.nan)
    if sound.any():
        used = x[:, sound]
        flat = used.reshape(-1, n_items, used.shape[-1])
        z = standardised(flat)
        left_out = left_out_sums(z, clusters) / z.shape[2]
        rows = np.concatenate([pair_item_share(z)[None], left_out])
        measured["item_share"] = _by_wording(rows, n_wordings, sound)
        centred = flat - flat.mean(axis=1, keepdims=True)
        centred = centred / max(float(np.abs(centred).max()), 1e-30)
        grams = (centred @ centred.transpose(0, 2, 1)).astype(np.float64)
        over = centred_over_clusters(grams, clusters)
        rows = np.concatenate([pair_cka(over)[None], left_out_ckas(over)])
        measured["cka"] = _by_wording(rows, n_wordings, sound)
        by_language = z.reshape(n_wordings, -1, *z.shape[1:]).swapaxes(0, 1)
        alone["retrieval_self"][sound] = [
            _retrieved(states_of, clusters) for states_of in by_language
        ]
        by_language = centred.reshape(used.shape).swapaxes(0, 1)
        alone["cosine_self"][sound] = [_cosine(states_of) for states_of in by_language]
        if sound.sum() > 1:
            shares = crossed_shares(used)
    texts = {
        "retrieval_self": "questions retrieved from their own rewordings, within a language",
        "cosine_self": "cosine of a question and its own rewording, each wording centred",
    }
    described = {
        name: variable(("language",), values, texts[name]) for name, values in alone.items()
    }
    text = "share of the states' variance, mean over dimensions"
    return measured, described | {"state_share": variable(("source",), shares, text)}


def _by_wording(rows: np.ndarray, n_wordings: int, sound: np.ndarray) -> Agreement:
    """Means between the same wordings, and between different ones.

    Args:
        rows: (row, wording and language, wording and language).
        sound: (language,) those that the rows are of; others are NaN.
    """
    n_sound = int(sound.sum())
    parts = rows.reshape(len(rows), n_wordings, n_sound, n_wordings, n_sound)
    same = np.einsum("rvlvm->rlm", parts) / n_wordings
    total = parts.sum(axis=(1, 3))
    across = (total - n_wordings * same) / (n_wordings * (n_wordings - 1))
    by_wording = []
    for values in (same, across):
        whole = np.full((len(rows), len(sound), len(sound)), np.nan)
        whole[np.ix_(np.arange(len(rows)), sound, sound)] = values
        by_wording.append(whole)
    return Agreement(*by_wording)


def _retrieved(z: np.ndarray, clusters: np.ndarray) -> float:
    """Retrieval between wordings (wording, item, feature), mean over their ordered pairs."""
    unit = unit_states(z)
    gallery = min(GALLERY, largest_gallery(clusters))
    accuracy = [
        retrieval((rows @ columns.T)[None], clusters, gallery)[0]
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


def _interval(rows: np.ndarray, confidence: float, limits: tuple[float, float]) -> Interval:
    return within(jackknife_interval(rows[0], rows[1:], confidence), limits)


def _corrected_rows(agreed: Agreement, confidence: float) -> np.ndarray:
    """Agreement between languages corrected for that within them: (row, language, language)."""
    return corrected(agreed.across, _interval(agreed.alone, confidence, CORRELATIONS).low > 0)


def _mean_rows(rows: np.ndarray) -> np.ndarray:
    """Means over pairs of languages that have a value: (row,)."""
    scope = ~np.eye(rows.shape[-1], dtype=bool)
    return pair_means(rows, scope[None])[:, 0]


def _summaries(measured: Mapping[str, Agreement], confidence: float) -> dict[str, xr.Variable]:
    """Each measure within a language, between languages and corrected, of one layer."""
    made: dict[str, xr.Variable] = {}
    for name, agreed in measured.items():
        text = f"{NAMES[name]} within a language, between wordings"
        alone = _interval(agreed.alone, confidence, CORRELATIONS)
        made |= interval_variables(
            f"{name}_self", ("language",), alone, text, confidence=confidence
        )
        apart = ~np.eye(agreed.same.shape[-1], dtype=bool)
        fixed = _corrected_rows(agreed, confidence)
        for end, rows, text in (
            ("same", agreed.same, "between languages, under the same wording"),
            ("across", agreed.across, "between languages, under different wordings"),
            ("corrected", fixed, "between languages, corrected for that within them"),
        ):
            text = f"{NAMES[name]} {text}"
            made[f"{name}_{end}"] = variable(PAIR, np.where(apart, rows[0], np.nan), text)
        made |= _means(name, agreed, fixed, confidence)
    return made


def _means(
    name: str, agreed: Agreement, fixed: np.ndarray, confidence: float, end: str = "mean"
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
        interval = _interval(rows, confidence, limits)
        text = f"{NAMES[name]} {text}, mean" + (" over the middle half" if end == "middle" else "")
        made |= interval_variables(f"{name}_{kind}_{end}", (), interval, text, "1", confidence)
    return made


def _middle(inside: Sequence[Mapping[str, Agreement]], confidence: float) -> dict[str, xr.Variable]:
    """Means over the middle half of relative depth, and the noise in dissociation."""
    made: dict[str, xr.Variable] = {}
    if not inside:
        return made
    for name in NAMES:
        same = np.mean([measured[name].same for measured in inside], axis=0)
        agreed = Agreement(same, np.mean([measured[name].across for measured in inside], axis=0))
        made |= _means(name, agreed, _corrected_rows(agreed, confidence), confidence, "middle")
        if name == "item_share":
            rows = noise_share(agreed.alone.mean(axis=1), _mean_rows(agreed.across))
            interval = _interval(rows, confidence, (-np.inf, np.inf))
            text = "share of dissociation that is there within a language too, middle half of depth"
            made |= interval_variables(
                "dissociation_noise_share", (), interval, text, "1", confidence
            )
    return made
