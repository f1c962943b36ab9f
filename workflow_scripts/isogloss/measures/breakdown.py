"""Results by category of the items, and by script, family and resources of the languages.

Everything is of languages beside the pivot: their accuracy, and what they share with it. Groups of
languages share items, groups of items share languages, so a group is compared with the whole that
it is part of, cluster by cluster.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import xarray as xr

from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.behaviour import choice_scores, predictions, rank_correlation, ranks
from isogloss.measures.dissociation import is_middle
from isogloss.measures.groups import GROUPINGS, MIN_CLUSTERS, Group
from isogloss.measures.states import degenerate_reason, mean_and_spread, standardised
from isogloss.measures.statistics import (
    Interval,
    Jackknife,
    divide,
    known_width,
    stacked,
    sum_by_cluster,
    two_way_jackknife,
    within,
)
from isogloss.measures.transfer import (
    LIFT_REASON,
    expected_rows,
    lift_rows,
    missing_lift,
    transfer_rows,
)
from isogloss.measures.variables import (
    crossed_bounds,
    from_the_paper,
    interval_variables,
    variable,
)

MEASURES = {
    "accuracy": ("accuracy", (0.0, 1.0)),
    "consistency": ("consistency with the pivot", (-1.0, 1.0)),
    "transfer": ("positive transfer from the pivot", (0.0, 1.0)),
    "transfer_lift": ("positive transfer from the pivot above accuracy", (-1.0, 1.0)),
    "item_share": ("item share with the pivot, middle half of relative depth", (-1.0, 1.0)),
}


# Kernels


def item_share_rows(
    first: np.ndarray, second: np.ndarray, items: np.ndarray, jackknife: Jackknife
) -> np.ndarray:
    """Item share of two languages over some items, and nearly that with each cluster left out.

    What a cluster adds to the mean correlation of the dimensions is taken to first order, which
    costs as much as the correlation itself, however many clusters there are.

    Args:
        first, second: (item, feature) states of the same items.
        items: (item,) bool, those that count.
        jackknife: of all items.

    Returns:
        (row,): the value, then without each cluster (a cluster without such items: the value).

    Source: infinitesimal jackknife of a correlation (Efron 1981).
    """
    z = standardised(np.stack([first[items], second[items]]))
    return _rows_of_standardised(z[0], z[1], items, jackknife)


def _rows_of_standardised(
    first: np.ndarray, second: np.ndarray, items: np.ndarray, jackknife: Jackknife
) -> np.ndarray:
    """`item_share_rows` of states of the chosen items that are standardised; the same both ways."""
    if not first.shape[1]:
        return np.full(jackknife.n_clusters + 1, np.nan)
    a, b = first.astype(np.float64), second.astype(np.float64)
    products = a * b
    correlation = products.mean(axis=0)
    a **= 2
    b **= 2
    a += b
    by_item = np.zeros(len(items))
    by_item[items] = products.mean(axis=1) - a @ correlation / (2 * len(correlation))
    share, counts = float(correlation.mean()), jackknife.sums(items.astype(float))
    # Influences sum to 0: those of a cluster are what the others lack without it.
    left_out = share + divide(jackknife.sums(by_item)[1:] - by_item.sum(), counts[1:])
    return np.concatenate([[share], left_out])


def middle_item_shares(
    states: ParallelStates,
    pivots: Sequence[str],
    subsets: Sequence[np.ndarray],
    jackknife: Jackknife,
) -> np.ndarray:
    """`item_share_rows` of each language with each pivot, mean over the middle half of depth.

    Args:
        states: of all languages.
        pivots: languages, taken as pivot one after the other.
        subsets: (item,) bool each, items that count.
        jackknife: of the items.

    Returns:
        (pivot, subset, row, language), languages in the states' order; NaN for the pivot itself
        and where a language's states, or the pivot's, can have no similarity at any of the layers.
    """
    layers = np.flatnonzero(is_middle(states.depths))
    place = {states.languages.index(tag): p for p, tag in enumerate(pivots)}
    shape = (len(place), len(subsets), jackknife.n_clusters + 1, len(states.languages))
    total = np.zeros(shape)
    for home, p in place.items():
        total[p, ..., home] = np.nan
    for layer in layers:
        x = states.at(int(layer))
        usable = [not degenerate_reason(of_language) for of_language in x]
        for s, items in enumerate(subsets):
            z = [_standardised_alone(of_language[items]) for of_language in x]
            for a, b in combinations(range(len(x)), 2):
                # Of two pivots the share is the same both ways.
                at = [(place[home], other) for home, other in ((a, b), (b, a)) if home in place]
                if not at:
                    continue
                rows = np.asarray(np.nan)
                if usable[a] and usable[b]:
                    rows = _rows_of_standardised(*_in_common(z[a], z[b]), items, jackknife)
                for p, other in at:
                    total[p, s, :, other] += rows
    return divide(total, np.asarray(float(len(layers))))


def _standardised_alone(states: np.ndarray) -> np.ndarray:
    """States (item, feature) of one language, NaN in dimensions that are constant."""
    mean, spread = mean_and_spread(states)
    return np.asarray((states - mean) / spread, np.float32)


def _in_common(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both without the dimensions that are constant in either."""
    varies = ~np.isnan(first[0] + second[0])
    return (first, second) if varies.all() else (first[:, varies], second[:, varies])


# The whole


def breakdown(
    scores: xr.Dataset,
    states: ParallelStates,
    groups: Sequence[Group],
    score: str = "token",
    confidence: float = 0.95,
) -> xr.Dataset:
    """Accuracy, consistency, transfer and item share by group.

    Args:
        scores: of `activations.open_scores`, the pivot's among them.
        states: of the same items, pooled as similarity has them.
        groups: of `groups.groups_of`, over the items and the languages beside the pivot.
        score: what ranks the choices, see `behaviour.choice_scores`.
        confidence: of the intervals.

    Returns:
        By group, the mean over its languages of each of `MEASURES` (`_low`, `_high` over clusters
        of items, `_crossed_low`, `_crossed_high` over languages too, from two on), and how far it
        is from the mean over all (`<name>_difference`); `<name>_language` by group and language.
        `few` where a group has fewer than `MIN_CLUSTERS` clusters.
    """
    pivot = str(scores.attrs["pivot"])
    languages = [str(tag) for tag in scores["language"].values if tag != pivot]
    jackknife = Jackknife.of(scores["cluster"].values, confidence)
    rows, reasons = _rows(scores, languages, groups, score, jackknife)
    by_items = [group for group in groups if group.of_items]
    shares = middle_item_shares(states, [pivot], [g.items for g in by_items], jackknife)[0]
    shares = shares[..., [states.languages.index(tag) for tag in languages]]
    of_all = shares[0]
    rows["item_share"] = [
        shares[by_items.index(group)] if group.of_items else of_all for group in groups
    ]
    variables: dict[str, xr.Variable] = {}
    for name, (text, limits) in MEASURES.items():
        variables |= _measure(name, rows[name], groups, jackknife, text, limits)
    variables["transfer_lift_reason"] = variable(("group",), reasons, LIFT_REASON)
    return _described(variables, groups, languages, jackknife, pivot, score)


def _rows(
    scores: xr.Dataset,
    languages: Sequence[str],
    groups: Sequence[Group],
    score: str,
    jackknife: Jackknife,
) -> tuple[dict[str, list[np.ndarray]], np.ndarray]:
    """Rows (row, language) of what behaviour gives, by measure and group; why lifts are missing."""
    pivot = str(scores.attrs["pivot"])
    answers, n_choices = scores["answer"].values, scores["n_choices"].values
    values = choice_scores(scores.sel(language=[pivot, *languages]), score)
    right = (predictions(values) == answers).astype(float)
    ranked = ranks(values, n_choices)
    consistency = rank_correlation(ranked[1:], ranked[:1]).T
    correct, pivot_right = right[1:].T, right[0][:, None]
    rows: dict[str, list[np.ndarray]] = {name: [] for name in MEASURES if name != "item_share"}
    reasons = []
    for group in groups:
        some = group.items[:, None]
        of_pivot, of_group = np.where(some, pivot_right, 0.0), np.where(some, correct, np.nan)
        transfer = transfer_rows(of_pivot, correct, jackknife)
        expected = expected_rows(of_pivot, of_group, n_choices, jackknife)
        rows["accuracy"].append(jackknife.means(of_group))
        rows["consistency"].append(jackknife.means(np.where(some, consistency, np.nan)))
        rows["transfer"].append(transfer)
        others = correct[np.ix_(group.items, group.languages)]
        reasons.append(missing_lift(right[0][group.items], others))
        rows["transfer_lift"].append(lift_rows(transfer, expected))
    return rows, np.array(reasons)


def _measure(
    name: str,
    rows: Sequence[np.ndarray],
    groups: Sequence[Group],
    jackknife: Jackknife,
    text: str,
    limits: tuple[float, float],
) -> dict[str, xr.Variable]:
    """The variables of one measure from its rows (row, language) by group."""
    every = np.ones(rows[0].shape[1], bool)
    means, crossed, apart, by_language = [], [], [], []
    for values, group in zip(rows, groups, strict=True):
        behind = group.items
        mean = mean_over(values, group.languages)
        means.append(known_width(jackknife.interval(mean, limits, behind)))
        drawn = np.append(True, sum_by_cluster(behind, jackknife.codes) > 0)  # clusters it has
        both = crossed_interval(values, mean[drawn], group.languages, jackknife.confidence)
        crossed.append(known_width(within(both, limits)))
        # A language without a value in a group of items is in neither mean.
        whole = mean_over(rows[0], np.isfinite(values[0]) if group.of_items else every)
        difference = known_width(jackknife.interval(mean - whole, behind=behind))
        if np.isnan(means[-1].low):  # all that varies is then the whole
            difference = Interval(difference.estimate, *means[-1][1:])
        if group.grouping == "all":  # which is not compared with itself
            difference = Interval(*np.full(3, np.nan))
        apart.append(difference)
        chosen = np.where(group.languages, values, np.nan)
        by_items = np.broadcast_to(behind[:, None], (len(behind), values.shape[1]))
        by_language.append(known_width(jackknife.interval(chosen, limits, by_items)))
    level = jackknife.confidence
    return (
        interval_variables(name, ("group",), stacked(means), text, "1", level)
        | crossed_bounds(name, ("group",), stacked(crossed), text, level)
        | interval_variables(
            f"{name}_difference",
            ("group",),
            stacked(apart),
            f"{text}, group less all items and languages",
            "1",
            level,
        )
        | interval_variables(
            f"{name}_language", ("group", "language"), stacked(by_language), text, "1", level
        )
    )


def mean_over(rows: np.ndarray, languages: np.ndarray) -> np.ndarray:
    """Mean over some languages, those without a value left out: (row, language) to (row,)."""
    chosen = languages & np.isfinite(rows[0])
    return rows[:, chosen].mean(axis=1) if chosen.any() else np.full(len(rows), np.nan)


def crossed_interval(
    rows: np.ndarray, mean: np.ndarray, languages: np.ndarray, confidence: float
) -> Interval:
    """Interval of a mean over languages for other items and other languages of the group.

    Args: rows (row, language) and mean (row,) on the data, then without each cluster of the group:
    of rows the first alone is read.
    """
    values = rows[0, languages & np.isfinite(rows[0])]
    n = len(values)
    without = (values.sum() - values) / (n - 1) if n > 1 else np.full(n, np.nan)
    return two_way_jackknife(mean[0], mean[1:], without, confidence)


def _described(
    variables: Mapping[str, xr.Variable],
    groups: Sequence[Group],
    languages: Sequence[str],
    jackknife: Jackknife,
    pivot: str,
    score: str,
) -> xr.Dataset:
    """The dataset with what each group is."""
    clusters = [len(np.unique(jackknife.codes[group.items])) for group in groups]
    tags = np.array(languages, dtype=object)
    about = {
        "n_items": variable(("group",), np.array([g.items.sum() for g in groups]), "items"),
        "n_clusters": variable(("group",), np.array(clusters), "clusters of items"),
        "n_languages": variable(
            ("group",), np.array([g.languages.sum() for g in groups]), "languages"
        ),
        "languages": variable(
            ("group",), np.array([" ".join(tags[g.languages]) for g in groups]), "languages of it"
        ),
        "few": variable(
            ("group",),
            np.array(clusters) < MIN_CLUSTERS,
            f"fewer than {MIN_CLUSTERS} clusters of items: numbers say little",
        ),
    }
    dataset = xr.Dataset(
        dict(variables) | about,
        {
            "group": [f"{g.grouping}: {g.name}" if g.grouping != "all" else "all" for g in groups],
            "grouping": ("group", [g.grouping for g in groups]),
            "group_name": ("group", [g.name for g in groups]),
            "language": list(languages),
        },
        {"pivot": pivot, "score": score, "confidence": jackknife.confidence},
    )
    dataset["grouping"].attrs["long_name"] = "; ".join(f"{k}: {v}" for k, v in GROUPINGS.items())
    return from_the_paper(dataset, ["consistency", "transfer"])
