"""Names from data in captions, tables and figures: plain text, whatever is in them."""

import html
import os
import random
import re
from pathlib import Path

import matplotlib
import pytest
from docutils.core import publish_parts
from jinja2 import Environment
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from isogloss.figures.style import use_style
from isogloss.figures.text import as_markdown, as_rst

ROOT = Path(__file__).resolve().parents[2]
PIECES = [
    "a", "b_", "_c", "__", "_", "*", "**", "`", "``", "|", "[1]", "[1]_", "<", ">", "</script>",
    "<script>alert(1)</script>", "&", "&lt;", "{{ 7*7 }}", "{% raw %}", "{#", "#}", "}}", "%}",
    "\\", "\\\\", ":", "::", ":math:`x`", ".. raw:: html", ".. include:: /etc/passwd", "\n", "\n\n",
    "  ", "\t", "http://x.org/a_b", "javascript:alert(1)", "mailto:a@b.c", "a@b.org", "$x_1$",
    "`a <javascript:alert(1)>`_", "|date|", "=====", "- ", "1. ", "\u2028", "'", '"', "#", "~",
    "!", "![x](y)", "[x](javascript:y)", "Statistics_", "Workflow_", "+", "é", "漢字",
]  # fmt: skip


def rendered(caption: str) -> str:
    """HTML of a caption as Snakemake's report makes it: Jinja, then docutils."""
    text = Environment(trim_blocks=True, lstrip_blocks=True).from_string(caption).render()
    return str(publish_parts(text, writer="html")["body"])


def test_the_way_to_the_page_is_open_without_care() -> None:
    assert "49" in rendered("Shown: {{ 7*7 }}.")
    assert "<b>" in rendered(".. raw:: html\n\n   <b>x</b>")


@pytest.mark.parametrize("seed", range(60))
def test_any_name_stays_text_in_a_caption(seed: int) -> None:
    draw = random.Random(seed)
    name = "".join(draw.choices(PIECES, k=draw.randint(1, 8)))
    page = rendered(f"**m on d**: so it is. Shown: {as_rst(name)}, and z.\n\n*Read*: rows.")
    said = html.escape(" ".join(name.split()), quote=False)
    first = re.sub(r"\s+", " ", html.unescape(page.split("</p>")[0]))
    wanted = f"Shown: {' '.join(name.split())}, and z."
    assert wanted in re.sub(r"^<p><strong>.*?</strong>", "", first), (name, said, page)
    assert page.count("<") == page.count("</") * 2 == 8, "one paragraph, two emphases, no more"


def test_directives_that_reach_files_or_pages_are_off_where_the_report_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As rules/common.smk sets it, should a caption hold one all the same."""
    monkeypatch.setenv("DOCUTILSCONFIG", str(ROOT / "report/docutils.conf"))
    for text in (".. raw:: html\n\n   <b>x</b>", ".. include:: /etc/passwd"):
        page = rendered(text)
        assert "disabled" in page and "root:" not in page and "<b>" not in page
    assert os.environ["DOCUTILSCONFIG"].endswith("docutils.conf")


@pytest.mark.parametrize("seed", range(20))
def test_any_name_stays_in_its_cell_and_makes_no_page(seed: int) -> None:
    draw = random.Random(seed)
    name = "".join(draw.choices(PIECES, k=draw.randint(1, 8)))
    text = as_markdown(name)
    assert "\n" not in text and "<" not in text
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", "", text)  # what is escaped is text
    assert not set(bare) & set("\\`*_[]|!~")
    back = html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text))
    assert back == html.unescape(" ".join(name.split())) or "&" in name


def test_a_question_about_money_is_no_formula() -> None:
    with matplotlib.rc_context():
        use_style()
        figure = Figure()
        FigureCanvasAgg(figure)
        figure.suptitle(r"costs $5 and $\undefined{6}$")
        figure.canvas.draw()
        assert not figure._suptitle.get_parse_math()
