"""The page in a real browser: it shows what the results hold, and does what its controls say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.browsing import Visit, visit
from tests.patience import until

from isogloss.measures.trajectories import shares_among_choices
from isogloss.questions.items import ParallelItems
from isogloss.report.page import render_page
from isogloss.results import StudyResults

MODEL, DATASET = "tiny", "own"


def shown_rows(seen: Visit, chart: str) -> list[dict[str, Any]]:
    """What a chart of the page draws, from its marks' labels: none of the script's own arrays."""
    return seen.page.evaluate(
        """(selector) => [...document.querySelectorAll(`${selector} .mark-rect path`)]
        .map((path) => path.getAttribute('aria-label')).filter(Boolean)""",
        chart,
    )


def first_item(study: StudyResults) -> str:
    return str(study.behaviour(MODEL, DATASET)["item"].values[0])


def test_the_table_holds_the_numbers_of_the_results(
    seen: Visit, page: Path, study: StudyResults
) -> None:
    seen.open(page)
    shown = seen.page.eval_on_selector_all(
        "#main-table tbody tr",
        """(rows) => rows.map((row) => [row.dataset.dataset, row.dataset.tag,
        JSON.parse(row.querySelector('td.number').dataset.values)])""",
    )
    assert len(shown) == 6
    for dataset, tag, values in shown:
        result = study.behaviour(MODEL, dataset).sel(language=tag)
        expected = [float(result[f"accuracy{end}"]) for end in ("", "_low", "_high")]
        assert values == pytest.approx(expected)


def test_sorting_sorts_and_filters_filter(seen: Visit, page: Path) -> None:
    seen.open(page)
    column = "#main-table th[data-column=accuracy]"
    read = """(rows) => rows.filter((row) => !row.hidden)
        .map((row) => JSON.parse(row.querySelector('td.number').dataset.values)[0])"""
    for order, step in (("ascending", 1), ("descending", -1)):
        seen.page.click(f"{column} button")
        assert seen.page.get_attribute(column, "aria-sort") == order
        values = seen.page.eval_on_selector_all("#main-table tbody tr", read)
        assert len(set(values)) > 2 and values == sorted(values)[::step]
    seen.page.select_option("[data-filter=dataset]", DATASET)
    assert len(seen.page.eval_on_selector_all("#main-table tbody tr", read)) == 3
    seen.page.select_option("[data-filter=tag]", "de")
    assert len(seen.page.eval_on_selector_all("#main-table tbody tr", read)) == 1


@pytest.mark.parametrize(
    ("kind", "start", "lines"), [("csv", '"model","dataset"', 7), ("markdown", "| model", 8),
                                 ("latex", "\\begin{tabular}", 12)]
)  # fmt: skip
def test_the_table_is_copied(chromium: Any, page: Path, kind: str, start: str, lines: int) -> None:
    with visit(chromium, permissions=["clipboard-read", "clipboard-write"]) as seen:
        seen.open(page)
        seen.page.click(f"[data-copy={kind}]")
        until(lambda: seen.text("#copied"), "the copy")
        text = seen.page.evaluate("navigator.clipboard.readText()")
    assert text.startswith(start) and len(text.splitlines()) == lines


def test_choosing_an_item_shows_its_shares(seen: Visit, page: Path, study: StudyResults) -> None:
    seen.open(page, f"#{MODEL}/{DATASET}/lens/{first_item(study)}/de")
    before = shown_rows(seen, "#choices > div:first-child")
    item = str(study.behaviour(MODEL, DATASET)["item"].values[3])
    seen.page.select_option("#items", item)
    until(lambda: item in seen.page.url, "the item's address")
    seen.page.wait_for_timeout(200)
    after = shown_rows(seen, "#choices > div:first-child")
    lens = study.lens(MODEL, DATASET, "de")
    shares = shares_among_choices(lens, ["prompt"])[0, :, 3]
    assert after != before and len(after) == np.isfinite(shares).sum()
    for share in shares[-1][np.isfinite(shares[-1])]:
        assert any(f"share: {share:.3f}" in label for label in after)
    assert seen.text("#question").startswith("German")
    assert study.questions(DATASET).items["de"][3].question in seen.text("#question")


def test_j_and_k_go_through_the_items(seen: Visit, page: Path, study: StudyResults) -> None:
    items = [str(name) for name in study.behaviour(MODEL, DATASET)["item"].values]
    seen.open(page, f"#{MODEL}/{DATASET}/lens/{items[0]}/de")
    for key, at in (("k", 0), ("j", 1), ("j", 2), ("k", 1)):
        seen.page.keyboard.press(key)
        until(lambda at=at: seen.page.input_value("#items") == items[at], "the next item")
        assert study.questions(DATASET).items["de"][at].question in seen.text("#question")
    assert seen.page.evaluate("location.hash").endswith(f"/lens/{items[1]}/de")
    columns = """(all) => all.map((text) => [text.getBoundingClientRect().x, text.textContent])
        .sort((a, b) => a[0] - b[0]).map((pair) => Number.parseInt(pair[1]))"""
    listed = seen.page.eval_on_selector_all("#steered .role-axis-label text", columns)
    choices = [number for number in listed if number == number]  # names of conditions are NaN
    assert len(choices) > 1 and choices == sorted(choices)  # whatever was shown before
    seen.page.focus("#items")
    seen.page.keyboard.press("j")
    assert seen.page.input_value("#items") == items[2]
    seen.page.focus("#search")  # where letters are typed, they stay letters
    seen.page.keyboard.press("j")
    assert seen.page.input_value("#search") == "j"


def test_a_link_leads_to_an_item_in_its_language(
    seen: Visit, page: Path, study: StudyResults
) -> None:
    item = str(study.behaviour(MODEL, DATASET)["item"].values[5])
    seen.open(page, f"#{MODEL}/{DATASET}/lens/{item}/es")
    assert seen.page.input_value("#items") == item
    assert study.questions(DATASET).items["es"][5].question in seen.text("#question")
    right = bool(study.behaviour(MODEL, DATASET)["correct"].sel(language="es", item=item))
    assert f": {'right' if right else 'wrong'}" in seen.text("#answers")


def test_searching_finds_in_any_language(seen: Visit, page: Path, study: StudyResults) -> None:
    seen.open(page, f"#{MODEL}/{DATASET}/lens/{first_item(study)}/de")
    asked = study.questions(DATASET).items["es"][7]
    seen.page.fill("#search", asked.question)
    listed = seen.page.eval_on_selector_all("#items option", "(all) => all.map((o) => o.value)")
    assert listed == [asked.item_id]
    seen.page.fill("#search", "")
    seen.page.select_option("#kind", "wrong-right")
    behaviour = study.behaviour(MODEL, DATASET)["correct"]
    wanted = behaviour["item"].values[
        (~behaviour.sel(language="de") & behaviour.sel(language="en")).values
    ]
    listed = seen.page.eval_on_selector_all("#items option", "(all) => all.map((o) => o.value)")
    assert listed == list(wanted)


def test_the_map_shows_a_pair_as_the_results_have_it(
    seen: Visit, page: Path, study: StudyResults
) -> None:
    similarity = study.similarity(MODEL, DATASET)
    seen.open(page, f"#{MODEL}/{DATASET}/map/cka_pair/de/es")
    for layer in (0, similarity.sizes["layer"] - 1):
        seen.page.evaluate(
            """(layer) => { const slider = document.querySelector('#layer');
            slider.value = layer; slider.dispatchEvent(new Event('input')); }""",
            layer,
        )
        value = float(similarity["cka_pair"].sel(language="de", language_2="es")[layer])
        said = seen.text("#pair-text").replace("−", "-")
        assert said.startswith(f"German and Spanish: {value:.3f}")
        seen.page.wait_for_timeout(200)
        assert any(f"value: {value:.3f}" in label for label in shown_rows(seen, "#pairs"))


def test_the_map_says_from_which_language_to_which_translations_are_looked_up(
    seen: Visit, page: Path, study: StudyResults
) -> None:
    retrieval = study.similarity(MODEL, DATASET)["retrieval"]
    layer = retrieval.sizes["layer"] // 2
    for a, b, names in (
        ("de", "es", "German looked up in Spanish"),
        ("es", "de", "Spanish looked up in German"),
    ):
        seen.open(page, f"#{MODEL}/{DATASET}/map/retrieval/{a}/{b}")
        value = float(retrieval.sel(language=a, language_2=b)[layer])
        said = seen.text("#pair-text").replace("−", "-")
        assert said.startswith(f"{names}: {value:.3f}") and "; chance gives" in said
    exceeded = f"exceed in {100 * (1 - study.config.statistics.confidence):g}% of cases"
    assert exceeded in seen.text("#map")


def test_figures_have_their_finding_and_their_files_beside_them(seen: Visit, page: Path) -> None:
    seen.open(page)
    pictures = seen.page.eval_on_selector_all(
        ".figure img", "(all) => all.map((image) => [image.alt, image.src.slice(0, 22)])"
    )
    assert len(pictures) > 15
    assert all(len(alt) > 80 and src == "data:image/webp;base64" for alt, src in pictures)
    links = seen.page.eval_on_selector_all(".files a", "(all) => all.map((a) => a.href)")
    files = [Path(link.removeprefix("file://")) for link in links if "#" not in link]
    assert len(files) == 3 * len(pictures) and all(file.is_file() for file in files)
    seen.page.click(".figure:not([hidden]) .zoom")
    assert seen.page.is_visible("#enlarged img")
    seen.page.keyboard.press("Escape")
    assert not seen.page.is_visible("#enlarged")


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (400, "dark"), (1400, "dark")])
def test_nothing_is_wider_than_the_window(
    chromium: Any, page: Path, width: int, scheme: str
) -> None:
    with visit(chromium, width, color_scheme=scheme) as seen:
        seen.open(page)
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
        colours = seen.page.evaluate(
            """(() => { const style = getComputedStyle(document.body);
            return [style.color, style.backgroundColor]; })()"""
        )
        ink, paper = (sum(map(int, c.strip("rgb()").split(","))) for c in colours)
        assert (ink < paper) == (scheme == "light")


HOSTILE = (
    "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 1'> "
    "{{ 7*7 }} ${7*7} \"'`\\ <!-- \u202eevil\u202c &lt;b&gt;"
)


def test_a_hostile_question_stays_text(
    seen: Visit, study: StudyResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hostile(dataset: str) -> ParallelItems:
        items = read(dataset)
        texts = {}
        for tag, (first, *others) in items.items.items():
            choices = tuple(f"{HOSTILE} {c}" for c in range(len(first.choices)))
            texts[tag] = (replace(first, question=HOSTILE, choices=choices), *others)
        return replace(items, items=texts)

    read = study.questions
    monkeypatch.setattr(study, "questions", hostile)
    path = tmp_path / "hostile.html"
    path.write_text(render_page(study), encoding="utf-8")
    seen.open(path, f"#{MODEL}/{DATASET}/lens/{first_item(study)}/de")
    assert seen.page.evaluate("window.hit") is None
    assert " ".join(HOSTILE.split()) in seen.text("#question")
    assert HOSTILE in seen.page.inner_text("#items option:first-child")
    assert not seen.page.query_selector_all("#lens img, #lens script")
    labels = seen.page.eval_on_selector_all(
        "#choices text", "(all) => all.map((text) => text.textContent)"
    )
    assert any("</script>" in label for label in labels)


def test_what_does_not_fit_is_named(seen: Visit, study: StudyResults, tmp_path: Path) -> None:
    path = tmp_path / "small.html"
    path.write_text(render_page(study, most_bytes=1_000_000), encoding="utf-8")
    seen.open(path)
    assert path.stat().st_size < 1_500_000
    assert "the lens explorer of own" in seen.text(".left-out")
