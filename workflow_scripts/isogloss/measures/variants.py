"""Wordings as a factor: what of disagreement between languages is noise, and what averaging mends.

From the scores of the same items under several wordings: how far each language agrees with
itself, languages corrected for it, shares of variance, and the mean of the wordings' scores in
place of one.
Arrays are (variant, language, item, choice).
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from isogloss.errors import InputError
from isogloss.measures.behaviour import (
    choice_scores,
    item_consistency,
    margins,
    predictions,
    ranks,
    standardised_ranks,
)
from isogloss.measures.language_pairs import (
    CORRELATIONS,
    SCOPES,
    PairTable,
    pair_means,
    without_language,
)
from isogloss.measures.self_consistency import (
    RANK_SOURCES,
    Agreement,
    agreement,
    corrected,
    noise_share,
    rank_shares,
)
from isogloss.measures.statistics import (
    NO_LIMITS,
    Interval,
    Jackknife,
    known_width,
    stacked,
    sum_by_cluster,
    two_way_jackknife,
    within,
)
from isogloss.measures.variance_shares import CROSSED_SOURCES, crossed_shares
from isogloss.questions.items import folds

N_FOLDS = 5  # of items, that choose the best wording for one another
N_DRAWS = 999  # of clusters, by which the range of wordings varies
OUTCOMES = ("margin", "correct")
PAIR = ("language", "language_2")


def variants(
    scores: Sequence[xr.Dataset],
    names: Sequence[str],
    mode: str = "token",
    confidence: float = 0.95,
) -> xr.Dataset:
    """What wordings do to accuracy and consistency, in every language and between languages.

    Args:
        scores: of `open_scores`, one per wording, of the same items in the same languages.
        names: of the wordings, the main one first.
        mode: of `behaviour.SCORES`.
        confidence: of the intervals, over clusters of items and for these wordings.

    Returns:
        Dataset over variant, language, language_2, scope, source and outcome; the names are in
        docs/reference.md.

    Raises:
        InputError: fewer than two wordings, or files that differ in items or languages.
    """
    first = _same_items(scores, names)
    languages, pivot = [str(tag) for tag in first["language"].values], str(first.attrs["pivot"])
    answers, n_choices = first["answer"].values, first["n_choices"].values
    jackknife = Jackknife.of(first["cluster"].values, confidence)
    table = PairTable(languages, pivot, jackknife)
    values = np.stack([choice_scores(of_variant, mode) for of_variant in scores])
    units = standardised_ranks(ranks(values, n_choices))
    agreed = agreement(units, jackknife)
    _add_agreement(table, agreed)
    _add_noise(table, agreed)
    right = (predictions(values) == answers).astype(float)
    _add_shares(table, {"margin": margins(values, answers), "correct": right})
    together = values.mean(axis=0)
    _add_ensemble(table, right, (predictions(together) == answers).astype(float))
    rho = item_consistency(ranks(together, n_choices))
    _add_ensemble_consistency(table, jackknife.means(rho), agreed)
    coordinates = {
        "variant": list(names),
        "language": languages,
        "language_2": languages,
        "scope": list(SCOPES),
        "source": list(CROSSED_SOURCES),
        "rank_source": list(RANK_SOURCES),
        "outcome": list(OUTCOMES),
    }
    attributes = {
        "confidence": confidence,
        "pivot": pivot,
        "score": mode,
        "n_items": len(answers),
        "n_clusters": jackknife.n_clusters,
    }
    return xr.Dataset(table.variables, coordinates, attributes)


def _same_items(scores: Sequence[xr.Dataset], names: Sequence[str]) -> xr.Dataset:
    """The first wording's scores, when all are of the same items, choices and languages."""
    if len(scores) < 2 or len(scores) != len(names):
        raise InputError(f"variants: {len(scores)} sets of scores for {len(names)} wordings")
    first = scores[0]
    for name, other in zip(names, scores, strict=True):
        for field in ("item", "language", "answer", "n_choices"):
            if not np.array_equal(first[field].values, other[field].values):
                raise InputError(
                    f"variants: {field} of {name} is not that of {names[0]}: run again"
                )
    return first


def _add_agreement(table: PairTable, agreed: Agreement) -> None:
    """Agreement within a language and between languages, as it is and corrected."""
    jackknife, apart = table.jackknife, ~np.eye(len(table.is_pivot), dtype=bool)
    alone = jackknife.interval(agreed.alone, CORRELATIONS)
    text = "consistency with itself under another wording (Spearman's rho)"
    table.add_interval("self_consistency", ("language",), known_width(alone), text)
    mean = known_width(jackknife.interval(agreed.alone.mean(axis=1), CORRELATIONS))
    table.add_interval("mean_self_consistency", (), mean, f"{text}, mean over languages")
    usable = alone.low > 0
    text = "consistency with itself is above 0, so that others can be corrected for it"
    table.add("correctable", ("language",), usable, text)
    for name, rows, where in (
        ("consistency_same_wording", agreed.same, "under the same wording, mean over wordings"),
        ("consistency_across_wordings", agreed.across, "under different wordings"),
    ):
        text = f"consistency between languages {where} (Spearman's rho)"
        table.add_pairs(name, [np.where(apart, rows, np.nan)], text)
    text = "consistency between languages corrected for each one's with itself"
    rows = corrected(agreed.across, usable)
    table.add_pairs("consistency_corrected", [rows], text, limits=NO_LIMITS)


def _add_noise(table: PairTable, agreed: Agreement) -> None:
    """How much of disagreement is there within a language, and what ranks vary with."""
    apart = ~np.eye(len(table.is_pivot), dtype=bool)
    across = np.where(apart, agreed.across, np.nan)
    alone = np.where(apart, (agreed.alone[:, :, None] + agreed.alone[:, None]) / 2, np.nan)
    same = np.where(apart, agreed.same, np.nan)
    text = "share of disagreement between languages that is there within a language too"
    pairs = known_width(table.jackknife.interval(noise_share(alone, across)))
    table.add_interval("noise_share", PAIR, pairs, text)
    parts = [pair_means(rows, table.scopes) for rows in (alone, same, across)]
    ratio = noise_share(parts[0], parts[2])
    mean = known_width(table.jackknife.interval(ratio))
    text += ", of the means over pairs"
    table.add_interval("mean_noise_share", ("scope",), mean, text)
    crossed = _crossed_noise(table, ratio, alone[0], across[0])
    table.add_crossed("mean_noise_share", ("scope",), crossed, text)
    shares = np.moveaxis(rank_shares(*parts), 1, 0)
    text = "share of the variance of choices' ranks, mean over pairs of languages"
    dims = ("rank_source", "scope")
    table.add_interval("rank_share", dims, table.jackknife.interval(shares), text)


def _crossed_noise(
    table: PairTable, ratio: np.ndarray, alone: np.ndarray, across: np.ndarray
) -> Interval:
    """Interval of the noise share of each scope, for other items and other languages."""
    intervals = []
    for index, scope in enumerate(table.scopes):
        left_out = [without_language(matrix, scope) for matrix in (alone, across)]
        drawn = np.full(len(alone), True) if index == 0 else ~table.is_pivot
        rows, confidence = ratio[:, index], table.jackknife.confidence
        without = noise_share(*left_out)[drawn]
        intervals.append(two_way_jackknife(rows[0], rows[1:], without, confidence))
    return stacked(intervals)


def _add_shares(table: PairTable, values: dict[str, np.ndarray]) -> None:
    """Shares of variance of outcomes (variant, language, item)."""
    codes = table.jackknife.codes
    kept = [codes >= 0, *(codes != cluster for cluster in range(table.jackknife.n_clusters))]
    both = [values[outcome][..., None] for outcome in OUTCOMES]
    rows = [[crossed_shares(of_outcome[..., items, :]) for of_outcome in both] for items in kept]
    text = "share of the variance of the right choice's margin, and of right answers, by language"
    interval = table.jackknife.interval(np.array(rows))
    table.add_interval("share", ("outcome", "source"), interval, text)


def _add_ensemble(table: PairTable, right: np.ndarray, together: np.ndarray) -> None:
    """Accuracy of each wording, and of the mean of their scores.

    Args: right (variant, language, item), together (language, item): 0 or 1.
    """
    jackknife, n_items = table.jackknife, right.shape[-1]
    by_item = right.transpose(2, 0, 1)
    rows = jackknife.means(by_item)
    interval = jackknife.share_interval(rows, n_items)
    table.add_interval("accuracy", ("variant", "language"), interval, "accuracy")
    ensemble = jackknife.means(together.T)
    text = "accuracy of the mean of the wordings' scores"
    interval = jackknife.share_interval(ensemble, n_items)
    table.add_interval("accuracy_ensemble", ("language",), interval, text)
    gain = ensemble - rows.mean(axis=1)
    text = "accuracy of the mean of the wordings' scores, less their mean accuracy"
    limits = CORRELATIONS
    each = known_width(jackknife.interval(gain, limits))
    table.add_interval("accuracy_gain", ("language",), each, text)
    mean = known_width(jackknife.interval(gain.mean(axis=1), limits))
    table.add_interval("mean_accuracy_gain", (), mean, f"{text}, mean over languages")
    spread = known_width(range_elsewhere(by_item, jackknife))
    text = "accuracy of the best wording less that of the worst, both chosen on other items"
    table.add_interval("mean_accuracy_range", (), spread, f"{text}, mean over languages")


def range_elsewhere(right: np.ndarray, jackknife: Jackknife) -> Interval:
    """Accuracy of the best wording less that of the worst, on items that did not choose them.

    Of wordings that are equally good the best of a sample is better than the worst by noise alone.
    Chosen in each language on the other folds, they differ by nothing on average.

    The choice jumps where two wordings are nearly equal. A jackknife, which leaves out little and
    multiplies what changes, has intervals of twice the width; with the choice held fixed they are
    too narrow. So clusters are drawn with replacement, each in its fold, and choose anew.

    Args:
        right: (item, variant, language) 0 or 1.

    Returns:
        mean over languages; NaN with fewer than two clusters.
    """
    codes, n = jackknife.codes, jackknife.n_clusters
    if n < 2:
        return Interval(*np.full(3, np.nan))
    fold = folds(codes, min(N_FOLDS, n))[np.unique(codes, return_index=True)[1]]
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), N_DRAWS)
    times = np.concatenate([np.ones((1, n)), drawn])
    sums, sizes = sum_by_cluster(right, codes), np.bincount(codes)
    of_folds = [np.tensordot(times * (fold == k), sums, 1) for k in range(fold.max() + 1)]
    total = np.zeros((len(times), right.shape[2]))
    for here in of_folds:
        elsewhere = np.round(sum(of_folds) - here)
        best, worst = elsewhere.argmax(axis=1), elsewhere.argmin(axis=1)
        for chosen, sign in ((best, 1), (worst, -1)):
            total += sign * np.take_along_axis(here, chosen[:, None], axis=1)[:, 0]
    ranges = total.mean(axis=1) / (times @ sizes)
    return within(jackknife.drawn_interval(ranges), CORRELATIONS)


def _add_ensemble_consistency(table: PairTable, rows: np.ndarray, agreed: Agreement) -> None:
    """Consistency of the mean of the wordings' scores, beside that of single wordings."""
    apart = ~np.eye(len(table.is_pivot), dtype=bool)
    rows = np.where(apart, rows, np.nan)
    text = "consistency between languages of the mean of the wordings' scores (Spearman's rho)"
    table.add_pairs("consistency_ensemble", [rows], text)
    text = "the same, less their mean consistency under the same wording"
    table.add_pairs("consistency_gain", [rows - agreed.same], text)
