"""Steering: the surface over layer and strength, and the effect against its controls."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from isogloss.figures.colours import BLACK, BLUE, DIVERGING, GREEN, GREY, ORANGE, PURPLE, RED, SKY
from isogloss.figures.many import MOST_IN_TEXT, shown_languages, shown_note, spoken_languages
from isogloss.figures.style import (
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
    spoken,
)
from isogloss.figures.text import ENDS, as_rst, between, decimal, points, span, span_of_points
from isogloss.files.netcdf import confidence_of
from isogloss.measures.statistics import significant
from isogloss.study.steering_methods import ALL_METHODS, MAIN_CLAIM

MOST_SURFACES = 8
MOST_EFFECTS = 30
LOOKS = ((BLACK, "o"), (BLUE, "s"), (RED, "^"), (GREEN, "D"), (PURPLE, "v"))
CONTROL_LOOKS = {
    "random": (GREY, "o"),
    "shuffled_language": (ORANGE, "s"),
    "shuffled_orthogonal": (GREEN, "D"),
    "wrong_layer": (SKY, "^"),
    "reverse": (PURPLE, "v"),
    "zero": (BLACK, "|"),
    "patch": (BLUE, "*"),
}


def words(name: object) -> str:
    """A method's or control's name as it is read: "mean difference"."""
    return str(name).replace("_", " ")


def how_chosen(steering: xr.Dataset, subject: Subject, fitted: str) -> str:
    """What the selection has seen, and what it has not."""
    if steering.attrs.get("separate_sets", 0):
        return (
            "vectors are fitted on a set of other items, layer and strength are those that do best "
            "on another; the items shown are of neither. Tests and intervals take the choice as it "
            "is"
        )
    anew = "Tests and intervals choose anew under every sign pattern"
    if fitted != subject.dataset:
        return (
            f"vectors are fitted on all items of {as_rst(fitted)}, none of which is steered; an "
            f"item's layer and strength are those that do best on the items of other folds. {anew}"
        )
    return (
        "an item's vectors are fitted on the items of other folds; its layer and strength are "
        "those that do best on the items of other folds, which were themselves steered with "
        "vectors fitted in part on this item's states; no choice has seen this item's answers. "
        f"{anew}"
    )


def surface(steering: xr.Dataset, subject: Subject, fitted: str) -> Drawing:
    """Accuracy change at every layer and strength; a panel per method and language.

    Args:
        steering: of `isogloss.steering.effects.steering_effects`.
        fitted: the dataset whose vectors were used.
    """
    every, methods = list(map(str, steering["language"].values)), list(steering["method"].values)
    effects = steering["effect"].sel({"method": steering.attrs["default_method"]})
    languages = shown_languages(every, effects, subject, MOST_SURFACES)
    figure = new_figure(
        subject,
        "Steering: change of accuracy at every layer and strength",
        0.95 + len(methods) * (0.55 + 0.27 * steering.sizes["relative_depth"]),
        [
            f"vectors from {fitted}",
            "frames: chosen on other items"
            if steering.attrs.get("separate_sets", 0)
            else "frames: chosen on the other folds, in how many",
            shown_note(every, languages, "effect at the chosen setting"),
            near_chance_note(subject, languages),
        ],
    )
    axes = figure.subplots(len(methods), len(languages), squeeze=False, sharex=True, sharey=True)
    reach = max(5.0, float(np.nanmax(np.abs(100 * steering["surface"].values))))
    for row, method in zip(axes, methods, strict=True):
        for ax, tag in zip(row, languages, strict=True):
            part = steering.sel({"language": tag, "method": method})
            image = _surface_panel(ax, part, reach)
            ax.set_title(subject.label(str(tag)) if ax in axes[0] else "")
        row[0].set_ylabel(f"{words(method)}\nrelative depth")
    for ax in axes[-1]:
        ax.set_xlabel("strength")
    figure.colorbar(image, ax=axes, label="accuracy [points]", aspect=30, pad=0.015)
    names = ["surface", "surface_consistency", "surface_norm_ratio"]
    names += ["selected_layer", "selected_depth", "selected_alpha"]
    return Drawing(figure, numbers_of(steering, names), _surface_caption(steering, subject, fitted))


def _surface_panel(ax: Axes, part: xr.Dataset, reach: float) -> AxesImage:
    """One heat map, with a frame around what was chosen and the number of folds that did."""
    values = 100 * part["surface"].transpose("relative_depth", "alpha").values[::-1]
    depths = part["relative_depth"].values[::-1]
    rows = [decimal(depth) for depth in depths]
    columns = [decimal(alpha, 1) for alpha in part["alpha"].values]
    image = heat_map(ax, values, rows, columns, (-reach, reach), DIVERGING, "{:+.0f}")
    for (row, column), folds in chosen(part, depths).items():
        frame = Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, fill=False, linewidth=1.3)
        ax.add_patch(frame)
        count = "" if part.attrs.get("separate_sets", 0) else f"{folds}"
        ax.text(column + 0.42, row + 0.4, count, ha="right", va="bottom", fontsize="x-small")
    return image


def chosen(part: xr.Dataset, depths: np.ndarray) -> dict[tuple[int, int], int]:
    """How many folds chose each cell (row, column) of a surface whose rows are `depths`."""
    count: dict[tuple[int, int], int] = {}
    pairs = zip(part["selected_depth"].values, part["selected_alpha"].values, strict=True)
    for depth, alpha in pairs:
        if np.isfinite([depth, alpha]).all():
            row = int(np.abs(depths - depth).argmin())
            column = int(np.abs(part["alpha"].values - alpha).argmin())
            count[row, column] = count.get((row, column), 0) + 1
    return count


def _surface_caption(results: xr.Dataset, subject: Subject, fitted: str) -> str:
    flat = (
        results["surface"]
        .stack(cell=("language", "method", "relative_depth", "alpha"))
        .dropna("cell")
    )
    best = flat[int(flat.values.argmax())]
    worst = flat[int(flat.values.argmin())]
    place = best["cell"].item()
    named = as_rst(fitted)
    separate = results.attrs.get("separate_sets", 0)
    elsewhere = "other items" if separate else "other folds"
    fitted_on = f"all items of {named}" if fitted != subject.dataset else "other folds"
    frames = "" if separate else ", with the number of folds in the corner"
    return (
        f"**{subject.model} on {subject.dataset}**, vectors from {named}: over all settings, "
        f"accuracy changes by {points(worst)} to {points(best)} percentage points; the most is in "
        f"{subject.label(place[0]).rstrip('*')} with {words(place[1])} at relative depth "
        f"{decimal(place[2])} and strength {decimal(place[3], 1)}. The highest of many noisy cells "
        f"is no estimate: see the effect at the setting chosen on {elsewhere}.\n\n"
        "*How to read it*: each panel is a language (columns) and a method (rows); cells are the "
        "change of accuracy against no steering, every item being steered with vectors fitted on "
        f"{elsewhere if separate else fitted_on}. Frames mark what was chosen{frames}."
    )


def effect(steering: xr.Dataset, subject: Subject, fitted: str) -> Drawing:
    """Effect of each method at the chosen setting, its controls, and consistency.

    Args:
        steering: of `isogloss.steering.effects.steering_effects`.
        fitted: the dataset whose vectors were used.
    """
    every = [str(tag) for tag in steering["language"].values]
    effects = steering["effect"].sel({"method": steering.attrs["default_method"]})
    languages = shown_languages(every, effects, subject, MOST_EFFECTS)
    shown = steering.sel(language=languages)
    several = len(every) > 1  # the mean of one language is that language
    names = [subject.label(tag) for tag in languages] + ["mean"] * several
    figure = new_figure(
        subject,
        "Steering at the chosen setting, and its controls",
        1.65 + 0.46 * len(names),
        [
            f"vectors from {fitted}",
            confidence(steering),
            shown_note(every, languages, "effect"),
            near_chance_note(subject, languages),
        ],
        legends=3,
    )
    left, middle, right = figure.subplots(1, 3, sharey=True)
    hollow = [tag in subject.near_chance for tag in languages] + [False] * several
    pivot = subject.label(subject.pivot)
    _methods(left, shown, "effect", hollow)
    _controls(middle, shown, hollow)
    _methods(right, shown, "consistency_change", hollow, 1.0)
    rows_axis(left, names)
    for ax, title, unit in (
        (left, "methods: accuracy", "change [points]"),
        (middle, f"controls of {words(steering.attrs['default_method'])}", "change [points]"),
        (right, f"methods: consistency with {pivot}", "change of Spearman's ρ"),
    ):
        ax.axvline(0, color=GREY, linewidth=0.8, linestyle=(0, (1, 1)))
        ax.grid(axis="y", color="#e3e3e3", linewidth=0.4)
        ax.set_title(title)
        ax.set_xlabel(unit)
    limits = [*left.get_xlim(), *middle.get_xlim()]
    left.set_xlim(min(limits), max(limits))
    middle.set_xlim(min(limits), max(limits))
    legend_below_title(figure, left, "methods:")
    legend_below_title(figure, middle, "controls:", line=2, rows=2)
    variables = ["effect", "pooled_effect", *MAIN_CLAIM.variables, *ALL_METHODS.variables]
    variables += ["control_effect", "pooled_control_effect", "random_draws", "p_random"]
    variables += ["consistency_change", "pooled_consistency_change"]
    variables += ["transfer_to_change", "transfer_from_change"]
    variables += ["flipped_right", "flipped_wrong", "zero_flipped_right", "zero_flipped_wrong"]
    variables += ["effect_over_control", "effect_over_control_p", "effect_over_control_p_holm"]
    variables += ["pooled_effect_over_control", "pooled_effect_over_control_p"]
    variables += ["pooled_effect_over_control_p_holm"]
    variables += ["control_cosine", "pivot_harm", "norm_ratio", "overhead"]
    variables += ["forward_seconds", "evaluation_seconds"]
    present = [name for name in variables if name in steering]
    return Drawing(
        figure, numbers_of(steering, present), _effect_caption(steering, subject, fitted)
    )


def with_pooled(results: xr.Dataset, name: str, selection: dict[str, str]) -> list[np.ndarray]:
    """Estimate, low and high (language + pooled,) of a variable."""
    return [
        np.append(
            results[name + end].sel(selection).values, results[f"pooled_{name}{end}"].sel(selection)
        )
        for end in ENDS
    ]


def _offsets(count: int) -> np.ndarray:
    return np.linspace(-0.3, 0.3, count) if count > 1 else np.zeros(1)


def _methods(
    ax: Axes, results: xr.Dataset, name: str, hollow: list[bool], scale: float = 100
) -> None:
    rows = np.arange(len(hollow))
    methods = results["method"].values
    for method, shift, (color, marker) in zip(methods, _offsets(len(methods)), LOOKS, strict=False):
        given = with_pooled(results, name, {"method": method})
        values = [scale * v[: len(hollow)] for v in given]
        label = words(method) if name == "effect" else None
        dots(ax, values, rows + shift * 0.6, hollow, color, marker, label)


def _controls(ax: Axes, results: xr.Dataset, hollow: list[bool]) -> None:
    rows = np.arange(len(hollow))
    controls = [name for name in CONTROL_LOOKS if name in results["control"].values]
    if "pivot_harm" in results:
        controls.append("pivot_harm")
    for control, shift in zip(controls, _offsets(len(controls)), strict=True):
        color, marker = CONTROL_LOOKS.get(control, (RED, "P"))
        if control == "pivot_harm":
            values, label = with_pooled(results, "pivot_harm", {}), "pivot steered"
        else:
            values, label = (
                with_pooled(results, "control_effect", {"control": control}),
                "zero (rounding alone)" if control == "zero" else words(control),
            )
        shown = [100 * v[: len(hollow)] for v in values]
        dots(ax, shown, rows + shift, hollow, color, marker, label)
        if control == "random" and "random_draws" in results:
            for row, draws in enumerate(results["random_draws"].transpose("language", ...).values):
                y = np.full(len(draws), row + shift)
                ax.scatter(100 * draws, y, s=4, color=BLACK, alpha=0.45, linewidths=0, zorder=4)


def _effect_caption(results: xr.Dataset, subject: Subject, fitted: str) -> str:
    method = results.attrs["default_method"]
    effects = results.sel({"method": method})
    changes = []
    every = [str(tag) for tag in results["language"].values]
    extremes = shown_languages(every, effects["effect"], subject, 2)
    for tag in every if len(every) <= MOST_IN_TEXT else extremes:
        part = effects.sel(language=tag)
        changes.append(f"{subject.label(tag).rstrip('*')} {between(part, 'effect', points)}")
    of_many = (
        f" (the highest and the lowest of {len(every)} languages)"
        if len(every) > MOST_IN_TEXT
        else ""
    )
    sure = results["language"].values[
        significant(results[MAIN_CLAIM.p].values, confidence_of(results))
    ]
    verdict = (
        f"significant in {spoken_languages([subject.label(str(tag)).rstrip('*') for tag in sure])}"
        if len(sure)
        else "not significant in any language by itself; an effect of "
        f"{span_of_points(results[MAIN_CLAIM.least])} would have been detected with 80% power"
    )
    searched = results.attrs.get("controls_search", 0)
    setting = "at settings chosen for each of them" if searched else "at the same setting"
    named = as_rst(fitted)
    return (
        f"**{subject.model} on {subject.dataset}**, vectors from {named}: {words(method)} towards "
        f"{subject.label(subject.pivot)} changes accuracy by {spoken(changes)} percentage points"
        f"{of_many}, {between(effects, 'pooled_effect', points)} in the mean (p = "
        f"{decimal(results[MAIN_CLAIM.pooled_p], 4)}); {verdict} (sign-flip tests, "
        f"{MAIN_CLAIM.tests}).{_controls_text(results)}\n\n"
        f"*How to read it*: {how_chosen(results, subject, fitted)}. Left, each method; middle, "
        f"controls {setting} (small dots: single random draws; `pivot "
        "steered`: the pivot's own questions with the same vectors, harm where below 0); right, "
        f"change of agreement with the ranks in {subject.label(subject.pivot)}."
    )


def _over_controls(results: xr.Dataset) -> str:
    """How far the method is above each control that it could be mistaken for, with its test."""
    tested = [name for name in CONTROL_LOOKS if name not in ("zero", "patch")]
    said = []
    for control in [name for name in tested if name in results["control"].values]:
        at = results.sel(control=control)
        p, what = float(at["pooled_effect_over_control_p_holm"]), "p"
        if control == "random" and not np.isfinite(p):
            p, what = float(results["pooled_p_random"]), "rank p"
        chance = f" ({what} = {decimal(p, 4)})" if np.isfinite(p) else ""
        over = between(at, "pooled_effect_over_control", points)
        said.append(f"{over} of {words(control)}{chance}")
    if not said:
        return ""
    return f" Less the effect of its controls it is {spoken(said)}, p by Holm over controls."


def _controls_text(results: xr.Dataset) -> str:
    """How the method stands to its controls, and what rounding alone flips."""
    text = _over_controls(results) if "control" in results.dims else ""
    if "zero_flipped_right" in results and np.isfinite(results["zero_flipped_right"]).any():
        method = results.sel({"method": results.attrs["default_method"]})
        flips = method["flipped_right"] + method["flipped_wrong"]
        rounding = results["zero_flipped_right"] + results["zero_flipped_wrong"]
        text += (
            f" It flips {span(flips)} items per language, either way; adding nothing flips "
            f"{span(rounding)}, by rounding in another batch."
        )
    if "control_cosine" in results and "shuffled_language" in results["control"].values:
        cosine = results["control_cosine"].sel(control="shuffled_language")
        text += (
            " The shift of another language has a cosine of "
            f"{span(cosine, decimal)} with the method's."
        )
    return text
