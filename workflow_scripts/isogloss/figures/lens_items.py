"""The lens picture of single items: every choice at every layer, in both latent languages."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import SubFigure
from matplotlib.patches import Rectangle

from isogloss.errors import InputError
from isogloss.figures.colours import RED
from isogloss.figures.style import Drawing, Subject, font_families, new_figure, spoken
from isogloss.figures.text import as_rst, decimal
from isogloss.measures.trajectories import shares_among_choices
from isogloss.questions.items import ParallelItems
from isogloss.questions.languages import separator

DRAWN_LATENTS = ("prompt", "pivot")


@dataclass(frozen=True)
class Example:
    """One item in one prompt language.

    Attributes:
        language: of the prompt.
        item: its index.
        shares: (latent, layer, choice) probability among the item's choices; prompt, pivot.
    """

    language: str
    item: int
    shares: np.ndarray


def candidates(lens: xr.Dataset, layer: int, score: str = "token") -> tuple[np.ndarray, np.ndarray]:
    """Items whose answer is wrong at the end, though the pivot's is right at a layer.

    Args:
        lens: a lens file.
        layer: index of the layer at which the pivot's choices are read.
        score: that ranks the choices, "token" or "sum".

    Returns:
        (item,) bool, and the margin (item,) of the pivot's gold choice there [nat].
    """
    shares = shares_among_choices(lens, DRAWN_LATENTS, score)
    gold = lens["answer"].values
    items = np.arange(len(gold))
    with np.errstate(divide="ignore"):
        logs = np.log(shares[1, layer])
    right = logs[items, gold]
    wrong = logs.copy()
    wrong[items, gold] = -np.inf
    margin = right - np.nanmax(wrong, axis=1)
    answer = np.nanargmax(np.where(np.isnan(shares[0, -1]), -1, shares[0, -1]), axis=1)
    return (answer != gold) & (margin > 0), margin


def choose_examples(
    lenses: Mapping[str, xr.Dataset], trajectories: xr.Dataset, subject: Subject, count: int
) -> list[Example]:
    """One item each of the languages that have the most `candidates`, the one of median margin.

    The pivot's choices are read at the layer where their accuracy is highest in that language.
    Languages near chance come last; where no item qualifies, all items do.
    """
    others = [tag for tag in subject.order(list(lenses)) if tag != subject.pivot]
    score, ranked = trajectories.attrs["score"], []
    for tag in others:
        accuracy = trajectories["latent_accuracy"].sel(language=tag, latent="pivot")
        fits, margin = candidates(lenses[tag], int(accuracy.fillna(-1).values.argmax()), score)
        qualified = np.flatnonzero(fits) if fits.any() else np.arange(len(fits))
        by_margin = qualified[np.argsort(margin[qualified], kind="stable")]
        item = int(by_margin[len(by_margin) // 2])
        shares = shares_among_choices(lenses[tag], DRAWN_LATENTS, score)[:, :, item]
        rank = (tag in subject.near_chance, -int(fits.sum()))
        ranked.append((rank, Example(tag, item, shares)))
    return [example for _, example in sorted(ranked, key=lambda pair: pair[0])[:count]]


def item_lenses(
    lenses: Mapping[str, xr.Dataset],
    trajectories: xr.Dataset,
    items: ParallelItems,
    subject: Subject,
    count: int = 3,
) -> Drawing:
    """Layers x choices for a few items, in the prompt's language and in the pivot.

    Args:
        lenses: lens files by prompt language.
        trajectories: of `isogloss.measures.trajectories.trajectories`.
        items: the questions' texts, the same items in the same order.
        count: items shown.

    Raises:
        InputError: the questions are not those of the lens: they were edited meanwhile.
    """
    for lens in lenses.values():
        said = [lens[name].values.tolist() for name in ("item", "answer", "n_choices")]
        if said != [list(items.item_ids), items.answers.tolist(), items.n_choices.tolist()]:
            raise InputError(
                f"datasets.{items.name}: its questions have changed since extraction: run again"
            )
    examples = choose_examples(lenses, trajectories, subject, count)
    heights = [0.85 + 0.18 * int(items.n_choices[e.item]) for e in examples]
    figure = new_figure(
        subject,
        "Logit lens of single items: what each layer would answer, among choices in two languages",
        0.6 + sum(heights),
        ["framed row: right answer", "red dot: the layer's best choice"],
    )
    parts = figure.subfigures(len(examples), 1, squeeze=False, height_ratios=heights)[:, 0]
    depth = trajectories["relative_depth"].values
    for part, example in zip(parts, examples, strict=True):
        _picture(part, example, items, depth, subject)
    caption = _caption(examples, lenses, trajectories, items, subject)
    return Drawing(figure, _numbers(examples, items, trajectories), caption)


def _picture(
    part: SubFigure, example: Example, items: ParallelItems, depth: np.ndarray, subject: Subject
) -> None:
    """One item: a heat map per latent language below the question in that language."""
    texts = {tag: items.items[tag][example.item] for tag in (example.language, subject.pivot)}
    fonts = list(font_families(every_script=True))
    axes = part.subplots(1, 2)
    for ax, (tag, item), shares in zip(axes, texts.items(), example.shares, strict=True):
        n = len(item.choices)
        image = ax.imshow(shares[:, :n].T, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        best = np.nanargmax(shares[:, :n], axis=1)
        ax.scatter(range(len(depth)), best, s=11, color=RED, edgecolors="white", linewidths=0.5)
        frame = Rectangle((-0.5, item.answer - 0.5), len(depth), 1, fill=False, clip_on=False)
        frame.set(edgecolor="black", linewidth=1.4, zorder=4)
        ax.add_patch(frame)
        names = choice_names(item.choices, tag, 22)
        ax.set_yticks(range(n), names, fontfamily=fonts)
        shown = range(0, len(depth), -(-len(depth) // 8))
        ax.set_xticks(shown, [decimal(depth[layer]) for layer in shown])
        ax.set_xlabel("relative depth")
        ax.tick_params(length=0, left=False, bottom=False)
        ax.spines[:].set_visible(False)
        asked = " ".join(f"{item.context} {item.question}".split())
        name = subject.label(tag)
        if tag != example.language:  # it is not asked in this one: its choices follow the prompt
            name = f"Same prompt, {name} choices. It asks"
        ax.set_title(wrapped(name, asked, tag), fontfamily=fonts)
    part.colorbar(image, ax=axes, label="share", ticks=[0, 0.5, 1], aspect=12, pad=0.015)


def shorten(text: str, language: str, width: int) -> str:
    """A text cut to a width in columns, between words where the language has them.

    >>> shorten("the quick brown fox", "en", 12)
    'the quick …'
    """
    if not separator(language):
        wide = max(1, width // 2)
        return text if len(text) <= wide else text[: wide - 1] + "…"
    if len(text) <= width:
        return text
    cut = textwrap.shorten(text, width, placeholder=" …")
    return cut if len(cut) > 3 else text[: width - 1] + "…"


def choice_names(choices: Sequence[str], language: str, width: int) -> list[str]:
    """Choices cut to a width; where that makes them alike, what all begin with is left out.

    >>> choice_names(["veins appear blue at night", "veins appear blue by day"], "en", 20)
    ['… at night', '… by day']
    """
    texts = [" ".join(choice.split()) for choice in choices]
    names = [shorten(text, language, width) for text in texts]
    if len(set(names)) == len(set(texts)):
        return names
    common = len(os.path.commonprefix(texts))
    if separator(language):  # whole words
        common = texts[0].rfind(" ", 0, common + 1) + 1
    start = "… " if common else ""
    return [start + shorten(text[common:], language, width - len(start)) for text in texts]


def wrapped(name: str, text: str, language: str, width: int = 46) -> str:
    """A text behind its language's name, on two lines of a width in columns; the rest is cut.

    >>> wrapped("English", "What do bees make?", "en", 20)
    'English: What do\\nbees make?'
    """
    start = f"{name}: "
    if separator(language):
        lines = textwrap.wrap(
            text, width, initial_indent=start, max_lines=2, placeholder=" …", break_long_words=False
        )
        return "\n".join(lines)
    first = max(1, (width - len(start)) // 2)
    lines = [start + text[:first], text[first : first + width // 2]]
    return "\n".join(line for line in lines if line) + "…" * (len(text) > first + width // 2)


def _numbers(
    examples: list[Example], items: ParallelItems, trajectories: xr.Dataset
) -> pd.DataFrame:
    rows = []
    for example in examples:
        item = items.items[example.language][example.item]
        for (latent, layer, choice), share in np.ndenumerate(example.shares):
            if choice < len(item.choices):
                rows.append(
                    {
                        "quantity": "share_among_choices",
                        "item": item.item_id,
                        "language": example.language,
                        "latent": DRAWN_LATENTS[latent],
                        "layer": int(trajectories["layer"][layer]),
                        "relative_depth": float(trajectories["relative_depth"][layer]),
                        "choice": choice,
                        "gold": choice == item.answer,
                        "estimate": share,
                        "units": "1",
                    }
                )
    return pd.DataFrame(rows)


def _caption(
    examples: list[Example],
    lenses: Mapping[str, xr.Dataset],
    trajectories: xr.Dataset,
    items: ParallelItems,
    subject: Subject,
) -> str:
    pivot = subject.label(subject.pivot)
    score, parts = trajectories.attrs["score"], []
    per_token = " per token" if score == "token" else ""
    for example in examples:
        accuracy = trajectories["latent_accuracy"].sel(language=example.language, latent="pivot")
        best = int(accuracy.fillna(-1).values.argmax())
        fits, _ = candidates(lenses[example.language], best, score)
        parts.append(f"{int(fits.sum())} of {len(fits)} in {subject.label(example.language)}")
    named = spoken([as_rst(items.item_ids[e.item]) for e in examples])
    return (
        f"**{subject.model} on {subject.dataset}**: items that are answered wrongly in the "
        f"prompt's language at the last layer, though the choices in {pivot}, after the same "
        f"prompt and at the layer where they are read best, are answered rightly: {spoken(parts)}. "
        f"Shown: {named}.\n\n"
        "*How to read it*: rows are choices, columns layers by relative depth; the colour is a "
        "choice's share among the choices of the item (softmax of its latent log-probability"
        f"{per_token}). The framed row is the right answer, the red dot each layer's best choice. "
        "Items are chosen by rule: the languages with the most such items, those not above chance "
        "last, and in each the item (where there is no such one, of all items) whose margin in "
        f"{pivot} is the median, so neither the clearest nor the faintest."
    )
