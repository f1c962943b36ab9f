"""Results by category of the items, and by script, family and resources of the languages."""

from collections.abc import Callable

import numpy as np
import xarray as xr

from isogloss.figures.colours import BLACK, GREY, PALE
from isogloss.figures.style import (
    Drawing,
    Subject,
    confidence,
    dashes,
    dots,
    new_figure,
    numbers_of,
    rows_axis,
    spoken,
    with_reasons,
)
from isogloss.figures.text import ENDS, as_rst, between, decimal, percent, points
from isogloss.files.netcdf import confidence_of
from isogloss.measures.statistics import significant

MOST_CATEGORIES = 20
PANELS = {
    "accuracy": ("accuracy", "%", 100),
    "consistency": ("consistency\nwith {pivot}", "Spearman's ρ", 1),
    "transfer_lift": ("transfer above\naccuracy", "points", 100),
    "item_share": ("item share\nwith {pivot}", "middle layers", 1),
    "steering_effect": ("steering:\naccuracy", "change [points]", 100),
}


def breakdown(results: xr.Dataset, subject: Subject) -> Drawing:
    """A row per group, a panel per measure; hollow where a group has few clusters.

    Args:
        results: of `isogloss.measures.breakdown.breakdown`, with steering where there is any.
    """
    shown = _shown(results)
    part = results.isel(group=shown)
    names = [_name(part.isel(group=row)) for row in range(part.sizes["group"])]
    panels = [name for name in PANELS if name in part]
    n_left_out = results.sizes["group"] - len(shown)
    figure = new_figure(
        subject,
        "By category of the items, script, family and resources of the languages",
        1.35 + 0.2 * len(names),
        [
            f"{confidence(results)} over clusters of items",
            "hollow: few clusters" if any(_few(part, name).any() for name in panels) else "",
            f"{n_left_out} smaller categories left out" if n_left_out else "",
            f"steered with vectors from {part['fitted'].values[0]}"
            if "fitted" in part.dims
            else "",
        ],
    )
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    pivot = subject.label(subject.pivot)
    borders = np.flatnonzero(part["grouping"].values[1:] != part["grouping"].values[:-1]) + 0.5
    for ax, name in zip(axes, panels, strict=True):
        title, unit, scale = PANELS[name]
        values = part.isel(fitted=0) if "fitted" in part[name].dims else part
        ends = [scale * values[name + end].values for end in ENDS]
        ax.axvline(ends[0][0], color=GREY, linewidth=0.8, linestyle=(0, (1, 1)))
        dots(ax, ends, np.arange(len(names)), _few(values, name).tolist(), BLACK)
        for border in borders:
            ax.axhline(border, color=PALE, linewidth=1.2)
        dashes(ax, ends[0])
        ax.set_title(title.format(pivot=pivot))
        ax.set_xlabel(unit)
        rows_axis(ax, names)
    numeric = results.drop_vars(["languages", "transfer_lift_reason"])
    measures = [str(name) for name in numeric if not str(name).endswith(("_low", "_high"))]
    numbers = with_reasons(numbers_of(results, measures), results, "transfer_lift")
    return Drawing(figure, numbers, _caption(results, subject))


def _shown(results: xr.Dataset) -> np.ndarray:
    """Places of the groups drawn: of the categories the largest."""
    grouping, sizes = results["grouping"].values, results["n_items"].values
    categories = np.flatnonzero(grouping == "category")
    largest = categories[np.argsort(-sizes[categories], kind="stable")][:MOST_CATEGORIES]
    return np.sort(np.concatenate([np.flatnonzero(grouping != "category"), largest]))


def _few(part: xr.Dataset, name: str) -> np.ndarray:
    """(..., group) which groups have few clusters behind a measure."""
    steered = name.startswith("steering_")
    return np.asarray(part["steering_few" if steered else "few"].values.astype(bool))


def _name(group: xr.Dataset) -> str:
    """A group with its size: "culture: agnostic (40 items)"."""
    grouping, name = str(group["grouping"].item()), str(group["group_name"].item())
    n_items, n_languages = int(group["n_items"]), int(group["n_languages"])
    counted, unit = (n_items, "item") if grouping in ("all", "category") else (n_languages, "lang.")
    plural = "s" * (unit == "item" and counted != 1)
    size = f"{counted} {unit}{plural}"
    text = name if len(name) < 32 else name[:30] + "…"
    return f"{text} ({size})"


def _caption(results: xr.Dataset, subject: Subject) -> str:
    said = [_differences(results, name) for name in ("accuracy", "item_share")]
    if "steering_effect_p_holm" in results:
        first = results.isel(fitted=0)
        sure = first.isel(
            group=significant(first["steering_effect_p_holm"].values, confidence_of(results))
        )
        changed = _listed(sure, "steering_effect", points)
        said.append(f"steering changes accuracy in {changed or 'no group'} (Holm over groups)")
    return (
        f"**{subject.model} on {subject.dataset}**: {'; '.join(said)}.{_without_lift(results)}\n\n"
        "*How to read it*: a row per group; the dotted lines are the values over all. All numbers "
        f"are means over languages beside {subject.label(subject.pivot)}. Groups of items have all "
        "languages, groups of languages all items. Hollow groups have few clusters of items. The "
        "intervals of differences are each by itself: of many groups some differ by chance. "
        "Languages of a group have more in common than what groups them, and a group of a single "
        "language is that language."
    )


def _without_lift(results: xr.Dataset) -> str:
    """Which groups have no lift of transfer, and why."""
    reasons = results["transfer_lift_reason"].values
    said = []
    for reason in dict.fromkeys(reasons[reasons != ""]):
        names = [as_rst(str(name)) for name in results["group_name"].values[reasons == reason]]
        said.append(f"{spoken(names)} ({reason})")
    return f" No transfer above accuracy (–), nothing to compare: {spoken(said)}." if said else ""


def _differences(results: xr.Dataset, name: str) -> str:
    """In which groups a measure is other than over all."""
    low, high = (results[f"{name}_difference_{end}"] for end in ("low", "high"))
    sure = results.isel(group=np.flatnonzero((low > 0) | (high < 0)))
    text = name.replace("_", " ")
    if listed := _listed(sure, name, percent if name == "accuracy" else decimal):
        return f"{text} is other than over all in {listed}"
    return f"{text} is in no group other than over all"


def _listed(groups: xr.Dataset, name: str, how: Callable[[float], str]) -> str:
    """Groups with their values, the first ten; empty where there are none."""
    each = [groups.isel(group=i) for i in range(min(10, groups.sizes["group"]))]
    texts = [f"{as_rst(str(g['group_name'].item()))} ({between(g, name, how)})" for g in each]
    more = groups.sizes["group"] - len(each)
    return spoken([*texts, *([f"{more} more"] if more else [])])
