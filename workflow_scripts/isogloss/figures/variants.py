"""Wordings: consistency and its ceiling, what averaging mends, states beside their ceiling."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from isogloss.figures.colours import BLACK, BLUE, GREEN, GREY, ORANGE, PALE, PURPLE, RED, SKY
from isogloss.figures.many import shown_languages, shown_note, spoken_languages
from isogloss.figures.steering import with_pooled
from isogloss.figures.style import (
    Drawing,
    Subject,
    confidence,
    depth_axis,
    dots,
    legend_below_title,
    near_chance_note,
    new_figure,
    numbers_of,
    rows_axis,
)
from isogloss.figures.text import ENDS, as_rst, between, decimal, percent, points

SOURCES = {
    "item": ("item", GREEN),
    "item x language": ("item × language", ORANGE),
    "item x wording": ("item × wording", SKY),
    "language": ("language", PURPLE),
    "wording": ("wording", BLUE),
    "language x wording": ("language × wording", RED),
    "rest": ("rest", PALE),
}
"""Sources of variance in the order in which they are stacked, with name and colour."""


def wordings_of(variants: xr.Dataset) -> str:
    """The wordings by name, as a figure names its data."""
    return f"wordings: {', '.join(map(str, variants['variant'].values))}"


def consistency_and_ceiling(variants: xr.Dataset, subject: Subject) -> Drawing:
    """Consistency with the pivot, of each language with itself, and corrected; variance shares.

    Args:
        variants: of `isogloss.measures.variants.variants`.
    """
    order = subject.order(variants["language"].values)
    results = variants.sel(language=order, language_2=order)
    with_pivot = results["consistency_across_wordings"].sel(language_2=subject.pivot, drop=True)
    shown = shown_languages(order, with_pivot, subject)
    names = [subject.label(tag) for tag in shown] + ["mean"]
    figure = new_figure(
        subject,
        "Consistency, and how far a language agrees with itself",
        1.75 + 0.3 * len(names),
        [
            wordings_of(results),
            confidence(results),
            shown_note(order, shown, "consistency"),
            near_chance_note(subject, shown),
        ],
        legends=2,
    )
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    _ceilings(left, results.sel(language=shown), subject, shown)
    rows_axis(left, names)
    left.axvline(1, color=GREY, linewidth=0.8, linestyle=(0, (1, 1)))
    left.set_xlabel("Spearman's ρ of choice ranks")
    left.set_title(f"with {subject.label(subject.pivot)}, under other wordings")
    _share_bars(right, results, len(names))
    legend_below_title(figure, left, "left:")
    legend_below_title(figure, right, "right:", line=2)
    variables = ["self_consistency", "correctable", "consistency_same_wording"]
    variables += ["consistency_across_wordings", "consistency_corrected", "noise_share"]
    variables += ["mean_self_consistency", "mean_consistency_same_wording", "mean_noise_share"]
    variables += ["mean_consistency_across_wordings", "mean_consistency_corrected"]
    variables += ["rank_share", "share"]
    caption = _ceiling_caption(results, subject)
    return Drawing(figure, numbers_of(results, variables), caption)


def _ceilings(ax: Axes, results: xr.Dataset, subject: Subject, order: list[str]) -> None:
    """Three marks per language; the pivot has only its agreement with itself."""
    pairs = results.sel(language_2=subject.pivot)
    means = results.sel(scope="pivot_pairs")
    rows = np.arange(len(order) + 1)
    hollow = [tag in subject.near_chance for tag in order] + [False]
    looks = (
        ("consistency_across_wordings", -0.2, BLACK, "o", "as observed"),
        ("self_consistency", 0.0, BLUE, "s", "with itself (ceiling)"),
        ("consistency_corrected", 0.2, RED, "^", "corrected for it"),
    )
    for name, shift, color, marker, label in looks:
        of, mean = (results, results) if name.startswith("self") else (pairs, means)
        values = [np.append(of[name + end].values, mean[f"mean_{name}{end}"]) for end in ENDS]
        dots(ax, values, rows + shift, hollow, color, marker, label)
    largest = np.nanmax(pairs["consistency_corrected_high"].values, initial=1.0)
    least = np.nanmin(pairs["consistency_across_wordings_low"].values, initial=0.0)
    ax.set_xlim(min(-0.05, least - 0.05), min(max(1.05, largest + 0.05), 1.6))


def _share_bars(ax: Axes, results: xr.Dataset, n_rows: int) -> None:
    """What ranks, margins and right answers vary with: a stacked bar each."""
    bars = {
        "choices' ranks": results["rank_share"].sel(scope="all_pairs").to_series(),
        "margin": results["share"].sel(outcome="margin").to_series(),
        "right answers": results["share"].sel(outcome="correct").to_series(),
    }
    for row, shares in enumerate(bars.values()):
        start = 0.0
        for source in SOURCES:
            width = 100 * max(float(shares.get(source, 0.0)), 0.0)
            ax.barh(row, width, left=start, height=0.55, color=SOURCES[source][1])
            if width >= 8:
                x = start + width / 2
                ax.text(x, row, f"{width:.0f}", ha="center", va="center", fontsize="small")
            start += width
    for text, color in SOURCES.values():
        ax.plot([], [], marker="s", color=color, linestyle="none", label=text)
    rows_axis(ax, list(bars))
    ax.set_ylim(max(len(bars), 0.3 * n_rows) - 0.4, -0.6)  # bars of a figure of many rows stay bars
    ax.set_xlim(0, 102)
    ax.set_xlabel("share of variance [%]")
    ax.set_title("what answers vary with")


def _ceiling_caption(results: xr.Dataset, subject: Subject) -> str:
    pairs = results.sel(scope="all_pairs")
    low = [t for t in map(str, results["language"].values)
           if not bool(results["correctable"].sel(language=t))]  # fmt: skip
    left_out = (
        f" In {spoken_languages([subject.label(t).rstrip('*') for t in low])} the model does not "
        "agree with itself beyond doubt: nothing is corrected there."
        if low
        else ""
    )
    return (
        f"**{subject.model} on {subject.dataset}**: two languages agree by "
        f"ρ = {between(pairs, 'mean_consistency_across_wordings')} on average under different "
        f"wordings, and a language with itself by {between(results, 'mean_self_consistency')}: "
        f"{between(pairs, 'mean_noise_share', percent)} of the disagreement between languages is "
        "there within a language too. Corrected for it, languages agree by "
        f"{between(pairs, 'mean_consistency_corrected')}.{left_out}\n\n"
        "*How to read it*: left, agreement of the choices' ranks. Black, with the pivot under "
        "another wording; blue, of a language with itself under another wording, which bounds the "
        "former; red, the former corrected for both languages' noise (Spearman), 1 where they "
        "differ by noise alone. Intervals hold for these wordings. A language that ranks choices "
        "by taste, whatever is asked, agrees with itself too. Right, shares of variance (rest: "
        "all three together, and noise); negative ones are drawn as 0."
    )


def ensembles(variants: xr.Dataset, subject: Subject, steering: dict[str, xr.Dataset]) -> Drawing:
    """What the mean over wordings does to accuracy and consistency, beside what steering does.

    Args:
        variants: of `isogloss.measures.variants.variants`.
        steering: of `steering_effects`, by the dataset of the vectors; the first is shown.
    """
    every = subject.order(variants["language"].values)
    results = variants.sel(language=every, language_2=every)
    fitted = next(iter(steering), None)
    order = shown_languages(every, results["accuracy_gain"], subject)
    names = [subject.label(tag) for tag in order] + ["mean"]
    notes = [wordings_of(results), confidence(results), near_chance_note(subject, order)]
    notes.append(shown_note(every, order, "gain of accuracy"))
    figure = new_figure(
        subject,
        "Averaging over wordings, beside steering",
        1.5 + 0.3 * len(names),
        [f"vectors from {fitted}" if fitted else "nothing is steered in this study", *notes],
        legends=1,
    )
    left, right = figure.subplots(1, 2, sharey=True)
    hollow = [tag in subject.near_chance for tag in order] + [False]
    rows = np.arange(len(names))
    pairs, means = results.sel(language_2=subject.pivot), results.sel(scope="pivot_pairs")
    for ax, name, of, mean, scale, steered in (
        (left, "accuracy_gain", results, results, 100, "effect"),
        (right, "consistency_gain", pairs, means, 1, "consistency_change"),
    ):
        values = [
            scale * np.append(of[name + end].sel(language=order).values, mean[f"mean_{name}{end}"])
            for end in ENDS
        ]
        shift = 0.15 if fitted else 0.0
        dots(ax, values, rows - shift, hollow, BLACK, "o", "mean of the wordings' scores")
        if fitted:
            effects = steering[fitted].reindex(language=order)  # NaN where nothing is steered
            method = {"method": effects.attrs["default_method"]}
            values = [scale * v for v in with_pooled(effects, steered, method)]
            dots(ax, values, rows + shift, hollow, BLUE, "s", "steering, first method")
        ax.axvline(0, color=GREY, linewidth=0.8, linestyle=(0, (1, 1)))
        ax.grid(axis="y", color="#e3e3e3", linewidth=0.4)
    rows_axis(left, names)
    left.set_title("accuracy")
    left.set_xlabel("change [points]")
    right.set_title(f"consistency with {subject.label(subject.pivot)}")
    right.set_xlabel("change of Spearman's ρ")
    legend_below_title(figure, left)
    variables = ["accuracy", "accuracy_ensemble", "accuracy_gain", "mean_accuracy_gain"]
    variables += ["mean_accuracy_range", "consistency_ensemble", "consistency_gain"]
    variables += ["mean_consistency_ensemble", "mean_consistency_gain"]
    caption = _ensemble_caption(results, subject, fitted, steering)
    return Drawing(figure, numbers_of(results, variables), caption)


def _ensemble_caption(
    results: xr.Dataset, subject: Subject, fitted: str | None, steering: dict[str, xr.Dataset]
) -> str:
    means, n = results.sel(scope="pivot_pairs"), results.sizes["variant"]
    beside = ""
    if fitted:
        effects = steering[fitted].sel({"method": steering[fitted].attrs["default_method"]})
        beside = (
            f" Steering with vectors from {as_rst(fitted)} changes them by "
            f"{between(effects, 'pooled_effect', points)} points and "
            f"{between(effects, 'pooled_consistency_change')} in the languages that are steered."
        )
    return (
        f"**{subject.model} on {subject.dataset}**: against one wording, the mean of {n} wordings' "
        f"scores changes accuracy by {between(results, 'mean_accuracy_gain', points)} points, mean "
        f"over languages, and consistency with {subject.label(subject.pivot).rstrip('*')} by "
        f"{between(means, 'mean_consistency_gain')}.{beside} The best wording, chosen "
        "on other items, is better than the worst by "
        f"{between(results, 'mean_accuracy_range', points)} points.\n\n"
        "*How to read it*: black, the mean of all wordings' scores against the mean of what "
        f"single wordings give, at {n} times the cost of one; blue, the study's first method of "
        "steering against the main wording unsteered. Averaging mends noise alone: what it does "
        "not mend is no noise of the wording."
    )


def states_and_ceiling(variants: xr.Dataset, subject: Subject) -> Drawing:
    """Similarity between languages and within a language, and what states vary with, by depth.

    Args:
        variants: of `isogloss.measures.variant_states.variant_similarity`.
    """
    figure = new_figure(
        subject,
        "Similarity, and how alike a language is to itself",
        3.2,
        [wordings_of(variants), confidence(variants)],
        legends=2,
    )
    place, shape, shares = figure.subplots(1, 3)
    for ax, name, title in (
        (place, "item_share", "same place: item share"),
        (shape, "cka", "same shape: debiased CKA"),
    ):
        _depth_lines(ax, variants, name)
        ax.set_title(title)
    _share_areas(shares, variants)
    legend_below_title(figure, place, "left, middle:")
    legend_below_title(figure, shares, "right:", line=2)
    names = [f"{name}_{kind}" for name in ("item_share", "cka")
             for kind in ("self", "same", "across", "corrected")]  # fmt: skip
    names += [f"{name}_{end}" for name in names for end in ("mean", "middle")]
    names += ["dissociation_noise_share", "retrieval_self", "cosine_self", "state_share"]
    return Drawing(figure, numbers_of(variants, names), _states_caption(variants, subject))


def _depth_lines(ax: Axes, results: xr.Dataset, name: str) -> None:
    depth = results["relative_depth"].values
    for kind, color, style, label in (
        ("self", BLUE, "-", "within a language (ceiling)"),
        ("across", BLACK, "-", "between languages"),
        ("same", GREY, ":", "the same, same wording"),
        ("corrected", RED, "--", "between, corrected"),
    ):
        key = f"{name}_{kind}_mean"
        ax.plot(depth, results[key], color=color, linestyle=style, label=label)
        low, high = (results[key + end].values for end in ("_low", "_high"))
        ax.fill_between(depth, low, high, color=color, alpha=0.15, linewidth=0)
    depth_axis(ax)
    ax.set_ylim(min(0.0, ax.get_ylim()[0]), 1.05)


def _share_areas(ax: Axes, results: xr.Dataset) -> None:
    """Shares of the states' variance by depth, stacked; negative ones are drawn as 0."""
    results = results.isel(layer=results["state_share"].notnull().all("source"))
    depth, start = results["relative_depth"].values, np.zeros(results.sizes["layer"])
    for source, (text, color) in SOURCES.items():
        share = 100 * results["state_share"].sel(source=source).values.clip(min=0)
        ax.fill_between(depth, start, start + share, color=color, linewidth=0)
        ax.plot([], [], marker="s", color=color, linestyle="none", label=text)
        start = start + share
    depth_axis(ax)
    ax.set_ylim(0, 102)
    ax.set_title("what states vary with [%]")


def _states_caption(results: xr.Dataset, subject: Subject) -> str:
    middle = {
        k: between(results, f"item_share_{k}_middle") for k in ("self", "across", "corrected")
    }
    shares = results["state_share"].sel(source=["item", "item x language", "rest"])
    half = results["layer"].size // 2
    item, alone, rest = (percent(float(value)) for value in shares.isel(layer=half))
    return (
        f"**{subject.model} on {subject.dataset}**: in the middle half of depth, item share is "
        f"{middle['self']} within a language, between wordings, and {middle['across']} between "
        f"languages ({middle['corrected']} corrected): "
        f"{between(results, 'dissociation_noise_share', percent)} of dissociation is there within "
        f"a language too. At depth {decimal(float(results['relative_depth'][half]))}, {item} of "
        f"the states' variance is the item's in all languages, {alone} is the item's in its "
        f"language under every wording, {rest} is neither.\n\n"
        "*How to read it*: blue, how alike the states of a question and its own rewording are, "
        "mean over languages: no translation can be expected to be nearer. Black, between "
        "languages under different wordings (dotted, under the same); red, corrected for blue. "
        "Right, what states vary with: an item's own place in a language (orange) is no effect of "
        "the wording, which lies in the rest."
    )
