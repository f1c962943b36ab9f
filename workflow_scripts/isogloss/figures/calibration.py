"""Calibration: every measure against planted sharing, and which of them fail to follow it."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from isogloss.figures.colours import BLACK, BLUE, CYCLE, GREY, RED
from isogloss.figures.style import Drawing, Subject, confidence, new_figure, numbers_of, spoken
from isogloss.figures.text import as_markdown, as_rst, decimal, markdown_table, points
from isogloss.measures.calibration import PLACE, SHAPE

COLUMNS = 4
PANEL_HEIGHT = 1.35  # of a panel [inch]
PARTED = ("dissociation", "cka")


def against_sharing(calibration: xr.Dataset, subject: Subject) -> Drawing:
    """A panel per measure: its value in every model against planted sharing; then steering.

    Args:
        calibration: of `isogloss.measures.calibration.calibration`.
    """
    measures = [str(m) for m in calibration["measure"].values]
    steered = "steering" in calibration
    rows = -(-(len(measures) + steered) // COLUMNS)
    figure = new_figure(
        subject,
        "Calibration: measures against planted sharing",
        0.7 + PANEL_HEIGHT * rows,
        [
            "dots: models (seeds); lines: mean over seeds",
            f"bars: {confidence(calibration)} over seeds",
            f"ρ: Spearman over all models; tracks: ρ of {calibration.attrs['tracks_from']:g} or "
            "more in the expected direction",
        ],
    )
    axes = figure.subplots(rows, COLUMNS, sharex=True, squeeze=False)
    for ax, measure in zip(axes.flat, measures, strict=False):
        _panel(ax, calibration.sel(measure=measure))
    panels = list(axes.flat)
    if steered:
        _steering_panel(panels[len(measures)], calibration)
    for ax in panels[len(measures) + steered :]:
        ax.axis("off")
    shown = len(measures) + steered
    for ax in panels[max(0, shown - COLUMNS) : shown]:  # with no panel below
        ax.set_xlabel("planted sharing")
        ax.tick_params(labelbottom=True)
    names = ["value", "mean", "rank_correlation", "rank_correlation_lowest"]
    numbers = numbers_of(calibration, [*names, *(["steering"] if steered else [])])
    return Drawing(figure, numbers, _caption(calibration))


def _panel(ax: Axes, measure: xr.Dataset) -> None:
    tracks = bool(measure["tracks"])
    color = BLUE if tracks else RED
    ax.plot(measure["sharing_of"], measure["value"], "o", color=color, alpha=0.5, markersize=3)
    mean, low, high = (measure[name].values for name in ("mean", "mean_low", "mean_high"))
    error = np.clip([mean - low, high - mean], 0, None)
    ax.errorbar(measure["sharing"], mean, yerr=error, color=color, linewidth=1, capsize=2)
    ax.set_title(str(measure["measure_name"].item()), fontsize="small")
    word = "tracks" if tracks else "fails"
    ax.annotate(
        f"ρ {decimal(measure['rank_correlation'])}: {word}",
        (0.03, 0.97),
        xycoords="axes fraction",
        va="top",
        color=color,
        fontsize="x-small",
    )
    ax.margins(x=0.08, y=0.25)


def _steering_panel(ax: Axes, calibration: xr.Dataset) -> None:
    """What steering does to accuracy, by method, beside the oracle."""
    for index, method in enumerate(calibration["method"].values):
        effects = 100 * calibration["steering"].sel({"method": method})
        color = BLACK if method == "patch" else CYCLE[index]
        ax.plot(calibration["sharing_of"], effects, "o", color=color, alpha=0.4, markersize=3)
        means = effects.groupby("sharing_of").mean()
        ax.plot(means["sharing_of"], means, color=color, label=str(method).replace("_", " "))
    ax.axhline(0, color=GREY, linewidth=0.5)
    ax.set_title("steering: accuracy, points", fontsize="small")
    ax.legend(fontsize="x-small")


def _tracking(calibration: xr.Dataset) -> tuple[list[str], list[str]]:
    """Names of the measures that track sharing, and of those that fail."""
    names = calibration["measure_name"].values.astype(str)
    tracks = calibration["tracks"].values.astype(bool)
    return names[tracks].tolist(), names[~tracks].tolist()


def _caption(calibration: xr.Dataset) -> str:
    tracking, failing = _tracking(calibration)
    return (
        f"Planted sharing is followed by {as_rst(spoken(tracking) or 'none')}; "
        f"{as_rst(spoken(failing) or 'none')} fail.\n\n"
        "*How to read it*: a panel per measure, a dot per model, the share of its embeddings that "
        "languages have in common along x. Blue measures follow it, red ones do not. What is said "
        "here holds for tiny models of a synthetic world."
    )


def calibration_section(calibration: xr.Dataset) -> str:
    """What the summary says of a calibration, as Markdown."""
    tracking, failing = _tracking(calibration)
    levels = calibration["sharing"].values
    header = ["measure", "reads", "expected", *(f"s = {level:g}" for level in levels)]
    header += ["ρ with sharing", "ρ, furthest seed", "verdict"]
    rows = []
    for measure in calibration["measure"].values:
        of = calibration.sel(measure=measure)
        expected = {1: "rises", -1: "falls", 0: "either"}[int(of["expected"])]
        curve = [
            f"{decimal(m)} [{decimal(low)}, {decimal(high)}]" if np.isfinite(low) else decimal(m)
            for m, low, high in zip(of["mean"], of["mean_low"], of["mean_high"], strict=True)
        ]
        correlations = [decimal(of[f"rank_correlation{end}"]) for end in ("", "_lowest")]
        name, group = (as_markdown(str(of[key].item())) for key in ("measure_name", "group"))
        verdict = "tracks" if bool(of["tracks"]) else "**fails**"
        rows.append([name, group, expected, *curve, *correlations, verdict])
    lines = [
        "## Calibration: measures against planted sharing",
        f"{calibration.sizes['model']} models. A measure tracks sharing where Spearman's ρ over "
        f"all models is at least {calibration.attrs['tracks_from']:g} in the expected direction. "
        f"**Tracking**: {as_markdown(spoken(tracking) or 'none')}. "
        f"**Failing**: {as_markdown(spoken(failing) or 'none')}. "
        f"Brackets: {confidence(calibration)} over seeds.",
        markdown_table(header, rows),
        _parting(calibration),
    ]
    if "steering" in calibration:
        lines.append(_steering_table(calibration))
    return "\n\n".join(lines)


def _parting(calibration: xr.Dataset) -> str:
    """Where same place and same shape say different things."""
    means = calibration["mean"].sel(measure=list(PARTED))
    pairs = [
        f"at s = {level:g} {decimal(1 - at[0])} and {decimal(at[1])}"
        for level, at in zip(calibration["sharing"].values, means.values, strict=True)
    ]
    return f"Item share ({PLACE}) and debiased CKA ({SHAPE}): {spoken(pairs)}."


def _steering_table(calibration: xr.Dataset) -> str:
    """What steering does to accuracy at every sharing, the oracle beside it."""
    effects = calibration["steering"].groupby("sharing_of")
    mean, low, high = effects.mean(), effects.min(), effects.max()
    methods = [str(m) for m in calibration["method"].values]
    header = ["planted sharing", *(as_markdown(m.replace("_", " ")) for m in methods)]
    rows = [
        [
            f"{float(level):g}",
            *(
                f"{points(mean.sel(at))} ({points(low.sel(at))} to {points(high.sel(at))})"
                for at in ({"sharing_of": level, "method": m} for m in methods)
            ),
        ]
        for level in mean["sharing_of"].values
    ]
    table = markdown_table(header, rows)
    return (
        "Change of accuracy by steering, points: mean over seeds, and the least and the most of "
        f"them. `patch` is an oracle that sees the pivot's own prompt.\n\n{table}"
    )
