"""A small study from questions to figures: everything is there, and numbers are numbers."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from tests.workflow.conftest import SMALL, Study

from isogloss.questions.languages import language_name
from isogloss.study.schema import read, validate

LANGUAGES = SMALL["languages"]
DATASETS = list(SMALL["datasets"])

FIGURES = {
    "accuracy", "transfer", "lens_accuracy", "lens_language", "lens_items", "place_and_shape",
    "language_pairs", "language_subspace", "breakdown", "pivots",
}  # fmt: skip
STEERING_FIGURES = {"steering_surface_own", "steering_effect_own"}
SIGNATURES = {"pdf": b"%PDF-", "png": b"\x89PNG"}


def results(study: Study) -> Path:
    return study.folder / "results"


def opened(study: Study, dataset: str, name: str) -> xr.Dataset:
    return xr.load_dataset(results(study) / f"tiny/{dataset}/{name}.nc")


def figures(study: Study, dataset: str) -> dict[str, list[Path]]:
    """Files of the figures of one dataset, by figure."""
    figures_of: dict[str, list[Path]] = {}
    for path in sorted((results(study) / f"tiny/{dataset}/figures").iterdir()):
        figures_of.setdefault(path.stem, []).append(path)
    return figures_of


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_figure_is_drawn_with_its_numbers_and_caption(finished: Study, dataset: str) -> None:
    drawn = figures(finished, dataset)
    assert set(drawn) == FIGURES | (STEERING_FIGURES if dataset == "own" else set())
    for name, paths in drawn.items():
        assert {path.suffix for path in paths} == {".pdf", ".png", ".csv", ".rst"}, name
        for path in paths:
            if signature := SIGNATURES.get(path.suffix[1:]):
                content = path.read_bytes()
                assert content.startswith(signature) and len(content) > 3000, path
        caption = next(p for p in paths if p.suffix == ".rst").read_text("utf-8")
        assert len(caption.split()) > 10 and not re.search(r"\bnan\b|None|\{\w*\}", caption), name


def test_the_models_are_set_side_by_side(finished: Study) -> None:
    folder = results(finished) / "scale/figures"
    wanted = {f"scale_{name}.{kind}" for name in DATASETS for kind in ("pdf", "png", "csv", "rst")}
    assert {path.name for path in folder.iterdir()} == wanted


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_numbers_behind_a_figure_are_a_table(finished: Study, dataset: str) -> None:
    for paths in figures(finished, dataset).values():
        path = next(p for p in paths if p.suffix == ".csv")
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file))
        assert rows and len(header) >= 2 and all(len(row) == len(header) for row in rows), path


def test_the_summary_has_a_row_for_each_model_and_language(finished: Study) -> None:
    text = (results(finished) / "summary.md").read_text("utf-8")
    for dataset in DATASETS:
        section = text.split(f"## {dataset}: ", 1)[1].split("\n## ", 1)[0]
        rows = [
            [cell.strip(" *") for cell in line.split("|")[1:-1]] for line in section.split("\n")
        ]
        names = {language_name(tag): tag for tag in LANGUAGES}
        named = [row for row in rows if len(row) > 7 and row[0] == "tiny" and row[1] in names]
        assert [names[row[1]] for row in named] == list(LANGUAGES)
        accuracies = [row[2] for row in named]
        assert all(re.fullmatch(r"\d+ \[\d+, \d+\]", shown) for shown in accuracies)


def test_the_report_stands_alone(finished: Study) -> None:
    report = (results(finished) / "report.html").read_text("utf-8")
    assert "data:image/webp;base64" in report
    assert not re.search(r"<(script|link)[^>]+(src|href)=[\"']https?://", report)
    for name in FIGURES | STEERING_FIGURES:
        assert name in report


def test_the_merged_configuration_lies_beside_the_results(finished: Study) -> None:
    assert read(results(finished) / "config.yaml") == validate(SMALL)


def test_of_programs_only_extraction_adds_a_line_to_the_log_of_a_run(finished: Study) -> None:
    log = finished.folder.with_suffix(".done").read_text("utf-8").splitlines()
    of_jobs = [line for line in log if re.match(r"\d\d:\d\d:\d\d  (start|done  ) ", line)]
    assert len(of_jobs) > 20 and len(log) - len(of_jobs) <= 13 + len(DATASETS), log


def test_every_job_left_a_log_without_warnings_of_bad_arithmetic(finished: Study) -> None:
    logs = {p: p.read_text("utf-8") for p in (finished.folder / "logs").rglob("*.log")}
    stems = {re.sub(r"-[0-9a-f]{16,64}$", "", path.stem) for path in logs}
    assert {"extract", "readout", "lens", "vectors", "steer-own", "behaviour"} <= stems
    for path, text in logs.items():
        assert not re.search(r"Traceback|RuntimeWarning|ConvergenceWarning", text), path


WANTED = {
    "behaviour": ["accuracy", "accuracy_low", "accuracy_high", "chance", "consistency", "kappa"],
    "breakdown": ["accuracy", "accuracy_low", "item_share", "item_share_high", "n_clusters"],
    "trajectories": ["latent_consistency", "pivot_share", "settling_depth"],
    "similarity": [
        "item_share", "dissociation", "dissociation_low", "dissociation_high", "dissociation_p",
        "dissociation_by_language", "item_share_pair", "cka_pair", "retrieval",
    ],
    "subspaces": ["variance_share"],
}  # fmt: skip
"""Numbers that there are in every study, whatever the model answers."""


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("name", WANTED)
def test_no_number_is_missing_where_there_must_be_one(
    finished: Study, dataset: str, name: str
) -> None:
    table = opened(finished, dataset, name)
    if name == "breakdown":  # a group of few clusters is marked, and its interval may be missing
        assert not table["few"].all()
        table = table.sel(group=~table["few"])
    if "source" in table.dims:
        table = table.sel(source=["item", "language", "residual"])
    same = table["language"] == table["language_2"] if "language_2" in table.dims else None
    for variable in WANTED[name]:
        values = table[variable]
        if "language_2" in values.dims and same is not None:
            values = values.where(~same, 0.0)  # a language with itself
        elif "language" in values.dims and name != "behaviour":
            values = values.drop_sel(language="en")  # the pivot with itself
        assert np.isfinite(values).all(), f"{name}.{variable}"


def test_steering_reports_an_effect_with_its_interval_and_controls(finished: Study) -> None:
    table = opened(finished, "own", "steering_own")
    assert list(table["language"].values) == ["de", "es"]
    for name in ("effect", "p", "control_effect"):
        assert np.isfinite(table[name].values).all(), name
    low, high = table["effect_low"], table["effect_high"]
    moved = table["effect"] != 0  # where no answer changes, nothing is known of how sure that is
    assert moved.any() and np.isfinite(low).where(moved, True).all()
    assert ((low <= table["effect"]) & (table["effect"] <= high)).where(moved, True).all()
    assert abs(float(table["zero_max_abs_difference"].max())) < 1e-4
