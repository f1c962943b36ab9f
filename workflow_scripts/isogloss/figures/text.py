"""Numbers as figures and the summary say them, and names from data as plain text in markup."""

import re

import numpy as np
import xarray as xr


def span_of_points(shares: xr.DataArray) -> str:
    """The range of some differences in whole percentage points; a dash where none is known.

    >>> span_of_points(xr.DataArray([0.07, 0.13])), span_of_points(xr.DataArray(np.nan))
    ('7 to 13 points', '–')
    """
    known = 100 * shares.values[np.isfinite(shares.values)]
    if not known.size:
        return "–"
    ends = dict.fromkeys(f"{end:.0f}" for end in (known.min(), known.max()))
    return f"{' to '.join(ends)} points"


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
