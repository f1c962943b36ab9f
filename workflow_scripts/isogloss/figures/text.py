"""Numbers as figures and the summary say them, and names from data as plain text in markup."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsFloat

import numpy as np
import xarray as xr

ENDS = ("", "_low", "_high")
"""Endings of the variables that hold an estimate and its bounds."""


def percent(value: SupportsFloat, unit: str = "%") -> str:
    """A share as text.

    >>> percent(0.873), percent(0.873, unit="")
    ('87%', '87')
    """
    share = float(value)
    return f"{100 * share:.0f}{unit}" if np.isfinite(share) else "unknown"


def points(value: SupportsFloat) -> str:
    """A difference of shares, in percentage points.

    >>> points(-0.034), points(0.0)
    ('−3.4', '0.0')
    """
    change = float(value)
    if not np.isfinite(change):
        return "unknown"
    rounded = round(100 * change, 1) + 0.0
    return f"{rounded:+.1f}".replace("-", "−") if rounded else "0.0"


def decimal(value: SupportsFloat, digits: int = 2) -> str:
    """A number with a proper minus sign.

    >>> decimal(-0.512)
    '−0.51'
    """
    number = float(value)
    if not np.isfinite(number):
        return "unknown"
    return f"{round(number, digits) + 0.0:.{digits}f}".replace("-", "−")


def between(
    dataset: xr.Dataset | Mapping[str, Any], name: str, how: Callable[[float], str] = decimal
) -> str:
    """A scalar with its interval as text: "0.22 [0.20, 0.25]"; without where it has no bounds."""
    value, low, high = (float(dataset[name + end]) for end in ENDS)
    if not np.isfinite([low, high]).all():
        return how(value)
    return f"{how(value)} [{how(low)}, {how(high)}]"


def span(values: xr.DataArray, how: Callable[[float], str] = "{:.0f}".format) -> str:
    """The range of some values as text; a dash where none is known.

    >>> span(xr.DataArray([7, 12, 9])), span(xr.DataArray([2.0, 2.0])), span(xr.DataArray(np.nan))
    ('7 to 12', '2', '–')
    """
    known = values.values[np.isfinite(values.values)]
    if not known.size:
        return "–"
    return " to ".join(dict.fromkeys(how(float(end)) for end in (known.min(), known.max())))


def span_of_points(shares: xr.DataArray) -> str:
    """The range of some differences in whole percentage points; a dash where none is known.

    Below 1 they have a digit that is not 0: an effect of 0 points is no effect.

    >>> span_of_points(xr.DataArray([0.07, 0.13])), span_of_points(xr.DataArray(np.nan))
    ('7 to 13 points', '–')
    >>> span_of_points(xr.DataArray([0.004, 0.012]))
    '0.4 to 1 points'
    """
    percents = span(100 * shares, lambda value: f"{value:{'.0f' if value >= 1 else '.1g'}}")
    return percents if percents == "–" else f"{percents} points"


def as_rst(text: str) -> str:
    """A name from data in a caption: reStructuredText, which Snakemake renders with Jinja first.

    No role, reference, directive or expression can begin in it, and it stays in its line.

    >>> print(as_rst("a_ {{ x }} `y`"))
    a\\_ \\{\\{ x \\}\\} \\`y\\`
    """
    line = " ".join(text.split())
    return re.sub(r"([\\*`|\[\]<>{}%#@]|_(?![^\W_])|:(?=\S))", r"\\\1", line)


def as_markdown(text: str) -> str:
    """A name from data in a Markdown text: no markup, no HTML, no new cell or line.

    >>> print(as_markdown("a|b <i> *c*"))
    a\\|b &lt;i> \\*c\\*
    """
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\*`|_\[\]!~])", r"\\\1", plain)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table.

    >>> print(markdown_table(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
