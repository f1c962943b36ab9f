"""Accuracy, consistency and transfer by language."""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from isogloss.figures.colours import BLACK, DIVERGING, GREY, ORANGE, RED
from isogloss.figures.many import shown_languages, shown_note, spoken_languages
from isogloss.figures.style import (
    MOST_ANNOTATED,
    Drawing,
    Subject,
    confidence,
    dots,
    heat_map,
    legend_below_title,
    near_chance_note,
    new_figure,
    numbers_of,
    rows_axis,
    say_empty,
)
from isogloss.figures.text import ENDS, between, percent, points

# What the choices' scores without the question give, where these were extracted.
CHOICES_ONLY = ("accuracy_choices_only", "consistency_choices_only")


def items_and_clusters(results: xr.Dataset) -> str:
    """How many items there are, and how many clusters they form."""
    return f"{results.sizes['item']} items in {int(results.attrs['n_clusters'])} clusters"


def alike_mark(results: xr.Dataset, tag: str) -> str:
    """A dagger where a language spells most choices as another one does."""
    return "†" if bool(results["mostly_alike"].sel(language=tag)) else ""


def alike_note(results: xr.Dataset) -> str:
    """What the dagger means, where a language bears one."""
    return "† choices mostly spelled alike" if bool(results["mostly_alike"].any()) else ""


def alike_sentence(results: xr.Dataset) -> str:
    """That agreement may be a preference for strings, where most choices are spelled alike."""
    if not bool(results["mostly_alike"].any()):
        return ""
    share = results["identical_share_pairs"].values[~np.eye(results.sizes["language"], dtype=bool)]
    return (
        f" Up to {percent(share.max())} of the choices are the same strings in two languages "
        "(dagger): what these agree on may be a preference for certain strings, whatever is asked."
    )


def _choices_only(results: xr.Dataset) -> str:
    """What consistency the choices alone give, where that is known."""
    name = "mean_consistency_choices_only"
    if name not in results:
        return ""
    value = between(results.sel(scope="pivot_pairs"), name)
    return f" (without the question, the choices alone give {value})"


def accuracy_and_consistency(behaviour: xr.Dataset, subject: Subject) -> Drawing:
    """Accuracy with intervals beside the matrix of consistency, the pivot first.

    Args:
        behaviour: of `isogloss.measures.behaviour.behaviour`.
    """
    order = subject.order(behaviour["language"].values)
    results = behaviour.sel(language=order, language_2=order)
    shown = shown_languages(order, results["accuracy"], subject)
    figure = new_figure(
        subject,
        "Accuracy, and consistency between languages",
        1.35 + 0.26 * len(shown),
        [
            items_and_clusters(results),
            f"{confidence(results)} over clusters of items",
            shown_note(order, shown, "accuracy (left)"),
            near_chance_note(subject, order),
            alike_note(results),
        ],
    )
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.75])
    _accuracy_panel(left, results.sel(language=shown), subject)
    _consistency_panel(right, results, subject)
    names = ["accuracy", "chance", "near_chance", "consistency", "consistency_shuffled"]
    names += ["identical_share_pairs", *(name for name in CHOICES_ONLY if name in results)]
    return Drawing(figure, numbers_of(results, names), _accuracy_caption(results, subject, order))


def _accuracy_panel(ax: Axes, results: xr.Dataset, subject: Subject) -> None:
    shares = [100 * results[f"accuracy{end}"].values for end in ENDS]
    tags = [str(tag) for tag in results["language"].values]
    names = [subject.label(tag) + alike_mark(results, tag) for tag in tags]
    rows = np.arange(len(names))
    hollow = [tag in subject.near_chance for tag in tags]
    chance = 100 * float(results["chance"])
    ax.axvline(chance, color=GREY, linestyle="--", linewidth=0.9)
    ax.text(chance, -0.62, " chance", color=GREY, va="bottom", ha="center", fontsize="small")
    dots(ax, shares, rows, hollow)
    rows_axis(ax, names)
    ax.set_xlim(0, 100)
    ax.set_xlabel("accuracy [% of items]")


def _consistency_panel(ax: Axes, results: xr.Dataset, subject: Subject) -> None:
    values = results["consistency"].values.copy()
    np.fill_diagonal(values, np.nan)
    baseline = results["consistency_shuffled"].values
    unsure = (results["consistency_low"].values <= baseline) & (
        results["consistency_high"].values >= baseline
    )
    tags = [
        f"{tag}{subject.mark(tag)}{alike_mark(results, tag)}" for tag in results["language"].values
    ]
    top = max(0.1, np.ceil(np.nanmax(values, initial=0) * 10) / 10)
    image = heat_map(ax, values, tags, tags, (min(0.0, -0.1), top), faint=unsure)
    written = max(values.shape) <= MOST_ANNOTATED
    brackets = " (in brackets: interval includes shuffled items)" if written else ""
    ax.set_title(f"consistency{brackets}")
    ax.figure.colorbar(image, ax=ax, label="Spearman's ρ of choice ranks", aspect=30, pad=0.02)


def _accuracy_caption(results: xr.Dataset, subject: Subject, order: list[str]) -> str:
    accuracy = results["accuracy"].to_series()
    others = accuracy.drop(subject.pivot)
    pairs = results.sel(scope="pivot_pairs")
    near = [subject.label(tag).rstrip("*") for tag in order if tag in subject.near_chance]
    marked = (
        f" {spoken_languages(near)} {'is' if len(near) == 1 else 'are'} not above chance (hollow, "
        "asterisk): "
        "consistency there says little."
        if near
        else ""
    )
    pivot = subject.label(subject.pivot)
    return (
        f"**{subject.model} on {subject.dataset}**: accuracy is {percent(accuracy[subject.pivot])} "
        f"in {pivot} and {_span(others, subject)}, with "
        f"{percent(results['chance'])} by guessing; the ranks of the choices agree with those in "
        f"{pivot} by ρ = {between(pairs, 'mean_consistency')} on average"
        f"{_choices_only(results)}.{marked}{alike_sentence(results)}\n\n"
        "*How to read it*: left, share of items answered correctly with its interval; the dashed "
        "line is guessing. Right, Spearman's rho between the ranks that two languages give the "
        "choices of the same item, mean over items; 1 would be the same order in both, 0 is what "
        "different items give. The interval of a number in brackets includes that."
    )


def _span(accuracy: pd.Series, subject: Subject) -> str:
    """The accuracies of languages in words, the lowest and the highest named."""
    worst, best = accuracy.idxmin(), accuracy.idxmax()
    names = [subject.label(tag).rstrip("*") for tag in (worst, best)]
    if percent(accuracy[worst]) == percent(accuracy[best]):
        where = f"in {names[0]}" if len(accuracy) == 1 else "in all other languages"
        return f"{percent(accuracy[worst])} {where}"
    low, high = (f"{percent(accuracy[t])} ({n})" for t, n in zip((worst, best), names, strict=True))
    return f"from {low} to {high} in the other languages"


BASELINES = (
    ("independent", "|", GREY, "from accuracy alone"),
    ("difficulty", "d", ORANGE, "and item difficulty"),
    ("popularity", "x", RED, "and popular wrong choices"),
)
SIGNS = (
    ("positive", "also right, of items right in {pivot}"),
    ("negative", "same wrong choice, of items wrong in {pivot}"),
)


def transfer(behaviour: xr.Dataset, subject: Subject) -> Drawing:
    """Transfer from the pivot against what accuracy, difficulty and popularity explain; lifts.

    Args:
        behaviour: of `isogloss.measures.behaviour.behaviour`.
    """
    order = subject.order(behaviour["language"].values)
    results = behaviour.sel(language=order, language_2=order)
    lift = results["lift_independent"].sel(sign="positive", language=subject.pivot, drop=True)
    shown = shown_languages(order, lift.rename(language_2="language"), subject)
    heights = (0.21 * len(shown), min(0.23 * len(order), 4.6))
    figure = new_figure(
        subject,
        "Transfer between languages, against its baselines",
        2.0 + sum(heights),
        [
            items_and_clusters(results),
            confidence(results),
            shown_note(order, shown, "positive transfer above accuracy (top)"),
            near_chance_note(subject, order),
            alike_note(results),
        ],
        legends=1,
    )
    top, bottom = figure.subplots(2, 2, height_ratios=heights)
    for ax, (sign, title) in zip(top, SIGNS, strict=True):
        _from_pivot_panel(ax, results, subject, sign, [t for t in shown if t != subject.pivot])
        ax.set_title(title.format(pivot=subject.label(subject.pivot)))
    legend_below_title(figure, top[0])
    for ax, (sign, _) in zip(bottom, SIGNS, strict=True):
        _lift_panel(ax, results, subject, sign)
    names = ["transfer", *(f"transfer_{b[0]}" for b in BASELINES), "lift_independent"]
    return Drawing(figure, numbers_of(results, names), _transfer_caption(results, subject, order))


def _from_pivot_panel(
    ax: Axes, results: xr.Dataset, subject: Subject, sign: str, others: list[str]
) -> None:
    part = results.sel(sign=sign, language=subject.pivot, language_2=others)
    rows = np.arange(len(others))
    for name, marker, color, label in BASELINES:
        expected = 100 * part[f"transfer_{name}"].values
        size = 70 if marker == "|" else 18
        ax.scatter(expected, rows, s=size, color=color, marker=marker, linewidths=1.4, label=label)
    shares = [100 * part[f"transfer{end}"].values for end in ENDS]
    dots(ax, shares, rows, [t in subject.near_chance for t in others], BLACK, label="observed")
    if not np.isfinite(shares[0]).any():
        say_empty(ax, f"unknown: too few items ({_rests_on(results, subject.pivot)[sign]})")
    rows_axis(ax, [subject.label(tag) + alike_mark(results, tag) for tag in others])
    ax.set_xlim(0, 100)
    ax.set_xlabel(f"{sign} transfer from {subject.label(subject.pivot)} [%]")


def _lift_panel(ax: Axes, results: xr.Dataset, subject: Subject, sign: str) -> None:
    lift = results.sel(sign=sign)
    values = 100 * lift["lift_independent"].values
    np.fill_diagonal(values, np.nan)
    unsure = (lift["lift_independent_low"].values <= 0) & (
        lift["lift_independent_high"].values >= 0
    )
    tags = [
        f"{tag}{subject.mark(tag)}{alike_mark(results, tag)}" for tag in results["language"].values
    ]
    reach = max(10.0, np.nanmax(np.abs(values), initial=0))
    image = heat_map(ax, values, tags, tags, (-reach, reach), DIVERGING, "{:+.0f}", unsure)
    ax.set_ylabel("from")
    ax.set_xlabel("to")
    ax.set_title(f"{sign} transfer above accuracy alone [points]")
    ax.figure.colorbar(image, ax=ax, aspect=30, pad=0.02)


def _transfer_caption(results: xr.Dataset, subject: Subject, order: list[str]) -> str:
    pivot = subject.label(subject.pivot)
    lifts = results.sel(scope="all_pairs")
    plus, minus = (lifts.sel(sign=sign) for sign in ("positive", "negative"))
    part = results.sel(sign="positive", language=subject.pivot)["lift_independent"]
    part = part.sel(language_2=[tag for tag in order if tag != subject.pivot]).to_series()
    best = part.idxmax() if part.notna().any() else None
    rests = _rests_on(results, subject.pivot)
    example = (
        f" (from {pivot} most to {subject.label(best).rstrip('*')}: {points(part[best])} points)"
        if best is not None
        else ""
    )
    return (
        f"**{subject.model} on {subject.dataset}**: an item that is right in one language is right "
        f"in another {between(plus, 'mean_lift_independent', points)} percentage points more often "
        f"than the accuracies alone would give{example}{_beyond_difficulty(results, pivot)}; the "
        f"same wrong choice recurs {between(minus, 'mean_lift_independent', points)} points more "
        f"often. From {pivot}, positive transfer rests on {rests['positive']} items right there, "
        f"negative on {rests['negative']} wrong.{_too_few(results)}{alike_sentence(results)}\n\n"
        f"*How to read it*: top, transfer from {pivot} (dots, with intervals) beside what is "
        "expected if items were independent (bars), if only their difficulty were shared "
        "(diamonds), and for wrong answers if some wrong choices were simply popular (crosses). "
        "A dot to the right of the bar is transfer. Bottom, observed less expected from accuracy "
        "alone, for every ordered pair; in brackets where the interval includes 0."
    )


def _rests_on(results: xr.Dataset, pivot: str) -> dict[str, int]:
    """How many items are right in the pivot, and how many wrong: what transfer is a share of."""
    right = int(results["correct"].sel(language=pivot).sum())
    return {"positive": right, "negative": results.sizes["item"] - right}


def _too_few(results: xr.Dataset) -> str:
    """Why transfer is not known, where it is not."""
    between_two = ~np.eye(results.sizes["language"], dtype=bool)
    unknown = np.isnan(results["lift_independent"].sel(sign=["positive", "negative"]).values)
    if not unknown[:, between_two].any():
        return ""
    return (
        f" Transfer is unknown from languages with fewer than {results.attrs['min_items']} items "
        "right (positive) or wrong (negative), and has no lift where a language has all items "
        "right or all wrong: there is nothing to compare."
    )


def _beyond_difficulty(results: xr.Dataset, pivot: str) -> str:
    """What difficulty leaves, to the pivot: over all targets it averages to 0 by construction."""
    lifts = results.sel(scope="to_pivot", sign="positive")
    if not np.isfinite(lifts["mean_lift_difficulty"]):
        return ""
    lift = between(lifts, "mean_lift_difficulty", points)
    return f"; to {pivot}, {lift} points more often than item difficulty would give"
