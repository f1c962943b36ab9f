"""Models side by side: dissociation and behaviour against the number of parameters."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from isogloss.figures.style import (
    Drawing,
    Subject,
    decimal,
    label_points,
    legend_below_title,
    line_style,
    new_figure,
    numbers_of,
    spoken,
)
from isogloss.figures.text import as_rst

PANEL = (2.9, 1.4)  # width and height of a panel [inch], roughly
SHOWN = ("dissociation", "accuracy", "consistency", "lift")
# measure -> title, axis, factor
TITLES = {
    "dissociation": ("dissociation", "1 − item share", 1),
    "accuracy": ("accuracy, mean over languages", "% of items", 100),
    "consistency": ("consistency, mean over pairs", "Spearman's ρ", 1),
    "lift": ("transfer above accuracy, mean over pairs", "percentage points", 100),
}


def against_scale(scale: xr.Dataset, subject: Subject, labels: dict[str, str]) -> Drawing:
    """Dissociation, accuracy, consistency and transfer lift against parameters, by family.

    Args:
        scale: of `isogloss.measures.scale.scale`.
        labels: name of each model as it is, by slug.
    """
    figure = new_figure(
        subject,
        "Against scale: models by number of parameters",
        4.9,
        [_converted(scale, labels), "intervals over clusters of items", _no_slopes(scale)],
        legends=1,
    )
    axes = figure.subplots(2, 2, sharex=True)
    families = [str(f) for f in scale["family"].values]
    for ax, measure in zip(axes.flat, SHOWN, strict=True):
        title, unit, factor = TITLES[measure]
        values = scale[["value", "value_low", "value_high", "slope"]].sel(measure=measure)
        for index, family in enumerate(families):
            _family(ax, values * factor, family, index)
        ax.set_title(title)
        ax.set_ylabel(unit)
        ax.set_xscale("log")
        ax.margins(x=0.15, y=0.2)
    _size_axis(axes[1], scale["parameters"].values)
    legend_below_title(figure, axes[0, 0])
    _name_models(axes[0, 0], scale)
    values = numbers_of(scale[["value", "value_low", "value_high"]], ["value"])
    values["model_as_it_is"] = values["model"].map(labels)
    return Drawing(figure, values, _caption(scale, subject, labels))


def _family(ax: Axes, held: xr.Dataset, family: str, index: int) -> None:
    """Points with intervals, and the slope where the family has one."""
    own = held.isel(model=np.flatnonzero(held["family_of"].values == family))
    style = line_style(index) | {"linestyle": "none", "markersize": 6}
    x, y = own["parameters"].values, own["value"].values
    error = np.clip([y - own["value_low"].values, own["value_high"].values - y], 0, None)
    ax.errorbar(x, y, yerr=error, capsize=2, elinewidth=1, label=family, **style)
    slope = float(held["slope"].sel(family=family))
    if np.isfinite(slope):
        logs = np.log10(x)
        ends = np.array([logs.min(), logs.max()])
        line = np.nanmean(y) + slope * (ends - logs.mean())
        ax.plot(10**ends, line, color=style["color"], linewidth=1)


def _size_axis(axes: Sequence[Axes], parameters: np.ndarray) -> None:
    """Parameters on a logarithmic axis, with room for one model alone."""
    room = 1.35
    for ax in axes:
        ax.set_xlim(parameters.min() / room, parameters.max() * room)
        alone = len(np.unique(parameters)) == 1
        ax.xaxis.set_major_locator(
            FixedLocator([float(parameters[0])]) if alone else LogLocator(subs=(1, 2, 5))
        )
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: size_text(value)))
        ax.set_xlabel("parameters")


def size_text(parameters: float) -> str:
    """A number of parameters as it is spoken of.

    >>> size_text(268_098_176), size_text(2e9), size_text(60_000)
    ('268M', '2B', '60k')
    """
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= unit:
            return f"{parameters / unit:.3g}{letter}"
    return f"{parameters:.0f}"


def _name_models(ax: Axes, scale: xr.Dataset) -> None:
    """Slugs beside the points of one panel."""
    held = scale.sel(measure=SHOWN[0])
    xy = np.stack([held["parameters"].values, held["value"].values], axis=1)
    known = np.isfinite(xy).all(axis=1)
    label_points(ax, list(map(str, held["model"].values[known])), xy[known], PANEL)


def _converted(scale: xr.Dataset, labels: dict[str, str]) -> str:
    """Models that are not as their makers gave them, with what was done to them."""
    names = {str(slug): labels[str(slug)] for slug in scale["model"].values}
    return ", ".join(name for slug, name in names.items() if name != slug)


def _no_slopes(scale: xr.Dataset) -> str:
    """Why families have no slope, if any has none."""
    reasons = scale["reason"].sel(measure=SHOWN[0]).to_series()
    lacking = [f"{family} ({reason})" for family, reason in reasons.items() if reason]
    return "no slope: " + ", ".join(lacking) if lacking else ""


def _caption(scale: xr.Dataset, subject: Subject, labels: dict[str, str]) -> str:
    held = scale.sel(measure="dissociation")
    found = [
        f"{decimal(held['value'].sel(model=slug))} [{decimal(held['value_low'].sel(model=slug))}, "
        f"{decimal(held['value_high'].sel(model=slug))}] for {as_rst(labels[str(slug)])}"
        for slug in held["model"].values
    ]
    slopes = held["slope"].to_series().dropna()
    said = (
        "; per tenfold parameters it changes by "
        + spoken([f"{decimal(v)} in {as_rst(str(family))}" for family, v in slopes.items()])
        if len(slopes)
        else "; " + as_rst(_no_slopes(scale))
    )
    return (
        f"**{subject.dataset}**: the dissociation score is {spoken(found)}{said}.\n\n"
        "*How to read it*: a point a model, a marker a family, with intervals over the clusters of "
        "items. Lines are drawn within families of three sizes or more, and hold for these "
        "checkpoints only. Models of different families differ in more than size."
    )
