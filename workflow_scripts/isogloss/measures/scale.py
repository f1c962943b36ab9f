"""Against scale: dissociation and behaviour of several models, by family and by language.

A slope is only drawn within a family, whose models differ in little but size, and only from three
sizes on. What its interval holds for stands in `slope_holds_for`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from isogloss.measures.associations import LONG_NAMES as ASSOCIATION_NAMES
from isogloss.measures.associations import associations
from isogloss.measures.covariates import LONG_NAMES as COVARIATE_NAMES
from isogloss.measures.covariates import covariates
from isogloss.measures.model_results import ModelResult, check
from isogloss.measures.slopes import Slope, slope_per_decade
from isogloss.measures.statistics import holm


@dataclass(frozen=True)
class Measure:
    """A number that every model has, with its intervals and its values without each unit.

    Attributes:
        source: the result that holds it.
        variable: its name there.
        long_name: what it is.
        selection: of its other dimensions.
    """

    source: str
    variable: str
    long_name: str
    selection: dict[str, str] = field(default_factory=dict)

    def of(self, model: ModelResult, end: str = "") -> np.ndarray:
        """The variable, or what goes with it under its name and an end."""
        variable = getattr(model, self.source)[f"{self.variable}{end}"].sel(self.selection)
        if "language" in variable.dims:  # in one order for all models
            variable = variable.sel(language=model.similarity["language"].values)
        return variable.values

    def pairs(self, model: ModelResult) -> np.ndarray | None:
        """(language, language_2) the pairs that its mean is over; None: it is no mean of pairs."""
        matrix = self.variable.removeprefix("mean_")
        if "scope" not in self.selection:
            return None
        tags = model.similarity["language"].values
        chosen = {name: value for name, value in self.selection.items() if name != "scope"}
        known = np.isfinite(getattr(model, self.source)[matrix].sel(chosen))
        known = known.sel(language=tags, language_2=tags).values
        to_pivot = self.selection["scope"] == "to_pivot"
        return known[:, tags == model.similarity.attrs["pivot"]] if to_pivot else known


MEASURES = {
    "dissociation": Measure("similarity", "dissociation", "dissociation, all languages"),
    "accuracy": Measure("behaviour", "mean_accuracy", "accuracy, mean over languages"),
    "consistency": Measure("behaviour", "mean_consistency", "consistency", {"scope": "all_pairs"}),
    "lift": Measure(
        "behaviour",
        "mean_lift_independent",
        "positive transfer over that of accuracy alone",
        {"scope": "all_pairs", "sign": "positive"},
    ),
    "dissociation_pivot": Measure("similarity", "dissociation_pivot", "dissociation, pivot pairs"),
    "cka": Measure("similarity", "cka_middle_mean", "debiased CKA, middle half of depth"),
    "lift_to_pivot": Measure(
        "behaviour",
        "mean_lift_difficulty",
        "positive transfer to the pivot over that of item difficulty",
        {"scope": "to_pivot", "sign": "positive"},
    ),
}
# The slopes of the figure: one family of tests. The others are further readings of the same.
SHOWN = ("dissociation", "accuracy", "consistency", "lift")
BOUNDS = {
    "low": "lower bound over items",
    "high": "upper bound over items",
    "crossed_low": "lower bound over items and languages",
    "crossed_high": "upper bound over items and languages",
}
MARKS = {
    "near_chance": "accuracy's interval does not lie above chance",
    "mostly_alike": "most choices are spelled as in another language",
}
OTHER_PAIRS = (
    "the models' means are over other pairs of languages: some have too few right answers for one"
)
HOLDS_FOR_ITEMS = "other items, these models and languages"
HOLDS_FOR_SEEDS = "other items and other models of these sizes, these languages"
SLOPE_INTERVALS = (
    "over clusters of items, left out of all models at once, and over models of one size where "
    "there are several; conditional on what slope_holds_for says; crossed: over languages as well"
)
LONG_NAMES = {
    "value": "value of a measure",
    **{f"value_{end}": f"value of a measure, {text}" for end, text in BOUNDS.items()},
    "measure_name": "what a measure is",
    "n_sizes": "different sizes in a family",
    "slope": "change per decade of parameters",
    **{f"slope_{end}": f"change per decade, {text}" for end, text in BOUNDS.items()},
    "slope_p": "p of the slope, over items",
    "slope_p_holm": "p of the slope, Holm over the slopes of the figure",
    "slope_holds_for": "what the intervals of a family's slopes over items hold for",
    "reason": "why a family has no slope",
    **ASSOCIATION_NAMES,
    **COVARIATE_NAMES,
    **MARKS,
}


def scale(
    models: Sequence[ModelResult],
    *,
    permutations: int = 999,
    seed: int = 0,
    confidence: float = 0.95,
) -> xr.Dataset:
    """Models side by side: values, slopes by family, association with behaviour, covariates.

    Args:
        models: results on the same dataset with the same pivot.
        permutations: behind each p over languages or their pairs.
        seed: of the permutations.
        confidence: of the slopes' intervals.

    Returns:
        `value` (model, measure) with its bounds; `slope` (family, measure) per decade of
        parameters, NaN with a `reason` where a family has fewer than three sizes; `association`
        (model, similarity, behaviour) over language pairs, raw and after language effects;
        `accuracy_association` (model) over languages;
        `covariate` (model, language, covariate_name) and its rank correlation with the
        dissociation of each language from the pivot.

    Raises:
        InputError: see `model_results.check`.
    """
    check(models)
    dataset = xr.merge(
        [
            _values(models),
            _slopes(models, confidence),
            associations(models, permutations, seed, confidence),
            covariates(models, permutations, seed),
            _marks(models),
        ]
    ).assign_coords(
        family_of=("model", [m.family for m in models]),
        parameters=("model", [float(m.parameters) for m in models]),
        seed=("model", [np.nan if m.seed is None else float(m.seed) for m in models]),
    )
    for name, long_name in LONG_NAMES.items():
        dataset[name].attrs.update(long_name=long_name, units="1")
    for name in ("association_adjusted", "accuracy_association"):
        dataset[name].attrs["interval_over"] = "languages"
    behaviour = models[0].behaviour
    return dataset.assign_attrs(
        pivot=models[0].similarity.attrs["pivot"],
        confidence=confidence,
        slope_intervals=SLOPE_INTERVALS,
        n_items=behaviour.sizes["item"],
        n_clusters=behaviour.sizes["cluster"],
    )


def _marks(models: Sequence[ModelResult]) -> xr.Dataset:
    """Which languages' numbers need care, by model."""
    languages = models[0].similarity["language"].values
    return xr.Dataset(
        {
            name: (
                ("model", "language"),
                [model.behaviour[name].sel(language=languages).values for model in models],
            )
            for name in MARKS
        },
        {"model": [m.slug for m in models], "language": languages},
    )


def _values(models: Sequence[ModelResult]) -> xr.Dataset:
    """Every measure of every model with its intervals."""
    dims = ("model", "measure")
    values = {
        f"value{end}": (
            dims,
            [[float(m.of(model, end)) for m in MEASURES.values()] for model in models],
        )
        for end in ("", *(f"_{bound}" for bound in BOUNDS))
    }
    return xr.Dataset(
        values | {"measure_name": ("measure", [m.long_name for m in MEASURES.values()])},
        coords={"model": [m.slug for m in models], "measure": list(MEASURES)},
    )


def _slopes(models: Sequence[ModelResult], confidence: float) -> xr.Dataset:
    """Slope of every measure in every family, or why there is none."""
    families = sorted({m.family for m in models})
    members = [[m for m in models if m.family == family] for family in families]
    fits = [
        [_slope(of_family, measure, confidence) for measure in MEASURES.values()]
        for of_family in members
    ]
    dims = ("family", "measure")
    numbers = ("value", *BOUNDS, "p")
    values = {
        name: np.array([[getattr(fit, name) for fit in row] for row in fits]) for name in numbers
    }
    in_figure = np.isin(list(MEASURES), SHOWN)
    values["p_holm"] = holm(np.where(in_figure, values["p"], np.nan))
    sizes = [len({m.parameters for m in of_family}) for of_family in members]
    holds_for = [
        HOLDS_FOR_SEEDS if len(of_family) > n else HOLDS_FOR_ITEMS
        for of_family, n in zip(members, sizes, strict=True)
    ]
    slopes = {f"slope_{name}": (dims, value) for name, value in values.items() if name != "value"}
    return xr.Dataset(
        {"slope": (dims, values["value"])}
        | slopes
        | {
            "reason": (dims, [[fit.reason for fit in row] for row in fits]),
            "n_sizes": ("family", sizes),
            "slope_holds_for": ("family", holds_for),
        },
        coords={"family": families, "measure": list(MEASURES)},
    )


def _slope(models: Sequence[ModelResult], measure: Measure, confidence: float) -> Slope:
    """Slope of one measure over the models of one family."""

    def of_all(end: str) -> np.ndarray:
        return np.array([measure.of(model, end) for model in models])

    pairs = [measure.pairs(model) for model in models]
    if len({behind.tobytes() for behind in pairs if behind is not None}) > 1:
        return Slope(reason=OTHER_PAIRS)
    parameters = np.array([model.parameters for model in models], dtype=float)
    without_cluster, without_language = of_all("_without_cluster"), of_all("_without_language")
    return slope_per_decade(parameters, of_all(""), without_cluster, without_language, confidence)
