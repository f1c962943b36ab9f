"""Against scale: dissociation and behaviour of several models, by family and by language.

A slope is only drawn within a family, whose models differ in little but size, and only from three
sizes on. It is conditional on the published checkpoints: nobody drew them at random.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import stdtrit

from isogloss.errors import InputError
from isogloss.measures.statistics import holm, qap_test
from isogloss.questions.languages import script, typological_distance

MIN_SIZES = 3  # of a family with a slope
MIN_LANGUAGES = 5  # of a correlation over languages

# measure -> (which dataset, variable, selection, long name)
MEASURES: dict[str, tuple[str, str, dict[str, str], str]] = {
    "dissociation": ("similarity", "dissociation", {}, "dissociation, all languages"),
    "dissociation_pivot": ("similarity", "dissociation_pivot", {}, "dissociation, pivot pairs"),
    "cka": ("similarity", "cka_middle_mean", {}, "debiased CKA, middle half of depth"),
    "accuracy": ("behaviour", "mean_accuracy", {}, "accuracy, mean over languages"),
    "consistency": ("behaviour", "mean_consistency", {"scope": "all_pairs"}, "consistency"),
    "lift": (
        "behaviour",
        "mean_lift_independent",
        {"scope": "all_pairs", "sign": "positive"},
        "positive transfer over that of accuracy alone",
    ),
    "lift_to_pivot": (
        "behaviour",
        "mean_lift_difficulty",
        {"scope": "to_pivot", "sign": "positive"},
        "positive transfer to the pivot over that of item difficulty",
    ),
}
SIMILARITIES = ("item_share_middle", "cka_middle")
BEHAVIOURS = ("accuracy", "consistency", "lift_independent", "lift_difficulty")
COVARIATES = ("same_script", "typological_distance", "tokens_per_character", "string_identity")


@dataclass(frozen=True)
class ModelResult:
    """What one model gave on one dataset.

    Attributes:
        slug: name of the model.
        family: models of one family are compared along their size.
        parameters: number of parameters.
        similarity: of `similarity.similarity`.
        behaviour: of `behaviour.behaviour`.
        scores: of `activations.open_scores`, for the tokens that a character costs.
    """

    slug: str
    family: str
    parameters: float
    similarity: xr.Dataset
    behaviour: xr.Dataset
    scores: xr.Dataset


# Kernels


def slope_per_decade(
    parameters: np.ndarray, values: np.ndarray, confidence: float = 0.95
) -> tuple[float, float, float, float, str]:
    """Change of a value when the number of parameters grows tenfold.

    Args:
        parameters, values: (model,) of one family; NaN values are left out.

    Returns:
        slope, its bounds, its two-sided p, and the reason where there is none ("" otherwise).
        The interval takes models as the unit and straight-line residuals as their noise.

    Source: ordinary least squares on log10(parameters).

    >>> slope_per_decade(np.array([1e8, 1e9, 1e10]), np.array([0.1, 0.3, 0.5]))[0]
    0.2
    """
    known = np.isfinite(values) & np.isfinite(parameters)
    n_sizes = len(np.unique(parameters[known]))
    if n_sizes < MIN_SIZES:
        nothing = float("nan")
        sizes = "1 size" if n_sizes == 1 else f"{n_sizes} sizes"
        return nothing, nothing, nothing, nothing, f"{sizes}: a slope needs {MIN_SIZES}"
    from scipy.stats import linregress  # half a second to import, seldom needed

    fit = linregress(np.log10(parameters[known]), values[known])
    half = stdtrit(known.sum() - 2, (1 + confidence) / 2) * fit.stderr
    return float(fit.slope), fit.slope - half, fit.slope + half, float(fit.pvalue), ""


def rank_correlation(
    x: np.ndarray, y: np.ndarray, n_perm: int = 999, seed: int = 0
) -> tuple[float, float]:
    """Spearman's rho over languages, and its two-sided p by permutation.

    Args:
        x, y: (language,); pairs with a NaN are left out.

    Returns:
        (rho, p); NaN with fewer than 5 languages, or where either is constant.

    >>> rank_correlation(np.arange(6.0), np.arange(6.0) ** 3)[0]
    1.0
    """
    both = np.isfinite(x) & np.isfinite(y)
    if both.sum() < MIN_LANGUAGES or np.ptp(x[both]) == 0 or np.ptp(y[both]) == 0:
        return float("nan"), float("nan")
    a, b = (pd.Series(v[both]).rank().to_numpy() for v in (x, y))
    a, b = ((r - r.mean()) / np.linalg.norm(r - r.mean()) for r in (a, b))
    rng = np.random.default_rng(seed)
    null = np.array([a @ rng.permutation(b) for _ in range(n_perm)])
    rho = float(a @ b)
    p = (1 + (np.abs(null) >= abs(rho) - 1e-9).sum()) / (1 + n_perm)
    return round(rho, 12), float(p)


def tokens_per_character(scores: xr.Dataset) -> xr.DataArray:
    """Tokens that a character of the choices costs, by language.

    Args:
        scores: of `activations.open_scores`.
    """
    over = ["item", "choice"]
    return scores["n_tokens"].sum(over) / scores["n_characters"].sum(over)


def symmetric(matrix: np.ndarray) -> np.ndarray:
    """Mean of a (language, language) matrix and its transpose: one value a pair."""
    return (matrix + matrix.T) / 2


# The labelled dataset


def scale(
    models: Sequence[ModelResult],
    *,
    permutations: int = 999,
    seed: int = 0,
    confidence: float = 0.95,
) -> xr.Dataset:
    """Models side by side: values, slopes by family, association with behaviour, covariates.

    Args:
        models: results on the same dataset with the same pivot.
        permutations: behind each p over languages or their pairs.
        seed: of the permutations.
        confidence: of the slopes' intervals.

    Returns:
        `value` (model, measure) with `_low`, `_high`; `slope` (family, measure) per decade of
        parameters, NaN with a `reason` (family, measure) where a family has fewer than three
        sizes; `association` (model, similarity, behaviour) over language pairs (QAP);
        `covariate` (model, language, covariate) and its rank correlation with the
        dissociation of each language from the pivot.

    Raises:
        InputError: no model, a slug twice, or models with different pivots or languages.
    """
    _check(models)
    dataset = xr.merge(
        [
            _values(models),
            _slopes(models, confidence),
            _associations(models, permutations, seed),
            _covariates(models, permutations, seed),
        ]
    ).assign_coords(
        family_of=("model", [m.family for m in models]),
        parameters=("model", [float(m.parameters) for m in models]),
    )
    for name, (long_name, units) in LONG_NAMES.items():
        dataset[name].attrs.update(long_name=long_name, units=units)
    return dataset.assign_attrs(pivot=models[0].similarity.attrs["pivot"])


LONG_NAMES = {
    "value": ("value of a measure", "1"),
    "value_low": ("value of a measure, lower bound", "1"),
    "value_high": ("value of a measure, upper bound", "1"),
    "measure_name": ("what a measure is", "1"),
    "n_sizes": ("different sizes in a family", "1"),
    "slope": ("change a decade of parameters, given these checkpoints", "1"),
    "slope_low": ("change a decade of parameters, lower bound", "1"),
    "slope_high": ("change a decade of parameters, upper bound", "1"),
    "slope_p": ("p of the slope", "1"),
    "reason": ("why a family has no slope", "1"),
    "association": ("correlation of similarity with behaviour over language pairs", "1"),
    "association_p": ("p of the association (QAP)", "1"),
    "association_p_holm": ("p of the association, Holm over all of them", "1"),
    "script": ("script of a language (ISO 15924)", "1"),
    "dissociation_by_language": ("dissociation of a language from the pivot", "1"),
    "covariate": ("covariate of a language", "1"),
    "covariate_correlation": ("rank correlation of dissociation with a covariate", "1"),
    "covariate_p": ("p of the rank correlation (permutation)", "1"),
    "covariate_p_holm": ("p of the rank correlation, Holm over all of them", "1"),
}


def _check(models: Sequence[ModelResult]) -> None:
    """Refuse models that cannot stand side by side."""
    if not models:
        raise InputError("scale: no models: give at least one")
    slugs = [m.slug for m in models]
    if len(set(slugs)) < len(slugs):
        raise InputError(f"scale: a model is given twice among {', '.join(slugs)}: give it once")
    first = models[0].similarity
    for m in models:
        same = m.similarity.attrs["pivot"] == first.attrs["pivot"]
        if not same or list(m.similarity["language"].values) != list(first["language"].values):
            raise InputError(
                f"scale: {m.slug} has another pivot or other languages than {slugs[0]}: "
                "compare models on the same dataset"
            )


def _values(models: Sequence[ModelResult]) -> xr.Dataset:
    """Every measure of every model with its interval."""
    found = np.full((3, len(models), len(MEASURES)), np.nan)
    for i, model in enumerate(models):
        for j, (source, name, selection, _) in enumerate(MEASURES.values()):
            held = getattr(model, source)
            for k, end in enumerate(("", "_low", "_high")):
                found[k, i, j] = held[name + end].sel(selection)
    dims = ("model", "measure")
    return xr.Dataset(
        {f"value{end}": (dims, v) for end, v in zip(("", "_low", "_high"), found, strict=True)}
        | {"measure_name": ("measure", [m[3] for m in MEASURES.values()])},
        coords={"model": [m.slug for m in models], "measure": list(MEASURES)},
    )


def _slopes(models: Sequence[ModelResult], confidence: float) -> xr.Dataset:
    """Slope of every measure in every family, or why there is none."""
    families = sorted({m.family for m in models})
    values = _values(models)["value"].values
    parameters = np.array([m.parameters for m in models], dtype=float)
    found = np.full((4, len(families), len(MEASURES)), np.nan)
    reasons, sizes = [], []
    for i, family in enumerate(families):
        own = np.array([m.family == family for m in models])
        fits = [slope_per_decade(parameters[own], v, confidence) for v in values[own].T]
        found[:, i] = np.array([fit[:4] for fit in fits]).T
        reasons.append([fit[4] for fit in fits])
        sizes.append(len(np.unique(parameters[own])))
    dims = ("family", "measure")
    names = ("slope", "slope_low", "slope_high", "slope_p")
    return xr.Dataset(
        {name: (dims, v) for name, v in zip(names, found, strict=True)}
        | {"reason": (dims, reasons), "n_sizes": ("family", sizes)},
        coords={"family": families, "measure": list(MEASURES)},
    )


def _behaviour_matrices(behaviour: xr.Dataset) -> dict[str, np.ndarray]:
    """Behaviour of each pair of languages, (language, language), for BEHAVIOURS."""
    accuracy = behaviour["accuracy"].values
    matrices = {"accuracy": (accuracy[:, None] + accuracy) / 2}
    matrices["consistency"] = symmetric(behaviour["consistency"].values)
    for name in ("lift_independent", "lift_difficulty"):
        matrices[name] = symmetric(behaviour[name].sel(sign="positive").values)
    return matrices


def _associations(models: Sequence[ModelResult], permutations: int, seed: int) -> xr.Dataset:
    """Whether pairs of languages that are nearer behave more alike, by model."""
    found = np.full((2, len(models), len(SIMILARITIES), len(BEHAVIOURS)), np.nan)
    for i, model in enumerate(models):
        order = list(model.similarity["language"].values)
        behaviour = model.behaviour.sel(language=order, language_2=order)
        matrices = _behaviour_matrices(behaviour)
        for j, name in enumerate(SIMILARITIES):
            near = symmetric(model.similarity[name].values)
            for k, behaved in enumerate(BEHAVIOURS):
                found[:, i, j, k] = qap_test(near, matrices[behaved], permutations, seed)
    dims = ("model", "similarity", "behaviour")
    return xr.Dataset(
        {
            "association": (dims, found[0]),
            "association_p": (dims, found[1]),
            "association_p_holm": (dims, holm(found[1])),
        },
        coords={
            "model": [m.slug for m in models],
            "similarity": list(SIMILARITIES),
            "behaviour": list(BEHAVIOURS),
        },
    )


def _covariates(models: Sequence[ModelResult], permutations: int, seed: int) -> xr.Dataset:
    """What is known of each language, and whether its dissociation follows it."""
    pivot = str(models[0].similarity.attrs["pivot"])
    languages = [str(name) for name in models[0].similarity["language"].values]
    scripts = [script(name) for name in languages]
    same_script = np.array([float(s == script(pivot)) for s in scripts])
    distances = typological_distance(languages, pivot)
    distance = np.array([distances[name] for name in languages])
    apart = np.array([m.similarity["dissociation_by_language"].values for m in models])
    covariates, found = [], np.full((2, len(models), len(COVARIATES)), np.nan)
    for i, model in enumerate(models):
        cost = tokens_per_character(model.scores).sel(language=languages).values
        identity = model.behaviour["identical_share"].sel(language=languages).values
        covariates.append(np.stack([same_script, distance, cost, identity], axis=1))
        for j, values in enumerate(covariates[-1].T):
            found[:, i, j] = rank_correlation(apart[i], values, permutations, seed)
    dims = ("model", "covariate_name")
    return xr.Dataset(
        {
            "script": ("language", scripts),
            "dissociation_by_language": (("model", "language"), apart),
            "covariate": (("model", "language", "covariate_name"), np.array(covariates)),
            "covariate_correlation": (dims, found[0]),
            "covariate_p": (dims, found[1]),
            "covariate_p_holm": (dims, holm(found[1])),
        },
        coords={
            "model": [m.slug for m in models],
            "language": languages,
            "covariate_name": list(COVARIATES),
        },
    )
