"""What all figures share: fonts, labels, parts; how a figure, numbers and caption are kept."""

import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from isogloss.figures.colours import BLACK, CYCLE, DASHES, GREY, MARKERS, PALE, SEQUENTIAL
from isogloss.figures.text import between, decimal
from isogloss.files.atomic import whole_file
from isogloss.files.netcdf import confidence_of
from isogloss.questions.languages import language_family, language_name

# Packages whose fonts are used, in the order in which glyphs are looked up.
FONT_PACKAGES = (
    "fontpkg_noto_sans",
    "fontpkg_noto_sans_arabic",
    "fontpkg_noto_sans_devanagari",
    "fontpkg_noto_sans_thai",
    "fontpkg_noto_sans_tamil",
    "noto_cjk_sans_otc",
)
# A guide from the left of a name; cutting it at the name's box would take a tenth of drawing.
GUIDE: dict[str, Any] = {"arrowstyle": "-", "color": PALE, "linewidth": 0.5, "relpos": (0, 0.5)}
GUIDE |= {"patchA": None, "shrinkA": 0, "shrinkB": 0}
MOST_NAMED = 14  # lines whose ends are all named
MOST_ANNOTATED = 14  # languages of a heat map whose cells still hold a legible number
SMALLEST = 5.0  # size of a name that can still be read [point]


@dataclass(frozen=True)
class Drawing:
    """A figure, the numbers behind it (long format) and a caption (reStructuredText)."""

    figure: Figure
    numbers: pd.DataFrame
    caption: str


@dataclass(frozen=True)
class Subject:
    """What a figure is about, as it is named in it.

    Attributes:
        model: name of the model as it is, conversions included.
        dataset: name of the dataset.
        pivot: the language that others are compared with.
        near_chance: languages whose accuracy is not above chance.
        width: of a figure [inch].
    """

    model: str
    dataset: str
    pivot: str
    near_chance: frozenset[str] = frozenset()
    width: float = 7.2

    def label(self, language: str) -> str:
        """Name of a language; an asterisk where its accuracy is not above chance."""
        return language_name(language) + self.mark(language)

    def mark(self, language: str) -> str:
        return "*" if language in self.near_chance else ""

    def order(self, languages: Iterable[Any]) -> list[str]:
        """The pivot first, then the others as they come."""
        return sorted(map(str, languages), key=lambda tag: tag != self.pivot)


# Fonts and settings


def font_files(package: str) -> list[Path]:
    """Upright font files of a package, none where it is not installed."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parent
    faces = [*folder.glob("files/*.ttf"), *folder.glob("*.tt[cf]"), *folder.glob("*.otf")]
    return sorted(face for face in faces if "Italic" not in face.name)


@cache
def font_families(every_script: bool = False) -> tuple[str, ...]:
    """Families to look glyphs up in, one after the other; registers them with matplotlib.

    Args:
        every_script: also Arabic, Devanagari, Han and so on, for text from the data. Looking
            through all of them costs time, and labels are in English.
    """
    families = []
    for package in FONT_PACKAGES if every_script else FONT_PACKAGES[:1]:
        for file in font_files(package):
            font_manager.fontManager.addfont(file)
            families.append(font_manager.get_font(file).family_name)
    return (*families, "DejaVu Sans")


def use_style(font_size: float = 8, dpi: int = 160) -> None:
    """Set matplotlib up for this project's figures.

    Args:
        font_size: [point].
        dpi: of bitmaps.
    """
    matplotlib.rcParams.update(
        {
            "font.family": list(font_families()),
            "font.size": font_size,
            "axes.titlesize": font_size * 1.05,
            "axes.titlelocation": "left",
            "axes.titley": 1.0,  # no ticks on top, which matplotlib would look for at each drawing
            "axes.labelsize": font_size,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.7,
            "xtick.labelsize": font_size * 0.92,
            "ytick.labelsize": font_size * 0.92,
            "xtick.major.width": 0.7,
            "ytick.major.width": 0.7,
            "legend.fontsize": font_size * 0.92,
            "legend.frameon": False,
            "lines.linewidth": 1.3,
            "lines.markersize": 4,
            "figure.titlesize": font_size * 1.35,
            "savefig.dpi": dpi,
            "pdf.compression": 3,
            "pdf.fonttype": 3,  # glyphs as they are: whole fonts take a second a figure to cut
            "svg.fonttype": "path",
            "axes.unicode_minus": True,
            "text.hinting": "none",  # as wide in a bitmap as in a PDF, and a third sooner laid out
            "text.parse_math": False,  # a question about $5 and $6 is no formula
        }
    )
    # Asked for at every measuring of a text; the answer rests on the settings above.
    manager = font_manager.fontManager
    vars(manager)["findfont"] = cache(partial(type(manager).findfont, manager))


def new_figure(
    subject: Subject, title: str, height: float, notes: Sequence[str] = (), legends: int = 0
) -> Figure:
    """An empty figure with its title on top and its provenance below.

    Args:
        title: what is shown.
        height: [inch].
        notes: said after the names of model and dataset; empty ones are left out.
        legends: lines kept below the title for `legend_below_title`.
    """
    dpi = matplotlib.rcParams["savefig.dpi"]
    room = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05, wspace=0.03, hspace=0.04)
    figure = Figure(figsize=(subject.width, height), dpi=dpi, layout=room)
    FigureCanvasAgg(figure)  # laid out and drawn by one renderer, which measures a text once
    figure.suptitle(title + "\n" * legends, x=0.008, ha="left")
    below = " · ".join(part for part in (subject.model, subject.dataset, *notes) if part)
    size = float(matplotlib.rcParams["font.size"]) * 0.82
    below = textwrap.fill(below, int(subject.width * 72 / (0.49 * size)))
    figure.supxlabel(below, x=0.008, ha="left", color=GREY, fontsize=size)
    return figure


def legend_below_title(
    figure: Figure, ax: Axes, title: str = "", line: int = 1, side: str = "left", rows: int = 1
) -> None:
    """The legend of one of the axes, on lines kept for it below the figure's title."""
    size = float(matplotlib.rcParams["figure.titlesize"])
    down = (0.4 + 1.35 * line) * size / 72 / figure.get_figheight()
    handles, labels = ax.get_legend_handles_labels()
    if title:
        blank = Line2D([], [], linestyle="none")
        handles, labels = [*[blank] * rows, *handles], [title, *[""] * (rows - 1), *labels]
    legend = figure.legend(
        handles,
        labels,
        loc="upper left" if side == "left" else "upper right",
        bbox_to_anchor=(0.0 if side == "left" else 1.0, 1 - down),
        ncols=-(-len(labels) // rows),
        borderpad=0.1,
        handletextpad=0.4,
        columnspacing=1.4,
    )
    legend.set_in_layout(False)


# Parts of figures


def line_style(index: int) -> dict[str, Any]:
    """Colour, marker and dash of the index-th of many lines; black is kept for the pivot."""
    return {
        "color": CYCLE[index % len(CYCLE)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index // len(CYCLE) % len(DASHES)],
    }


def language_styles(languages: Sequence[str], subject: Subject) -> dict[str, dict[str, Any]]:
    """The style of each language, the same in every figure; hollow markers near chance.

    Colours are families, the most frequent first and grey for those that are left: six colours
    tell six groups apart, and no thirty languages. Markers and dashes tell languages apart.
    """
    styles: dict[str, dict[str, Any]] = {}
    others = [tag for tag in languages if tag != subject.pivot]
    families = [language_family(tag) for tag in others]
    most = [name for name, _ in Counter(filter(None, families)).most_common(len(CYCLE))]
    color_of = dict(zip(most, CYCLE, strict=False))
    for index, (tag, family) in enumerate(zip(others, families, strict=True)):
        styles[tag] = line_style(index) | {
            "color": color_of.get(family, GREY),
            "linestyle": DASHES[index // len(MARKERS) % len(DASHES)],
        }
    styles[subject.pivot] = {"color": BLACK, "marker": "o", "linestyle": "-"}
    for tag, style in styles.items():
        style["markerfacecolor"] = "white" if tag in subject.near_chance else style["color"]
        style["markersize"] = 3.6
    return styles


def dots(
    ax: Axes,
    values: Sequence[np.ndarray],
    y: np.ndarray,
    hollow: Sequence[bool],
    color: str = BLACK,
    marker: str = "o",
    label: str | None = None,
) -> None:
    """Estimates with their intervals along x, one per row; hollow where said.

    Args:
        values: estimates, lower and upper bounds, each (row,).
        y: (row,) heights.
    """
    value, low, high = values
    error = np.clip(np.array([value - low, high - value]), 0, None)
    ax.errorbar(value, y, xerr=error, fmt="none", ecolor=color, elinewidth=1)
    fill = np.array(["white" if is_hollow else color for is_hollow in hollow])
    if marker == "|":  # a stroke has no inside
        ax.scatter(value, y, s=40, c=color, marker=marker, linewidths=1.4, zorder=3)
    else:
        ax.scatter(value, y, s=22, c=fill, edgecolors=color, marker=marker, linewidths=1, zorder=3)
    if label:
        ax.plot([], [], marker=marker, color=color, linestyle="none", label=label)


def dashes(ax: Axes, values: np.ndarray) -> None:
    """A dash in the rows (row,) that have no value."""
    for row in np.flatnonzero(np.isnan(values)):
        place = ("axes fraction", "data")
        ax.annotate("–", (0.5, row), xycoords=place, ha="center", va="center")


def rows_axis(ax: Axes, names: Sequence[str]) -> None:
    """Rows named from the top downwards, with faint guides."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="y", color=PALE, linewidth=0.4)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0, left=False)


def heat_map(
    ax: Axes,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    limits: tuple[float, float],
    cmap: str = SEQUENTIAL,
    written: str = "{:.2f}",
    faint: np.ndarray | None = None,
) -> AxesImage:
    """A matrix as colours with its numbers written in.

    Args:
        values: (row, column); NaN is left blank.
        limits: values of the first and the last colour.
        written: format of a cell's number; "" writes none.
        faint: (row, column) bool: numbers put in brackets.
    """
    ax.set_facecolor("#efefef")
    image = ax.imshow(values, cmap=cmap, vmin=limits[0], vmax=limits[1], aspect="auto")
    figure = ax.get_figure(root=True)
    assert figure is not None, "axes without a figure"
    width, height = figure.get_size_inches()
    if len(columns) > MOST_ANNOTATED:
        ax.tick_params(axis="x", labelrotation=90)
        _name_cells(ax.xaxis, columns, width / 2.6)
    else:
        ax.set_xticks(range(len(columns)), columns)
    _name_cells(ax.yaxis, rows, height * _share_of_height(ax))
    ax.tick_params(length=0, left=False, bottom=False)
    ax.spines[:].set_visible(False)
    if not written or max(values.shape) > MOST_ANNOTATED:
        return image
    size = matplotlib.rcParams["font.size"] * (0.78 if values.shape[1] > 8 else 0.9)
    for (row, column), value in np.ndenumerate(values):
        if not np.isfinite(value):
            continue
        text = written.format(value).replace("-", "−")
        text = text if any(digit in text for digit in "123456789") else text.lstrip("+−")
        if faint is not None and faint[row, column]:
            text = f"({text})"
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        ink = "white" if dark else "black"
        written_in = ax.text(column, row, text, ha="center", va="center", color=ink, fontsize=size)
        written_in.set_in_layout(False)  # inside the axes anyhow; measuring them all takes time
    return image


def _share_of_height(ax: Axes) -> float:
    """What part of a figure's height axes have."""
    if (spec := ax.get_subplotspec()) is None:
        return 1.0
    grid = spec.get_gridspec()
    heights = np.asarray(grid.get_height_ratios() or np.ones(grid.nrows), float)
    return float(heights[spec.rowspan.start : spec.rowspan.stop].sum() / heights.sum())


def _name_cells(axis: Axis, names: Sequence[str], length: float) -> None:
    """Names of cells, no larger than a cell; of every second cell, or fewer, where they are many.

    Args: length of the axis [inch], roughly.
    """
    room = 0.8 * 72 * length / len(names)
    step = int(np.ceil(SMALLEST / room))
    axis.set_ticks(range(0, len(names), step), names[::step])
    size = min(float(matplotlib.rcParams["font.size"]) * 0.92, step * room)
    axis.set_tick_params(labelsize=size)


def spread(values: Sequence[float], gap: float) -> list[float]:
    """The nearest positions that are at least `gap` apart, in the same order.

    >>> spread([0.0, 0.1, 5.0], 1.0)
    [-0.45, 0.55, 5.0]
    """
    order = np.argsort(values, kind="stable")
    blocks: list[list[float]] = []  # [centre of the first, number of members]
    for value in np.asarray(values, float)[order]:
        blocks.append([float(value), 1])
        while len(blocks) > 1 and blocks[-2][0] + gap * blocks[-2][1] > blocks[-1][0]:
            start, count = blocks.pop()
            first, members = blocks[-1]
            moved = (first * members + (start - gap * members) * count) / (members + count)
            blocks[-1] = [moved, members + count]
    placed = [start + gap * i for start, count in blocks for i in range(int(count))]
    in_order = np.empty(len(placed))
    in_order[order] = placed
    return [round(float(value), 10) for value in in_order]


def label_ends(
    ax: Axes,
    x: float,
    ends: dict[str, float],
    colors: dict[str, Any],
    height: float,
    always: Collection[str] = (),
) -> None:
    """Names at the right ends of lines, moved apart where they would overlap.

    Where there are more than fit, the three highest and the three lowest are named.

    Args:
        ends: by text, where its line ends in y.
        height: of the axes [inch], roughly.
        always: texts that are named in any case.
    """
    known = {text: y for text, y in ends.items() if np.isfinite(y)}
    if len(known) > MOST_NAMED:
        in_order = sorted(known, key=lambda text: known[text])
        kept = {*in_order[:3], *in_order[-3:], *always}
        known = {text: y for text, y in known.items() if text in kept}
    low, high = ax.get_ylim()
    size = matplotlib.rcParams["font.size"] * 0.88
    gap = size * 1.12 / 72 / height * (high - low)
    places = spread(list(known.values()), gap)
    for (text, y), place in zip(known.items(), places, strict=True):
        ax.annotate(
            text,
            (x, y),
            xytext=(x + 0.055 * np.ptp(ax.get_xlim()), place),
            color=colors[text],
            fontsize=size,
            va="center",
            annotation_clip=False,
            arrowprops=GUIDE,
        )


def label_points(ax: Axes, texts: Sequence[str], xy: np.ndarray, size: tuple[float, float]) -> None:
    """Names beside points, each on the first side where it covers fewest points and other names.

    Args:
        xy: (point, 2) in data.
        size: width and height of the axes [inch], roughly; their limits must stand.
    """
    font = float(matplotlib.rcParams["font.size"]) * 0.88
    low, high = ax.transScale.transform(np.array([ax.get_xlim(), ax.get_ylim()]).T)
    at = (ax.transScale.transform(xy) - low) / (high - low) * np.array(size) * 72
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in at]
    for (x, y), text, place in zip(at, texts, xy, strict=True):
        width, height = 0.58 * font * len(text) + 4, 1.15 * font
        left, right, middle = -7 - width, 7, -width / 2
        sides = [(right, -height / 2), (left, -height / 2), (middle, 7), (middle, -7 - height)]
        sides += [(right, 4), (left, 4), (right, -4 - height), (left, -4 - height)]
        sides += [(right, 4 + height), (right, -4 - 2 * height), (left, 4 + height)]
        boxes = [(x + a, y + b, x + a + width, y + b + height) for a, b in sides]
        covered = [
            sum(_meet(box, other) for other in taken)
            + 9 * (min(box[:2]) < 0 or box[2] > 72 * size[0] or box[3] > 72 * size[1])
            for box in boxes
        ]
        best = int(np.argmin(covered))
        taken.append(boxes[best])
        ax.annotate(
            text,
            place,
            xytext=(sides[best][0], sides[best][1] + 0.2 * font),
            textcoords="offset points",
            fontsize=font,
        )


def _meet(box: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two boxes (left, bottom, right, top) overlap."""
    apart = box[2] < other[0] or other[2] < box[0] or box[3] < other[1] or other[3] < box[1]
    return not apart


def say_empty(ax: Axes, why: str) -> None:
    """Why axes hold nothing, in their middle."""
    ax.text(0.5, 0.5, textwrap.fill(why, 24), transform=ax.transAxes, ha="center", va="center",
            color=GREY, bbox={"facecolor": "white", "edgecolor": "none"})  # fmt: skip


def depth_axis(ax: Axes) -> None:
    """Relative depth along x."""
    ax.set_xlim(-0.035, 1.035)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "1"])
    ax.set_xlabel("relative depth")


# Words and numbers


def between_both(dataset: xr.Dataset, name: str) -> str:
    """A mean over languages with both its intervals, each with what it is over."""
    low, high = (decimal(float(dataset[f"{name}_crossed_{end}"])) for end in ("low", "high"))
    return f"{between(dataset, name)} over items, [{low}, {high}] over items and languages"


def spoken(names: Sequence[str]) -> str:
    """Names as a phrase.

    >>> spoken(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def confidence(dataset: xr.Dataset) -> str:
    """What the intervals of a dataset are: "95% intervals"."""
    return f"{100 * confidence_of(dataset):g}% intervals"


FAMILIES_NOTE = "colours: language families"


def near_chance_note(subject: Subject, languages: Sequence[str]) -> str:
    """What the asterisk means, where a language of a figure bears one."""
    shown = set(map(str, languages)) & subject.near_chance
    return "* accuracy not above chance" if shown else ""


def numbers_of(dataset: xr.Dataset, names: Sequence[str]) -> pd.DataFrame:
    """Variables with their intervals in long format: a row per value, with quantity and units."""
    frames = []
    for name in names:
        ends = {
            end: key for key, end in (("low", "_low"), ("high", "_high")) if name + end in dataset
        }
        values = dataset[[name, *(name + end for end in ends)]]
        keep = [c for c in values.coords if c in values.dims or c == "relative_depth"]
        values = values.reset_coords([c for c in values.coords if c not in keep], drop=True)
        frame = values.to_dataframe().reset_index() if values.dims else _one_row(values)
        frame = frame.drop(columns=[c for c in ("index",) if c in frame])
        renamed = {name: "estimate"} | {name + end: key for end, key in ends.items()}
        frame = frame.rename(columns=renamed)
        frame.insert(0, "quantity", name)
        frame["units"] = dataset[name].attrs.get("units", "1")
        frames.append(frame)
    table = pd.concat(frames, ignore_index=True)
    last = [c for c in ("estimate", "low", "high", "units") if c in table]
    return table[[c for c in table if c not in last] + last]


def with_reasons(numbers: pd.DataFrame, dataset: xr.Dataset, name: str) -> pd.DataFrame:
    """The table with a column `reason`: why a variable over one dimension has no value there."""
    reasons = dataset[f"{name}_reason"].to_series()
    said = numbers[str(reasons.index.name)].map(reasons)
    return numbers.assign(reason=said.where(numbers["quantity"] == name, ""))


def _one_row(values: xr.Dataset) -> pd.DataFrame:
    return pd.DataFrame({str(name): [values[name].item()] for name in values.data_vars})


def save(drawing: Drawing, stem: Path, formats: Sequence[str]) -> None:
    """Write a drawing: the figure in every format, `stem.csv` and the caption `stem.rst`.

    Lays the figure out once; each format would do so again.
    """
    for ax in drawing.figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            if not axis.label.get_text():  # its place would be sought among the ticks' names
                axis.set_label_coords(0, 0)
    if (engine := drawing.figure.get_layout_engine()) is not None:
        engine.execute(drawing.figure)
    drawing.figure.set_layout_engine(None)
    for suffix in formats:
        # Bitmaps are small: packing them harder takes longer than it saves.
        packing: dict[str, Any] = {"pil_kwargs": {"compress_level": 1}} if suffix == "png" else {}
        with whole_file(stem.with_name(f"{stem.name}.{suffix}")) as temporary:
            drawing.figure.savefig(temporary, format=suffix, **packing)
    with whole_file(stem.with_name(stem.name + ".csv")) as temporary:
        drawing.numbers.to_csv(temporary, index=False, float_format="%.6g")
    with whole_file(stem.with_name(stem.name + ".rst")) as temporary:
        temporary.write_text(drawing.caption.strip() + "\n", encoding="utf-8")
