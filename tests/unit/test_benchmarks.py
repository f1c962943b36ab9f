"""The benchmarks' own arithmetic and tables; the peers that they measure are not needed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks import material
from benchmarks.measuring import Run, Worker, alternate, check_equal, ratio
from benchmarks.table import Row, markdown, write

from isogloss.errors import InputError
from isogloss.questions.local_files import load_files

ROOT = Path(__file__).resolve().parents[2]
CONDITIONS = {"machine": {"CPU": "abacus"}, "settings": {"model": "tiny"}}


def test_a_ratio_is_of_medians_and_its_spread_is_turn_by_turn():
    measured = ratio([8.0, 100.0, 10.0], [2.0, 4.0, 2.0])
    assert (measured.value, measured.low, measured.high) == (5.0, 4.0, 25.0)


def test_turns_of_different_number_have_no_ratio():
    with pytest.raises(ValueError, match="2 and 1"):
        ratio([1.0, 2.0], [1.0])


def test_unequal_results_are_refused():
    assert check_equal([1.0, 2.0], [1.0, 2.0005], 1e-3, "scores") == pytest.approx(5e-4)
    with pytest.raises(InputError, match="scores: results differ by 0.5, 0.001 is allowed"):
        check_equal([1.0, 2.0], [1.0, 2.5], 1e-3, "scores")


@pytest.mark.parametrize("other", [[1.0], [1.0, float("nan")], []])
def test_results_that_cannot_be_compared_are_refused(other):
    with pytest.raises(InputError, match="scores"):
        check_equal([1.0, 2.0], other, float("inf"), "scores")


def test_tools_take_turns_and_the_first_turn_is_not_kept():
    order = []

    def tool(name):
        def call():
            order.append(name)
            return Run(1.0, 0, 0, len(order))

        return call

    runs = alternate({"a": tool("a"), "b": tool("b")}, 2, "turns")
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert [run.value for run in runs["a"]] == [3, 6]


def prepare_list(megabytes):
    """A job that takes some memory, or fails."""

    def job(fails=False):
        if fails:
            raise ValueError("no such thing")
        return len(bytearray(megabytes * 2**20).replace(b"\0", b"\1"))

    return job


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read on Linux")
def test_a_worker_measures_the_memory_that_its_job_takes():
    with Worker("list", prepare_list, megabytes=50) as worker:
        run = worker.run()
        assert run.value == 50 * 2**20
        assert 90 * 2**20 < run.above < 200 * 2**20
        assert run.peak > run.above
        with pytest.raises(RuntimeError, match="no such thing"):
            worker.run(fails=True)


def row(value, bar, at_least=True):
    return Row("speed", "a peer", "2 items/s", "1 items/s", value, 1.5, 2.5, bar, at_least)


@pytest.mark.parametrize(
    "value, bar, at_least, reached",
    [(2, 2, True, True), (1.9, 2, True, False), (0.5, 0.5, False, True), (0.6, 0.5, False, False)],
)
def test_a_bar_is_reached_from_its_side(value, bar, at_least, reached):
    assert row(value, bar, at_least).reached is reached


def test_one_comparison_replaces_its_own_rows_only(tmp_path):
    write(tmp_path, "choices", [row(2.0, 8.0)], CONDITIONS)
    write(tmp_path, "lens", [row(3.0, None)], CONDITIONS)
    write(tmp_path, "choices", [row(9.0, 8.0)], CONDITIONS)
    whole = json.loads((tmp_path / "benchmark.json").read_text())
    assert [table["rows"][0]["value"] for table in whole.values()] == [9.0, 3.0]
    assert whole["choices"]["rows"][0]["reached"] is True
    assert whole["lens"]["rows"][0]["reached"] is None


def test_the_table_says_value_spread_bar_and_what_was_missed():
    whole = {"choices": CONDITIONS | {"rows": []}}
    whole["choices"]["rows"] = [row(2.0, 8.0).__dict__ | {"reached": False, "note": "8 items"}]
    text = markdown(whole)
    assert (
        "| speed [1] | a peer | 2 items/s | 1 items/s | 2 x (1.5 to 2.5) | >= 8 x | **no** |"
        in text
    )
    assert "1. 8 items" in text
    assert "choices: CPU abacus; model tiny." in text


def test_own_questions_become_long_and_short_ones():
    items = load_files(ROOT / "data" / "everyday", ("en", "sw"), "everyday")
    long, short = material.passages(items), material.two_choices(items)
    for before, item, cut in zip(
        items.items["sw"], long.items["sw"], short.items["sw"], strict=True
    ):
        assert len(item.context) > 400 and item.question == before.question
        assert len(cut.choices) == 2
        assert cut.choices[cut.answer] == before.choices[before.answer]


def test_items_beyond_the_datasets_end_are_repeated_under_other_names():
    items = load_files(ROOT / "data" / "everyday", ("en",), "everyday")
    n = len(items.item_ids)
    many = material.chosen(items, material.spread(n, 2 * n))
    assert len(set(many.item_ids)) == 2 * n
    assert many.items["en"][n].question == items.items["en"][0].question
    assert np.array_equal(many.clusters, np.arange(2 * n))


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--repetitions", "0"], "error: --repetitions: 0: at least 1 is needed\n"),
        (
            ["--data", "nowhere"],
            "error: --data nowhere: holds no folder xquad_mc: leave it out, or add it\n",
        ),
    ],
)
def test_bad_options_are_refused_in_one_line(arguments, said):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        env={"PYTHONPATH": f"{ROOT / 'workflow_scripts'}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, said)
