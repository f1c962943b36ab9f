"""Every language as pivot: what others share with it, in answers and in representations."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from isogloss.errors import InputError
from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.behaviour import choice_scores, predictions, rank_correlation, ranks
from isogloss.measures.breakdown import BIASED, crossed_interval, mean_over, middle_item_shares
from isogloss.measures.statistics import NO_LIMITS, Interval, Jackknife, known_width, stacked
from isogloss.measures.transfer import (
    LIFT_REASON,
    expected_rows,
    lift_rows,
    missing_lift,
    transfer_rows,
)
from isogloss.measures.variables import crossed_bounds, from_the_paper, interval_variables, variable

MEASURES = {
    "consistency": ("consistency with the pivot", (-1.0, 1.0)),
    "transfer": ("positive transfer from the pivot", (0.0, 1.0)),
    "transfer_lift": ("positive transfer from the pivot above accuracy", (-1.0, 1.0)),
    "transfer_to": ("positive transfer to the pivot", (0.0, 1.0)),
    "transfer_to_lift": ("positive transfer to the pivot above its accuracy", (-1.0, 1.0)),
    "item_share": ("item share with the pivot, middle half of relative depth", (-1.0, 1.0)),
}


def pivots(
    scores: xr.Dataset,
    states: ParallelStates,
    around: Sequence[str],
    score: str = "token",
    confidence: float = 0.95,
) -> xr.Dataset:
    """What the other languages share with each of several pivots.

    Args:
        scores: of `activations.open_scores`.
        states: of the same items and languages, pooled as similarity has them.
        around: languages to take as pivot, one after the other.
        score: what ranks the choices.
        confidence: of the intervals.

    Returns:
        By `pivot`, the mean over the other languages of each of `MEASURES` (`_low`, `_high` over
        clusters of items, `_crossed_low`, `_crossed_high` over the other languages too), and how
        far it is from the mean over these pivots (`<name>_difference`); `<name>_language` by pivot
        and language; `pivot_accuracy`, which they are to be read beside.

    Raises:
        InputError: a pivot without scores.
    """
    languages = [str(tag) for tag in scores["language"].values]
    if unknown := [tag for tag in around if tag not in languages]:
        raise InputError(f"pivots: {unknown[0]} is not one of the languages {', '.join(languages)}")
    jackknife = Jackknife.of(scores["cluster"].values, confidence)
    values = choice_scores(scores, score)
    right = (predictions(values) == scores["answer"].values).astype(float).T
    n_choices = scores["n_choices"].values
    ranked = ranks(values, n_choices)
    shares = middle_item_shares(states, around, [np.ones(len(right), bool)], jackknife)[:, 0]
    order = [states.languages.index(tag) for tag in languages]
    rows: dict[str, list[np.ndarray]] = {name: [] for name in MEASURES}
    for tag, of_languages in zip(around, shares, strict=True):
        at = languages.index(tag)
        rho = rank_correlation(ranked, ranked[at : at + 1]).T
        of_pivot = _answers(right, at, n_choices, jackknife) | {"consistency": jackknife.means(rho)}
        of_pivot["item_share"] = of_languages[:, order]
        for name, made in of_pivot.items():
            rows[name].append(np.where(np.arange(len(languages)) == at, np.nan, made))
    variables: dict[str, xr.Variable] = {}
    for name, (text, limits) in MEASURES.items():
        variables |= _measure(name, rows[name], jackknife, text, limits)
    variables |= _reasons(right, [languages.index(tag) for tag in around])
    accuracy = jackknife.means(right[:, [languages.index(tag) for tag in around]])
    share = jackknife.share_interval(accuracy, len(right))
    text = "accuracy in the pivot"
    variables |= interval_variables("pivot_accuracy", ("pivot",), share, text, "1", confidence)
    about = {"score": score, "confidence": confidence, "n_clusters": jackknife.n_clusters}
    about |= {"n_items": len(right), "pivot": str(scores.attrs["pivot"])}
    coordinates = {"pivot": list(around), "language": languages}
    return from_the_paper(xr.Dataset(variables, coordinates, about), ["consistency", "transfer"])


def _answers(
    right: np.ndarray, at: int, n_choices: np.ndarray, jackknife: Jackknife
) -> dict[str, np.ndarray]:
    """Rows (row, language) of transfer from and to a pivot; right (item, language) 0 or 1."""
    of_pivot = right[:, [at]]
    from_expected = expected_rows(of_pivot, right, n_choices, jackknife)
    to_expected = expected_rows(right, of_pivot, n_choices, jackknife)
    from_pivot = transfer_rows(of_pivot, right, jackknife)
    to_pivot = transfer_rows(right, of_pivot, jackknife)
    return {
        "transfer": from_pivot,
        "transfer_lift": lift_rows(from_pivot, from_expected),
        "transfer_to": to_pivot,
        "transfer_to_lift": lift_rows(to_pivot, to_expected),
    }


def _reasons(right: np.ndarray, around: Sequence[int]) -> dict[str, xr.Variable]:
    """Why pivots have no lift of transfer from them; right (item, language) 0 or 1."""
    reasons = [missing_lift(right[:, at], np.delete(right, at, axis=1)) for at in around]
    return {"transfer_lift_reason": variable(("pivot",), np.array(reasons), LIFT_REASON)}


def _measure(
    name: str,
    rows: Sequence[np.ndarray],
    jackknife: Jackknife,
    text: str,
    limits: tuple[float, float],
) -> dict[str, xr.Variable]:
    """The variables of one measure from its rows (row, language) by pivot."""
    every = np.ones(rows[0].shape[1], bool)
    means = np.stack([mean_over(values, every) for values in rows], axis=1)
    level, biased = jackknife.confidence, name in BIASED
    items = np.ones(len(jackknife.codes), bool)

    def interval(rows: np.ndarray, limits: tuple[float, float] = NO_LIMITS) -> Interval:
        return known_width(jackknife.interval(rows, limits, biased=biased))

    of_pivots = mean_over(means, np.ones(means.shape[1], bool))
    apart = interval(means - of_pivots[:, None])
    both = [
        known_width(crossed_interval(values[0], mean, items, jackknife, limits, biased))
        for values, mean in zip(rows, means.T, strict=True)
    ]
    by_language = stacked([interval(values, limits) for values in rows])
    note = f"{text}, less the mean over these pivots"
    return (
        interval_variables(name, ("pivot",), interval(means, limits), text, "1", level)
        | crossed_bounds(name, ("pivot",), stacked(both), text, level)
        | interval_variables(f"{name}_difference", ("pivot",), apart, note, "1", level)
        | interval_variables(
            f"{name}_language", ("pivot", "language"), by_language, text, "1", level
        )
    )
