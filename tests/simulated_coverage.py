"""How often intervals hold the truth and tests reject it, in simulated worlds of known truth."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import xarray as xr
from simulated_states import clustered_states, parallel_states
from simulated_worlds import Answers, Flips, Lens, Wordings, clusters_of
from sklearn import config_context

from isogloss.files.parallel_states import ParallelStates
from isogloss.measures.associations import without_language_effects
from isogloss.measures.behaviour import (
    behaviour,
    choice_scores,
    item_consistency,
    predictions,
    ranks,
)
from isogloss.measures.breakdown import breakdown
from isogloss.measures.covariates import rank_correlation
from isogloss.measures.groups import Group, groups_of
from isogloss.measures.language_pairs import pair_means, without_language
from isogloss.measures.pivots import pivots
from isogloss.measures.similarity import similarity
from isogloss.measures.slopes import slope_of_estimates, slope_per_decade
from isogloss.measures.statistics import Jackknife, divide, qap_test
from isogloss.measures.subspaces import subspaces
from isogloss.measures.trajectories import trajectories
from isogloss.measures.transfer import lift_rows, transfer_rows
from isogloss.measures.variant_states import variant_similarity
from isogloss.measures.variants import variants
from isogloss.questions.items import folds
from isogloss.steering.effects import rank_p
from isogloss.steering.inference import Claim, Search, flip_claims, swap_claims

ALPHAS = (0.01, 0.05, 0.10)
WANTED = 0.93
# name -> variable of `behaviour`, what is selected of it
BEHAVIOUR: dict[str, tuple[str, dict[str, str]]] = {
    "accuracy": ("accuracy", {}),
    "accuracy, mean over languages": ("mean_accuracy", {}),
    "consistency": ("consistency", {}),
    "consistency, mean over pairs": ("mean_consistency", {"scope": "all_pairs"}),
    "consistency, concatenated": ("consistency_concatenated", {}),
    "consistency as RankC": ("rank_c", {}),
    "Cohen's kappa": ("kappa", {}),
    "transfer, positive": ("transfer", {"sign": "positive"}),
    "transfer, negative": ("transfer", {"sign": "negative"}),
    "lift over accuracy, positive": ("lift_independent", {"sign": "positive"}),
    "lift over accuracy, positive, mean over pairs": (
        "mean_lift_independent",
        {"sign": "positive", "scope": "all_pairs"},
    ),
    "lift over accuracy, negative": ("lift_independent", {"sign": "negative"}),
    "lift over accuracy, negative, mean over pairs": (
        "mean_lift_independent",
        {"sign": "negative", "scope": "all_pairs"},
    ),
    "lift over difficulty, positive": ("lift_difficulty", {"sign": "positive"}),
    "lift over difficulty, positive, mean to the pivot": (
        "mean_lift_difficulty",
        {"sign": "positive", "scope": "to_pivot"},
    ),
    "lift over popular wrong choices": ("lift_popularity", {"sign": "negative"}),
}
CROSSED: dict[str, tuple[str, dict[str, str]]] = {
    "consistency": ("mean_consistency", {"scope": "all_pairs"}),
    "transfer": ("mean_transfer", {"sign": "positive", "scope": "all_pairs"}),
    "lift over accuracy": ("mean_lift_independent", {"sign": "positive", "scope": "all_pairs"}),
}
LENS: dict[str, tuple[str, dict[str, str]]] = {
    "latent accuracy": ("latent_accuracy", {}),
    "latent accuracy, pivot less prompt": (
        "latent_accuracy_contrast",
        {"contrast": "pivot_prompt"},
    ),
    "the same, mean over languages": (
        "mean_latent_accuracy_contrast",
        {"contrast": "pivot_prompt"},
    ),
    "latent consistency": ("latent_consistency", {}),
    "log-odds of the pivot": ("pivot_log_odds", {}),
    "settling layer": ("settling_layer", {}),
}
WORDINGS: dict[str, tuple[str, dict[str, str]]] = {
    "consistency of a language with itself": ("self_consistency", {}),
    "consistency corrected for it": ("consistency_corrected", {}),
    "the same, mean over pairs": ("mean_consistency_corrected", {"scope": "all_pairs"}),
    "share of noise, mean over pairs": ("mean_noise_share", {"scope": "all_pairs"}),
    "shares of variance of ranks": ("rank_share", {"scope": "all_pairs"}),
    "shares of variance of margins": ("share", {"outcome": "margin"}),
    "gain of accuracy by averaging wordings": ("accuracy_gain", {}),
    "gain of consistency by averaging wordings": ("consistency_gain", {}),
}
SIMILARITY: dict[str, tuple[str, dict[str, str]]] = {
    "dissociation": ("dissociation", {}),
    "dissociation of a language from the pivot": ("dissociation_by_language", {}),
    "dissociation, pivot pairs": ("dissociation_pivot", {}),
    "debiased CKA, mean over pairs": ("cka_middle_mean", {}),
    "translations retrieved, mean over pairs": ("retrieval_mean", {}),
}
SIMILARITY_CROSSED: dict[str, tuple[str, dict[str, str]]] = {
    "dissociation": ("dissociation", {}),
    "debiased CKA": ("cka_middle_mean", {}),
}
WORDINGS_STATES: dict[str, tuple[str, dict[str, str]]] = {
    "item share within a language, between wordings": ("item_share_self_middle", {}),
    "item share between languages, different wordings": ("item_share_across_middle", {}),
    "item share corrected": ("item_share_corrected_middle", {}),
    "share of noise in dissociation": ("dissociation_noise_share", {}),
    "debiased CKA within a language, between wordings": ("cka_self_middle", {}),
    "debiased CKA between languages, different wordings": ("cka_across_middle", {}),
    "debiased CKA corrected": ("cka_corrected_middle", {}),
}
GROUP = {"group": "category: a"}
BREAKDOWN: dict[str, tuple[str, dict[str, str]]] = {
    f"{text}{', less that of all' if end else ''}": (f"{name}{end}", GROUP)
    for name, text in (
        ("accuracy", "accuracy in a category"),
        ("consistency", "consistency in a category"),
        ("transfer", "transfer in a category"),
        ("transfer_lift", "lift over accuracy in a category"),
        ("item_share", "item share in a category"),
    )
    for end in ("", "_difference")
}
PIVOTS: dict[str, tuple[str, dict[str, str]]] = {
    f"{text} a pivot, less the mean of pivots": (f"{name}_difference", {})
    for name, text in (
        ("consistency", "consistency with"),
        ("transfer_lift", "lift from"),
        ("transfer_to_lift", "lift to"),
        ("item_share", "item share with"),
    )
}


@dataclass(frozen=True)
class Setting:
    """Items of a world and how they cluster."""

    n_items: int
    how: str

    @property
    def clusters(self) -> np.ndarray:
        return clusters_of(self.n_items, self.how)


@dataclass
class Tally:
    """Estimates with intervals and p values, world by world, of one setting.

    Attributes:
        bounds: (3, entry) estimate, low and high of each world, by quantity.
        p: of each world, by test.
        nothing: quantities that are 0 in truth.
    """

    bounds: dict[str, list[np.ndarray]] = field(default_factory=dict)
    p: dict[str, list[np.ndarray]] = field(default_factory=dict)
    nothing: set[str] = field(default_factory=set)

    def add_interval(self, name: str, *ends: np.ndarray) -> None:
        """Estimate, lower and upper bound of one world, of one shape."""
        values = np.stack([np.asarray(end, dtype=float).ravel() for end in ends])
        self.bounds.setdefault(name, []).append(values)

    def add_variables(
        self, result: xr.Dataset, names: Mapping[str, tuple[str, dict[str, str]]], crossed: str = ""
    ) -> None:
        """Intervals of a dataset's variables; `crossed` is what stands before `_low`."""
        for name, (variable, selection) in names.items():
            ends = (variable, f"{variable}{crossed}_low", f"{variable}{crossed}_high")
            self.add_interval(name, *(result[end].sel(selection).values for end in ends))

    def add_p(self, name: str, p: np.ndarray | float) -> None:
        self.p.setdefault(name, []).append(np.ravel(p))

    def coverage(self, truth: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Share of intervals that hold the truth, mean over entries; without one: the grand mean.

        The grand mean is the truth of what is a mean itself, and so estimated without bias.
        """
        rows = {}
        for name, worlds in self.bounds.items():
            estimate, low, high = np.stack(worlds, axis=1)  # (world, entry)
            right = np.zeros(1) if name in self.nothing else truth.get(name)
            right = finite_means(estimate) if right is None else np.ravel(right)
            known = np.isfinite(low) & (high - low > 1e-12)  # not a constant, as on a diagonal
            used = known.any(axis=0)
            holds = (low <= right + 1e-12) & (right - 1e-12 <= high) & known
            rows[name] = float(holds[:, used].sum() / known[:, used].sum())
        return rows

    def rejections(self) -> dict[str, list[float]]:
        """Share of tests with p at most each of `ALPHAS`, where the null is true."""
        rows = {}
        for name, worlds in self.p.items():
            p = np.concatenate(worlds)
            p = p[np.isfinite(p)]
            rows[name] = [float((p <= alpha).mean()) for alpha in ALPHAS]
        return rows


def finite_means(values: np.ndarray) -> np.ndarray:
    """Means over the first axis, NaN left out; NaN where nothing is left."""
    present = np.isfinite(values)
    return divide(np.where(present, values, 0.0).sum(axis=0), present.sum(axis=0))


Experiment = Callable[[np.random.Generator, Setting, int, Tally], None]


def behaviour_worlds(
    rng: np.random.Generator, setting: Setting, n_worlds: int, tally: Tally
) -> None:
    """Five languages, four choices."""
    for _ in range(n_worlds):
        tally.add_variables(behaviour(Answers().scores(rng, setting.clusters)), BEHAVIOUR)


def behaviour_truth(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The same of very many items."""
    result = behaviour(Answers().scores(rng, np.arange(100_000)).assign(cluster=halves(100_000)))
    return {name: result[v].sel(selection).values for name, (v, selection) in BEHAVIOUR.items()}


def halves(n_items: int) -> xr.DataArray:
    """Two clusters, where no interval is read: the fewest that may be."""
    return xr.DataArray(np.arange(n_items) % 2, dims="item")


def languages_worlds(n_languages: int) -> Experiment:
    """Languages drawn at random, as many in each world: intervals over items and languages."""

    def run(rng: np.random.Generator, setting: Setting, n_worlds: int, tally: Tally) -> None:
        names = {
            f"{name}, for languages like these ({n_languages})": v for name, v in CROSSED.items()
        }
        for _ in range(n_worlds):
            scores = Answers.of_languages(rng, n_languages).scores(rng, setting.clusters)
            tally.add_variables(behaviour(scores), names, "_crossed")

    return run


def languages_truth(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Means over many languages: each variable by its name without their number."""
    truths = []
    for _ in range(12):
        scores = Answers.of_languages(rng, 40).scores(rng, np.arange(3000))
        truths.append(behaviour(scores.assign(cluster=halves(3000))))
    return {
        name: np.mean([f[v].sel(selection).values for f in truths])
        for name, (v, selection) in CROSSED.items()
    }


def lens_worlds(rng: np.random.Generator, setting: Setting, n_worlds: int, tally: Tally) -> None:
    """Three prompt languages beside the pivot."""
    for _ in range(n_worlds):
        files = {f"l{i}": Lens().file(rng, f"l{i}", setting.clusters) for i in range(4)}
        tally.add_variables(trajectories(files), LENS)


def steering_worlds(
    rng: np.random.Generator, setting: Setting, n_worlds: int, tally: Tally
) -> None:
    """Items flipped by steering in four languages, as often to right as to wrong.

    With one setting, and with the best of six, chosen for each fold on the other folds.
    """
    clusters, four = setting.clusters, range(4)
    fold = folds(clusters, 5)

    def searched(flips: Flips) -> Search:
        change, margin = np.stack([flips.draw(rng, clusters) for _ in four], axis=2)
        return Search(change, margin, fold, chosen_settings(change, margin, fold))

    def add(claim: Claim, name: str) -> None:
        interval = claim.interval
        tally.add_interval(name, interval.estimate, interval.low, interval.high)
        tally.nothing.add(name)
        tally.add_p(name, claim.p)

    for world in range(n_worlds):
        test, swap = (
            partial(claims, clusters=clusters, n_perm=299, seed=world)
            for claims in (flip_claims, swap_claims)
        )
        for rate, n_settings in ((0.06, 1), (0.10, 1), (0.14, 1), (0.10, 6)):
            search = searched(Flips(rate, (0.0,) * n_settings))
            name = f"{rate:.0%} flipped" + (", setting searched" if n_settings > 1 else "")
            for claim, of in zip(test(search.change, search), EACH_AND_MEAN, strict=True):
                add(claim, f"net effect, {of}, {name}")
        # Of the items that the pivot has right alone, as in transfer from it; of a category.
        known = np.where(rng.random(len(clusters)) < 0.6, 0.0, np.nan)[:, None, None]
        mean = test(search.change + known, search)[1]
        add(mean, "change of transfer, mean over languages, setting searched")
        here = np.where(rng.random(clusters.max() + 1) < 0.3, 0.0, np.nan)[clusters, None, None]
        mean = test(search.change + here, search)[1]
        add(mean, "net effect in a category, mean over languages, setting searched")
        rival = searched(Flips(0.10, (0.0,) * 6))
        for claim, of in zip(swap(search, rival), EACH_AND_MEAN, strict=True):
            add(claim, f"effect less that of a control, {of}, both searched")
        draws = rng.normal(size=(40, 20))
        tally.add_p("rank among random directions", rank_p(draws[0], draws[1:]))


EACH_AND_MEAN = ("one language", "mean over languages")


def chosen_settings(change: np.ndarray, margin: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """(language, fold) the setting with most right answers on the other folds, then margin.

    Args: change, margin (item, language, setting), fold (item,).
    """
    chosen = []
    for k in range(fold.max() + 1):
        right, by_margin = (x[fold != k].mean(axis=0) for x in (change, margin))
        chosen.append(np.lexsort((by_margin, right.round(9)), axis=-1)[:, -1])
    return np.stack(chosen, axis=1)


def similarity_worlds(
    rng: np.random.Generator, setting: Setting, n_worlds: int, tally: Tally
) -> None:
    """States of five languages in 48 dimensions, of whose variance 60% is shared, or nothing.

    Of maps over pairs the smallest p counts: they are adjusted for all their entries.
    """
    clusters = setting.clusters
    for _ in range(n_worlds):
        for shared in (0.6, 0.0):
            layer = clustered_states(rng, clusters, 5, (1.0,) * 48, shared, within=0.3)
            of_null = {} if shared else {"permutations": 199, "map_permutations": 99}
            none = {"permutations": 1, "map_permutations": 1}
            result = similarity(middle_layer(layer, clusters), "en", **(of_null or none))
            if shared:
                tally.add_variables(result, SIMILARITY)
            else:
                tally.add_p("dissociation", float(result["dissociation_p"]))
                for name in ("item_share", "cka"):
                    least = np.nanmin(result[f"{name}_pair_p"].values)
                    tally.add_p(f"any pair of languages: {name.replace('_', ' ')}", least)


def middle_layer(layer: np.ndarray, clusters: np.ndarray) -> ParallelStates:
    """States (language, item, feature) of a model whose only layer lies in the middle of depth."""
    return replace(parallel_states([layer], clusters), depths=np.array([0.5]))


def peculiar_languages_worlds(
    rng: np.random.Generator, setting: Setting, n_worlds: int, tally: Tally
) -> None:
    """States of languages that share more or less with the others: 30% to 90% of the variance."""
    clusters = setting.clusters
    for _ in range(n_worlds):
        shared = rng.uniform(0.3, 0.9, (5, 1, 1))
        common = clustered_states(rng, clusters, 1, (1.0,) * 48, within=0.3)
        apart = clustered_states(rng, clusters, 5, (1.0,) * 48, within=0.3)
        layer = np.sqrt(shared) * common + np.sqrt(1 - shared) * apart
        result = similarity(middle_layer(layer, clusters), "en", 1, 1)
        names = {
            f"{name}, for languages like these (5)": v for name, v in SIMILARITY_CROSSED.items()
        }
        tally.add_variables(result, names, "_crossed")


def subspace_worlds(
    rng: np.random.Generator, setting: Setting, n_worlds: int, tally: Tally
) -> None:
    """States of three languages in 12 dimensions that share nothing and do not lie apart."""
    clusters = setting.clusters
    for world in range(n_worlds):
        layers = [clustered_states(rng, clusters, 3, (1.0,) * 12, within=0.3)]
        states = parallel_states(layers, clusters)
        with config_context(skip_parameter_validation=True):
            result = subspaces(states, folds(clusters, 2), permutations=99, seed=world)
        for name, test in (
            ("offset_p", "languages lie apart"),
            ("separability_p", "languages can be told"),
            ("shared_correlation_p", "directions are shared"),
        ):
            tally.add_p(test, result[name].values[:1])


SIZES = np.array([1e8, 5e8, 3e9])


def slope_worlds(rng: np.random.Generator, setting: Setting, n_worlds: int, tally: Tally) -> None:
    """Three sizes on the same items: alike, or abler by 0.5 a decade.

    The effects of steering come with intervals of their own.
    """
    decades = np.log10(SIZES)
    for _ in range(n_worlds):
        for gain in (0.0, 0.5):
            models = abler_models(rng, setting.clusters, gain * (decades - decades.mean()))
            compared = [compared_means(scores) for scores in models]
            for measure in compared[0]:
                parts = zip(*(means[measure] for means in compared), strict=True)
                slope = slope_per_decade(SIZES, *map(np.array, parts))
                name = f"slope of {measure}"
                if gain:
                    tally.add_interval(name, slope.value, slope.low, slope.high)
                else:
                    tally.add_p(name, slope.p)
        error = rng.uniform(0.02, 0.06, 3)
        values = error * rng.normal(size=3)
        slope = slope_of_estimates(SIZES, values, values - 1.96 * error, values + 1.96 * error)
        tally.add_interval("slope of effects of steering", slope.value, slope.low, slope.high)
        tally.nothing.add("slope of effects of steering")
        tally.add_p("slope of effects of steering", slope.p)


def compared_means(scores: xr.Dataset) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What models are compared on: the mean, without each cluster, without each language.

    As `behaviour` stores it, without the nine tenths of its time that go into everything else.
    """
    jackknife, values = Jackknife.of(scores["cluster"].values), choice_scores(scores, "token")
    right = (predictions(values) == scores["answer"].values).astype(float).T
    accuracy = jackknife.means(right)
    rho = item_consistency(ranks(values, scores["n_choices"].values))
    transfer = transfer_rows(right[:, :, None], right[:, None], jackknife)
    every = ~np.eye(right.shape[1], dtype=bool)
    made = {}
    for name, rows in (
        ("consistency", jackknife.means(rho)),
        ("lift over accuracy", lift_rows(transfer, accuracy[:, None])),
    ):
        means = pair_means(rows, every[None])[:, 0]
        made[name] = means[0], means[1:], without_language(rows[0], every)
    means, n = accuracy.mean(axis=1), right.shape[1]
    without = (accuracy[0].sum() - accuracy[0]) / (n - 1)
    return {"accuracy": (means[0], means[1:], without), **made}


def abler_models(
    rng: np.random.Generator, clusters: np.ndarray, gains: np.ndarray
) -> list[xr.Dataset]:
    """Scores of models that find the same items hard, more able by `gains`."""
    seed = int(rng.integers(2**31))
    made = []
    for gain in gains:
        shared = Answers().scores(np.random.default_rng(seed), clusters)
        gold = np.arange(shared.sizes["choice"]) == shared["answer"].values[:, None]
        noise = 0.7 * rng.normal(size=shared["sum"].shape)
        made.append(shared.assign(sum=shared["sum"] + gain * gold + noise))
    return made


def qap_worlds(rng: np.random.Generator, setting: Setting, n_worlds: int, tally: Tally) -> None:
    """Matrices over ten languages, items play no part.

    Unrelated ones; ones that a competence of languages drives, unrelated but for it; related ones.
    """
    for world in range(n_worlds):
        noise = rng.normal(size=(2, 10, 10))
        x, y = noise + noise.transpose(0, 2, 1)
        p = qap_test(x, y, n_perm=999, seed=world).p
        tally.add_p("association over pairs of languages", p)
        competence = 3 * rng.normal(size=10)
        driven = competence[:, None] + competence
        left = (without_language_effects(m + driven) for m in (x, y))
        p = qap_test(*left, n_perm=999, seed=world).p
        tally.add_p("association after language effects, competence drives both", p)
        left = (without_language_effects(m + driven) for m in (x, 0.6 * x + 0.8 * y))
        correlation = qap_test(*left, n_perm=999, seed=world)
        name = "association after language effects (true 0.6)"
        tally.add_interval(name, correlation.value, correlation.low, correlation.high)
        a, b = rng.normal(size=(2, 10))
        p = rank_correlation(a, b, 999, world).p
        tally.add_p("rank correlation over languages", p)
        correlation = rank_correlation(a, 0.6 * a + 0.8 * b, 999, world)
        name = "rank correlation over languages (normal, r 0.6)"
        tally.add_interval(name, correlation.value, correlation.low, correlation.high)


NOISY = Wordings(noise=(0.5, 1.0, 2.0, 1.0, 1.5))


def wordings_worlds(
    rng: np.random.Generator, setting: Setting, n_worlds: int, tally: Tally
) -> None:
    """Five languages in three wordings, noisy each to its own degree."""
    for _ in range(n_worlds):
        scores = NOISY.scores(rng, setting.clusters)
        tally.add_variables(variants(scores, ["main", "plain", "labelled"]), WORDINGS)


def wordings_truth(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The same of very many items."""
    scores = [s.assign(cluster=halves(30_000)) for s in NOISY.scores(rng, np.arange(30_000))]
    result = variants(scores, ["main", "plain", "labelled"])
    return {name: result[v].sel(selection).values for name, (v, selection) in WORDINGS.items()}


def wordings_states_worlds(
    rng: np.random.Generator, setting: Setting, n_worlds: int, tally: Tally
) -> None:
    """States of four languages in three wordings: of their variance languages share 40%,
    wordings 70% within a language."""
    clusters, scales = setting.clusters, (1.0,) * 32

    def part(share: float, n_languages: int) -> np.ndarray:
        return np.sqrt(share) * clustered_states(rng, clusters, n_languages, scales, within=0.3)

    for _ in range(n_worlds):
        stable = part(0.4, 1) + part(0.3, 4)
        wordings = [middle_layer(stable + part(0.3, 4), clusters) for _ in range(3)]
        tally.add_variables(variant_similarity(wordings), WORDINGS_STATES)


LANGUAGES = ("en", "it", "sw", "th", "de")


def grouped_world(
    rng: np.random.Generator, clusters: np.ndarray
) -> tuple[xr.Dataset, ParallelStates, list[Group]]:
    """Answers and states of five languages, clusters in categories that differ in nothing."""
    names = {"language": list(LANGUAGES)}
    scores = Answers().scores(rng, clusters).assign_coords(names).assign_attrs(pivot="en")
    states = clustered_states(rng, clusters, 5, (1.0,) * 16, 0.6, within=0.3)
    category = rng.permutation(np.arange(clusters.max() + 1) % 2)[clusters]
    groups = groups_of(["ab"[c] for c in category], LANGUAGES[1:])
    by_items = [group for group in groups if group.grouping in ("all", "category")]
    return scores, middle_layer(states, clusters), by_items


def groups_worlds(rng: np.random.Generator, setting: Setting, n_worlds: int, tally: Tally) -> None:
    """Two categories that differ in nothing; every language as pivot."""
    for _ in range(n_worlds):
        scores, states, groups = grouped_world(rng, setting.clusters)
        tally.add_variables(breakdown(scores, states, groups), BREAKDOWN)
        tally.add_variables(pivots(scores, states, LANGUAGES), PIVOTS)


def groups_truth(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Of very many items; groups are no other than all."""
    n_items = 30_000
    scores, states, groups = grouped_world(rng, np.arange(n_items))
    scores = scores.assign(cluster=halves(n_items))
    whole = breakdown(scores, states, groups[:1]).isel(group=0)
    truth = {
        name: np.zeros(1) if variable.endswith("_difference") else whole[variable].values
        for name, (variable, _) in BREAKDOWN.items()
    }
    of_pivots = pivots(scores, states, LANGUAGES)
    truth |= {name: of_pivots[variable].values for name, (variable, _) in PIVOTS.items()}
    return truth | {"item share in a category": np.array(0.6)}


EXPERIMENTS: dict[str, Experiment] = {
    "Behaviour": behaviour_worlds,
    "Over items and languages": languages_worlds(5),
    "Over items and languages (10)": languages_worlds(10),
    "Lens": lens_worlds,
    "Similarity": similarity_worlds,
    "Similarity over languages": peculiar_languages_worlds,
    "Subspaces": subspace_worlds,
    "Slopes": slope_worlds,
    "Steering": steering_worlds,
    "Language pairs": qap_worlds,
    "Wordings": wordings_worlds,
    "Wordings' states": wordings_states_worlds,
    "Groups and pivots": groups_worlds,
}


# Truths in closed form; E sqrt(s) of a share s uniform on 0.3 to 0.9.
_ROOT = (0.9**1.5 - 0.3**1.5) / 1.5 / 0.6
KNOWN = {
    "dissociation": np.array(0.4),
    "dissociation, pivot pairs": np.array(0.4),
    "item share within a language, between wordings": np.array(0.7),
    "item share between languages, different wordings": np.array(0.4),
    "item share corrected": np.array(0.4 / 0.7),
    "share of noise in dissociation": np.array(0.5),
    "debiased CKA within a language, between wordings": np.array(0.7**2),
    "debiased CKA between languages, different wordings": np.array(0.4**2),
    "debiased CKA corrected": np.array((0.4 / 0.7) ** 2),
    "debiased CKA, mean over pairs": np.array(0.6**2),
    "dissociation, for languages like these (5)": np.array(1 - _ROOT**2),
    "association after language effects (true 0.6)": np.array(0.6),
    "rank correlation over languages (normal, r 0.6)": np.array(6 / np.pi * np.arcsin(0.3)),
}


@dataclass(frozen=True)
class Result:
    """Coverage and rejections of one experiment in one setting, and in how many worlds."""

    experiment: str
    setting: Setting
    n_worlds: int
    coverage: dict[str, float]
    rejections: dict[str, list[float]]


# Many scalars that are checked one by one: more worlds. Where worlds take long: fewer.
SHARES = {"Behaviour": 2, "Similarity": 0.6, "Subspaces": 0.3}
# Items play no part: one column is enough.
WITHOUT_ITEMS = ("Language pairs",)


Task = tuple[str, Setting, int]


def tasks(settings: Sequence[Setting], n_worlds: int, names: Sequence[str] = ()) -> list[Task]:
    """Every experiment (or those named) in every setting, with its number of worlds.

    Args: n_worlds per setting; of some experiments `SHARES` times as many.
    """
    return [
        (name, setting, max(2, round(n_worlds * SHARES.get(name, 1))))
        for name in EXPERIMENTS
        if not names or name in names
        for setting in (settings[:1] if name in WITHOUT_ITEMS else settings)
    ]


def drawn(
    asked: Sequence[Task],
    seed: int,
    exact: bool = True,
    mapped: Callable[..., Iterable["Result"]] = map,
    known: Sequence["Result"] = (),
) -> Iterator[Result]:
    """Results of tasks; the worlds of one do not depend on what else is drawn.

    Args:
        asked: see `tasks`.
        exact: take the truth from very many items or languages, else from the worlds' mean.
        mapped: `map`, or a pool's.
        known: results of the same seed that are there already; those asked for come first, and are
            not drawn again.
    """
    there = {(result.experiment, result.setting, result.n_worlds): result for result in known}
    yield from (there[task] for task in asked if task in there)
    left = [task for task in asked if task not in there]
    truths = _truths({name for name, _, _ in left}, seed) if exact else dict(KNOWN)
    yield from mapped(in_setting, [(*task, seed, truths) for task in left])


def _truths(wanted: Set[str], seed: int) -> dict[str, np.ndarray]:
    """What quantities of these experiments really are: in closed form, or of very many items."""
    truths = dict(KNOWN)
    if "Behaviour" in wanted:
        truths |= behaviour_truth(np.random.default_rng([seed, 0]))
    if "Wordings" in wanted:
        truths |= wordings_truth(np.random.default_rng([seed, 1000]))
    if "Groups and pivots" in wanted:
        truths |= groups_truth(np.random.default_rng([seed, 1001]))
    if any(name.startswith("Over items and languages") for name in wanted):
        over_languages = languages_truth(np.random.default_rng([seed, 1]))
        for n in (5, 10):
            truths |= {
                f"{name}, for languages like these ({n})": v for name, v in over_languages.items()
            }
    return truths


def in_setting(task: tuple[str, Setting, int, int, Mapping[str, np.ndarray]]) -> Result:
    """One experiment in one setting."""
    name, setting, n_worlds, seed, truths = task
    tally = Tally()
    how = ("none", "everyday", "threes").index(setting.how)
    stream = [seed, 2 + list(EXPERIMENTS).index(name), setting.n_items, how]
    with np.errstate(divide="ignore", invalid="ignore"):
        EXPERIMENTS[name](np.random.default_rng(stream), setting, n_worlds, tally)
    return Result(name, setting, n_worlds, tally.coverage(truths), tally.rejections())
