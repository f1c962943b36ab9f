"""Captions of figures, which are reStructuredText, as HTML and as plain text."""

import html
import re
from dataclasses import dataclass
from pathlib import Path

from docutils.core import publish_parts
from markdown_it import MarkdownIt
from markupsafe import Markup

# No directive may pass HTML on or read a file; what is wrong in a caption is no reason to stop.
SAFE = {
    "raw_enabled": False,
    "file_insertion_enabled": False,
    "report_level": 5,
    "_disable_config": True,
}


@dataclass(frozen=True)
class Caption:
    """A caption: what the figure shows here, how it is read, and the first as plain text."""

    finding: Markup
    reading: Markup
    alternative: str


def read_caption(path: Path) -> Caption:
    """The caption that a figure's program wrote beside it: the finding, then how to read it."""
    finding, _, reading = path.read_text(encoding="utf-8").partition("\n\n")
    shown = _html(finding)
    return Caption(shown, _html(reading), plain(shown))


def _html(text: str) -> Markup:
    # What `isogloss.figures.text.as_rst` escapes for Jinja, docutils gives back as it was.
    return Markup(publish_parts(text, writer="html5", settings_overrides=SAFE)["body"])


def plain(markup: str) -> str:
    """HTML without its tags.

    >>> plain("<p><strong>a</strong> &lt; b</p>")
    'a < b'
    """
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", markup)).split())


def markdown(text: str) -> Markup:
    """Markdown as HTML; HTML within it stays text.

    >>> markdown("*a* <b>")
    Markup('<p><em>a</em> &lt;b&gt;</p>\\n')
    """
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))
