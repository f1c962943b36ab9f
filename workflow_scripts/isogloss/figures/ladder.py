"""The ladder: measures against size, by when models are compared."""

from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from isogloss.figures.scale import draw_slope, parameters_text
from isogloss.figures.style import (
    Drawing,
    Subject,
    confidence,
    legend_below_title,
    line_style,
    new_figure,
    numbers_of,
    spoken,
)
from isogloss.figures.text import as_markdown, as_rst, between, decimal, markdown_table
from isogloss.measures.ladder import PRIMARY

SHOWN = {
    PRIMARY: "dissociation within relation",
    "accuracy_unseen": "accuracy, unseen facts",
    "consistency": "consistency",
    "lift": "transfer above accuracy",
}
PANEL_HEIGHT = 1.45  # [inch]
LIMIT = (
    "What a study of published checkpoints can tell about size: with training length not matched, "
    "a slope over checkpoints is that of size and of training together, and its sign is evidence "
    "on size only where it is the same at equal steps, at equal loss and at equal knowledge of "
    "what bridges the languages."
)


def by_rule(ladder: xr.Dataset, subject: Subject) -> Drawing:
    """A column per primary rule, a row per measure, a marker per family of models.

    Args:
        ladder: of `isogloss.measures.ladder.ladder`.
    """
    rules = ladder["rule"].values[ladder["primary"].values.astype(bool)]
    figure = new_figure(
        subject,
        "Ladder: what size does depends on when models are compared",
        1.0 + PANEL_HEIGHT * len(SHOWN),
        [
            "dots: models (seeds); lines: least squares on the logarithm of parameters",
            "a model that does not reach a threshold is left out there",
        ],
        legends=1,
    )
    axes = figure.subplots(len(SHOWN), len(rules), sharex=True, sharey="row", squeeze=False)
    families = [str(f) for f in ladder["family"].values]
    for row, (measure, title) in zip(axes, SHOWN.items(), strict=True):
        for ax, rule in zip(row, rules, strict=True):
            at = ladder.sel(rule=rule, measure=measure)
            for index, family in enumerate(families):
                _family(ax, at, family, index)
            ax.margins(x=0.1, y=0.15)
        row[0].set_ylabel(title.replace(" within", "\nwithin").replace(" above", "\nabove"))
    for ax, rule in zip(axes[0], rules, strict=True):
        ax.set_title(str(rule))
    for ax in axes[-1]:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator())
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: parameters_text(value)))
        ax.set_xlabel("parameters")
    legend_below_title(figure, axes[0, 0])
    numbers = numbers_of(ladder.sel(measure=list(SHOWN)), ["value", "slope", "reached"])
    return Drawing(figure, numbers, _caption(ladder))


def _family(ax: Axes, at: xr.Dataset, family: str, index: int) -> None:
    """Points of a family, and its line where it has a slope."""
    models = at.isel(model=np.flatnonzero(at["family_of"].values == family))
    style = line_style(index)
    x, y = models["parameters"].values, models["value"].values
    ax.plot(x, y, **style | {"linestyle": "none", "markersize": 3.5}, alpha=0.7, label=family)
    draw_slope(ax, x, y, float(at["slope"].sel(family=family)), color=style["color"])


def _sloped(ladder: xr.Dataset, rule: str, family: str, measure: str) -> str:
    """A slope with its interval; why there is none."""
    at = ladder.sel(rule=rule, family=family, measure=measure)
    if not np.isfinite(at["slope"]):
        return str(at["reason"].item())
    return between(at, "slope", partial(decimal, digits=3))


def _caption(ladder: xr.Dataset) -> str:
    rules = ladder["rule"].values[ladder["primary"].values.astype(bool)].astype(str)
    family = str(ladder["family"].values[0])
    slopes = [f"{_sloped(ladder, rule, family, PRIMARY)} at {rule}" for rule in rules]
    return (
        f"Dissociation within relation changes with ten times the parameters by "
        f"{as_rst(spoken(slopes))} ({confidence(ladder)} over seeds).\n\n"
        f"*How to read it*: one set of runs, compared by a rule in each column. {LIMIT}"
    )


def ladder_section(ladder: xr.Dataset) -> str:
    """What the summary says of a ladder, as Markdown."""
    header = ["compared at", "models", "dissociation within relation, per decade", "verdict"]
    header += [f"{title}, per decade" for title in list(SHOWN.values())[1:]]
    rows = []
    for family in map(str, ladder["family"].values):
        chosen = ladder["family_of"].values == family
        for rule in map(str, ladder["rule"].values):
            at = ladder.sel(rule=rule, family=family)
            there = int(np.isfinite(at["reached"].values[chosen]).sum())
            slopes = [_sloped(ladder, rule, family, measure) for measure in SHOWN]
            verdict = str(at["verdict"].item())
            rows.append(
                [
                    as_markdown(f"{family}, {rule}"),
                    f"{there} of {chosen.sum()}",
                    slopes[0],
                    f"**{verdict}**" if verdict else "secondary",
                    *slopes[1:],
                ]
            )
    return "\n\n".join(
        [
            "## Ladder: larger models dissociate more",
            "The claim by every rule of when models are compared. Change with ten times the "
            f"parameters, {confidence(ladder)} over seeds; verdicts by the primary measure, Holm "
            "over the primary rules.",
            markdown_table(header, rows),
            LIMIT,
        ]
    )
