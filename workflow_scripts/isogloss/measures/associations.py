"""Whether languages that are nearer behave more alike, and are answered better, by model.

Some languages are better known to a model than others. A language that it knows well is near to all
others and consistent with all others, so that similarity and behaviour go together over pairs
without either having to do with the pair. What remains after each language's effect has not
that reading: 99% of tests of the raw association reject, and .04 of these, where competence alone
drives both.

Accuracy is of a language, not of a pair: nothing of it is left after language effects. So it is
compared over languages, with what each shares with all others, and competence stays in it.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from isogloss.measures.covariates import rank_correlation
from isogloss.measures.model_results import ModelResult
from isogloss.measures.statistics import ROUNDING, holm, mean_present, qap_test

SIMILARITIES = ("item_share_middle", "cka_middle")
BEHAVIOURS = ("accuracy", "consistency", "lift_independent", "lift_difficulty")
LONG_NAMES = {
    "association": "correlation of similarity with behaviour over language pairs",
    "association_p": "p of the association (QAP)",
    "association_p_holm": "p of the association, Holm over all of them",
    "association_adjusted": "the same after language effects in both",
    "association_adjusted_low": "association after language effects, lower bound",
    "association_adjusted_high": "association after language effects, upper bound",
    "association_adjusted_p": "p of the association after language effects (QAP)",
    "association_adjusted_p_holm": (
        "p of the association after language effects, Holm over all of them"
    ),
    "accuracy_association": (
        "rank correlation over languages of accuracy with mean item share with all others"
    ),
    "accuracy_association_low": "rank correlation with accuracy, lower bound",
    "accuracy_association_high": "rank correlation with accuracy, upper bound",
    "accuracy_association_p": "p of the rank correlation with accuracy (permutation)",
}


def symmetric(matrix: np.ndarray) -> np.ndarray:
    """Mean of a (language, language) matrix and its transpose: one value a pair."""
    return (matrix + matrix.T) / 2


def without_language_effects(matrix: np.ndarray) -> np.ndarray:
    """What is left of a matrix over pairs after an effect of each language.

    Args:
        matrix: (language, language), symmetric; the diagonal is not used, NaN pairs are left out.

    Returns:
        (language, language) residuals of x_ij = a + b_i + b_j by least squares; NaN on the
        diagonal, and everywhere where the effects leave no degree of freedom.

    Source: the additive model of round-robin data, Warner, Kenny and Stoto (1979).
    """
    n = len(matrix)
    rows, columns = np.triu_indices(n, 1)
    known = np.isfinite(matrix[rows, columns])
    rows, columns = rows[known], columns[known]
    design = np.eye(n)[rows] + np.eye(n)[columns]
    residual = np.full((n, n), np.nan)
    effects, _, rank, _ = np.linalg.lstsq(design, matrix[rows, columns], rcond=None)
    if len(rows) > rank:
        left = matrix[rows, columns] - design @ effects
        if np.abs(left).max() <= ROUNDING * np.abs(matrix[rows, columns]).max():
            left = np.zeros(len(rows))  # rounding, of which many pairs would make a correlation
        residual[rows, columns] = residual[columns, rows] = left
    return residual


def _behaviour_matrices(behaviour: xr.Dataset) -> dict[str, np.ndarray]:
    """Behaviour of each pair of languages, (language, language), for BEHAVIOURS."""
    accuracy = behaviour["accuracy"].values
    matrices = {"accuracy": (accuracy[:, None] + accuracy) / 2}
    matrices["consistency"] = symmetric(behaviour["consistency"].values)
    for name in ("lift_independent", "lift_difficulty"):
        matrices[name] = symmetric(behaviour[name].sel(sign="positive").values)
    return matrices


def accuracy_associations(
    models: Sequence[ModelResult], permutations: int, seed: int, confidence: float
) -> dict[str, tuple[str, list[float]]]:
    """The variables `accuracy_association*` over (model)."""
    associations = []
    for model in models:
        shared = symmetric(model.similarity["item_share_middle"].values)
        with_others = np.where(np.eye(len(shared), dtype=bool), np.nan, shared)
        of_language = mean_present(with_others, axis=1)
        order = model.similarity["language"].values
        accuracy = model.behaviour["accuracy"].sel(language=order).values
        associations.append(rank_correlation(of_language, accuracy, permutations, seed, confidence))
    name = "accuracy_association"
    variables = {name: [f.value for f in associations]}
    variables |= {
        f"{name}_{end}": [getattr(f, end) for f in associations] for end in ("p", "low", "high")
    }
    return {key: ("model", values) for key, values in variables.items()}


def associations(
    models: Sequence[ModelResult], permutations: int, seed: int, confidence: float = 0.95
) -> xr.Dataset:
    """The variables of LONG_NAMES over (model, similarity, behaviour), or (model).

    Args:
        permutations: of the languages behind each p.
        seed: of the permutations.
        confidence: of the intervals, which are over languages.
    """
    names = ["association", "association_p", "association_adjusted", "association_adjusted_p"]
    names += ["association_adjusted_low", "association_adjusted_high"]
    shape = (len(models), len(SIMILARITIES), len(BEHAVIOURS))
    values = {name: np.full(shape, np.nan) for name in names}
    for i, model in enumerate(models):
        order = list(model.similarity["language"].values)
        matrices = _behaviour_matrices(model.behaviour.sel(language=order, language_2=order))
        for j, name in enumerate(SIMILARITIES):
            near = symmetric(model.similarity[name].values)
            for k, behaviour in enumerate(BEHAVIOURS):
                behaved = matrices[behaviour]
                raw = qap_test(near, behaved, permutations, seed)
                left = without_language_effects(near), without_language_effects(behaved)
                adjusted = qap_test(left[0], left[1], permutations, seed, confidence)
                for key, value in zip(names, (raw.value, raw.p, *adjusted), strict=True):
                    values[key][i, j, k] = value
    for key in ("association_p", "association_adjusted_p"):
        values[f"{key}_holm"] = holm(values[key])
    return xr.Dataset(
        {key: (("model", "similarity", "behaviour"), value) for key, value in values.items()}
        | accuracy_associations(models, permutations, seed, confidence),
        coords={
            "model": [m.slug for m in models],
            "similarity": list(SIMILARITIES),
            "behaviour": list(BEHAVIOURS),
        },
    )
