"""The one list of figures: what is named is drawn, and numbered in the order of the list."""

import runpy
from pathlib import Path

import pytest

from isogloss.figures.titles import FIGURES, STEERING_FIGURES, figure_files, figures_of
from isogloss.study.schema import Config

ROOT = Path(__file__).resolve().parents[2]


def test_every_figure_of_the_list_is_drawn_and_no_other() -> None:
    program = runpy.run_path(str(ROOT / "workflow_scripts/figures.py"), run_name="imported")
    assert {*program["DRAWN"], "lens_items", "wordings_averaged"} == {
        figure.name for figure in FIGURES
    }
    assert set(program["STEERING"]) == {figure.name for figure in STEERING_FIGURES}


def test_figures_are_those_of_the_results_that_there_are() -> None:
    names = [figure.name for figure in figures_of(["subspaces", "behaviour"], ["a", "b"])]
    assert names == [
        "accuracy", "transfer", "language_subspace", "steering_surface_a", "steering_effect_a",
        "steering_surface_b", "steering_effect_b",
    ]  # fmt: skip
    assert figures_of([]) == []


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({}, {"variants", "pivots"}),
        ({"pivots": ["de"]}, {"variants"}),
        ({"prompt": {"variants": {"plain": {"default": "{context}\n{question}"}}}}, {"pivots"}),
        ({"extraction": {"lens_layers": 0}}, {"trajectories", "lenses", "variants", "pivots"}),
        (
            {"datasets": {"everyday": {"source": "sentences", "path": "x"}}, "steering": None},
            {"behaviour", "breakdown", "trajectories", "lenses", "variants", "pivots"},
        ),
    ],
    ids=["all", "pivots", "wordings", "no-lens", "sentences"],
)
def test_a_study_has_the_results_that_it_asks_for(changes: dict, absent: set[str]) -> None:
    study = Config.model_validate(changes)
    everything = {"similarity", "subspaces", "behaviour", "breakdown", "trajectories", "lenses"}
    everything |= {"variants", "pivots"}
    assert set(study.results_of("everyday")) == everything - absent


def test_the_report_shows_a_format_that_browsers_have() -> None:
    assert figure_files("a", ["pdf", "svg"]) == ["a.svg", "a.pdf", "a.csv", "a.rst"]
    assert figure_files("a", ["pdf"]) == ["a.pdf", "a.csv", "a.rst"]
