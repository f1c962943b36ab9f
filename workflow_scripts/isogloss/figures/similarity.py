"""Same place and same shape: how near parallel items lie, layer by layer and pair by pair."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from isogloss.figures.colours import BLACK, GREY, PALE
from isogloss.figures.many import line_look, named_lines
from isogloss.figures.style import (
    FAMILIES_NOTE,
    Drawing,
    Subject,
    between_both,
    depth_axis,
    heat_map,
    label_ends,
    language_styles,
    near_chance_note,
    new_figure,
    numbers_of,
    spoken,
)
from isogloss.figures.text import decimal
from isogloss.files.netcdf import confidence_of

PANELS = (
    ("item_share", "item_share_pair", "same place: item share", "intraclass correlation"),
    ("cka", "cka_pair", "same shape: debiased CKA", "debiased linear CKA"),
    ("retrieval_mean", "retrieval", "translation is the nearest neighbour", "share of items"),
    ("", "cosine_centred", "cosine of translations", "cosine"),
)


def place_and_shape(similarity: xr.Dataset, subject: Subject) -> Drawing:
    """Item share, debiased CKA, retrieval and cosine against relative depth, with their nulls.

    Args:
        similarity: of `isogloss.measures.similarity.similarity`.
    """
    order = subject.order(similarity["language"].values)
    figure = new_figure(
        subject,
        "Where translations meet: same place, same shape",
        5.4,
        [
            "bands: interval of the mean over items, and (paler) over items and languages",
            "shaded: middle half of depth",
            FAMILIES_NOTE,
            near_chance_note(subject, order),
        ],
    )
    axes = figure.subplots(2, 2, sharex=True)
    for ax, (mean, pair, title, unit) in zip(axes.flat, PANELS, strict=True):
        _depth_panel(ax, similarity, subject, order, mean, pair)
        ax.set_title(title)
        ax.set_ylabel(unit)
    axes[0, 0].set_xlabel("")
    axes[0, 1].set_xlabel("")
    names = ["item_share", "item_share_pivot", "item_share_length_adjusted", "cka", "cka_pivot"]
    names += ["retrieval_mean", "retrieval_pivot", "retrieval_chance", "dissociation"]
    names += ["dissociation_null", "item_share_pair", "item_share_pair_null"]
    names += ["item_share_pair_threshold", "cka_pair", "cka_pair_null", "cka_pair_threshold"]
    names += ["retrieval", "cosine_centred", "cosine_raw"]
    present = [name for name in names if name in similarity]
    return Drawing(figure, numbers_of(similarity, present), _caption(similarity, subject, order))


def _depth_panel(
    ax: Axes, results: xr.Dataset, subject: Subject, order: list[str], mean: str, pair: str
) -> None:
    """A line per language (with the pivot), the mean over all pairs, null and threshold.

    Over the layers that have the measure: retrieval may be taken at some only.
    """
    measured = results[pair].notnull().any(["language", "language_2"]).values
    results = results.isel(layer=measured) if measured.any() else results
    depth = results["relative_depth"].values
    styles = language_styles(order, subject)
    ax.axvspan(*results.attrs["middle"], color="#f3f3f3", zorder=0)
    others = [tag for tag in order if tag != subject.pivot]
    every = max(1, round(len(depth) / 6))
    pairs = results.sel(language=others, language_2=subject.pivot)
    named = named_lines(pairs[pair])
    for index, tag in enumerate(others):
        line, look = pairs[pair].sel(language=tag).values, line_look(styles[tag], tag in named)
        ax.plot(depth, line, markevery=(index % every, every), **look)
    if mean:
        for over, alpha in (("", 0.22), ("_crossed", 0.08)):
            low, high = (results[f"{mean}{over}{end}"].values for end in ("_low", "_high"))
            ax.fill_between(depth, low, high, color=BLACK, alpha=alpha, linewidth=0)
        ax.plot(depth, results[mean], color=BLACK, linewidth=2.2)
    _null(ax, results, pair, depth)
    if not mean:
        _raw_cosine(ax, results, subject)
    depth_axis(ax)
    ends = {tag + subject.mark(tag): float(pairs[pair].sel(language=tag)[-1]) for tag in named}
    colors = {tag + subject.mark(tag): str(styles[tag]["color"]) for tag in named}
    if mean:
        ends["mean"], colors["mean"] = float(results[mean][-1]), BLACK
    label_ends(ax, float(depth[-1]), ends, colors, 1.8, always=["mean"])


def _null(ax: Axes, results: xr.Dataset, pair: str, depth: np.ndarray) -> None:
    """What chance gives: the mean of the null, and what it exceeds nowhere."""
    style: dict[str, Any] = {"color": GREY, "linewidth": 1, "linestyle": (0, (1, 1))}
    if pair == "retrieval":
        ax.axhline(float(results["retrieval_chance"]), **style)
        return
    null = results[f"{pair}_null"].mean(["language", "language_2"])
    ax.plot(depth, null, **style)
    if f"{pair}_threshold" in results:
        threshold = results[f"{pair}_threshold"].max(["language", "language_2"])
        ax.fill_between(depth, null, threshold, color=PALE, alpha=0.6, linewidth=0, zorder=1)


def _raw_cosine(ax: Axes, results: xr.Dataset, subject: Subject) -> None:
    """The uncentred cosine, nearly the same for translations and for any two items."""
    depth = results["relative_depth"].values
    others = [t for t in results["language"].values if t != subject.pivot]
    pairs = results[["cosine_raw", "cosine_raw_null"]]
    pairs = pairs.sel(language=others, language_2=subject.pivot).mean("language")
    # Black is the pivot's, which has no line here; all other colours are languages'.
    ax.plot(depth, pairs["cosine_raw"], color=BLACK, linewidth=1.6)
    ax.plot(depth, pairs["cosine_raw_null"], color=BLACK, linewidth=1.2, linestyle=(0, (1, 1)))
    ax.set_ylim(-0.05, 1.12)
    ax.text(0.5, 1.045, "not centred, translations and (dotted) any two items", color=BLACK,
            ha="center", fontsize="small")  # fmt: skip


def _caption(results: xr.Dataset, subject: Subject, order: list[str]) -> str:
    shares = results["item_share"]
    peak = int(shares.fillna(-1).values.argmax())
    apart = results["dissociation_by_language"].to_series().drop(subject.pivot, errors="ignore")
    return (
        f"**{subject.model} on {subject.dataset}**: the item share of the {len(order)} languages "
        f"is {decimal(shares[0])} at the embedding, {decimal(shares[peak])} at its highest (at "
        f"relative depth {decimal(results['relative_depth'][peak])}) and {decimal(shares[-1])} at "
        f"the end; the dissociation score is {between_both(results, 'dissociation')} "
        f"({decimal(results['dissociation_null'])} with shuffled items)"
        f"{_apart_text(apart.dropna(), subject)}.{few_sentence(results, subject)}\n\n"
        "*How to read it*: thin lines, each language with "
        f"{subject.label(subject.pivot)}; thick line, all languages (or all pairs), with its "
        "intervals: dark for other items in these languages, pale for other items and other "
        "languages. Item share is 1 when translations coincide and 0 when pairing carries nothing; "
        "CKA does not see rotation and says only that items are arranged alike. Dotted: items "
        "shuffled (for retrieval, chance); the grey band reaches up to what shuffled items exceed "
        f"in {100 * (1 - confidence_of(results)):g}% of cases anywhere on the map. The cosine "
        "without centring (black) is high for any two items, so it says little about translations."
    )


def few_sentence(results: xr.Dataset, subject: Subject) -> str:
    """In which languages a few questions decide CKA and the cosine; nothing where in none."""
    tags = results["language"].values[results["few_decide"].values.astype(bool)]
    if not len(tags):
        return ""
    names = spoken([subject.label(str(tag)).rstrip("*") for tag in tags])
    return (
        " A twentieth of the questions has most of the variance of the states in "
        f"{names} (massive activations): there, and in means over all languages, CKA and the "
        "cosine rest on these few. Item share does not."
    )


def _apart_text(apart: pd.Series, subject: Subject) -> str:
    """How far from the pivot the nearest and the farthest language are; nothing where unknown."""
    pivot = subject.label(subject.pivot)
    names = [subject.label(str(tag)).rstrip("*") for tag in apart.index]
    if len(apart) < 2:
        return "".join(
            f", {decimal(v)} ({n}) with {pivot}" for n, v in zip(names, apart, strict=True)
        )
    near, far = (names[int(place)] for place in (apart.argmin(), apart.argmax()))
    return f", from {decimal(apart.min())} ({near}) to {decimal(apart.max())} ({far}) with {pivot}"


def language_pairs(similarity: xr.Dataset, subject: Subject) -> Drawing:
    """Item share and debiased CKA of every pair of languages, mean over the middle half of depth.

    Args:
        similarity: of `isogloss.measures.similarity.similarity`.
    """
    order = subject.order(similarity["language"].values)
    results = similarity.sel(language=order, language_2=order)
    figure = new_figure(
        subject,
        "Pairs of languages: same place, same shape",
        1.25 + min(0.21 * len(order), 5.2),
        ["mean over the middle half of relative depth", near_chance_note(subject, order)],
    )
    tags = [tag + subject.mark(tag) for tag in order]
    titles = ("same place: item share", "same shape: debiased CKA")
    names = ("item_share_middle", "cka_middle")
    for ax, name, title in zip(figure.subplots(1, 2), names, titles, strict=True):
        values = results[name].values.copy()
        np.fill_diagonal(values, np.nan)
        image = heat_map(ax, values, tags, tags, (0, max(0.1, np.nanmax(values, initial=0))))
        ax.set_title(title)
        figure.colorbar(image, ax=ax, aspect=30, pad=0.02)
    return Drawing(figure, numbers_of(results, names), _pairs_caption(results, subject))


def _pairs_caption(results: xr.Dataset, subject: Subject) -> str:
    def extremes(name: str) -> str:
        values = results[name].values.copy()
        values[np.tril_indices(len(values))] = np.nan
        if not np.isfinite(values).any():
            return "is unknown"
        tags = results["language"].values
        text = []
        for find in (np.nanargmin, np.nanargmax):
            row, column = np.unravel_index(find(values), values.shape)
            text.append(f"{decimal(values[row, column])} ({tags[row]} and {tags[column]})")
        return f"is {text[0]}" if text[0] == text[1] else f"goes from {' to '.join(text)}"

    return (
        f"**{subject.model} on {subject.dataset}**: over pairs of languages, item share in the "
        f"middle half of depth {extremes('item_share_middle')} and debiased CKA "
        f"{extremes('cka_middle')}.{few_sentence(results, subject)}\n\n"
        "*How to read it*: left, whether translations lie at the same place; right, whether items "
        "are arranged alike, whatever the place. The two need not agree: what is high on the right "
        "and low on the left has the same geometry in other directions."
    )
