"""Models side by side: dissociation and behaviour against the number of parameters."""

import textwrap
from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from isogloss.figures.style import (
    Drawing,
    Subject,
    label_points,
    legend_below_title,
    line_style,
    new_figure,
    numbers_of,
    spoken,
)
from isogloss.figures.text import as_rst, decimal
from isogloss.measures.scale import BOUNDS, SHOWN
from isogloss.measures.verdicts import subjects

PANEL = (2.9, 1.4)  # width and height of a panel [inch], roughly
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
    alone = scale.sizes["model"] == 1  # a point in each panel needs no room
    figure = new_figure(
        subject,
        "Against scale: models by number of parameters",
        3.0 if alone else 4.9,
        [
            _converted(scale, labels),
            "intervals: over clusters of items, and (thin) over items and languages",
            _slopes_hold_for(scale),
            _no_slopes(scale),
        ],
        legends=1,
    )
    axes = figure.subplots(1, 4) if alone else figure.subplots(2, 2, sharex=True)
    families = [str(f) for f in scale["family"].values]
    for ax, measure in zip(axes.flat, SHOWN, strict=True):
        title, unit, factor = TITLES[measure]
        shown = ["value", *(f"value_{end}" for end in BOUNDS), "slope"]
        values = scale[shown].sel(measure=measure)
        for index, family in enumerate(families):
            _family(ax, values * factor, family, index)
        ax.set_title(textwrap.fill(title, 20) if alone else title)
        ax.set_ylabel(unit)
        ax.set_xscale("log")
        ax.margins(x=0.15, y=0.2)
    _size_axis(axes.flat if alone else axes[1], scale["parameters"].values)
    legend_below_title(figure, axes.flat[0])
    _name_models(axes.flat[0], scale)
    names = ["value", *(f"value_crossed_{end}" for end in ("low", "high"))]
    names += ["slope", *(f"slope_crossed_{end}" for end in ("low", "high"))]
    names += ["slope_p", "slope_p_holm"]
    values = numbers_of(scale.sel(measure=list(SHOWN)), names)
    values["model_as_it_is"] = values["model"].map(labels)
    return Drawing(figure, values, _caption(scale, subject, labels))


def _family(ax: Axes, scale: xr.Dataset, family: str, index: int) -> None:
    """Points with intervals, and the slope where the family has one."""
    models = scale.isel(model=np.flatnonzero(scale["family_of"].values == family))
    style = line_style(index) | {"linestyle": "none", "markersize": 6}
    x, y = models["parameters"].values, models["value"].values
    for over, width, label in (("_crossed", 0.5, None), ("", 1.6, family)):
        low, high = (models[f"value{over}_{end}"].values for end in ("low", "high"))
        error = np.clip([y - low, high - y], 0, None)
        ax.errorbar(x, y, yerr=error, capsize=2, elinewidth=width, label=label, **style)
    slope = float(scale["slope"].sel(family=family))
    draw_slope(ax, x, y, slope, color=style["color"], linewidth=1)


def draw_slope(ax: Axes, x: np.ndarray, y: np.ndarray, slope: float, **style: Any) -> None:
    """A line through the middle of points, by its slope per decade of x; where there are both."""
    known = np.isfinite(y)
    if np.isfinite(slope) and known.any():
        logs = np.log10(x[known])
        ends = np.array([logs.min(), logs.max()])
        ax.plot(10**ends, y[known].mean() + slope * (ends - logs.mean()), **style)


def _size_axis(axes: Iterable[Axes], parameters: np.ndarray) -> None:
    """Parameters on a logarithmic axis, with room for one model alone."""
    room = 1.35
    for ax in axes:
        ax.set_xlim(parameters.min() / room, parameters.max() * room)
        alone = len(np.unique(parameters)) == 1
        ax.xaxis.set_major_locator(
            FixedLocator([float(parameters[0])]) if alone else LogLocator(subs=(1, 2, 5))
        )
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: parameters_text(value)))
        ax.set_xlabel("parameters")


def parameters_text(parameters: float) -> str:
    """A number of parameters as it is spoken of.

    >>> parameters_text(268_098_176), parameters_text(2e9), parameters_text(60_000)
    ('268M', '2B', '60k')
    """
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= unit:
            return f"{parameters / unit:.3g}{letter}"
    return f"{parameters:.0f}"


def _name_models(ax: Axes, scale: xr.Dataset) -> None:
    """Slugs beside the points of one panel; of several seeds beside the first one's."""
    named = {
        models[0]: f"{models[0]} and {len(models) - 1} more seeds" if len(models) > 1 else models[0]
        for models in subjects(scale).values()
    }
    first = scale.sel(measure=SHOWN[0], model=list(named))
    xy = np.stack([first["parameters"].values, first["value"].values], axis=1)
    known = np.isfinite(xy).all(axis=1)
    texts = [text for text, is_known in zip(named.values(), known, strict=True) if is_known]
    label_points(ax, texts, xy[known], PANEL)


def _converted(scale: xr.Dataset, labels: dict[str, str]) -> str:
    """Models that are not as their makers gave them, with what was done to them."""
    names = {str(slug): labels[str(slug)] for slug in scale["model"].values}
    return ", ".join(name for slug, name in names.items() if name != slug)


def _slopes_hold_for(scale: xr.Dataset) -> str:
    """What the intervals of the slopes hold for, where there are any."""
    with_slope = scale.sel(family=scale["slope"].notnull().any("measure"))
    families = with_slope["slope_holds_for"].to_series()
    groups = [f"{what} ({', '.join(of.index)})" for what, of in families.groupby(families)]
    return "slopes hold for " + "; ".join(groups) if groups else ""


def _no_slopes(scale: xr.Dataset) -> str:
    """Why families have no slope, if any has none; of other panels, what the first has not said."""
    said: list[str] = []
    first = scale["reason"].sel(measure=SHOWN[0], drop=True)
    for measure in SHOWN:
        reasons = scale["reason"].sel(measure=measure, drop=True)
        named = ""
        if measure != SHOWN[0]:
            reasons, named = reasons.where(reasons != first, ""), f" of {TITLES[measure][0]}"
        lacking = [f"{family} ({why})" for family, why in reasons.to_series().items() if why]
        if lacking:
            said.append(f"no slope{named}: {', '.join(lacking)}")
    return "; ".join(said)


def _caption(scale: xr.Dataset, subject: Subject, labels: dict[str, str]) -> str:
    dissociation = scale.sel(measure="dissociation")
    values = [
        f"{_bounded(dissociation.sel(model=slug), 'value')} for {as_rst(labels[str(slug)])}"
        for slug in dissociation["model"].values
    ]
    slopes = _slopes_text(scale) or as_rst(_no_slopes(scale))
    return (
        f"**{subject.dataset}**: the dissociation score is {spoken(values)} (over items; over "
        f"items and languages); {slopes}.\n\n"
        "*How to read it*: a point per model, a marker per family; thick intervals are over "
        "clusters of items, in these languages, thin ones over items and languages. Lines are "
        "drawn within families of three sizes or more. A slope's interval is over the items, which "
        "all models answered, and says nothing of models that were not measured, unless a size was "
        "trained several times. Models of different families differ in more than size."
    )


def _slopes_text(scale: xr.Dataset) -> str:
    """The slopes of dissociation by family, with what they hold for and how sure they are."""
    first = scale.sel(measure=SHOWN[0])
    known = first["family"].values[first["slope"].notnull().values]
    slopes = [
        f"{_bounded(first.sel(family=family), 'slope')} in {as_rst(str(family))} "
        f"(p = {float(first['slope_p_holm'].sel(family=family)):.2g}, Holm over the figure; for "
        f"{first['slope_holds_for'].sel(family=family).item()})"
        for family in known
    ]
    return f"per tenfold parameters it changes by {spoken(slopes)}" if slopes else ""


def _bounded(values: xr.Dataset, name: str) -> str:
    """A number with both its intervals: "0.61 [0.60, 0.62] [0.46, 0.76]"."""
    ends = [[values[f"{name}{over}_{end}"] for end in ("low", "high")] for over in ("", "_crossed")]
    intervals = [f"[{decimal(low)}, {decimal(high)}]" for low, high in ends]
    return " ".join([decimal(values[name]), *intervals])
