"""Coverage as a command: a fast part of the table, and that it can see a fault."""

import json
import sys

import numpy as np
import pytest
import simulated_coverage as simulated
from simulated_coverage import Setting, Tally, drawn, tasks
from simulated_worlds import Answers

import coverage as program
from isogloss.errors import InputError
from isogloss.measures.behaviour import behaviour


def test_intervals_and_tests_of_sixty_clustered_items_hold_their_level():
    """The table's worlds, few of them: gross faults show, as intervals over items would."""
    n_worlds, names = 40, ["Behaviour", "Over items and languages", "Lens", "Steering", "Wordings"]
    error = (0.05 * 0.95 / n_worlds) ** 0.5  # of one value per world: several hang together
    asked = tasks([Setting(60, "threes")], n_worlds, names)
    for result in drawn(asked, 1, exact=False):
        low = {name: s for name, s in result.coverage.items() if s < 0.95 - 3.5 * error}
        assert not low, result.experiment
        for shares in result.rejections.values():
            assert shares[1] <= 0.05 + 3.5 * error


def test_intervals_that_are_too_narrow_are_seen():
    rng, tally = np.random.default_rng(0), Tally()
    for _ in range(400):
        values = rng.normal(size=20)
        half = 1.96 * values.std(ddof=1) / np.sqrt(20) * np.array([1, 0.6])
        mean = np.full(2, values.mean())
        tally.add_interval("mean", mean, mean - half, mean + half)
    assert tally.coverage({"mean": np.zeros(2)})["mean"] < 0.9
    assert tally.coverage({"mean": np.full(2, 3.0)})["mean"] == 0


def test_values_without_an_interval_are_not_counted():
    tally = Tally()
    tally.add_interval("x", np.array([0, 1, 2]), np.array([-1, 1, np.nan]), np.array([1, 1, 3]))
    assert tally.coverage({"x": np.array([0.5, 0, 0])})["x"] == 1


def test_the_table_replaces_what_is_between_its_markers_and_lists_what_falls_short(tmp_path):
    setting = Setting(60, "none")
    shares = {"good": 0.95, "bad": 0.80}
    results = [simulated.Result("E", setting, 100, shares, {"test": [0.2, 0.2, 0.2]})]
    text = program.tables(results, [], [setting], simulated)
    document = tmp_path / "verification.md"
    document.write_text(f"# Title\n\nbefore\n\n{program.BEGIN}\nstale\n{program.END}\n\nafter\n")
    written = program.between_markers(document, text)
    assert written.startswith("# Title\n\nbefore") and written.endswith("after\n")
    assert "stale" not in written and "| bad | 100 | 0.800 |" in written
    assert (
        "- bad: 0.800 (60 items, clusters none, 100 worlds), 5.1 Monte Carlo errors below"
        in written
    ) and "- good" not in written
    assert "- test: 0.200 at 0.01 (60 items" in written


def test_what_falls_short_is_drawn_again_and_is_a_fault_where_it_does_so_twice():
    setting = Setting(60, "none")
    first = simulated.Result("E", setting, 100, {"x": 0.80, "y": 0.90}, {"t": [0.0, 0.2, 0.1]})
    second = simulated.Result("E", setting, 900, {"x": 0.81, "y": 0.95}, {"t": [0.0, 0.05, 0.2]})
    text = program.tables([first], [second], [setting], simulated)
    assert "| x | 900 | 0.810 |" in text and "| t | 900 | 0.000 / 0.050 / 0.200 |" in text
    both, alone = text.split("Below 93% in both draws:")[1].split("in the first draw alone:")[:2]
    assert "- x: 0.800 (60 items" in both and "again 0.810 (900 worlds)" in both
    assert "- y: 0.900 (60 items" in alone and "- y" not in both
    assert "two Monte Carlo errors in both draws: none." in text
    assert "- t: 0.200 at 0.05 (60 items" in text and "0.2 at 0.1" not in text


def test_a_document_without_markers_is_given_them(tmp_path):
    written = program.between_markers(tmp_path / "new.md", "text")
    assert written.index(program.BEGIN) < written.index("text") < written.index(program.END)


def test_an_unknown_experiment_leaves_the_document_as_it_is(tmp_path, monkeypatch):
    document = tmp_path / "verification.md"
    document.write_text("# Tables of an hour\n")
    arguments = ["coverage.py", "--only", "Behavior", "--document", str(document)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(InputError, match="'Behavior': no such experiment: choose from Behaviour"):
        program.main()
    assert document.read_text() == "# Tables of an hour\n"


def test_a_stopped_run_goes_on_from_the_results_that_are_there(tmp_path, monkeypatch):
    """The same tables as in one go, and nothing drawn twice."""
    kept, whole = tmp_path / "kept.jsonl", tmp_path / "whole.md"
    common = [
        "--worlds",
        "3",
        "--again",
        "4",
        "--clusters",
        "threes",
        "--only",
        "Slopes",
        "Language pairs",
    ]
    for document, items, further in (
        (tmp_path / "first.md", ["60"], ["--results", str(kept)]),
        (tmp_path / "second.md", ["60", "120"], ["--results", str(kept)]),
        (whole, ["60", "120"], []),
    ):
        arguments = [*common, "--items", *items, "--document", str(document), *further]
        monkeypatch.setattr(sys, "argv", ["coverage.py", *arguments])
        program.main()
    assert (tmp_path / "second.md").read_text() == whole.read_text()
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [row["seed"] for row in rows].count(0) == 3
    again = [row for row in rows if row["seed"] == 1]
    assert again and {row["n_worlds"] for row in again} == {4}
    assert len(again) <= 3


def test_models_are_compared_on_what_behaviour_stores():
    scores = Answers().scores(np.random.default_rng(0), Setting(60, "threes").clusters)
    result = behaviour(scores).sel(scope="all_pairs", sign="positive")
    for name, variable in (
        ("accuracy", "mean_accuracy"),
        ("consistency", "mean_consistency"),
        ("lift over accuracy", "mean_lift_independent"),
    ):
        value, by_cluster, by_language = simulated.compared_means(scores)[name]
        np.testing.assert_allclose(value, result[variable])
        np.testing.assert_allclose(by_cluster, result[f"{variable}_without_cluster"])
        np.testing.assert_allclose(by_language, result[f"{variable}_without_language"])
