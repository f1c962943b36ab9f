"""Behaviour: what a model answers in each language, and how far its languages agree (METHOD 3).

From the scores of parallel multiple-choice items to accuracy, consistency and transfer, each with
its baselines and an interval over clusters of items. Arrays are (language, item, choice); choices
that an item does not have are NaN.
"""

import numpy as np
import pandas as pd
import xarray as xr

from isogloss.errors import InputError
from isogloss.measures.language_pairs import SCOPES, PairTable
from isogloss.measures.statistics import (
    Resampling,
    accuracy_from,
    cluster_codes,
    divide,
    sum_by_cluster,
)
from isogloss.measures.transfer import MIN_ITEMS, Transfer, transfers

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


def choice_scores(scores: xr.Dataset, mode: str = "token") -> np.ndarray:
    """One score a choice, the higher the likelier.

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
    mine, other = groups[..., :, None], groups[..., None, :]
    ahead = ((other < mine) & exists[..., None, :]).sum(axis=-1)
    alike = ((other == mine) & exists[..., None, :]).sum(axis=-1)
    all_tied = (alike == np.asarray(n_choices)[:, None]) & exists
    found = ahead + (alike + 1) / 2
    return np.where(exists & ~all_tied.any(axis=-1, keepdims=True), found, np.nan)


def margins(scores: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Score of the right choice minus the best wrong one: (..., item, choice) to (..., item).

    >>> margins(np.array([[[-1.0, -4.0, -3.0]]]), np.array([0])).tolist()
    [[2.0]]
    """
    gold = np.arange(scores.shape[-1]) == np.asarray(answers)[:, None]
    right = np.where(gold, scores, -np.inf).max(axis=-1)
    return right - np.where(gold | np.isnan(scores), -np.inf, scores).max(axis=-1)


def standardised_ranks(ranked: np.ndarray) -> np.ndarray:
    """Ranks (..., choice) centred and of unit length, 0 for absent choices; NaN where all are tied.

    The correlation of two rankings is then their inner product.
    """
    present = np.isfinite(ranked)
    n = present.sum(axis=-1, keepdims=True)
    mean = divide(np.where(present, ranked, 0.0).sum(axis=-1, keepdims=True), n)
    centred = np.where(present, ranked - mean, 0.0)
    length = np.sqrt((centred**2).sum(axis=-1, keepdims=True))
    return divide(centred, length)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's rho of two rankings of the same choices: (..., choice) twice to (...).

    NaN where either ranks all choices alike.

    >>> round(float(rank_correlation(np.array([1.0, 2, 3, 4]), np.array([2.0, 1, 3, 4]))), 6)
    0.8
    """
    return (standardised_ranks(first) * standardised_ranks(second)).sum(axis=-1)


def item_consistency(ranked: np.ndarray) -> np.ndarray:
    """Spearman's rho per item and pair, NaN where a language ranks all choices alike.

    Args: ranked (language, item, choice) of `ranks`. Returns (item, language, language).
    """
    by_item = standardised_ranks(ranked).transpose(1, 0, 2)
    return by_item @ by_item.transpose(0, 2, 1)


def concatenated_consistency(ranked: np.ndarray, n_choices: np.ndarray) -> np.ndarray:
    """Spearman's rho between two languages' rank vectors, all items one after the other.

    Equal to the mean of `item_consistency` where all items have as many choices and no ties.
    Items whose choices are all tied keep their average rank here.

    Args:
        ranked: (language, item, choice).
        n_choices: (item,).

    Returns:
        (language, language).

    Source: Lim, Aji and Cohn (2025).
    """
    exists = _exists(n_choices, ranked.shape[-1])
    average = (np.asarray(n_choices)[:, None] + 1) / 2
    vectors = np.where(np.isnan(ranked), average, ranked)[:, exists]
    unit = standardised_ranks(pd.DataFrame(vectors).rank(axis=1).to_numpy())
    return unit @ unit.T


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


def _kappa(predicted: np.ndarray, resampling: Resampling) -> np.ndarray:
    """Cohen's kappa on each row of a resampling: (row, language, language)."""
    by_item = predicted.T
    n = resampling.sums(np.ones(len(by_item)))[:, None, None]
    agreed = divide(resampling.sums(by_item[:, :, None] == by_item[:, None, :]), n)
    expected = np.zeros_like(agreed)
    for choice in range(int(predicted.max()) + 1):
        share = divide(resampling.sums(by_item == choice), n[:, :, 0])
        expected += share[:, :, None] * share[:, None, :]
    return divide(agreed - expected, np.where(np.abs(1 - expected) < 1e-12, 0, 1 - expected))


def distinct_items(identical: np.ndarray, n_choices: np.ndarray) -> np.ndarray:
    """Items without a choice spelled the same in both languages, as far as the pivot shows it.

    Args:
        identical: (language, item, choice) whether a choice is the same string as the pivot's;
            all True in the pivot's own row.
        n_choices: (item,).

    Returns:
        (item, language, language) bool.
    """
    same = (identical & _exists(n_choices, identical.shape[-1])).transpose(1, 0, 2).astype(int)
    return same @ same.transpose(0, 2, 1) == 0


def behaviour(
    scores: xr.Dataset,
    mode: str = "token",
    n_boot: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> xr.Dataset:
    """Accuracy, consistency and transfer of a model over parallel items, with their intervals.

    Args:
        scores: of `activations.open_scores`.
        mode: score of a choice, see `choice_scores`.
        n_boot: bootstrap draws of clusters of items, the same for all languages.
        seed: of the draws.
        confidence: of the intervals.

    Returns:
        Dataset over language, language_2 (transfer goes from `language` to `language_2`), item,
        sign, scope and score; intervals are `<name>_low`, `<name>_high`.

    Raises:
        InputError: see `choice_scores`.
    """
    values = choice_scores(scores, mode)
    n_choices, answers = scores["n_choices"].values, scores["answer"].values
    languages = [str(language) for language in scores["language"].values]
    clusters = scores["cluster"].values
    resampling = Resampling.of(clusters, n_boot=n_boot, seed=seed, confidence=confidence)
    pivot = str(scores.attrs["pivot"])
    table = PairTable(languages, pivot, resampling, seed)
    identical = scores["identical_to_pivot"].transpose("language", "item", "choice").values
    identical = identical.astype(bool) | (scores["language"].values == pivot)[:, None, None]
    predicted = predictions(values)
    _add_accuracy(table, scores, values, predicted)
    _add_identity(table, identical, n_choices)
    _add_consistency(table, ranks(values, n_choices), n_choices, clusters, identical)
    table.add_pairs("kappa", [_kappa(predicted, resampling)], "Cohen's kappa of predictions")
    _add_transfer(table, transfers(predicted, answers, n_choices, resampling))
    coordinates = {"language": languages, "language_2": languages, "item": scores["item"].values}
    settings = {"n_boot": n_boot, "seed": seed, "confidence": confidence}
    return xr.Dataset(
        table.variables,
        coordinates
        | {"sign": list(SIGNS), "scope": list(SCOPES), "score": list(_extracted(scores))},
        settings | {"pivot": pivot, "score": mode, "min_items": MIN_ITEMS, "tie_tolerance": TIE},
    )


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
    accuracy = accuracy_from(correct.T, table.resampling)
    chance = float(np.mean(1 / n_choices))
    table.add_interval("accuracy", ("language",), accuracy, "accuracy")
    mean = accuracy_from(correct.mean(axis=0), table.resampling)
    table.add_interval("mean_accuracy", (), mean, "accuracy, mean over languages")
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


def _add_identity(table: PairTable, identical: np.ndarray, n_choices: np.ndarray) -> None:
    """How many choices are spelled as in the pivot."""
    exists = _exists(n_choices, identical.shape[-1])
    share = (identical & exists).sum(axis=(1, 2)) / exists.sum()
    table.add("identical_share", ("language",), share, "choices spelled as in the pivot")


def _add_consistency(
    table: PairTable,
    ranked: np.ndarray,
    n_choices: np.ndarray,
    clusters: np.ndarray,
    identical: np.ndarray,
) -> None:
    """Consistency per item, concatenated, without string-identical items, and its baseline."""
    rho = item_consistency(ranked)
    pairs = ("language", "language_2")
    for name, used, long_name in (
        ("consistency", np.isfinite(rho), "consistency per item"),
        (
            "consistency_distinct",
            np.isfinite(rho) & distinct_items(identical, n_choices),
            "consistency per item, no choice spelled the same in both languages",
        ),
    ):
        sums = table.resampling.sums
        rows = divide(sums(np.where(used, rho, 0.0)), sums(used))
        table.add_pairs(name, [rows], f"{long_name} (Spearman's rho)")
    together = concatenated_consistency(ranked, n_choices)
    table.add("consistency_concatenated", pairs, together, "Spearman's rho of concatenated ranks")
    shuffled = shuffled_consistency(ranked, n_choices, clusters)
    table.add("consistency_shuffled", pairs, shuffled, "consistency between different items")


def _add_transfer(table: PairTable, found: dict[str, Transfer]) -> None:
    """Transfer, what it would be without any, and the lift over that."""
    signed = [found[sign] for sign in SIGNS]
    both = found["both_wrong"]
    table.add_pairs("transfer", [t.observed for t in signed], "transfer to language_2")
    table.add_pairs("transfer_both_wrong", [both.observed], "negative transfer, any wrong choice")
    pairs = ("language", "language_2")
    for baseline in BASELINES:
        relative = tuple(baseline in of.relative for of in (*signed, both))
        rows = [getattr(t, baseline) for t in signed]
        rows = [np.full_like(signed[0].observed, np.nan) if r is None else r for r in rows]
        name = f"transfer expected from {LONG_NAMES[baseline]}"
        table.add(f"transfer_{baseline}", ("sign", *pairs), np.stack([r[0] for r in rows]), name)
        lifts = [t.observed - r for t, r in zip(signed, rows, strict=True)]
        name = f"transfer minus that expected from {LONG_NAMES[baseline]}"
        table.add_pairs(f"lift_{baseline}", lifts, name, relative[:2])
        alone = getattr(both, baseline)
        if alone is not None:
            text = f"both wrong if from {LONG_NAMES[baseline]}"
            table.add(f"transfer_both_wrong_{baseline}", pairs, alone[0], text)
            text = f"both wrong minus that expected from {LONG_NAMES[baseline]}"
            lift = both.observed - alone
            table.add_pairs(f"lift_both_wrong_{baseline}", [lift], text, relative[2:])
