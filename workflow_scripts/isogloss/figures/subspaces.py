"""The language subspace: where languages lie, what varies, and how much their spaces overlap."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from isogloss.figures.colours import BLACK, BLUE, GREY, ORANGE, PALE
from isogloss.figures.many import line_look, named_lines, outermost
from isogloss.figures.style import (
    FAMILIES_NOTE,
    Drawing,
    Subject,
    depth_axis,
    label_ends,
    label_points,
    language_styles,
    near_chance_note,
    new_figure,
    numbers_of,
    say_empty,
)
from isogloss.figures.text import decimal, percent

MOST_POINTS = 20  # languages of the map that are named
SOURCES = (("item", BLUE, "item"), ("language", ORANGE, "language"), ("residual", PALE, "residual"))


def middle_layer(subspaces: xr.Dataset) -> int:
    """Index of the measured layer that is nearest to half of the depth."""
    measured = subspaces["principal_angle"].notnull().any(["language", "language_2", "angle"])
    away = np.abs(subspaces["relative_depth"].values - 0.5)
    return int(np.where(measured.values | ~measured.values.any(), away, np.inf).argmin())


def language_subspace(subspaces: xr.Dataset, subject: Subject) -> Drawing:
    """Offset map, variance shares, overlap with the pivot, and principal angles.

    Args:
        subspaces: of `isogloss.measures.subspaces.subspaces`.
    """
    order = subject.order(subspaces["language"].values)
    results = subspaces.sel(language=order, language_2=order)
    layer = middle_layer(results)
    figure = new_figure(
        subject, "The language subspace", 6.0, [FAMILIES_NOTE, near_chance_note(subject, order)]
    )
    axes = figure.subplots(2, 2)
    _offset_map(axes[0, 0], results.isel(layer=layer), subject, order)
    _variance_panel(axes[0, 1], results)
    _overlap_panel(axes[1, 0], results, subject, order)
    _angle_panel(axes[1, 1], results.isel(layer=layer), subject, order)
    names = ["offset_coordinate", "offset_variance", "language_rank", "variance_share"]
    names += ["overlap", "overlap_ceiling", "overlap_floor", "principal_angle", "offset_p"]
    names += ["shared_correlation", "shared_correlation_null", "separability", "separability_null"]
    small = results.drop_vars(["offset", "basis"], errors="ignore")
    return Drawing(figure, numbers_of(small, names), _caption(results, subject, order, layer))


def _offset_map(ax: Axes, results: xr.Dataset, subject: Subject, order: list[str]) -> None:
    """Language offsets along their first two components."""
    styles = language_styles(order, subject)
    where = results["offset_coordinate"].isel(component=slice(0, 2)).values
    if where.shape[1] < 2:
        where = np.column_stack([where[:, 0], np.zeros(len(where))])
    scale = float(np.nanmax(np.abs(where))) or 1.0
    ax.axhline(0, color=PALE, linewidth=0.7, zorder=0)
    ax.axvline(0, color=PALE, linewidth=0.7, zorder=0)
    where = where / scale
    for tag, (x, y) in zip(order, where, strict=True):
        size = 6 if len(order) <= MOST_POINTS else 4
        ax.plot(x, y, **(styles[tag] | {"markersize": size, "linestyle": "none"}))
    ax.margins(0.15)
    ax.autoscale_view()
    named = outermost(where, MOST_POINTS) | (np.array(order) == subject.pivot)
    texts = [
        tag + subject.mark(tag) for tag, is_named in zip(order, named, strict=True) if is_named
    ]
    label_points(ax, texts, where[named], (2.7, 1.9))
    shares = 100 * results["offset_variance"].values
    ax.set_xlabel(f"component 1 ({shares[0]:.0f}% of the offsets' variance)")
    ax.set_ylabel(f"component 2 ({shares[1]:.0f}%)" if len(shares) > 1 else "")
    ax.set_title(f"language offsets at depth {decimal(results['relative_depth'])}")


def _variance_panel(ax: Axes, results: xr.Dataset) -> None:
    """Variance shares of item, language and the rest, stacked over layers."""
    depth = results["relative_depth"].values
    shares = results["variance_share"].clip(min=0)
    known = [(*entry,) for entry in SOURCES if shares.sel(source=entry[0]).notnull().any()]
    base = np.zeros(len(depth))
    for source, color, label in known:
        top = base + 100 * shares.sel(source=source).values
        ax.fill_between(depth, base, top, color=color, linewidth=0)
        middle = len(depth) // 2
        if top[middle] - base[middle] > 8:
            ax.text(depth[middle], (top[middle] + base[middle]) / 2, label, ha="center",
                    va="center", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
                    fontsize="small")  # fmt: skip
        base = top
    depth_axis(ax)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 100)
    ax.set_ylabel("share of variance [%]")
    ax.set_title("what the states vary with")


def _overlap_panel(ax: Axes, results: xr.Dataset, subject: Subject, order: list[str]) -> None:
    """Overlap of each language's subspace with the pivot's, between floor and ceiling."""
    part = results.isel(layer=np.flatnonzero(np.isfinite(results["overlap_floor"])))
    depth = part["relative_depth"].values
    others = [tag for tag in order if tag != subject.pivot]
    styles = language_styles(order, subject)
    pairs = part.sel(language=others, language_2=subject.pivot)
    ceiling, floor = pairs["overlap_ceiling"].mean("language"), part["overlap_floor"]
    ax.fill_between(depth, floor, ceiling, color=PALE, alpha=0.45, linewidth=0)
    ax.plot(depth, ceiling, color=BLACK, linewidth=1.4)
    ax.plot(depth, floor, color=GREY, linewidth=1, linestyle=(0, (1, 1)))
    named = named_lines(pairs["overlap"])
    for tag in others:
        ax.plot(depth, pairs["overlap"].sel(language=tag), **line_look(styles[tag], tag in named))
    depth_axis(ax)
    ax.set_ylim(bottom=0)
    if len(depth):
        ends = {t + subject.mark(t): float(pairs["overlap"].sel(language=t)[-1]) for t in named}
        colors = {t + subject.mark(t): str(styles[t]["color"]) for t in named}
        ends |= {"ceiling": float(ceiling[-1]), "floor": float(floor[-1])}
        colors |= {"ceiling": BLACK, "floor": GREY}
        label_ends(ax, float(depth[-1]), ends, colors, 1.9, always=("ceiling", "floor"))
    if not pairs["overlap"].notnull().any():
        say_empty(ax, "unknown: too few items for two halves")
    ax.set_ylabel("mean squared cosine")
    ax.set_title(f"overlap with {subject.label(subject.pivot)}'s own subspace")


def _angle_panel(ax: Axes, results: xr.Dataset, subject: Subject, order: list[str]) -> None:
    """Principal angles with the pivot's subspace, smallest first."""
    styles = language_styles(order, subject)
    angles = results["principal_angle"].sel(language_2=subject.pivot)
    ranks = np.arange(1, angles.sizes["angle"] + 1)
    others = [tag for tag in order if tag != subject.pivot]
    named = named_lines(angles.sel(language=others))
    for tag in others:
        ax.plot(ranks, angles.sel(language=tag), **line_look(styles[tag], tag in named))
    ax.set_ylim(0, 92)
    ax.set_yticks([0, 30, 60, 90])
    ax.set_xlim(0.6, len(ranks) + 0.4)
    ax.set_xticks(ranks)
    ax.set_xlabel("principal angle, smallest first")
    ax.set_ylabel("angle [degree]")
    depth = decimal(results["relative_depth"])
    ax.set_title(f"angles with {subject.label(subject.pivot)}'s at depth {depth}")


def _caption(results: xr.Dataset, subject: Subject, order: list[str], layer: int) -> str:
    here = results.isel(layer=layer)
    shares = here["variance_share"].sel(source=["item", "language"]).values
    others = [tag for tag in order if tag != subject.pivot]
    pairs = here.sel(language=others, language_2=subject.pivot)
    return (
        f"**{subject.model} on {subject.dataset}**: at relative depth "
        f"{decimal(here['relative_depth'])}, the language explains {percent(shares[1])} of the "
        f"states' variance and the item {percent(shares[0])} (per dimension, standardised within "
        f"languages); {_components(int(here['language_rank']))} 95% of the language offsets, "
        f"the language of a held-out state is classified correctly in "
        f"{percent(here['separability'])} of cases "
        f"({percent(here['separability_null'])} with permuted labels), and the overlap with "
        f"{subject.label(subject.pivot)}'s own subspace {_overlap_text(pairs, here, subject)}.\n\n"
        "*How to read it*: top left, per-language means less the mean of all, along the two "
        "directions that separate them most. Top right, shares of variance by expected mean "
        "squares. Bottom left, how much of each language's principal subspace lies in that of "
        f"{subject.label(subject.pivot)}, fitted on other items; the ceiling is a language with "
        "itself, the floor random subspaces with the same covariance. Bottom right, the angles "
        "between the two at one layer (marks as on the left); 90 degrees is nothing in common."
    )


def _components(count: int) -> str:
    """A number of components with its verb: "1 component holds"."""
    return "1 component holds" if count == 1 else f"{count} components hold"


def _overlap_text(pairs: xr.Dataset, here: xr.Dataset, subject: Subject) -> str:
    """The overlap with the pivot at one layer; unknown where halves of the items are too small."""
    floor = f"floor {decimal(here['overlap_floor'])}"
    if not pairs["overlap"].notnull().any():
        measured = np.isfinite(here["overlap_floor"])
        why = f", as is its ceiling ({floor}): no halves of whole clusters are large enough"
        return "is unknown" + (why if measured else "")
    closest = subject.label(str(pairs["overlap"].fillna(-1).idxmax("language").item()))
    highest = float(pairs["overlap_ceiling"].mean())
    ceiling = f"ceiling {decimal(highest)}"
    if highest <= float(here["overlap_floor"]):
        ceiling = f"too few items for subspaces: {ceiling}"
    mean = f"is {decimal(pairs['overlap'].mean())} on average ({ceiling}, {floor})"
    return f"{mean}, the highest in {closest.rstrip('*')}"
