"""Measures and statistics computed again: by published tools, or from their definitions."""

from collections.abc import Iterator
from itertools import combinations, product

import numpy as np
from scipy import stats
from verification.agreements import Agreement, compared, guarded
from verification.ours import Computed

from isogloss.measures import behaviour as b
from isogloss.measures.cka import centred_over_clusters, pair_cka
from isogloss.measures.item_share import pair_item_share
from isogloss.measures.states import standardised
from isogloss.measures.statistics import Jackknife, qap_test
from isogloss.steering.inference import Search, flip_claims

EXACT, PRECISE = 1e-9, 1e-5
ERROR, P = 0.1, 0.02
N_FEATURES, N_BRUTE = 20, 12
RESAMPLES = 4999


def of_numbers(slug: str, computed: Computed) -> Iterator[Agreement]:
    """Every comparison on what one model gave on some questions."""
    name = f"{slug}, {computed.material.name}"
    scores = b.choice_scores(computed.scores)
    yield from consistency(name, computed, scores)
    yield from similarity(name, computed)
    yield from guarded("statistics", "pingouin", lambda: intraclass(name, computed))
    yield from inference(name, computed, scores)


def consistency(name: str, computed: Computed, scores: np.ndarray) -> Iterator[Agreement]:
    """Rank correlations per item and pair of languages."""
    n_choices = computed.scores["n_choices"].values
    ranks = b.ranks(scores, n_choices)
    pairs = list(combinations(range(len(scores)), 2))
    per_item, overlap = b.item_consistency(ranks), b.item_rank_c(scores, n_choices)
    rho, qi = np.full((2, len(n_choices), len(pairs)), np.nan)
    for item, n in enumerate(n_choices):
        for k, (i, j) in enumerate(pairs):
            first, second = scores[i, item, :n], scores[j, item, :n]
            rho[item, k] = stats.spearmanr(first, second).statistic
            qi[item, k] = rank_c(first, second)
    first, second = zip(*pairs, strict=True)
    what = f"{name}: consistency per item and pair"
    untied = np.isfinite(rho) & (computed_ties(scores, n_choices)[:, first, second])
    ours = np.where(untied, per_item[:, first, second], np.nan)
    theirs = np.where(untied, rho, np.nan)
    note = "Scores within 1e-4 count as tied in Isogloss: items with such scores are left out here."
    yield compared("statistics", what, "scipy.stats.spearmanr", ours, theirs, EXACT, note)
    ours, theirs = (np.where(untied, x, np.nan) for x in (overlap[:, first, second], qi))
    what = f"{name}: RankC per item and pair"
    yield compared("statistics", what, "definition of Qi et al. (2023)", ours, theirs, EXACT)
    jackknife = Jackknife.of(computed.scores["cluster"].values)
    together = b.concatenated_consistency(ranks, jackknife)[0][first, second]
    centred = ranks - np.nanmean(ranks, axis=-1, keepdims=True)
    again = []
    for i, j in pairs:
        both = np.isfinite(centred[i]) & np.isfinite(centred[j])
        again.append(stats.pearsonr(centred[i][both], centred[j][both]).statistic)
    what = f"{name}: consistency of concatenated ranks"
    yield compared("statistics", what, "scipy.stats.pearsonr", together, again, EXACT)


def computed_ties(scores: np.ndarray, n_choices: np.ndarray) -> np.ndarray:
    """(item, language, language) whether neither language's scores of an item come close."""
    exists = np.arange(scores.shape[-1]) < n_choices[:, None]
    ordered = np.sort(np.where(exists, scores, np.inf), axis=-1)
    with np.errstate(invalid="ignore"):
        gap = np.where(np.isfinite(ordered[..., 1:]), np.diff(ordered, axis=-1), np.inf)
    apart = (gap.min(axis=-1) > 2 * b.TIE).T
    return apart[:, :, None] & apart[:, None]


def rank_c(first: np.ndarray, second: np.ndarray) -> float:
    """RankC of one question, as its authors define it: overlap at each j, softmax weights."""
    ranked, other = np.argsort(-first), np.argsort(-second)
    n = len(first)
    weights = np.exp(np.arange(n, 0, -1.0)) / np.exp(np.arange(n, 0, -1.0)).sum()
    return sum(
        weight * len(set(ranked[:j]) & set(other[:j])) / j
        for j, weight in zip(range(1, n + 1), weights, strict=True)
    )


def similarity(name: str, computed: Computed) -> Iterator[Agreement]:
    """Debiased CKA at the middle layer: Song's estimator, and every quadruple of clusters."""
    states = computed.parallel()
    x = states.at(len(states.depths) // 2).astype(np.float64)
    clusters = np.asarray(states.clusters)
    first = np.sort(np.unique(clusters, return_index=True)[1])
    x -= x.mean(axis=1, keepdims=True)
    grams = x @ x.transpose(0, 2, 1)
    single = grams[:, first][:, :, first]
    ours = pair_cka(centred_over_clusters(single, clusters[first]))
    what = f"{name}: debiased CKA, an item a cluster"
    again = ratio_to_own(single, song_hsic)
    yield compared("statistics", what, "unbiased HSIC of Song et al. (2012)", ours, again, EXACT)
    crowded = np.argsort(-np.bincount(clusters)[clusters], kind="stable")[:N_BRUTE]
    few, codes = grams[:2][:, crowded][:, :, crowded], clusters[crowded]
    ours = pair_cka(centred_over_clusters(few, codes))
    again = ratio_to_own(few, lambda k, m: clustered_hsic(k, m, codes))
    what = f"{name}: debiased CKA, {len(np.unique(codes))} clusters of {len(codes)} items"
    yield compared("statistics", what, "mean over all quadruples", ours, again, EXACT)


def ratio_to_own(grams: np.ndarray, hsic) -> np.ndarray:
    """CKA of all pairs from an estimator of HSIC."""
    values = np.array([[hsic(k, m) for m in grams] for k in grams])
    spread = np.sqrt(np.diag(values))
    return values / np.outer(spread, spread)


def song_hsic(k: np.ndarray, m: np.ndarray) -> float:
    """Unbiased HSIC: Song et al. (2012), equation 5."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    cross = k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * (k @ m).sum() / (n - 2)
    return float((np.trace(k @ m) + cross) / (n * (n - 3)))


def clustered_hsic(k: np.ndarray, m: np.ndarray, clusters: np.ndarray) -> float:
    """Mean over all ordered quadruples of different clusters, one by one."""
    members = [np.flatnonzero(clusters == c) for c in np.unique(clusters)]
    values = []
    for a, c, d, e in product(range(len(members)), repeat=4):
        if len({a, c, d, e}) == 4:
            i, j, q, r = (members[x] for x in (a, c, d, e))
            pair = (k[np.ix_(i, j)] * m[np.ix_(i, j)]).mean()
            chain = (k[np.ix_(i, j)].mean(axis=1) * m[np.ix_(i, q)].mean(axis=1)).mean()
            apart = k[np.ix_(i, j)].mean() * m[np.ix_(q, r)].mean()
            values.append(pair - 2 * chain + apart)
    return float(np.mean(values))


def intraclass(name: str, computed: Computed) -> Iterator[Agreement]:
    """Item share of single dimensions beside intraclass correlations."""
    import pandas as pd
    import pingouin

    states = computed.parallel()
    x = states.at(len(states.depths) // 2).astype(np.float64)
    features = np.linspace(0, x.shape[2] - 1, N_FEATURES).astype(int)
    n_languages, n_items, _ = x.shape
    off = ~np.eye(n_languages, dtype=bool)
    ours, consistent, one_way = [], [], []
    for feature in features:
        z = standardised(x[:, :, [feature]])
        ours.append(pair_item_share(z)[off].mean())
        language, item = np.indices((n_languages, n_items))
        long = pd.DataFrame(
            {"language": language.ravel(), "item": item.ravel(), "state": z[..., 0].ravel()}
        )
        table = pingouin.intraclass_corr(long, "item", "language", "state").set_index("Type")
        consistent.append(table.loc[_type(table, "ICC3", "ICC(C,1)"), "ICC"])
        one_way.append(table.loc[_type(table, "ICC1", "ICC(1,1)"), "ICC"])
    what = f"{name}: item share of {N_FEATURES} dimensions"
    yield compared(
        "statistics", what, "pingouin, ICC(3,1) of standardised states", ours, consistent, PRECISE
    )
    note = "ICC(1) counts one degree of freedom per item more: equal up to 1 / items."
    bound = 1 / n_items
    yield compared("statistics", what, "pingouin, ICC(1)", ours, one_way, bound, note)


def _type(table, *names: str) -> str:
    """The name that this version of pingouin has for a kind of intraclass correlation."""
    return next(name for name in names if name in table.index)


def inference(name: str, computed: Computed, scores: np.ndarray) -> Iterator[Agreement]:
    """Standard errors, sign flips and permutations of languages beside scipy's resampling."""
    answers = computed.scores["answer"].values
    clusters = computed.scores["cluster"].values
    n_choices = computed.scores["n_choices"].values
    rho = b.item_consistency(b.ranks(scores, n_choices))
    right = (b.predictions(scores) == answers).T.astype(float)
    yield bootstrapped(f"{name}: accuracy", right[:, 0], clusters)
    yield bootstrapped(f"{name}: consistency of two languages", rho[:, 0, 1], clusters)
    every = right[:, 1] - right[:, 0]
    few = np.where(np.isin(clusters, np.unique(clusters[every != 0])[:9]), every, 0.0)
    for label, difference in (("all flips", every), ("nine clusters of flips", few)):
        yield flipped(f"{name}: p of a difference in accuracy, {label}", difference, clusters)
    consistent = b.item_consistency(b.ranks(scores, n_choices))
    x = pair_item_share(standardised(computed.parallel().at(1)))
    yield relabelled(f"{name}: p over pairs of languages", x, np.nanmean(consistent, axis=0))


def bootstrapped(what: str, values: np.ndarray, clusters: np.ndarray) -> Agreement:
    """Relative difference of the jackknife's and the cluster bootstrap's standard error."""
    jackknife = Jackknife.of(clusters)
    interval = jackknife.mean_interval(values)
    t = stats.t.ppf(0.975, jackknife.n_clusters - 1)
    ours = float(interval.high - interval.low) / 2 / t
    members = [values[clusters == c] for c in np.unique(clusters)]
    total, count = np.array([[np.nansum(m), np.isfinite(m).sum()] for m in members]).T

    def mean(drawn: np.ndarray, axis: int) -> np.ndarray:
        return total[drawn].sum(axis=axis) / count[drawn].sum(axis=axis)

    result = stats.bootstrap(
        (np.arange(len(members)),), mean, n_resamples=RESAMPLES, method="percentile",
        rng=np.random.default_rng(0),
    )  # fmt: skip
    note = f"Standard errors: relative difference; {RESAMPLES} resamples of clusters."
    away = ours / result.standard_error - 1
    against = "scipy.stats.bootstrap"
    return compared("statistics", f"{what}, standard error", against, away, 0.0, ERROR, note)


def flipped(what: str, difference: np.ndarray, clusters: np.ndarray) -> Agreement:
    """p of the studentised mean when clusters' signs are flipped, never below Student's t."""
    search = Search.none(len(difference), 1)
    claim, _ = flip_claims(difference[:, None, None], search, clusters, n_perm=RESAMPLES)
    known = np.unique(clusters)
    total, count = np.array(
        [[difference[clusters == c].sum(), (clusters == c).sum()] for c in known]
    ).T

    def size(drawn: np.ndarray) -> float:
        mean = drawn.sum() / count.sum()
        influence = (drawn - mean * count) / count.sum()
        n = len(drawn)
        error = np.sqrt(n / (n - 1) * (influence**2).sum())
        return abs(mean) / error if error > 0 and abs(mean) > 1e-12 else 0.0

    moved = total != 0

    def statistic(drawn: np.ndarray) -> float:
        whole = total.copy()
        whole[moved] = drawn
        return round(size(whole), 9)

    result = stats.permutation_test(
        (total[moved],), statistic, permutation_type="samples", alternative="greater",
        n_resamples=RESAMPLES, vectorized=False, rng=np.random.default_rng(1),
    )  # fmt: skip
    student = 2 * stats.t.sf(size(total), len(total) - 1)
    note = "Sign flips: p is never below that of Student's t, in Isogloss as here."
    expected = max(result.pvalue, student)
    exact = 2 ** int(moved.sum()) <= RESAMPLES
    bound = EXACT if exact else P
    return compared(
        "statistics", what, "scipy.stats.permutation_test", claim.p[0], expected, bound, note
    )


def relabelled(what: str, x: np.ndarray, y: np.ndarray) -> Agreement:
    """p of the correlation of two matrices when languages are relabelled, all relabellings."""
    off = ~np.eye(len(x), dtype=bool)

    def size(labels: np.ndarray) -> float:
        labels = labels.astype(int)
        return round(abs(np.corrcoef(x[off], y[np.ix_(labels, labels)][off])[0, 1]), 9)

    result = stats.permutation_test(
        (np.arange(len(x)),), size, permutation_type="pairings", alternative="greater",
        vectorized=False, n_resamples=np.inf,
    )  # fmt: skip
    ours = qap_test(x, y).p
    return compared("statistics", what, "scipy.stats.permutation_test", ours, result.pvalue, EXACT)
