"""Behaviour: what a model answers in each language, and how far its languages agree.

From the scores of parallel multiple-choice items to accuracy, consistency and transfer, each with
its baselines and an interval over clusters of items. Arrays are (language, item, choice); choices
that an item does not have are NaN.
"""

import numpy as np
import xarray as xr

from isogloss.errors import InputError
from isogloss.measures.language_pairs import SCOPES, SHARES, PairTable
from isogloss.measures.statistics import (
    EVERY,
    Interval,
    Jackknife,
    cluster_codes,
    divide,
    sum_by_cluster,
    two_way_jackknife,
    within,
)
from isogloss.measures.transfer import MIN_ITEMS, Transfer, lift_rows, transfers
from isogloss.measures.variables import from_the_paper

# How the log-likelihood of a choice is made comparable with its rivals': variable that divides it.
LENGTHS = {"token": "n_tokens", "char": "n_characters", "byte": "n_bytes"}
# Scores that extra passes of the model give as they are.
EXTRA_PASSES = ("pmi", "letter")
SCORES = ("sum", "token", "char", "byte", *EXTRA_PASSES)
SIGNS = ("positive", "negative")
BASELINES = ("independent", "difficulty", "popularity")
LONG_NAMES = {
    "independent": "accuracy alone",
    "difficulty": "accuracy and item difficulty",
    "popularity": "accuracy, difficulty and popular wrong choices",
}
TIE = 1e-4  # scores this close, or closer, are tied
# From this share of choices on that two languages spell alike, what they agree on may be a taste
# for strings: numbers, names, formulas.
MOSTLY_ALIKE = 0.5


def choice_scores(scores: xr.Dataset, mode: str = "token") -> np.ndarray:
    """One score per choice, the higher the likelier.

    Args:
        scores: of `activations.open_scores`.
        mode: of `SCORES`.

    Returns:
        (language, item, choice) [nat, or nat per unit of length], NaN where there is no choice.

    Raises:
        InputError: unknown mode, a mode that the file does not hold, or a missing score.
    """
    if mode not in SCORES:
        raise InputError(f"score: {mode!r} is unknown: use one of {', '.join(SCORES)}")
    needed = (
        [mode] if mode in EXTRA_PASSES else ["sum", *([LENGTHS[mode]] if mode != "sum" else [])]
    )
    absent = [name for name in needed if name not in scores]
    if absent:
        raise InputError(
            f"score: {mode!r} needs {absent[0]!r}, which was not extracted: ask for it"
        )
    first, *rest = (scores[n].transpose("language", "item", "choice").values for n in needed)
    values = np.asarray(first, dtype=float)
    if rest:
        values = divide(values, np.asarray(rest[0], dtype=float))
    exists = _exists(scores["n_choices"].values, values.shape[-1])
    missing = np.argwhere(exists & np.isnan(values))
    if len(missing):
        language, item, choice = missing[0]
        raise InputError(
            f"score {mode!r}: item {str(scores['item'].values[item])!r} "
            f"({scores['language'].values[language]}) has no score for choice {choice}: extract it"
        )
    return np.where(exists, values, np.nan)


def _exists(n_choices: np.ndarray, width: int) -> np.ndarray:
    """(item, choice) bool: which of `width` columns are choices of the item."""
    return np.arange(width) < np.asarray(n_choices)[:, None]


def tie_groups(scores: np.ndarray) -> np.ndarray:
    """Groups of choices whose scores are equal, numbered from the best.

    Scores that follow each other by `TIE` or less are one group.

    Args:
        scores: (..., choice), NaN where there is no choice.

    Returns:
        (..., choice) int; missing choices come last.
    """
    order = np.argsort(-scores, axis=-1, kind="stable")
    ordered = np.take_along_axis(scores, order, axis=-1)
    with np.errstate(invalid="ignore"):
        gap = ordered[..., :-1] - ordered[..., 1:]
        both_impossible = np.isneginf(ordered[..., :-1]) & np.isneginf(ordered[..., 1:])
        new = ~(gap <= TIE) & ~both_impossible
    number = np.concatenate([np.zeros_like(order[..., :1]), np.cumsum(new, axis=-1)], axis=-1)
    groups = np.empty_like(number)
    np.put_along_axis(groups, order, number, axis=-1)
    return groups


def predictions(scores: np.ndarray) -> np.ndarray:
    """Index of the best choice, the lowest among ties: (..., choice) to (...) int.

    >>> predictions(np.array([[-3.0, -1.00005, -1.0], [-2.0, -3.0, np.nan]])).tolist()
    [1, 0]
    """
    return np.argmax(tie_groups(scores) == 0, axis=-1)


def ranks(scores: np.ndarray, n_choices: np.ndarray) -> np.ndarray:
    """Ranks of an item's choices, 1 the best, ties sharing their average.

    Args:
        scores: (..., item, choice).
        n_choices: (item,) columns from there on are ignored.

    Returns:
        Same shape; NaN where there is no choice, and for all choices of an item where all are tied.

    >>> ranks(np.array([[-1.0, -5.0, -5.0, -9.0]]), np.array([4])).tolist()
    [[1.0, 2.5, 2.5, 4.0]]
    """
    exists = np.broadcast_to(_exists(n_choices, scores.shape[-1]), scores.shape)
    groups = tie_groups(np.where(exists, scores, np.nan))
    group, other = groups[..., :, None], groups[..., None, :]
    ahead = ((other < group) & exists[..., None, :]).sum(axis=-1)
    alike = ((other == group) & exists[..., None, :]).sum(axis=-1)
    all_tied = (alike == np.asarray(n_choices)[:, None]) & exists
    positions = ahead + (alike + 1) / 2
    return np.where(exists & ~all_tied.any(axis=-1, keepdims=True), positions, np.nan)


def margins(scores: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Score of the right choice minus the best wrong one: (..., item, choice) to (..., item).

    >>> margins(np.array([[[-1.0, -4.0, -3.0]]]), np.array([0])).tolist()
    [[2.0]]
    """
    gold = np.arange(scores.shape[-1]) == np.asarray(answers)[:, None]
    right = np.where(gold, scores, -np.inf).max(axis=-1)
    return right - np.where(gold | np.isnan(scores), -np.inf, scores).max(axis=-1)


def centred_ranks(ranked: np.ndarray) -> np.ndarray:
    """Ranks (..., choice) less their mean over the item's choices; 0 for absent or tied choices."""
    present = np.isfinite(ranked)
    n = present.sum(axis=-1, keepdims=True)
    mean = divide(np.where(present, ranked, 0.0).sum(axis=-1, keepdims=True), n)
    return np.where(present, ranked - mean, 0.0)


def standardised_ranks(ranked: np.ndarray) -> np.ndarray:
    """`centred_ranks` of unit length; NaN where all choices are tied.

    The correlation of two rankings is then their inner product.
    """
    centred = centred_ranks(ranked)
    return divide(centred, np.sqrt((centred**2).sum(axis=-1, keepdims=True)))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's rho of two rankings of the same choices: (..., choice) twice to (...).

    NaN where either ranks all choices alike.

    >>> round(float(rank_correlation(np.array([1.0, 2, 3, 4]), np.array([2.0, 1, 3, 4]))), 6)
    0.8
    """
    return (standardised_ranks(first) * standardised_ranks(second)).sum(axis=-1)


def item_consistency(ranked: np.ndarray, first: slice = EVERY) -> np.ndarray:
    """Spearman's rho per item and pair, NaN where a language ranks all choices alike.

    Args: ranked (language, item, choice) of `ranks`; first, the first languages of the pairs.
    Returns: (item, first language, language).
    """
    by_item = standardised_ranks(ranked).transpose(1, 0, 2)
    return by_item[:, first] @ by_item.transpose(0, 2, 1)


def item_rank_c(scores: np.ndarray, n_choices: np.ndarray, first: slice = EVERY) -> np.ndarray:
    """RankC per item and pair: agreement of rankings that counts the best choices most.

    The mean over j of the share that two languages' j best choices have in common, with weights
    that fall by e from j to j + 1. 1 for equal rankings; above 0 by chance. Of tied choices, which
    RankC does not know, the first comes first, as in predictions.

    Args:
        scores: (language, item, choice), NaN where there is no choice.
        n_choices: (item,).
        first: the first languages of the pairs.

    Returns:
        (item, first language, language).

    Source: Qi, Fernandez and Bisazza (2023), Cross-lingual consistency of factual knowledge.
    """
    order = np.argsort(tie_groups(scores), axis=-1, kind="stable")
    place = np.argsort(order, axis=-1).transpose(1, 0, 2)
    exists = _exists(n_choices, scores.shape[-1])
    weight = np.where(exists, np.exp(-np.arange(scores.shape[-1])), 0.0)
    weight /= weight.sum(axis=-1, keepdims=True) * np.arange(1, scores.shape[-1] + 1)
    # A choice is among both languages' j best from its worse place on.
    from_there = np.cumsum(weight[:, ::-1], axis=-1)[:, ::-1]
    worse = np.maximum(place[:, first, None], place[:, None])
    counted = np.take_along_axis(from_there[:, None, None], worse, axis=-1)
    return np.where(exists[:, None, None], counted, 0.0).sum(axis=-1)


def concatenated_consistency(
    ranked: np.ndarray, jackknife: Jackknife, first: slice = EVERY
) -> np.ndarray:
    """Correlation of two languages' rank vectors, all items one after the other.

    Ranks are centred within their item: otherwise items with more choices, whose ranks are
    larger, would correlate by themselves. Equal to the mean of `item_consistency` where all items
    have as many choices and no ties; items whose choices are all tied add nothing.

    Args:
        ranked: (language, item, choice).
        first: the first languages of the pairs.

    Returns:
        (row, first language, language).

    Source: Lim, Aji and Cohn (2025); the centring is our choice.
    """
    by_item = centred_ranks(ranked).transpose(1, 0, 2)
    products = jackknife.sums(by_item[:, first] @ by_item.transpose(0, 2, 1))
    lengths = np.sqrt(jackknife.sums((by_item**2).sum(axis=2)))
    return divide(products, lengths[:, first, None] * lengths[:, None, :])


def shuffled_consistency(
    ranked: np.ndarray, n_choices: np.ndarray, clusters: np.ndarray
) -> np.ndarray:
    """Consistency between different items: what preferred positions alone would give.

    The mean of rho over all pairings of items of different clusters with the same number of
    choices, which is what shuffling the items tends to, without its noise.

    Args: ranked (language, item, choice), n_choices (item,), clusters (item,).
    Returns: (language, language); NaN where no such pairing exists.
    """
    unit = standardised_ranks(ranked)
    total = np.zeros((len(ranked), len(ranked)))
    weight = np.zeros_like(total)
    for n in np.unique(n_choices):
        group = np.flatnonzero(n_choices == n)
        present = np.isfinite(unit[:, group, 0]).astype(float)
        codes = cluster_codes(np.asarray(clusters)[group])
        rho, n_pairs = (
            _between_clusters(values, codes)
            for values in (np.nan_to_num(unit[:, group]), present[:, :, None])
        )
        both = present @ present.T
        total += np.where(n_pairs > 0, both * np.nan_to_num(divide(rho, n_pairs)), 0.0)
        weight += np.where(n_pairs > 0, both, 0.0)
    return divide(total, weight)


def _between_clusters(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Sum over pairs of items of different clusters of their inner products.

    Args: values (language, item, component). Returns (language, language).
    """
    within = sum_by_cluster(values.transpose(1, 0, 2), codes)
    everything = within.sum(axis=0)
    return everything @ everything.T - np.einsum("cld,cmd->lm", within, within)


def cohens_kappa(
    first: np.ndarray, second: np.ndarray, n_choices: np.ndarray, jackknife: Jackknife
) -> np.ndarray:
    """Cohen's kappa of two predictions on each row: (item, ...) twice to (row, ...).

    Agreement by chance is that of items with as many choices, (item,) `n_choices`: who guesses
    among two agrees more often than among eight.

    NaN where a prediction is NaN, and where one of the two is the same on all items: they then
    agree as often as by chance whatever the other is.
    """
    n_items = jackknife.sums(np.ones((len(first), *[1] * (first.ndim - 1))))
    agreed = divide(jackknife.sums(first == second), n_items)
    expected = np.zeros_like(agreed)
    for n in np.unique(n_choices):
        of = (n_choices == n).reshape(-1, *[1] * (first.ndim - 1))
        n_of = jackknife.sums(of)
        for choice in np.unique(first[np.isfinite(first)]):
            shares = [divide(jackknife.sums(of & (x == choice)), n_of) for x in (first, second)]
            expected += divide(n_of, n_items) * np.nan_to_num(shares[0] * shares[1])
    kappa = divide(agreed - expected, np.where(1 - expected < 1e-9, 0, 1 - expected))
    known = (np.isfinite(first) & np.isfinite(second)).all(axis=0)
    known &= (first != first[0]).any(axis=0) & (second != second[0]).any(axis=0)
    return np.where(known, kappa, np.nan)


def spelled_alike(spelling: np.ndarray, n_choices: np.ndarray, first: slice = EVERY) -> np.ndarray:
    """Choices that two languages spell alike.

    Args:
        spelling: (language, item, choice) number of a choice's text, the same for the same text.
        n_choices: (item,).
        first: the first languages of the pairs.

    Returns:
        (item, first language, language, choice) bool.
    """
    by_item = spelling.transpose(1, 0, 2)
    same = by_item[:, first, None] == by_item[:, None, :]
    return same & _exists(n_choices, spelling.shape[-1])[:, None, None]


def behaviour(scores: xr.Dataset, mode: str = "token", confidence: float = 0.95) -> xr.Dataset:
    """Accuracy, consistency and transfer of a model over parallel items, with their intervals.

    Args:
        scores: of `activations.open_scores`, with `spelling` (language, item, choice): the number
            of a choice's text, the same for the same text.
        mode: score of a choice, see `choice_scores`.
        confidence: of the intervals.

    Returns:
        Dataset over language, language_2 (transfer goes from `language` to `language_2`), item,
        sign, scope and score; intervals are `<name>_low`, `<name>_high`. Where scores without the
        question were extracted (`pmi`), `<name>_choices_only` is what they alone give.

    Raises:
        InputError: see `choice_scores`.
    """
    values = choice_scores(scores, mode)
    n_choices, answers = scores["n_choices"].values, scores["answer"].values
    languages = [str(language) for language in scores["language"].values]
    jackknife = Jackknife.of(scores["cluster"].values, confidence)
    pivot = str(scores.attrs["pivot"])
    table = PairTable(languages, pivot, jackknife)
    spelling = scores["spelling"].transpose("language", "item", "choice").values
    predicted, ranked = predictions(values), ranks(values, n_choices)
    by_item = predicted.T.astype(float)
    _add_accuracy(table, scores, values, predicted)
    same_text = []
    for first in table.parts:
        alike = spelled_alike(spelling, n_choices, first)
        same_text.append(alike.sum(axis=(0, 3)))
        _add_consistency(table, ranked, np.logical_not(alike.any(axis=-1)), first)
        shares = jackknife.means(item_rank_c(values, n_choices, first))
        text = "agreement of rankings, the best choices first (RankC)"
        table.add_pairs("rank_c", [shares], text, first=first)
        kappa = cohens_kappa(by_item[:, first, None], by_item[:, None, :], n_choices, jackknife)
        table.add_pairs("kappa", [kappa], "Cohen's kappa of predictions", first=first)
        _add_transfer(table, transfers(predicted, answers, n_choices, jackknife, first), first)
    _add_identity(table, np.concatenate(same_text) / n_choices.sum())
    shuffled = shuffled_consistency(ranked, n_choices, scores["cluster"].values)
    pairs, text = ("language", "language_2"), "consistency between different items"
    table.add("consistency_shuffled", pairs, shuffled, text)
    if "pmi" in scores:
        _add_choices_only(table, scores, mode)
    coordinates = {"language": languages, "language_2": languages, "item": scores["item"].values}
    coordinates["cluster"] = np.unique(scores["cluster"].values)
    results = xr.Dataset(
        table.variables,
        coordinates
        | {"sign": list(SIGNS), "scope": list(SCOPES), "score": list(_extracted(scores))},
        {
            "confidence": confidence,
            "pivot": pivot,
            "score": mode,
            "n_clusters": jackknife.n_clusters,
            "min_items": MIN_ITEMS,
            "tie_tolerance": TIE,
        },
    )
    return from_the_paper(results, ["consistency", "mean_consistency", "transfer", "mean_transfer"])


def _extracted(scores: xr.Dataset) -> list[str]:
    """Scores that can be computed from this file."""
    needs = {m: {m} if m in EXTRA_PASSES else {"sum", LENGTHS.get(m, "sum")} for m in SCORES}
    return [mode for mode in SCORES if needs[mode] <= set(map(str, scores.data_vars))]


def _add_accuracy(
    table: PairTable, scores: xr.Dataset, values: np.ndarray, predicted: np.ndarray
) -> None:
    """Accuracy against chance, by score, and what each item's answer was."""
    n_choices, answers = scores["n_choices"].values, scores["answer"].values
    correct = predicted == answers
    rows = table.jackknife.means(correct.T.astype(float))
    accuracy = table.jackknife.share_interval(rows, len(answers))
    chance = float(np.mean(1 / n_choices))
    table.add_interval("accuracy", ("language",), accuracy, "accuracy")
    mean = table.jackknife.share_interval(rows.mean(axis=1), len(answers))
    _add_mean_accuracy(table, rows, mean)
    table.add("chance", (), np.asarray(chance), "accuracy of guessing")
    near = ~(accuracy.low > chance)
    table.add("near_chance", ("language",), near, "accuracy's interval does not lie above chance")
    by_score = [
        (predictions(choice_scores(scores, mode)) == answers).mean(axis=1)
        for mode in _extracted(scores)
    ]
    table.add("accuracy_by_score", ("score", "language"), np.stack(by_score), "accuracy by score")
    groups = tie_groups(values)
    best_shared = ((groups == 0) & np.isfinite(values)).sum(axis=-1) > 1
    n_groups = np.where(np.isfinite(values), groups, -1).max(axis=-1) + 1
    table.add(
        "tie_rate", ("language",), (n_groups < n_choices).mean(axis=1), "items with tied choices"
    )
    table.add(
        "best_tie_rate", ("language",), best_shared.mean(axis=1), "items whose best choice is tied"
    )
    table.add("correct", ("language", "item"), correct, "answered correctly")
    table.add("prediction", ("language", "item"), predicted, "index of the predicted choice")
    long_name = "score of the right choice minus the best wrong one"
    table.add("margin", ("language", "item"), margins(values, answers), long_name, "nat per unit")


def _add_mean_accuracy(table: PairTable, rows: np.ndarray, mean: Interval) -> None:
    """Accuracy, mean over languages, and what comparing models over languages needs.

    Args: rows (row, language) accuracy; mean its interval over clusters of items.
    """
    text, n = "accuracy, mean over languages", rows.shape[1]
    table.add_interval("mean_accuracy", (), mean, text)
    without = divide(rows[0].sum() - rows[0], np.full(n, n - 1))
    by_cluster = rows[1:].mean(axis=1)
    crossed = two_way_jackknife(mean.estimate, by_cluster, without, table.jackknife.confidence)
    table.add_crossed("mean_accuracy", (), within(crossed, SHARES), text)
    for what, values in (("cluster", by_cluster), ("language", without)):
        table.add(f"mean_accuracy_without_{what}", (what,), values, f"{text}, each {what} left out")


def _add_identity(table: PairTable, share: np.ndarray) -> None:
    """How many choices are spelled alike, by pair and as in the pivot, and where most are."""
    pairs = ("language", "language_2")
    table.add("identical_share_pairs", pairs, share, "choices spelled alike in both languages")
    with_pivot = share[:, table.is_pivot].sum(axis=1) if table.is_pivot.any() else share[0] * np.nan
    table.add("identical_share", ("language",), with_pivot, "choices spelled as in the pivot")
    between = np.where(np.eye(len(share), dtype=bool), 0, share)
    marked = between.max(axis=1, initial=0) >= MOSTLY_ALIKE
    text = f"some language spells at least {MOSTLY_ALIKE:.0%} of the choices alike"
    table.add("mostly_alike", ("language",), marked, text)


def _add_consistency(
    table: PairTable, ranked: np.ndarray, distinct: np.ndarray, first: slice
) -> None:
    """Consistency per item, concatenated, and of items spelled differently.

    Args: ranked (language, item, choice), distinct (item, first language, language) bool.
    """
    rho = item_consistency(ranked, first)
    means = table.jackknife.means
    text = "consistency per item (Spearman's rho)"
    table.add_pairs("consistency", [means(rho)], text, behind=np.isfinite(rho), first=first)
    rho = np.where(distinct, rho, np.nan)
    name = "consistency_distinct"
    text = "consistency per item, no choice spelled alike in the two languages (Spearman's rho)"
    table.add_pairs(name, [means(rho)], text, behind=np.isfinite(rho), first=first)
    text = "correlation of concatenated ranks, centred by item"
    rows = concatenated_consistency(ranked, table.jackknife, first)
    table.add_pairs("consistency_concatenated", [rows], text, first=first)


def _add_choices_only(table: PairTable, scores: xr.Dataset, mode: str) -> None:
    """Accuracy, consistency and lift of the choices' scores without the question.

    By the study's score where that divides a likelihood by a length, else per token.
    """
    n_choices, answers = scores["n_choices"].values, scores["answer"].values
    alone = scores.assign(sum=scores["sum"] - scores["pmi"])
    values = choice_scores(alone, "token" if mode in EXTRA_PASSES else mode)
    predicted, note = predictions(values), "from the choices alone, without the question"
    rows = table.jackknife.means((predicted == answers).T.astype(float))
    accuracy = table.jackknife.share_interval(rows, len(answers))
    table.add_interval("accuracy_choices_only", ("language",), accuracy, f"accuracy {note}")
    ranked, jackknife = ranks(values, n_choices), table.jackknife
    for first in table.parts:
        rho = item_consistency(ranked, first)
        name, text = "consistency_choices_only", f"consistency per item {note} (Spearman's rho)"
        means, behind = jackknife.means(rho), np.isfinite(rho)
        table.add_pairs(name, [means], text, behind=behind, first=first)
        positive = transfers(predicted, answers, n_choices, jackknife, first)["positive"]
        rows = lift_rows(positive.observed, positive.independent)
        text = f"positive transfer minus that expected from accuracy, {note}"
        table.add_pairs("lift_independent_choices_only", [rows], text, first=first)


def _add_transfer(table: PairTable, by_kind: dict[str, Transfer], first: slice) -> None:
    """Transfer from some languages, what it would be without any, and the lift over that."""
    signed = [by_kind[sign] for sign in SIGNS]
    both = by_kind["both_wrong"]
    shares = [np.asarray(t.n_items) for t in signed]
    text = "transfer to language_2"
    table.add_pairs("transfer", [t.observed for t in signed], text, n_items=shares, first=first)
    name, text = "transfer_both_wrong", "negative transfer, any wrong choice"
    shares = [np.asarray(both.n_items)]
    table.add_pairs(name, [both.observed], text, n_items=shares, first=first)
    for baseline in BASELINES:
        relative = tuple(baseline in of.relative for of in (*signed, both))
        rows = [getattr(t, baseline) for t in signed]
        rows = [np.full_like(signed[0].observed, np.nan) if r is None else r for r in rows]
        text = f"transfer expected from {LONG_NAMES[baseline]}"
        table.add_values(f"transfer_{baseline}", [r[0] for r in rows], text, first)
        lifts = [lift_rows(t.observed, r) for t, r in zip(signed, rows, strict=True)]
        text = f"transfer minus that expected from {LONG_NAMES[baseline]}"
        divided = baseline != "independent"
        scales = [np.asarray(t.scale) for t in (*signed, both)] if divided else None
        by_sign, of_both = (scales[:2], scales[2:]) if scales else (None, None)
        name = f"lift_{baseline}"
        table.add_pairs(name, lifts, text, relative[:2], scales=by_sign, first=first)
        alone = getattr(both, baseline)
        if alone is not None:
            text = f"both wrong if from {LONG_NAMES[baseline]}"
            table.add_values(f"transfer_both_wrong_{baseline}", [alone[0]], text, first)
            name = f"lift_both_wrong_{baseline}"
            text = f"both wrong minus that expected from {LONG_NAMES[baseline]}"
            lift = [lift_rows(both.observed, alone)]
            table.add_pairs(name, lift, text, relative[2:], scales=of_both, first=first)
