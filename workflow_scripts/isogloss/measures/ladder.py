"""The ladder: models of one recipe and several sizes, compared by rules of when to stop.

A model that is larger learns faster, and sharing grows with training. So what size does depends on
when models are compared: after as many steps, at the same loss, or where they know the bridge
between languages equally well. Every rule reads the same runs, between two evaluations by a line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from isogloss.measures.slopes import slope_over_seeds
from isogloss.measures.verdicts import decide

PRIMARY = "dissociation_within"
"""The measure that the verdicts are on."""
STEPS = "steps"
NOT_COMPARED = ("step", "loss", "bridge_loss")
BOUNDS = ("low", "high", "p")


@dataclass(frozen=True)
class TrainedModel:
    """A model and what was measured of it while it was trained.

    Attributes:
        slug, family: its name, and that of the models that differ from it in size and seed alone.
        parameters: how many it has.
        seed: of its training.
        history: `step`, `loss`, `bridge_loss` and other measures, at every evaluation.
    """

    slug: str
    family: str
    parameters: int
    seed: int
    history: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Rule:
    """When models are compared.

    Attributes:
        by: `steps`, or the loss that reaches a threshold: `loss` or `bridge_loss`.
        at: the threshold; of `steps`, how many.
        primary: whether the verdicts are on it.
    """

    by: str
    at: float
    primary: bool

    @property
    def name(self) -> str:
        """As it is spoken of."""
        if self.by == STEPS:
            return f"equal steps ({self.at:.0f})"
        return f"equal {self.by.replace('_', ' ')} ({self.at:g})"


def rules_of(
    models: Sequence[TrainedModel], losses: Sequence[float], bridge_losses: Sequence[float]
) -> list[Rule]:
    """Equal steps, and a rule per threshold; the first of each kind is primary."""
    shortest = min(model.history["step"][-1] for model in models)
    return [
        Rule(STEPS, shortest, True),
        *(Rule("loss", at, n == 0) for n, at in enumerate(losses)),
        *(Rule("bridge_loss", at, n == 0) for n, at in enumerate(bridge_losses)),
    ]


def step_reached(history: Mapping[str, Sequence[float]], rule: Rule) -> float:
    """The step at which a model is compared; NaN where it does not get there.

    >>> history = {"step": [50, 100, 150], "loss": [3.0, 2.0, 1.0]}
    >>> [step_reached(history, rule) for rule in (Rule("loss", 1.5, True), Rule("steps", 60, True))]
    [125.0, 60]
    """
    steps = np.array(history["step"], dtype=float)
    if rule.by == STEPS:
        return rule.at if rule.at <= steps[-1] else float("nan")
    loss = np.array(history[rule.by], dtype=float)
    below = np.flatnonzero(loss <= rule.at)
    if not len(below) or below[0] == 0:
        return float("nan")
    last, first = below[0] - 1, below[0]
    share = (loss[last] - rule.at) / (loss[last] - loss[first])
    return float(steps[last] + share * (steps[first] - steps[last]))


def ladder(
    models: Sequence[TrainedModel],
    losses: Sequence[float],
    bridge_losses: Sequence[float],
    confidence: float = 0.95,
) -> xr.Dataset:
    """Measures of models of several sizes, compared by every rule, and their slopes.

    Args:
        models: of one or more families.
        losses: on facts, at which models are compared [nat per token].
        bridge_losses: the same of the bridge.
        confidence: of the slopes' intervals, over seeds.

    Returns:
        `value` (rule, model, measure) and `reached` (rule, model), the step; `slope` (rule, family,
        measure) per decade of parameters with its bounds; `verdict` (rule, family) on the claim
        that larger models dissociate more, by the primary measure: Holm over the primary rules of a
        family.
    """
    rules = rules_of(models, losses, bridge_losses)
    measures = [name for name in models[0].history if name not in NOT_COMPARED]
    reached = np.array([[step_reached(m.history, rule) for m in models] for rule in rules])
    value = np.array(
        [
            [_at(model.history, measures, step) for model, step in zip(models, steps, strict=True)]
            for steps in reached
        ]
    )
    families = list(dict.fromkeys(model.family for model in models))
    of_family = [np.array([model.family == family for model in models]) for family in families]
    parameters = np.array([float(model.parameters) for model in models])
    slopes = [
        [
            [slope_over_seeds(parameters[of], at[of, m], confidence) for m in range(len(measures))]
            for of in of_family
        ]
        for at in value
    ]
    dims = ("rule", "family", "measure")
    numbers = {
        f"slope{end}": (dims, [[[getattr(s, of) for s in row] for row in at] for at in slopes])
        for end, of in (("", "value"), *((f"_{bound}", bound) for bound in BOUNDS))
    }
    dataset = xr.Dataset(
        {
            "value": (("rule", "model", "measure"), value),
            "reached": (("rule", "model"), reached),
            **numbers,
            "reason": (dims, [[[s.reason for s in row] for row in at] for at in slopes]),
            "primary": ("rule", [rule.primary for rule in rules]),
        },
        {
            "rule": [rule.name for rule in rules],
            "model": [model.slug for model in models],
            "measure": measures,
            "family": families,
            "family_of": ("model", [model.family for model in models]),
            "parameters": ("model", parameters),
            "seed": ("model", [model.seed for model in models]),
        },
        {"confidence": confidence, "primary_measure": PRIMARY},
    )
    dataset = dataset.merge(_verdicts(dataset, confidence))
    for name, text in LONG_NAMES.items():
        units = "step" if name == "reached" else "1"
        dataset[name].attrs.update(long_name=text, units=units)
    return dataset


LONG_NAMES = {
    "value": "value of a measure where models are compared",
    "reached": "step at which a model is compared",
    "slope": "change with ten times the parameters",
    "slope_low": "change with ten times the parameters, lower bound over seeds",
    "slope_high": "change with ten times the parameters, upper bound over seeds",
    "slope_p": "p of the slope, over seeds",
    "reason": "why there is no slope",
    "primary": "whether the verdicts are on a rule",
    "p_holm": "p of the slope of the primary measure, Holm over the primary rules",
    "verdict": "larger models dissociate more: supported, contradicted or undecided",
}


def _at(
    history: Mapping[str, Sequence[float]], measures: Sequence[str], step: float
) -> list[float]:
    """Measures at a step, between two evaluations by a line."""
    return [float(np.interp(step, history["step"], history[name])) for name in measures]


def _verdicts(dataset: xr.Dataset, confidence: float) -> xr.Dataset:
    """The claim about size by every primary rule, a family of tests for each family of models."""
    of = dataset.sel(measure=PRIMARY)
    tested = dataset["primary"].values
    shape = (dataset.sizes["rule"], dataset.sizes["family"])
    verdict, adjusted = np.full(shape, "", dtype=object), np.full(shape, np.nan)
    for column in range(shape[1]):
        low, high, p = (of[f"slope_{b}"].values[tested, column] for b in BOUNDS)
        verdict[tested, column], adjusted[tested, column] = decide(
            low, high, p, np.ones(tested.sum()), confidence
        )
    dims = ("rule", "family")
    return xr.Dataset({"verdict": (dims, verdict.astype(str)), "p_holm": (dims, adjusted)})
