"""The page's charts as Vega-Lite: what they look like. The page's script gives them their rows.

Rows arrive as the data set `rows`; what the script sets besides are parameters, by name, and the
height of a chart whose `usermeta` says how much each of its rows needs.
"""

from typing import Any

import altair as alt

from isogloss.figures.colours import BLUE, CYCLE, GREY, RED, SEQUENTIAL

# The page's colours, so that a chart follows it from light to dark.
INK, FAINT = "currentColor", GREY
LATENT_COLOURS = ["currentColor", RED, BLUE]


def chart_specs() -> dict[str, dict[str, Any]]:
    """Every chart of the page by name."""
    charts: dict[str, alt.LayerChart | alt.Chart] = {
        "choices": choices(),
        "accuracy": accuracy(),
        "steered": steered(),
        "pairs": pairs(),
        "pair": pair(),
        "depths": depths(),
        "dots": dots(),
    }
    return {name: _styled(chart).to_dict() for name, chart in charts.items()}


BY_PLACE = alt.EncodingSortField("place", op="min", order="ascending")
"""The order of choices: that of the rows would keep places of the item shown before."""


def _styled(chart: alt.LayerChart | alt.Chart) -> alt.LayerChart | alt.Chart:
    """Width of its place in the page, colours of the page."""
    fit = alt.AutoSizeParams(type="fit-x", contains="padding")
    chart = chart.properties(width="container", background="transparent", autosize=fit)
    chart = chart.configure(font="system-ui, sans-serif").configure_view(stroke=None)
    chart = chart.configure_axis(
        labelColor=INK, titleColor=INK, titleFontWeight="normal", domainColor=FAINT,
        tickColor=FAINT, gridColor=FAINT, gridOpacity=0.25, labelLimit=150,
        labelFontSize=11, titleFontSize=11,
    )  # fmt: skip
    return chart.configure_legend(
        labelColor=INK, titleColor=INK, orient="top", titleFontWeight="normal", titleLimit=0,
        labelLimit=0, columns=4, symbolOpacity=1, labelFontSize=11, titleFontSize=11,
    )  # fmt: skip


def by_row(name: str, height: int) -> dict[str, dict[str, str | int]]:
    """That a chart's height follows from how many values of a field there are [pixel each]."""
    return {"height": {"by": name, "each": height}}


def _rows() -> alt.Chart:
    return alt.Chart(alt.NamedData(name="rows"))


def _heat(field: str, limits: list[Any], title: str) -> alt.Color:
    return alt.Color(field, title=title).scale(_colours(domain=limits))


def _colours(**limits: Any) -> alt.Scale:
    return alt.Scale(scheme=SEQUENTIAL, clamp=True, **limits)  # type: ignore[arg-type]


def choices() -> alt.LayerChart:
    """Share of each choice at every layer; the layer's best choice as a dot.

    Rows: depth (text), at (number), choice, place (its number), share, best.
    """
    start, end = alt.param(name="start", value=0), alt.param(name="end", value=1)
    base = _rows().encode(
        alt.X("depth:O", sort=None, title="relative depth").axis(labelAngle=0, labelOverlap=True),
        alt.Y("choice:N", sort=BY_PLACE, title=None).axis(
            labelLimit=130, minExtent=130, ticks=False, domain=False
        ),
        tooltip=["choice:N", "layer:Q", "depth:O", alt.Tooltip("share:Q", format=".3f")],
    )
    within = "datum.at >= start && datum.at <= end"
    cells = base.mark_rect().encode(
        _heat("share:Q", [0, 1], "share among the choices").legend(None),
        opacity=alt.condition(within, alt.value(1), alt.value(0.25)),
    )
    best = base.transform_filter("datum.best").mark_circle(
        size=42, color=RED, stroke="white", opacity=1
    )
    return (
        (cells + best).add_params(start, end).properties(height=100, usermeta=by_row("choice", 24))
    )


def accuracy() -> alt.LayerChart:
    """Accuracy of the choices in each latent language over depth, to brush a range of layers.

    Rows: at, latent, value, low, high, chance [%].
    """
    brush = alt.selection_interval(name="brush", encodings=["x"])
    base = _rows().encode(
        alt.X("at:Q", title="relative depth: drag to choose a range")
        .scale(domain=[0, 1])
        .axis(tickCount=5),
        alt.Color("latent:N", title="choices in", sort=None).scale(range=LATENT_COLOURS),
    )
    scale = alt.Scale(domain=[0, 100])
    band = base.mark_area(opacity=0.15).encode(alt.Y("low:Q").scale(scale), alt.Y2("high:Q"))
    line = base.mark_line(point=True).encode(
        alt.Y("value:Q", title="accuracy [% of items]").scale(scale),
        shape=alt.Shape("latent:N", sort=None, legend=None),
        tooltip=[
            "latent:N", "layer:Q", alt.Tooltip("at:Q", title="depth", format=".2f"),
            *(alt.Tooltip(f"{name}:Q", format=".1f") for name in ("value", "low", "high")),
        ],
    )  # fmt: skip
    guess = _rows().mark_rule(strokeDash=[2, 2], color=FAINT).encode(alt.Y("chance:Q"))
    return (guess + band + line.add_params(brush)).properties(height=210)


def steered() -> alt.LayerChart:
    """Shares of the choices under every condition of steering.

    Rows: condition, choice (its number), place (the same to sort by), text, share, best.
    """
    base = _rows().encode(
        alt.X("choice:N", sort=BY_PLACE, title="choice").axis(labelAngle=0, orient="top"),
        alt.Y("condition:N", sort=None, title=None).axis(labelLimit=270, ticks=False, domain=False),
        tooltip=["condition:N", "choice:N", "text:N", alt.Tooltip("share:Q", format=".3f")],
    )
    cells = base.mark_rect().encode(_heat("share:Q", [0, 1], "share").legend(None))
    best = base.transform_filter("datum.best").mark_circle(
        size=42, color=RED, stroke="white", opacity=1
    )
    return (cells + best).properties(height=100, usermeta=by_row("condition", 19))


def pairs() -> alt.Chart:
    """A measure of every pair of languages at one layer; the chosen pair framed.

    Rows: a, b, place_a, place_b (in the order chosen), names, value, chosen.
    """
    base = _rows().encode(
        alt.X("b:N", sort=alt.SortField("place_b"), title=None).axis(
            labelAngle=0, orient="top", labelOverlap=True
        ),
        alt.Y("a:N", sort=alt.SortField("place_a"), title=None).axis(labelOverlap=True),
        tooltip=["names:N", alt.Tooltip("value:Q", format=".3f")],
    )
    limits = [alt.ExprRef("bottom"), alt.ExprRef("top")]
    colour = alt.Color("value:Q", title=None).scale(
        _colours(domainMin=limits[0], domainMax=limits[1])
    )
    chosen = alt.condition("datum.chosen", alt.value(RED), alt.value("transparent"))
    cells = base.mark_rect(cursor="pointer", strokeWidth=2.5).encode(colour, stroke=chosen)
    ends = [alt.param(name="bottom", value=0), alt.param(name="top", value=1)]
    return cells.add_params(*ends).properties(height=360)


def pair() -> alt.LayerChart:
    """A measure of one pair over depth, with its interval and what shuffled items give.

    Rows: at, value, low, high, null, threshold, now (the layer of the map).
    """
    base = _rows().encode(
        alt.X("at:Q", title="relative depth").scale(domain=[0, 1]).axis(tickCount=5)
    )
    null = base.mark_area(color=FAINT, opacity=0.35).encode(alt.Y("null:Q"), alt.Y2("threshold:Q"))
    chance = base.mark_line(color=FAINT, strokeDash=[2, 2]).encode(alt.Y("null:Q"))
    band = base.mark_area(color=BLUE, opacity=0.2).encode(alt.Y("low:Q"), alt.Y2("high:Q"))
    line = base.mark_line(color=BLUE, point=alt.OverlayMarkDef(color=BLUE)).encode(
        alt.Y("value:Q", title=None),
        tooltip=[
            "layer:Q", alt.Tooltip("at:Q", title="depth", format=".2f"),
            *(
                alt.Tooltip(f"{name}:Q", format=".3f")
                for name in ("value", "low", "high", "null", "threshold")
            ),
        ],
    )  # fmt: skip
    now = base.transform_filter("datum.now").mark_rule(color=RED)
    return (null + chance + now + band + line).properties(height=260)


def depths() -> alt.LayerChart:
    """A measure over depth, a line per language; on the axes of the other models.

    Rows: language, group, at, value, last (a label stands there); parameters bottom, top.
    """
    ends = [alt.param(name="bottom", value=0), alt.param(name="top", value=1)]
    limits: dict[str, Any] = {
        "domainMin": alt.ExprRef("bottom"),
        "domainMax": alt.ExprRef("top"),
        "nice": False,
    }
    base = _rows().encode(
        alt.X("at:Q", title="relative depth").scale(domain=[0, 1.12]).axis(
            values=[0, 0.25, 0.5, 0.75, 1], format=".2~f"
        ),
        alt.Y("value:Q", title=None).scale(**limits),
        alt.Color("group:N", title=None, sort=None).scale(range=list(CYCLE)),
        detail="language:N",
        tooltip=[
            "language:N", "group:N", alt.Tooltip("at:Q", title="depth", format=".2f"),
            *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("value", "low", "high")),
        ],
    )  # fmt: skip
    line = base.mark_line(opacity=0.8, strokeWidth=1.4)
    touch = base.mark_circle(size=60, opacity=0)
    label = (
        base.transform_filter("datum.last")
        .mark_text(align="left", dx=4, fontSize=10)
        .encode(text="tag:N")
    )
    return (line + touch + label).add_params(*ends).properties(height=250)


def dots() -> alt.LayerChart:
    """A number of the main table with its interval, per language and model.

    Rows: language, model, value, low, high, near (not above chance).
    """
    base = _rows().encode(
        alt.Y("language:N", sort=None, title=None),
        alt.Color("model:N", title=None, sort=None).scale(range=["currentColor", *CYCLE]),
        yOffset=alt.YOffset("model:N", sort=None),
        tooltip=[
            "language:N", "model:N",
            *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("value", "low", "high")),
        ],
    )  # fmt: skip
    rule = base.mark_rule().encode(alt.X("low:Q", title=None), alt.X2("high:Q"))
    point = base.mark_point(size=40).encode(
        alt.X("value:Q", title=None).scale(zero=False),
        shape=alt.Shape("model:N", sort=None, legend=None),
        fill=alt.condition(
            "datum.near", alt.value("transparent"), alt.Color("model:N", legend=None)
        ),
    )
    return (rule + point).properties(height=100, usermeta=by_row("language", 26))
