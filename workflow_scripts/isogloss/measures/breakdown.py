"""Results by category of the items, and by script, family and resources of the languages.

Everything is of languages beside the pivot: their accuracy, and what they share with it. Groups of
languages share items, groups of items share languages, so a group is compared with the whole that
it is part of, cluster by cluster.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import xarray as xr

from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.behaviour import choice_scores, predictions, rank_correlation, ranks
from isogloss.measures.dissociation import is_middle
from isogloss.measures.groups import GROUPINGS, MIN_CLUSTERS, Group
from isogloss.measures.states import degenerate_reason, mean_and_spread
from isogloss.measures.statistics import (
    Interval,
    Jackknife,
    divide,
    holding,
    known_width,
    stacked,
    sum_by_cluster,
    two_way_jackknife,
    within,
    without_bias,
)
from isogloss.measures.transfer import (
    LIFT_REASON,
    expected_rows,
    lift_rows,
    missing_lift,
    transfer_rows,
)
from isogloss.measures.variables import crossed_bounds, from_the_paper, interval_variables, variable

MEASURES = {
    "accuracy": ("accuracy", (0.0, 1.0)),
    "consistency": ("consistency with the pivot", (-1.0, 1.0)),
    "transfer": ("positive transfer from the pivot", (0.0, 1.0)),
    "transfer_lift": ("positive transfer from the pivot above accuracy", (-1.0, 1.0)),
    "item_share": ("item share with the pivot, middle half of relative depth", (-1.0, 1.0)),
}


BIASED = ("item_share",)
"""Whose intervals lie around the value less its bias: means of correlations, see `without_bias`."""


# Kernels


def _by_cluster(items: np.ndarray, jackknife: Jackknife) -> tuple[np.ndarray, np.ndarray]:
    """Places of some items, cluster after cluster, and the (cluster,) sizes of these."""
    places = np.flatnonzero(items)
    codes = jackknife.codes[places]
    return places[np.argsort(codes, kind="stable")], np.unique(codes, return_counts=True)[1]


@dataclass(frozen=True)
class _LeftOut:
    """States of one language, and their moments with each cluster left out.

    Attributes:
        states: (item, feature) float32, cluster after cluster, standardised; NaN in dimensions that
            are constant.
        sizes: (cluster,) items of each.
        mean, scale: (cluster, feature), scale the inverse of the standard deviation.
    """

    states: np.ndarray
    sizes: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, states: np.ndarray, sizes: np.ndarray) -> "_LeftOut":
        """Of states as they are."""
        mean, spread = mean_and_spread(states)
        z = ((states - mean) / spread).astype(np.float32)
        n, left = len(z), _left(sizes)
        mean = divide(-_sums(z, sizes), left)
        square = divide(n - _sums(z**2, sizes), left)
        return cls(z, sizes, mean, 1 / np.sqrt((square - mean**2).clip(min=1e-6)))

    def correlations(self, other: "_LeftOut") -> np.ndarray:
        """(row,) mean correlation of the dimensions, on the items and without each cluster."""
        products = self.states * other.states
        varies = ~np.isnan(products[0])
        if not varies.any():
            return np.full(len(self.sizes) + 1, np.nan)
        total = products.sum(axis=0, dtype=np.float64)
        without = total.astype(np.float32) - _sums(products, self.sizes)
        without /= _left(self.sizes)
        without -= self.mean * other.mean
        without *= self.scale
        without *= other.scale
        of_rows = without.mean(axis=1) if varies.all() else without[:, varies].mean(axis=1)
        return np.concatenate([[total[varies].mean() / len(products)], of_rows])


def _sums(states: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(cluster, feature) sums of states that are in the order of their clusters."""
    return np.add.reduceat(states, np.cumsum(sizes) - sizes, axis=0)


def _left(sizes: np.ndarray) -> np.ndarray:
    """(cluster, 1) how many items are left without each cluster; NaN for none."""
    left = sizes.sum() - sizes
    return np.where(left > 0, left, np.nan).astype(np.float32)[:, None]


def _in_rows(of_clusters: np.ndarray, items: np.ndarray, jackknife: Jackknife) -> np.ndarray:
    """Values of some items and of the clusters they are of, as rows of all clusters."""
    rows = np.full(jackknife.n_clusters + 1, of_clusters[0])
    rows[1 + np.unique(jackknife.codes[items])] = of_clusters[1:]
    return rows


def middle_item_shares(
    states: ParallelStates,
    pivots: Sequence[str],
    subsets: Sequence[np.ndarray],
    jackknife: Jackknife,
) -> np.ndarray:
    """Item share of each language with each pivot, mean over the middle half of depth.

    Args:
        states: of all languages.
        pivots: languages, taken as pivot one after the other.
        subsets: (item,) bool each, items that count.

    Returns:
        (pivot, subset, row, language), on the data and then without each cluster (one without such
        items: as on the data), languages in the states' order; NaN for the pivot itself and where a
        language's states, or the pivot's, can have no similarity at any of the layers.
    """
    layers = np.flatnonzero(is_middle(states.depths))
    place = {states.languages.index(tag): p for p, tag in enumerate(pivots)}
    shape = (len(place), len(subsets), jackknife.n_clusters + 1, len(states.languages))
    total = np.zeros(shape)
    for layer in layers:
        x = states.at(int(layer))
        usable = [not degenerate_reason(of_language) for of_language in x]
        for s, items in enumerate(subsets):
            total[:, s] += _shares_at(x, usable, place, items, jackknife)
    return divide(total, np.asarray(float(len(layers))))


def _shares_at(
    x: np.ndarray,
    usable: Sequence[bool],
    place: Mapping[int, int],
    items: np.ndarray,
    jackknife: Jackknife,
) -> np.ndarray:
    """(pivot, row, language) item shares of a layer's states (language, item, feature).

    Args: usable (language,), whether its states can have a similarity; place, of each pivot among
    the pivots, by its place among the languages.
    """
    places, sizes = _by_cluster(items, jackknife)
    left_out = lru_cache(len(place))(lambda language: _LeftOut.of(x[language, places], sizes))
    shares = np.full((len(place), jackknife.n_clusters + 1, len(x)), np.nan)
    for home, p in place.items():
        of_home = left_out(home)
        for other in range(len(x)):
            if other == home or place.get(other, p) < p or not (usable[home] and usable[other]):
                continue
            rows = _in_rows(of_home.correlations(left_out(other)), items, jackknife)
            shares[p, :, other] = rows
            if other in place:  # of two pivots the share is the same both ways
                shares[place[other], :, home] = rows
    return shares


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
    every, biased = np.ones(rows[0].shape[1], bool), name in BIASED
    interval = partial(jackknife.interval, biased=biased)
    means, crossed, apart, by_language = [], [], [], []
    for values, group in zip(rows, groups, strict=True):
        behind = group.items
        mean = mean_over(values, group.languages)
        means.append(known_width(interval(mean, limits, behind)))
        chosen = np.where(group.languages, values, np.nan)
        both = crossed_interval(chosen[0], mean, behind, jackknife, limits, biased)
        crossed.append(known_width(both))
        # A language without a value in a group of items is in neither mean.
        whole = mean_over(rows[0], np.isfinite(values[0]) if group.of_items else every)
        difference = known_width(interval(mean - whole, behind=behind))
        if np.isnan(means[-1].low):  # all that varies is then the whole
            difference = Interval(difference.estimate, *means[-1][1:])
        if group.grouping == "all":  # which is not compared with itself
            difference = Interval(*np.full(3, np.nan))
        apart.append(difference)
        by_items = np.broadcast_to(behind[:, None], (len(behind), values.shape[1]))
        by_language.append(known_width(interval(chosen, limits, by_items)))
    level, less = jackknife.confidence, f"{text}, group less all items and languages"
    return (
        interval_variables(name, ("group",), stacked(means), text, "1", level)
        | crossed_bounds(name, ("group",), stacked(crossed), text, level)
        | interval_variables(f"{name}_difference", ("group",), stacked(apart), less, "1", level)
        | interval_variables(
            f"{name}_language", ("group", "language"), stacked(by_language), text, "1", level
        )
    )


def mean_over(rows: np.ndarray, languages: np.ndarray) -> np.ndarray:
    """Mean over some languages, those without a value left out: (row, language) to (row,)."""
    chosen = languages & np.isfinite(rows[0])
    return rows[:, chosen].mean(axis=1) if chosen.any() else np.full(len(rows), np.nan)


def crossed_interval(
    by_language: np.ndarray,
    mean: np.ndarray,
    items: np.ndarray,
    jackknife: Jackknife,
    limits: tuple[float, float],
    biased: bool,
) -> Interval:
    """Interval of a mean over languages for other items and other languages of the group.

    Args:
        by_language: (language,) values, NaN of those that the mean leaves out.
        mean: (row,).
        items: (item,) bool, those that the mean is of.
        limits, biased: as `Jackknife.interval` has them.
    """
    values = by_language[np.isfinite(by_language)]
    n = len(values)
    without = (values.sum() - values) / (n - 1) if n > 1 else np.full(n, np.nan)
    sizes = sum_by_cluster(items.astype(float), jackknife.codes)
    centre = without_bias(mean[0], mean[1:], sizes) if biased else mean[0]
    crossed = two_way_jackknife(centre, mean[1:][sizes > 0], without, jackknife.confidence)
    crossed = within(crossed, limits)
    return holding(mean[0], crossed) if biased else crossed


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
