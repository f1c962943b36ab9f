"""Calibration: what every measure makes of models whose languages share a known part.

One number a model and measure, against planted sharing. A measure tracks sharing where their rank
correlation over all models is at least `TRACKS` in the expected direction; else it fails.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from scipy.special import stdtrit

from isogloss.errors import InputError
from isogloss.measures.dissociation import is_middle

TRACKS = 0.9
"""Rank correlation with planted sharing from which on a measure is said to track it."""


@dataclass(frozen=True)
class PlantedModel:
    """Results of a model whose sharing is known.

    Attributes:
        slug: its name.
        sharing: planted.
        seed: of its training.
        results: datasets by name: `similarity`, `behaviour`, `subspaces`, and `trajectories` and
            `steering` where the study has them.
        seen: (language, item) bool, what it was trained on.
        custom: measures of the study, by name.
    """

    slug: str
    sharing: float
    seed: int
    results: Mapping[str, xr.Dataset]
    seen: np.ndarray
    custom: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Yardstick:
    """A measure as one number.

    Attributes:
        result: the dataset that holds it.
        long_name: what it is.
        group: what it reads.
        sign: 1 where it should rise with sharing, -1 where it should fall.
        of: the number.
    """

    result: str
    long_name: str
    group: str
    sign: int
    of: Callable[[xr.Dataset], float]


def _middle(name: str, **chosen: str | int) -> Callable[[xr.Dataset], float]:
    """Mean of a variable over the middle half of depth, and over whatever else it has.

    Of pairs over those of two languages: with itself a language has all in common.
    """

    def mean(result: xr.Dataset) -> float:
        values = result[name].sel(chosen)
        if "language_2" in values.dims:
            values = values.where(values["language"] != values["language_2"])
        return float(values.isel(layer=is_middle(result["relative_depth"].values)).mean())

    return mean


def _at(name: str, **chosen: str) -> Callable[[xr.Dataset], float]:
    """One value of a variable."""
    return lambda result: float(result[name].sel(chosen))


def _pivot(name: str) -> Callable[[xr.Dataset], float]:
    """The same mean over the prompts' languages, without the pivot's own prompts."""
    middle = _middle(name)

    def mean(result: xr.Dataset) -> float:
        return middle(result.drop_sel(language=result.attrs["pivot"]))

    return mean


PLACE, SHAPE = "same place", "same shape"
PAIRS = {"scope": "all_pairs"}
YARDSTICKS = {
    name: Yardstick(result, *about)
    for result, measures in {
        "similarity": {
            "dissociation": ("dissociation", PLACE, -1, _at("dissociation")),
            "retrieval": ("retrieval", PLACE, 1, _middle("retrieval_mean")),
            "retrieval_csls": ("retrieval without hubs", PLACE, 1, _middle("retrieval_csls")),
            "cosine_centred": ("centred cosine", PLACE, 1, _middle("cosine_centred_normalised")),
            "cosine_raw": ("raw cosine", PLACE, 1, _middle("cosine_raw")),
            "cka": ("debiased CKA", SHAPE, 1, _at("cka_middle_mean")),
        },
        "subspaces": {
            "overlap": ("subspace overlap", SHAPE, 1, _middle("overlap_normalised")),
            "shared_correlation": (
                "held-out shared correlation", SHAPE, 1, _middle("shared_correlation")
            ),
            "item_variance": (
                "variance share of items", PLACE, 1, _middle("variance_share", source="item")
            ),
            "separability": ("language separability", PLACE, -1, _middle("separability_margin")),
        },
        "behaviour": {
            "consistency": ("consistency", "behaviour", 1, _at("mean_consistency", **PAIRS)),
            "lift": (
                "transfer above accuracy", "behaviour", 1,
                _at("mean_lift_independent", sign="positive", **PAIRS),
            ),
            "lift_difficulty": (
                "transfer to the pivot above difficulty", "behaviour", 1,
                _at("mean_lift_difficulty", sign="positive", scope="to_pivot"),
            ),
            "accuracy": ("accuracy", "behaviour", 1, _at("mean_accuracy")),
        },
        "trajectories": {
            "pivot_share": ("pivot share", "lens", 1, _pivot("pivot_share")),
            "latent_consistency": ("latent consistency", "lens", 1, _pivot("latent_consistency")),
        },
    }.items()
    for name, about in measures.items()
}  # fmt: skip
UNSEEN = "accuracy_unseen"
LONG_NAMES = {
    "value": "value of a measure",
    "measure_name": "what a measure is",
    "group": "what a measure reads",
    "expected": "direction in which a measure should follow sharing; 0: either",
    "mean": "mean over seeds",
    "mean_low": "mean over seeds, lower bound for other seeds",
    "mean_high": "mean over seeds, upper bound for other seeds",
    "rank_correlation": "Spearman's correlation with planted sharing",
    "rank_correlation_lowest": "the same of the seed in which it is furthest from what is expected",
    "tracks": "whether a measure tracks sharing",
    "steering": "accuracy change by steering, mean over languages",
}


def calibration(models: Sequence[PlantedModel], confidence: float = 0.95) -> xr.Dataset:
    """Every measure of every model against planted sharing.

    Args:
        models: of one world, asked the same questions.
        confidence: of the intervals over seeds.

    Returns:
        The variables of LONG_NAMES over model, measure and sharing; `steering` (model, method)
        where models were steered, the oracle `patch` among the methods.

    Raises:
        InputError: one sharing alone.

    Source: our choice.
    """
    sharing = np.array([model.sharing for model in models])
    levels = np.unique(sharing)
    if len(levels) < 2:
        raise InputError("calibration: all models have the same sharing: give two or more")
    measures = {n: y for n, y in YARDSTICKS.items() if y.result in models[0].results}
    custom = list(models[0].custom)
    names = [*measures, UNSEEN, *custom]
    value = np.array([[*_values(m, measures), _unseen(m), *m.custom.values()] for m in models])
    expected = np.array([*(y.sign for y in measures.values()), 1, *(0 for _ in custom)])
    seeds = np.array([model.seed for model in models])
    correlation = np.array([_correlation(sharing, column) for column in value.T])
    by_seed = np.array(
        [
            [_correlation(sharing[seeds == seed], column[seeds == seed]) for column in value.T]
            for seed in np.unique(seeds)
        ]
    )
    direction = np.where(expected == 0, np.sign(correlation), expected)
    curves = _curves(value, sharing, levels, confidence)
    variables = {
        "value": (("model", "measure"), value),
        "measure_name": (
            "measure",
            [*(y.long_name for y in measures.values()), NAME_UNSEEN, *custom],
        ),
        "group": (
            "measure",
            [*(y.group for y in measures.values()), "behaviour", *(CUSTOM for _ in custom)],
        ),
        "expected": ("measure", expected),
        **{name: (("sharing", "measure"), curve) for name, curve in curves.items()},
        "rank_correlation": ("measure", correlation),
        "rank_correlation_lowest": ("measure", (by_seed * direction).min(axis=0) * direction),
        "tracks": ("measure", correlation * direction >= TRACKS),
    }
    if "steering" in models[0].results:
        variables["steering"] = (("model", "method"), [_steered(m)[1] for m in models])
    dataset = xr.Dataset(
        variables,
        {
            "model": [m.slug for m in models],
            "measure": names,
            "sharing": levels,
            "sharing_of": ("model", sharing),
            "seed": ("model", seeds),
        }
        | ({"method": _steered(models[0])[0]} if "steering" in models[0].results else {}),
        {"confidence": confidence, "tracks_from": TRACKS},
    )
    for name, variable in dataset.data_vars.items():
        variable.attrs.update(long_name=LONG_NAMES[str(name)], units="1")
    return dataset


NAME_UNSEEN, CUSTOM = "accuracy on unseen facts", "the study's own"


def _values(model: PlantedModel, measures: Mapping[str, Yardstick]) -> list[float]:
    return [measure.of(model.results[measure.result]) for measure in measures.values()]


def _unseen(model: PlantedModel) -> float:
    """Accuracy on what a language can only have from others."""
    correct = model.results["behaviour"]["correct"].transpose("language", "item").values
    return float(correct[~model.seen].mean()) if (~model.seen).any() else float("nan")


def _steered(model: PlantedModel) -> tuple[list[str], list[float]]:
    """Methods and what each does to accuracy; the oracle last."""
    steering = model.results["steering"]
    effects = steering["pooled_effect"]
    methods, values = [str(m) for m in effects["method"].values], effects.values.tolist()
    if "patch" in steering["control"].values:
        methods.append("patch")
        values.append(float(steering["pooled_control_effect"].sel(control="patch")))
    return methods, values


def _correlation(sharing: np.ndarray, values: np.ndarray) -> float:
    """Spearman's; NaN where a value is missing or nothing varies."""
    if not np.isfinite(values).all() or np.ptp(values) == 0:
        return float("nan")
    from scipy.stats import spearmanr  # slow to import, seldom needed

    return float(spearmanr(sharing, values).statistic)


def _curves(
    value: np.ndarray, sharing: np.ndarray, levels: np.ndarray, confidence: float
) -> dict[str, np.ndarray]:
    """Mean at every sharing and Student's t bounds over seeds; NaN bounds with one seed."""
    curves = {name: np.full((len(levels), value.shape[1]), np.nan) for name in ENDS}
    for row, level in enumerate(levels):
        at = value[sharing == level]
        mean, n = at.mean(axis=0), len(at)
        curves["mean"][row] = mean
        if n > 1:
            half = stdtrit(n - 1, (1 + confidence) / 2) * at.std(axis=0, ddof=1) / np.sqrt(n)
            curves["mean_low"][row], curves["mean_high"][row] = mean - half, mean + half
    return curves


ENDS = ("mean", "mean_low", "mean_high")
