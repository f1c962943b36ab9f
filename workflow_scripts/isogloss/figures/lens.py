"""Logit lens: what each layer would answer, and in which language."""

from typing import Any, SupportsFloat

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from isogloss.figures.colours import BLACK, BLUE, GREY, PALE, RED
from isogloss.figures.many import shown_languages, shown_note
from isogloss.figures.style import (
    FAMILIES_NOTE,
    Drawing,
    Subject,
    confidence,
    depth_axis,
    dots,
    label_ends,
    language_styles,
    legend_below_title,
    near_chance_note,
    new_figure,
    numbers_of,
    rows_axis,
    say_empty,
    spoken,
)
from isogloss.figures.text import ENDS, between, decimal, percent, points

COLUMNS = 5  # panels of a row of small multiples
MOST_PANELS = 39  # of languages beside the pivot
MOST_WITH_BANDS = 4  # languages of one panel whose intervals are all drawn
LATENT_STYLES = (
    ("prompt", BLACK, "o", "-", "in the prompt's language"),
    ("pivot", RED, "s", "--", "in {pivot}"),
    ("control", BLUE, "^", ":", "in the control language"),
)


def latent_accuracy(trajectories: xr.Dataset, subject: Subject) -> Drawing:
    """Accuracy of each layer's best choice, by latent language; a panel per prompt language.

    Args:
        trajectories: of `isogloss.measures.trajectories.trajectories`.
    """
    order = subject.order(trajectories["language"].values)
    lead = trajectories["latent_accuracy_contrast"].sel(contrast="pivot_prompt").mean("layer")
    shown = shown_languages(order, lead, subject, MOST_PANELS)
    pivot = subject.label(subject.pivot)
    rows = -(-len(shown) // COLUMNS)
    figure = new_figure(
        subject,
        "Logit lens: accuracy of the choices in three languages, after the same prompt",
        1.15 + 1.5 * rows,
        [
            confidence(trajectories),
            shown_note(order, shown, f"accuracy in {pivot} less that in the prompt's language"),
            near_chance_note(subject, shown),
        ],
        legends=1,
    )
    columns = min(COLUMNS, len(shown))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, tag in zip(axes.flat, shown, strict=False):
        _accuracy_panel(ax, trajectories.sel(language=tag), subject, tag)
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    axes[0, 0].set_ylim(0, 100)
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy [%]")
    for index in range(columns):
        depth_axis(axes[(len(shown) - 1 - index) // columns, index])
    legend_below_title(figure, axes.flat[min(1, len(shown) - 1)])
    names = ["latent_accuracy", "latent_accuracy_choices_only", "latent_accuracy_contrast"]
    names += ["mean_latent_accuracy_contrast", "latent_consistency", "chance"]
    caption = _accuracy_caption(trajectories, subject, order)
    return Drawing(figure, numbers_of(trajectories, names), caption)


def _accuracy_panel(ax: Axes, results: xr.Dataset, subject: Subject, tag: str) -> None:
    depth = results["relative_depth"].values
    ax.axhline(100 * float(results["chance"]), color=GREY, linestyle=(0, (1, 1)), linewidth=0.8)
    pivot = subject.label(subject.pivot)
    for latent, color, marker, dash, label in LATENT_STYLES:
        middle, low, high = (
            100 * results[f"latent_accuracy{end}"].sel(latent=latent).values for end in ENDS
        )
        if np.isfinite(middle).any():
            ax.fill_between(depth, low, high, color=color, alpha=0.15, linewidth=0)
            style: dict[str, Any] = {
                "color": color,
                "marker": marker,
                "linestyle": dash,
                "markersize": 3.2,
            }
            ax.plot(depth, middle, label=f"choices {label.format(pivot=pivot)}", **style)
            alone = 100 * float(results["latent_accuracy_choices_only"].sel(latent=latent))
            ax.plot([0, 0.06], [alone, alone], color=color, linewidth=2.5, solid_capstyle="butt")
    ax.set_title(subject.label(tag))


def _accuracy_caption(results: xr.Dataset, subject: Subject, order: list[str]) -> str:
    pivot = subject.label(subject.pivot)
    others = [tag for tag in order if tag != subject.pivot]
    values = results["latent_accuracy"].sel(language=others).mean("language")
    through = values.sel(latent="pivot")
    best = int(through.fillna(-1).argmax("layer"))
    end = values.sel(latent="prompt").isel(layer=-1)
    start = float(results["relative_depth"][best])
    in_prompt = values.sel(latent="prompt").isel(layer=best)
    alone = float(
        results["latent_accuracy_choices_only"].sel(language=others, latent="pivot").mean()
    )
    by_choices = f", {percent(alone)} by the {pivot} choices alone" if np.isfinite(alone) else ""
    prompts = f"{len(others)} languages" if len(others) != 1 else "language"
    at = results.isel(layer=best)
    name = "mean_latent_accuracy_contrast"
    contrasts = [
        f"{between(at.sel(contrast=contrast), name, points)} points from those in {language}"
        for contrast, language in (
            ("pivot_prompt", "the prompt's language"),
            ("pivot_control", "the control language"),
        )
        if np.isfinite(float(at[name].sel(contrast=contrast)))
    ]
    return (
        f"**{subject.model} on {subject.dataset}**: after prompts in the {prompts} "
        f"other than {pivot}, the choices read out in {pivot} are right for "
        f"{percent(through[best])} of the items at relative depth {decimal(start)}, those in the "
        f"prompt's language for {percent(in_prompt)} there and {percent(end)} at the last layer "
        f"(means over languages; {percent(results['chance'])} by guessing{by_choices}). At that "
        f"depth, chosen because it is the highest, they differ by {spoken(contrasts)}.\n\n"
        "*How to read it*: each panel is a prompt language. At every stored layer the final norm "
        "and the unembedding are applied to the states, and the choices are ranked by their "
        f"latent log-probability: as written in the prompt's language, in {pivot} and in a control "
        f"language. A line for {pivot} far above the others means that the answer is there but is "
        "not said in the prompt's language. The dotted line is guessing. Thick strokes at the "
        "left are the accuracy of the choices alone: at the embedding the states hold the "
        "prompt's last token and nothing of the question. Read each line against its stroke."
    )


def latent_language(trajectories: xr.Dataset, subject: Subject) -> Drawing:
    """Log-odds of the pivot, consistency with the pivot's prompt, and where answers settle.

    Args:
        trajectories: of `isogloss.measures.trajectories.trajectories`.
    """
    order = subject.order(trajectories["language"].values)
    others = [tag for tag in order if tag != subject.pivot]
    depths = trajectories["settling_depth"].sel(latent="prompt")
    shown = shown_languages(order, depths, subject)
    figure = new_figure(
        subject,
        "Logit lens: which language, how consistent, and when it settles",
        max(3.5, 1.4 + 0.2 * len(shown)),
        [
            confidence(trajectories),
            shown_note(order, shown, "settling depth (right)"),
            "thick: mean over languages" if len(others) > MOST_WITH_BANDS else "",
            FAMILIES_NOTE,
            near_chance_note(subject, order),
        ],
        legends=1,
    )
    axes = figure.subplots(1, 3, width_ratios=[1, 1, 0.95])
    _lines(axes[0], trajectories, subject, others, "pivot_log_odds")
    pivot = subject.label(subject.pivot)
    axes[0].set_ylabel("nat per token")
    axes[0].set_title(f"log-odds of the gold answer\nin {pivot}, less after other prompts")
    _lines(axes[1], trajectories, subject, others, "latent_consistency")
    axes[1].set_ylabel("Spearman's ρ")
    axes[1].set_title(f"choice ranks, with those after\nthe {pivot} prompt at this layer")
    _settling_panel(axes[2], trajectories, subject, shown)
    legend_below_title(figure, axes[2], "settling of answers", side="right")
    names = ["pivot_log_odds", "pivot_log_odds_first_token", "latent_consistency"]
    names += ["settling_depth", "settling_depth_shuffled"]
    caption = _language_caption(trajectories, subject, others)
    return Drawing(figure, numbers_of(trajectories, names), caption)


def _lines(ax: Axes, results: xr.Dataset, subject: Subject, tags: list[str], name: str) -> None:
    """A line per language, named at its end; a band for each of a few, else for the extremes.

    With more languages than a few, the others are thin and their mean is thick: as many bands as
    lines would be a haze.
    """
    depth = results["relative_depth"].values
    styles = language_styles(list(map(str, results["language"].values)), subject)
    ax.axhline(0, color=GREY, linewidth=0.8, linestyle=(0, (1, 1)))
    values = results[name].sel(language=tags)
    if not values.notnull().any():
        say_empty(ax, "unknown: no gold choice that is spelled otherwise")
        depth_axis(ax)
        return
    with_bands = tags if len(tags) <= MOST_WITH_BANDS else _extremes(values)
    band = slice(_first_read(results), None)
    for tag in tags:
        line = values.sel(language=tag).values
        if tag not in with_bands:
            faint = min(0.6, 15 / len(tags))
            ax.plot(depth, line, color=styles[tag]["color"], linewidth=0.7, alpha=faint, zorder=1.5)
            continue
        low, high = (results[name + end].sel(language=tag).values for end in ("_low", "_high"))
        color = styles[tag]["color"]
        ax.fill_between(depth[band], low[band], high[band], color=color, alpha=0.15, linewidth=0)
        ax.plot(depth, line, **styles[tag])
    if len(tags) > MOST_WITH_BANDS:
        ax.plot(depth, values.mean("language"), color=BLACK, linewidth=2.2)
    depth_axis(ax)
    ends = {tag + subject.mark(tag): float(results[name].sel(language=tag)[-1]) for tag in tags}
    colors = {tag + subject.mark(tag): str(styles[tag]["color"]) for tag in tags}
    bands = [tag + subject.mark(tag) for tag in with_bands]
    label_ends(ax, float(depth[-1]), ends, colors, 2.2, always=bands)


def _first_read(results: xr.Dataset | xr.DataArray) -> int:
    """Index of the first layer behind the embedding, whose lens is mostly noise."""
    depths = results["relative_depth"].values
    return int(depths[0] == 0 and len(depths) > 1)


def _extremes(values: xr.DataArray) -> list[str]:
    """The languages that are lowest and highest where their mean is farthest from 0."""
    mean = values.mean("language")
    first = _first_read(values)
    peak = first + int(abs(mean[first:]).fillna(-1).argmax("layer"))
    known = values.isel(layer=peak).dropna("language")
    return [str(known.idxmin("language").item()), str(known.idxmax("language").item())]


def _settling_panel(ax: Axes, results: xr.Dataset, subject: Subject, order: list[str]) -> None:
    rows = np.arange(len(order))
    hollow = [tag in subject.near_chance for tag in order]
    pivot = subject.label(subject.pivot)
    for latent, color, marker, _, label in LATENT_STYLES[:2]:
        part = results.sel(latent=latent, language=order)
        values = [part[f"settling_depth{end}"].values for end in ENDS]
        shift = -0.14 if latent == "prompt" else 0.14
        dots(ax, values, rows + shift, hollow, color, marker, label.format(pivot=pivot))
    shuffled = results["settling_depth_shuffled"].sel(latent="prompt", language=order)
    ax.scatter(
        shuffled, rows, marker="|", s=60, color=PALE, linewidths=1.5, label="other items' answers"
    )
    rows_axis(ax, [subject.label(tag) for tag in order])
    low = float(results["settling_depth_low"].sel(latent=["prompt", "pivot"]).min())
    ax.set_xlim(min(0.5, low - 0.05), 1.0)
    ax.set_xlabel("relative depth")
    ax.set_title("settling depth: the answer\nstays from here on")


def _language_caption(results: xr.Dataset, subject: Subject, others: list[str]) -> str:
    pivot = subject.label(subject.pivot)
    odds = results["pivot_log_odds"].sel(language=others)
    mean = odds.mean("language")
    first = _first_read(odds)
    peak = first + int(mean[first:].fillna(-np.inf).argmax("layer"))
    in_prompt = float(results["settling_depth"].sel(language=others, latent="prompt").mean())
    through = float(results["settling_depth"].sel(language=others, latent="pivot").mean())
    return (
        f"**{subject.model} on {subject.dataset}**: {_odds_text(odds, peak, subject)}; "
        f"answers in the prompt's language settle at depth {decimal(in_prompt)}, those in {pivot} "
        f"at {decimal(through)}.\n\n"
        f"*How to read it*: left, log p(gold answer in {pivot}) less log p(gold answer in the "
        "prompt's language), per token, less the same for this answer after other items' prompts; "
        "above 0 the "
        f"layer leans towards {pivot}. Items whose gold choice is spelled alike in both languages "
        f"are left out. Middle, agreement of the choices' ranks with those after the {pivot} "
        "prompt. Right, mean over items of the depth from which the predicted choice stays; grey "
        "bars, the depth from which it stays at the final answer of another item: what layers "
        "share whatever is asked; a lasting taste for an item's choices settles earlier too. "
        "Bands are intervals, of the two extreme languages where there are more than a few, left "
        "out at the embedding, where the lens is mostly noise."
    )


def _odds_text(odds: xr.DataArray, peak: int, subject: Subject) -> str:
    """Whether the gold answer is likelier in the pivot than in the prompt's language, in words.

    Args:
        odds: (language, layer) log-odds of the pivot; NaN without a gold choice spelled otherwise.
        peak: index of the layer to name besides the last.
    """
    pivot = subject.label(subject.pivot)
    here = odds.isel(layer=peak).dropna("language")
    if not here.size:
        return (
            f"whether the gold answer is likelier in {pivot} than in the prompt's language is "
            "unknown, since no gold choice is spelled otherwise there"
        )
    depth, last = decimal(float(here["relative_depth"])), odds.isel(layer=-1).mean()
    ends = [
        here.isel(language=int(place)) for place in (here.values.argmin(), here.values.argmax())
    ]
    named = [
        f"{_by(end)} ({subject.label(str(end['language'].item())).rstrip('*')})" for end in ends
    ]
    span = f", from {' to '.join(named)}" if here.sizes["language"] > 1 else ""
    return (
        f"the gold answer is {_by(here.mean())} per token in {pivot} than in the prompt's language "
        f"on average at relative depth {depth}{span}, and {_by(last)} at the last layer"
    )


def _by(odds: SupportsFloat) -> str:
    """A log-odds in words.

    >>> _by(0.5), _by(-0.07)
    ('likelier by 0.50 nat', 'less likely by 0.07 nat')
    """
    return f"{'likelier' if float(odds) >= 0 else 'less likely'} by {decimal(abs(float(odds)))} nat"
