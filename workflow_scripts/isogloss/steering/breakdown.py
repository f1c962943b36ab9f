"""What steering changes in groups of items and of languages, with the search in each test."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import xarray as xr

from isogloss.measures.groups import MIN_CLUSTERS, Group
from isogloss.measures.statistics import Interval, holm, stacked
from isogloss.measures.variables import interval_variables, variable
from isogloss.steering.answers import SteeredAnswers, checked_files
from isogloss.steering.inference import Claim, flip_claims

EFFECTS = {
    "steering_effect": ("correct", "accuracy change by steering"),
    "steering_consistency_change": ("consistency", "change of consistency with the pivot"),
}


def steering_breakdown(
    steered: Mapping[str, Mapping[str, xr.Dataset]],
    scores: xr.Dataset,
    groups: Sequence[Group],
    languages: Sequence[str],
    score: str = "token",
    *,
    n_perm: int = 1999,
    seed: int = 0,
    confidence: float = 0.95,
) -> xr.Dataset:
    """Changes by the study's first method at the chosen settings, by group.

    Args:
        steered: files by dataset of the vectors and language.
        scores: stored scores of the evaluated items, all of them.
        groups: over these items and `languages`.
        languages: that the groups' languages are.
        score: what ranks the choices.
        n_perm, seed: sign patterns of the tests; settings are chosen anew in each, on all items.
        confidence: of the intervals.

    Returns:
        `EFFECTS` (fitted, group) and by language, with intervals; p, and p adjusted by
        Holm over the groups, by dataset of vectors. `steering_few`, where fewer than `MIN_CLUSTERS`
        clusters of a group are evaluated: a split evaluates some of the items.
    """
    places = {str(item): place for place, item in enumerate(scores["item"].values)}
    made = []
    for files in steered.values():
        checked = checked_files(files, scores)
        items = next(iter(checked.values()))["item"].values
        answers = SteeredAnswers.of(checked, scores.sel(item=items), score)
        at = np.array([places[str(item)] for item in items])
        test = partial(
            flip_claims,
            search=answers.search(answers.labels("selected")[0]),
            clusters=answers.first["cluster"].values,
            n_perm=n_perm,
            seed=seed,
            confidence=confidence,
        )
        made.append(_of_vectors(answers, groups, at, languages, test, confidence))
    return xr.concat(made, xr.IndexVariable("fitted", list(steered)))


def _of_vectors(
    answers: SteeredAnswers,
    groups: Sequence[Group],
    items: np.ndarray,
    languages: Sequence[str],
    test: Callable[[np.ndarray], tuple[Claim, Claim]],
    confidence: float,
) -> xr.Dataset:
    """The variables of one dataset of vectors.

    Args:
        items: (item,) places of the answers' items among those of the groups.
        test: `flip_claims` of differences (item, language, setting).
    """
    method = answers.labels("selected")[0]
    places = [list(languages).index(tag) for tag in answers.languages]
    clusters = answers.first["cluster"].values
    counts = np.array([len(np.unique(clusters[group.items[items]])) for group in groups])
    note = f"fewer than {MIN_CLUSTERS} clusters of evaluated items: numbers say little"
    variables = {"steering_few": variable(("group",), counts < MIN_CLUSTERS, note)}
    for name, (field, text) in EFFECTS.items():
        change = getattr(answers, field)[..., answers.searched(method)] - answers.unsteered(field)
        text = f"{text}, {method.replace('_', ' ')}"
        by_language = np.full((3, len(groups), len(languages)), np.nan)
        means = []
        for g, group in enumerate(groups):
            inside = group.items[items, None] & group.languages[places]
            claim, mean = test(np.where(inside[..., None], change, np.nan))
            by_language[:, g, places] = claim.interval
            means.append(mean)
        p = np.array([float(mean.p) for mean in means])
        interval = stacked([mean.interval for mean in means])
        of_languages = Interval(*by_language)
        variables |= interval_variables(name, ("group",), interval, text, "1", confidence)
        variables |= interval_variables(
            f"{name}_language", ("group", "language"), of_languages, text, "1", confidence
        )
        variables[f"{name}_p"] = variable(("group",), p, f"{text}: two-sided cluster sign-flip p")
        tests = int(np.isfinite(p).sum())
        note = f"{text}: p adjusted by Holm over {tests} tests (group)"
        variables[f"{name}_p_holm"] = variable(("group",), holm(p), note)
    return xr.Dataset(variables)
