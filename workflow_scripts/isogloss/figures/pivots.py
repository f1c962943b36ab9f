"""Every language as pivot: what the others share with it."""

import numpy as np
import xarray as xr

from isogloss.figures.colours import BLACK, GREY, RED
from isogloss.figures.many import shown_languages, shown_note
from isogloss.figures.style import (
    Drawing,
    Subject,
    confidence,
    dashes,
    dots,
    near_chance_note,
    new_figure,
    numbers_of,
    rows_axis,
    spoken,
    with_reasons,
)
from isogloss.figures.text import ENDS, between, decimal

PANELS = {
    "pivot_accuracy": ("accuracy\nin the pivot", "%", 100),
    "consistency": ("consistency\nwith it", "Spearman's ρ", 1),
    "transfer_lift": ("transfer from it\nabove accuracy", "points", 100),
    "transfer_to_lift": ("transfer to it\nabove accuracy", "points", 100),
    "item_share": ("item share\nwith it", "middle layers", 1),
}


def pivots(results: xr.Dataset, subject: Subject) -> Drawing:
    """A row per pivot, the study's own in colour; a panel per measure, means over other languages.

    Args:
        results: of `isogloss.measures.pivots.pivots`.
    """
    every = subject.order(results["pivot"].values)
    by = results["consistency"].rename(pivot="language")
    order = shown_languages(every, by, subject)
    part = results.sel(pivot=order)
    figure = new_figure(
        subject,
        "Every language as pivot: what the others share with it",
        1.45 + 0.22 * len(order),
        [
            f"{confidence(results)} over clusters of items",
            "thin: over items and languages",
            shown_note(every, order, "consistency"),
            near_chance_note(subject, order),
        ],
    )
    axes = figure.subplots(1, len(PANELS), sharey=True)
    hollow = [tag in subject.near_chance for tag in order]
    is_pivot = np.array(order) == subject.pivot
    rows = np.arange(len(order))
    for ax, (name, (title, unit, scale)) in zip(axes, PANELS.items(), strict=True):
        ends = [scale * part[name + end].values for end in ENDS]
        if f"{name}_crossed_low" in part:
            bounds = [scale * part[f"{name}_crossed_{end}"].values for end in ("low", "high")]
            ax.hlines(rows, *bounds, color=GREY, linewidth=0.5)
            if np.isfinite(ends[0]).any():
                mean = float(scale * results[name].mean())
                ax.axvline(mean, color=GREY, linewidth=0.8, linestyle=":")
        for chosen, color in ((~is_pivot, BLACK), (is_pivot, RED)):
            some = [np.where(chosen, values, np.nan) for values in ends]
            dots(ax, some, rows, hollow, color)
        dashes(ax, ends[0])
        ax.set_title(title)
        ax.set_xlabel(unit)
        rows_axis(ax, [subject.label(tag) for tag in order])
    measures = [n for name in PANELS for n in (name, f"{name}_difference") if n in results]
    whole = results.sel(pivot=every)
    numbers = with_reasons(numbers_of(whole, measures), whole, "transfer_lift")
    return Drawing(figure, numbers, _caption(results, subject))


def _caption(results: xr.Dataset, subject: Subject) -> str:
    said = []
    for name, text in (("consistency", "consistency"), ("item_share", "item share")):
        if not np.isfinite(results[name]).any():
            continue
        best = results.isel(pivot=int(results[name].fillna(-np.inf).argmax("pivot")))
        said.append(
            f"{text} with others is highest around {_label(best, subject)} ({between(best, name)})"
        )
        if subject.pivot in results["pivot"].values:
            here = results.sel(pivot=subject.pivot)
            apart = between(here, f"{name}_difference", decimal)
            said.append(f"around {_label(here, subject)} it is {apart} from the mean of pivots")
    return (
        f"**{subject.model} on {subject.dataset}**: {spoken(said) or 'nothing could be compared'}."
        f"{_without_lift(results, subject)}"
        "\n\n*How to read it*: a row per language in the pivot's place, the study's own in colour; "
        "means over all other languages, so each row leaves out another language. Thick "
        "intervals are over questions, thin ones over questions and languages; dotted lines are "
        "means over all pivots. Consistency and transfer rise with the pivot's accuracy (left): a "
        "language is special where it stands out beyond that. The highest of several noisy rows "
        "is too high."
    )


def _without_lift(results: xr.Dataset, subject: Subject) -> str:
    """Which pivots have no lift of transfer from them, and why."""
    said = [
        f"{_label(results.sel(pivot=tag), subject)} ({reason})"
        for tag, reason in results["transfer_lift_reason"].to_series().items()
        if reason
    ]
    return f" No transfer above accuracy (–), nothing to compare: {spoken(said)}." if said else ""


def _label(result: xr.Dataset, subject: Subject) -> str:
    return subject.label(str(result["pivot"].item())).rstrip("*")
