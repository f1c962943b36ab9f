"""What the page's script draws from: arrays of the results, packed into JSON."""

import base64
from collections.abc import Sequence
from typing import Any, SupportsFloat

import numpy as np
import xarray as xr

from isogloss.errors import InputError
from isogloss.measures.behaviour import predictions
from isogloss.measures.trajectories import shares_among_choices
from isogloss.questions.items import ParallelItems
from isogloss.questions.languages import language_family, language_name, script
from isogloss.results import StudyResults
from isogloss.steering.answers import HARM, HARM_REFERENCE, condition_scores

LATENTS = ("prompt", "pivot", "control")
ENDS = {"value": "", "low": "_low", "high": "_high"}
# Measures of pairs of languages: by layer (similarity) or once (behaviour).
BY_LAYER = {
    "item_share_pair": "item share (same place)",
    "cka_pair": "debiased CKA (same shape)",
    "retrieval": "nearest neighbour is the translation, of the first language in the second",
}
ONCE = {"consistency": "consistency of answers [Spearman's ρ]"}


def packed(values: Any) -> dict[str, Any]:
    """An array as JSON: its shape and its values, little-endian float32, in base64.

    >>> packed([[1.0, float("nan")]])
    {'shape': [1, 2], 'data': 'AACAPwAAwH8='}
    """
    array = np.ascontiguousarray(values, dtype="<f4")
    return {"shape": list(array.shape), "data": base64.b64encode(array.tobytes()).decode()}


def known(value: SupportsFloat) -> float | None:
    """A number as JSON has it: none where it is unknown.

    >>> known(float("nan")), known(2)
    (None, 2.0)
    """
    return float(value) if np.isfinite(float(value)) else None


def languages_part(tags: Sequence[str]) -> list[dict[str, str]]:
    """Each language with its name, script and family."""
    return [
        {
            "tag": tag,
            "name": language_name(tag),
            "script": script(tag),
            "family": language_family(tag),
        }
        for tag in tags
    ]


def items_part(items: ParallelItems) -> dict[str, Any]:
    """The questions of a dataset in every language."""
    first = next(iter(items.items.values()))
    return {
        "ids": list(items.item_ids),
        "answers": [int(answer) for answer in items.answers],
        "categories": [item.category or "" for item in first],
        "texts": {
            tag: [[item.context, item.question, *item.choices] for item in of_language]
            for tag, of_language in items.items.items()
        },
    }


def lens_part(study: StudyResults, model: str, dataset: str, ids: Sequence[str]) -> dict[str, Any]:
    """What every layer would answer to each item, and how the whole set fares.

    Args:
        ids: of the items, in the order of the questions' texts.

    Raises:
        InputError: results of other items than these.
    """
    behaviour = study.behaviour(model, dataset)
    trajectories = study.trajectories(model, dataset).sel(latent=list(LATENTS))
    tags = [str(tag) for tag in trajectories["language"].values]
    lenses = {tag: study.lens(model, dataset, tag) for tag in tags}
    for name, values in (("behaviour", behaviour), *lenses.items()):
        if list(values["item"].values) != list(ids):
            raise InputError(f"{model} on {dataset}: {name} has other items than the questions")
    return {
        "languages": tags,
        "layers": trajectories["layer"].values.tolist(),
        "depth": trajectories["relative_depth"].values.tolist(),
        "control": {tag: str(lens.attrs.get("control", "")) for tag, lens in lenses.items()},
        "chance": known(trajectories["chance"]),
        # (latent, layer, item, choice)
        "shares": {
            tag: packed(shares_among_choices(lens, LATENTS, trajectories.attrs["score"]))
            for tag, lens in lenses.items()
        },
        "prediction": packed(behaviour["prediction"].sel(language=tags)),
        "settles": packed(
            trajectories["settles_at"].transpose("language", "latent", "item").values
        ),
        "accuracy": {
            end: packed(
                trajectories[f"latent_accuracy{name}"].transpose("language", "latent", "layer")
            )
            for end, name in ENDS.items()
        },
        "steered": steered_part(study, model, dataset, ids),
    }


def steered_part(
    study: StudyResults, model: str, dataset: str, ids: Sequence[str]
) -> dict[str, Any]:
    """What each language's questions were answered under steering, by the vectors' dataset.

    With sets of their own for fit, selection and test those of the test alone are: NaN elsewhere.
    """
    parts: dict[str, Any] = {}
    for fitted in study.config.fitted_for(dataset):
        effects = study.steering(model, dataset, fitted)
        for tag in map(str, effects["language"].values):
            file = study.steered(model, dataset, tag, fitted)
            if not set(file["item"].values) <= set(ids):
                raise InputError(f"{model} on {dataset}: {tag}, steered, has other items")
            of_language = ~np.isin(file["method"].values, [HARM, HARM_REFERENCE])
            file = file.isel(condition=of_language)
            scores = condition_scores(file, file, str(file.attrs["score"]))
            parts.setdefault(tag, {})[fitted] = {
                "conditions": [condition_label(file, c) for c in range(file.sizes["condition"])],
                "shares": packed(_in_order(_softmax(scores), file, ids)),
                "prediction": packed(_in_order(predictions(scores), file, ids)),
            }
    return parts


def _in_order(values: np.ndarray, file: xr.Dataset, ids: Sequence[str]) -> np.ndarray:
    """Values (condition, item, ...) of a steered file in the order of ids; NaN for other ids."""
    place = {str(item): i for i, item in enumerate(file["item"].values)}
    chosen = [place.get(name, -1) for name in ids]
    padded = np.insert(values.astype(float), values.shape[1], np.nan, axis=1)
    return np.asarray(padded[:, chosen])


def condition_label(file: xr.Dataset, condition: int) -> str:
    """A condition of steering as it is read: "mean difference, depth 0.50, strength 1"."""
    row = file.isel(condition=condition)
    role, method = str(row["role"].item()), str(row["method"].item()).replace("_", " ")
    if role == method:
        return role
    setting = ""
    if np.isfinite(row["relative_depth"].item()) and np.isfinite(row["alpha"].item()):
        setting = f", depth {row['relative_depth'].item():.2f}, strength {row['alpha'].item():g}"
    draws = int((file["method"] == row["method"]).sum()) > 1 and role == "control"
    kind = "" if role == "grid" else f"{role}: "  # the settings that the others are chosen from
    return f"{kind}{method}{setting}" + (f", draw {int(row['draw']) + 1}" if draws else "")


def _softmax(scores: np.ndarray) -> np.ndarray:
    """Shares among the choices; NaN for choices that an item does not have."""
    exists = np.isfinite(scores)
    values = np.where(exists, scores, -np.inf)
    values = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.where(exists, values / values.sum(axis=-1, keepdims=True), np.nan)


def lens_size(study: StudyResults, model: str, dataset: str) -> int:
    """Bytes that `lens_part` takes in the page, roughly, without making it."""
    tags = study.config.languages_of(dataset)
    lens = study.lens(model, dataset, tags[0])
    n_items, n_choices = lens.sizes["item"], lens.sizes["choice"]
    numbers = len(tags) * len(LATENTS) * lens.sizes["layer"] * n_items * n_choices
    for fitted in study.config.fitted_for(dataset):
        steered = study.steering(model, dataset, fitted)["language"].values
        conditions = study.steered(model, dataset, str(steered[0]), fitted).sizes["condition"]
        numbers += len(steered) * conditions * n_items * (n_choices + 1)
    return numbers * 4 * 4 // 3


def pairs_part(
    similarity: xr.Dataset, behaviour: xr.Dataset | None, values_only: bool = False
) -> dict[str, Any]:
    """Measures of every pair of languages, with their intervals and nulls where there are any.

    Each is (layer, language, language_2); those of behaviour have one layer.

    Args:
        values_only: without intervals and nulls.
    """
    tags = [str(tag) for tag in similarity["language"].values]
    measures = {name: _pair_measure(similarity, name) for name in BY_LAYER}
    if behaviour is not None:
        here = behaviour.sel(language=tags, language_2=tags)
        measures |= {name: _answers_measure(here, name) for name in ONCE}
    if values_only:
        measures = {name: {"value": arrays["value"]} for name, arrays in measures.items()}
    measures["retrieval"]["chance"] = known(similarity["retrieval_chance"])
    return {
        "languages": tags,
        "layers": similarity["layer"].values.tolist(),
        "depth": similarity["relative_depth"].values.tolist(),
        "measures": measures,
    }


def _pair_measure(similarity: xr.Dataset, name: str) -> dict[str, Any]:
    suffixes = {**ENDS, "null": "_null", "threshold": "_threshold"}
    dims = ("layer", "language", "language_2")
    return {
        key: packed(similarity[name + suffix].transpose(*dims).values)
        for key, suffix in suffixes.items()
        if name + suffix in similarity
    }


def _answers_measure(behaviour: xr.Dataset, name: str) -> dict[str, Any]:
    """A measure of the answers, which no layer has: (1, language, language_2)."""
    suffixes = {**ENDS, "null": "_shuffled"}
    return {key: packed(behaviour[name + suffix].values[None]) for key, suffix in suffixes.items()}
