"""Models side by side: dissociation and behaviour against the number of parameters."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from isogloss.figures.style import (
    GREY,
    Drawing,
    Subject,
    decimal,
    legend_below_title,
    line_style,
    new_figure,
    numbers_of,
    spoken,
)

SHOWN = ("dissociation", "accuracy", "consistency", "lift")
TITLES = {
    "dissociation": ("dissociation", "1 − item share"),
    "accuracy": ("accuracy", "share of items"),
    "consistency": ("consistency", "Spearman's ρ, all pairs"),
    "lift": ("positive transfer above accuracy", "share of items, all pairs"),
}


def against_scale(scale: xr.Dataset, subject: Subject, labels: dict[str, str]) -> Drawing:
    """Dissociation, accuracy, consistency and transfer lift against parameters, by family.

    Args:
        scale: of `isogloss.scale.scale`.
        labels: name of each model as it is, by slug.
    """
    figure = new_figure(
        subject,
        "Against scale: models by number of parameters",
        4.9,
        ["intervals over clusters of items", _no_slopes(scale)],
        legends=1,
    )
    axes = figure.subplots(2, 2, sharex=True)
    families = [str(f) for f in scale["family"].values]
    for ax, measure in zip(axes.flat, SHOWN, strict=True):
        for index, family in enumerate(families):
            _family(ax, scale.sel(measure=measure), family, index)
        title, unit = TITLES[measure]
        ax.set_title(title)
        ax.set_ylabel(unit)
        ax.set_xscale("log")
        ax.margins(x=0.25, y=0.15)
    for ax in axes[1]:
        ax.set_xlabel("parameters")
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


def _name_models(ax: Axes, scale: xr.Dataset) -> None:
    """Slugs beside the points of one panel."""
    held = scale.sel(measure=SHOWN[0])
    if held.sizes["model"] > 8:
        return
    for slug in held["model"].values:
        one = held.sel(model=slug)
        place = (float(one["parameters"]), float(one["value"]))
        if np.isfinite(place).all():
            ax.annotate(str(slug), place, xytext=(6, 6), textcoords="offset points", color=GREY,
                        fontsize="small")  # fmt: skip


def _no_slopes(scale: xr.Dataset) -> str:
    """Why families have no slope, if any has none."""
    reasons = scale["reason"].sel(measure=SHOWN[0]).to_series()
    lacking = [f"{family} ({reason})" for family, reason in reasons.items() if reason]
    return "no slope: " + ", ".join(lacking) if lacking else ""


def _caption(scale: xr.Dataset, subject: Subject, labels: dict[str, str]) -> str:
    held = scale.sel(measure="dissociation")
    found = [
        f"{decimal(held['value'].sel(model=slug))} [{decimal(held['value_low'].sel(model=slug))}, "
        f"{decimal(held['value_high'].sel(model=slug))}] for {labels[str(slug)]}"
        for slug in held["model"].values
    ]
    slopes = held["slope"].to_series().dropna()
    said = (
        "; per tenfold parameters it changes by "
        + spoken([f"{decimal(v)} in {family}" for family, v in slopes.items()])
        if len(slopes)
        else f"; {_no_slopes(scale)}"
    )
    return (
        f"**{subject.dataset}**: the dissociation score is {spoken(found)}{said}.\n\n"
        "*How to read it*: a point a model, a marker a family, with intervals over the clusters of "
        "items. Lines are drawn within families of three sizes or more, and hold for these "
        "checkpoints only. Models of different families differ in more than size."
    )
