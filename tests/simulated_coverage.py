"""How often intervals hold the truth and tests reject it, in simulated worlds of known truth."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from simulated_states import clustered_states, parallel_states
from simulated_worlds import Answers, Flips, Lens, Wordings, clusters_of

from isogloss.measures.associations import without_language_effects
from isogloss.measures.behaviour import behaviour
from isogloss.measures.covariates import rank_correlation
from isogloss.measures.similarity import similarity
from isogloss.measures.slopes import slope_of_estimates, slope_per_decade
from isogloss.measures.statistics import divide, qap_test
from isogloss.measures.subspaces import subspaces
from isogloss.measures.trajectories import trajectories
from isogloss.measures.variants import variants
from isogloss.questions.items import folds
from isogloss.steering.effects import rank_p
from isogloss.steering.inference import Search, flip_claims

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
}
SIMILARITY_CROSSED: dict[str, tuple[str, dict[str, str]]] = {
    "dissociation": ("dissociation", {}),
    "debiased CKA": ("cka_middle_mean", {}),
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
    """Estimates with intervals and p values, world by world, of one setting."""

    bounds: dict[str, list[np.ndarray]] = field(default_factory=dict)
    p: dict[str, list[np.ndarray]] = field(default_factory=dict)

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
            right = truth.get(name)
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
    clusters = setting.clusters
    fold = folds(clusters, 5)
    for world in range(n_worlds):
        for rate, n_settings in ((0.06, 1), (0.10, 1), (0.14, 1), (0.10, 6)):
            flips = Flips(rate, (0.0,) * n_settings)
            change, margin = np.stack([flips.draw(rng, clusters) for _ in range(4)], axis=2)
            search = Search(change, margin, fold, chosen_settings(change, margin, fold))
            claims = flip_claims(change, search, clusters, n_perm=299, seed=world)
            name = f"{rate:.0%} flipped" + (", setting searched" if n_settings > 1 else "")
            for claim, of in zip(claims, ("one language", "mean over languages"), strict=True):
                interval = claim.interval
                ends = (interval.estimate, interval.low, interval.high)
                tally.add_interval(f"net effect, {of}, {name}", *ends)
                tally.add_p(f"net effect, {of}, {name}", claim.p)
        # Of the items that the pivot has right alone, as in transfer from it.
        known = np.where(rng.random(len(clusters)) < 0.6, 0.0, np.nan)[:, None, None]
        claim = flip_claims(change + known, search, clusters, n_perm=299, seed=world)[1]
        ends = (claim.interval.estimate, claim.interval.low, claim.interval.high)
        tally.add_interval("change of transfer, mean over languages, setting searched", *ends)
        tally.add_p("change of transfer, mean over languages, setting searched", claim.p)
        draws = rng.normal(size=40)
        tally.add_p("rank among random directions", rank_p(draws[0], draws[1:]))


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

    Of maps over layers and pairs the smallest p counts: they are adjusted for all their entries.
    """
    clusters = setting.clusters
    for _ in range(n_worlds):
        for shared in (0.6, 0.0):
            layers = [clustered_states(rng, clusters, 5, (1.0,) * 48, shared, within=0.3)] * 3
            result = similarity(parallel_states(layers, clusters), "en", 199, 1)
            if shared:
                tally.add_variables(result, SIMILARITY)
            else:
                tally.add_p("dissociation", float(result["dissociation_p"]))
                for name in ("item_share", "cka"):
                    least = np.nanmin(result[f"{name}_pair_p"].values)
                    tally.add_p(f"any pair at any layer: {name.replace('_', ' ')}", least)


def peculiar_languages_worlds(
    rng: np.random.Generator, setting: Setting, n_worlds: int, tally: Tally
) -> None:
    """States of languages that share more or less with the others: 30% to 90% of the variance."""
    clusters = setting.clusters
    for _ in range(n_worlds):
        shared = rng.uniform(0.3, 0.9, (5, 1, 1))
        common = clustered_states(rng, clusters, 1, (1.0,) * 48, within=0.3)
        apart = clustered_states(rng, clusters, 5, (1.0,) * 48, within=0.3)
        layers = [np.sqrt(shared) * common + np.sqrt(1 - shared) * apart]
        result = similarity(parallel_states(layers * 3, clusters), "en", 1, 1)
        names = {
            f"{name}, for languages like these (5)": v for name, v in SIMILARITY_CROSSED.items()
        }
        tally.add_variables(result, names, "_crossed")


def subspace_worlds(
    rng: np.random.Generator, setting: Setting, n_worlds: int, tally: Tally
) -> None:
    """States of four languages in 24 dimensions that share nothing and do not lie apart."""
    clusters = setting.clusters
    for world in range(n_worlds):
        layers = [clustered_states(rng, clusters, 4, (1.0,) * 24, within=0.3)]
        states = parallel_states(layers, clusters)
        result = subspaces(states, folds(clusters, 5), permutations=99, seed=world)
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
            for measure, selection in SLOPES.items():
                values, by_cluster, by_language = (
                    np.array([m[f"{measure}{end}"].sel(selection).values for m in models])
                    for end in ("", "_without_cluster", "_without_language")
                )
                slope = slope_per_decade(SIZES, values, by_cluster, by_language)
                name = f"slope of {measure.removeprefix('mean_').replace('_', ' ')}"
                if gain:
                    tally.add_interval(name, slope.value, slope.low, slope.high)
                else:
                    tally.add_p(name, slope.p)
        error = rng.uniform(0.02, 0.06, 3)
        values = error * rng.normal(size=3)
        slope = slope_of_estimates(SIZES, values, values - 1.96 * error, values + 1.96 * error)
        tally.add_interval("slope of effects of steering", slope.value, slope.low, slope.high)
        tally.add_p("slope of effects of steering", slope.p)


SLOPES = {
    "mean_accuracy": {},
    "mean_consistency": {"scope": "all_pairs"},
    "mean_lift_independent": {"scope": "all_pairs", "sign": "positive"},
}


def abler_models(
    rng: np.random.Generator, clusters: np.ndarray, gains: np.ndarray
) -> list[xr.Dataset]:
    """`behaviour` of models that find the same items hard, more able by `gains`."""
    seed = int(rng.integers(2**31))
    made = []
    for gain in gains:
        shared = Answers().scores(np.random.default_rng(seed), clusters)
        gold = np.arange(shared.sizes["choice"]) == shared["answer"].values[:, None]
        noise = 0.7 * rng.normal(size=shared["sum"].shape)
        made.append(behaviour(shared.assign(sum=shared["sum"] + gain * gold + noise)))
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
}


# Truths in closed form; E sqrt(s) of a share s uniform on 0.3 to 0.9.
_ROOT = (0.9**1.5 - 0.3**1.5) / 1.5 / 0.6
KNOWN = {
    "dissociation": np.array(0.4),
    "dissociation, pivot pairs": np.array(0.4),
    "dissociation, for languages like these (5)": np.array(1 - _ROOT**2),
    "slope of effects of steering": np.array(0.0),
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


# Where worlds take long: the share of them that is drawn, and the most items.
SHARES = {
    "Similarity": 0.2,
    "Similarity over languages": 0.2,
    "Subspaces": 0.4,
    "Slopes": 0.4,
}
MOST_ITEMS = {"Subspaces": 60}
# Items play no part: one column is enough.
WITHOUT_ITEMS = ("Language pairs",)


def run(
    settings: Sequence[Setting],
    n_worlds: int,
    seed: int,
    names: Sequence[str] = (),
    exact: bool = True,
    mapped: Callable[..., Iterable["Result"]] = map,
) -> Iterator[Result]:
    """Every experiment (or those named) in every setting; seeds do not depend on what else runs.

    Args:
        n_worlds: per setting; of costly experiments `SHARES` of them.
        exact: take the truth from very many items or languages, else from the worlds' mean.
        mapped: `map`, or a pool's.
    """
    wanted = [name for name in EXPERIMENTS if not names or name in names]
    truths = dict(KNOWN)
    if exact and "Behaviour" in wanted:
        truths |= behaviour_truth(np.random.default_rng([seed, 0]))
    if exact and "Wordings" in wanted:
        truths |= wordings_truth(np.random.default_rng([seed, 1000]))
    if exact and any(name.startswith("Over items and languages") for name in wanted):
        over_languages = languages_truth(np.random.default_rng([seed, 1]))
        for n in (5, 10):
            truths |= {
                f"{name}, for languages like these ({n})": v for name, v in over_languages.items()
            }
    tasks = [
        (name, setting, max(2, round(n_worlds * SHARES.get(name, 1))), seed, truths)
        for name in wanted
        for setting in (settings[:1] if name in WITHOUT_ITEMS else settings)
        if setting.n_items <= MOST_ITEMS.get(name, np.inf)
    ]
    yield from mapped(in_setting, tasks)


def in_setting(task: tuple[str, Setting, int, int, Mapping[str, np.ndarray]]) -> Result:
    """One experiment in one setting."""
    name, setting, n_worlds, seed, truths = task
    tally = Tally()
    how = ("none", "everyday", "threes").index(setting.how)
    stream = [seed, 2 + list(EXPERIMENTS).index(name), setting.n_items, how]
    with np.errstate(divide="ignore", invalid="ignore"):
        EXPERIMENTS[name](np.random.default_rng(stream), setting, n_worlds, tally)
    return Result(name, setting, n_worlds, tally.coverage(truths), tally.rejections())
