"""What is known of each language, and whether its dissociation from the pivot follows it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from isogloss.measures.model_results import ModelResult
from isogloss.measures.statistics import NO_CORRELATION, Correlation, holm, permuted_correlation
from isogloss.questions.languages import script, typological_distance

MIN_LANGUAGES = 5  # of a correlation over languages
COVARIATES = ("same_script", "typological_distance", "tokens_per_character", "string_identity")
LONG_NAMES = {
    "script": "script of a language (ISO 15924)",
    "dissociation_by_language": "dissociation of a language from the pivot",
    "covariate": "covariate of a language",
    "covariate_correlation": "rank correlation of dissociation with a covariate",
    "covariate_p": "p of the rank correlation (permutation)",
    "covariate_p_holm": "p of the rank correlation, Holm over all of them",
}


def rank_correlation(
    x: np.ndarray, y: np.ndarray, n_perm: int = 999, seed: int = 0, confidence: float = 0.95
) -> Correlation:
    """Spearman's rho over languages, its two-sided p by permutation and its interval.

    Args:
        x, y: (language,); pairs with a NaN are left out.

    Returns:
        Spearman's rho; NaN with fewer than 5 languages, or where either is constant.

    >>> rank_correlation(np.arange(6.0), np.arange(6.0) ** 3)[0]
    1.0
    """
    both = np.isfinite(x) & np.isfinite(y)
    if both.sum() < MIN_LANGUAGES or np.ptp(x[both]) == 0 or np.ptp(y[both]) == 0:
        return NO_CORRELATION
    a, b = (pd.Series(v[both]).rank().to_numpy() for v in (x, y))
    a, b = ((r - r.mean()) / np.linalg.norm(r - r.mean()) for r in (a, b))
    rng = np.random.default_rng(seed)
    null = np.array([a @ rng.permutation(b) for _ in range(n_perm)])
    rho = round(float(a @ b), 12)
    return permuted_correlation(rho, np.append(null.round(12), rho), confidence)


def tokens_per_character(scores: xr.Dataset) -> xr.DataArray:
    """Tokens that a character of the choices costs, by language.

    Args:
        scores: of `activations.open_scores`.
    """
    over = ["item", "choice"]
    return scores["n_tokens"].sum(over) / scores["n_characters"].sum(over)


def covariates(models: Sequence[ModelResult], permutations: int, seed: int) -> xr.Dataset:
    """What is known of each language, and whether its dissociation follows it.

    Args:
        permutations: of the languages behind each p.
        seed: of the permutations.

    Returns:
        The variables of LONG_NAMES.
    """
    pivot = str(models[0].similarity.attrs["pivot"])
    languages = [str(name) for name in models[0].similarity["language"].values]
    scripts = [script(name) for name in languages]
    same_script = np.array([float(s == script(pivot)) for s in scripts])
    distances = typological_distance(languages, pivot)
    distance = np.array([distances[name] for name in languages])
    apart = np.array([m.similarity["dissociation_by_language"].values for m in models])
    known, correlations = [], np.full((2, len(models), len(COVARIATES)), np.nan)
    for i, model in enumerate(models):
        cost = tokens_per_character(model.scores).sel(language=languages).values
        identity = model.behaviour["identical_share"].sel(language=languages).values
        known.append(np.stack([same_script, distance, cost, identity], axis=1))
        for j, values in enumerate(known[-1].T):
            correlation = rank_correlation(apart[i], values, permutations, seed)
            correlations[:, i, j] = correlation.value, correlation.p
    dims = ("model", "covariate_name")
    return xr.Dataset(
        {
            "script": ("language", scripts),
            "dissociation_by_language": (("model", "language"), apart),
            "covariate": (("model", "language", "covariate_name"), np.array(known)),
            "covariate_correlation": (dims, correlations[0]),
            "covariate_p": (dims, correlations[1]),
            "covariate_p_holm": (dims, holm(correlations[1])),
        },
        coords={
            "model": [m.slug for m in models],
            "language": languages,
            "covariate_name": list(COVARIATES),
        },
    )
