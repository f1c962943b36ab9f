"""The tables of the reference: what stands in them, and what a document must have."""

import runpy
from pathlib import Path

import pytest
import xarray as xr

from isogloss.errors import InputError
from isogloss.measures.variables import from_the_paper, variable
from isogloss.reference import variable_table, with_tables
from isogloss.study.schema import validate

PROGRAM = Path(__file__).resolve().parents[2] / "workflow_scripts/reference.py"
DOCUMENT = "Words.\n<!-- table: scale -->\nold\n<!-- end -->\nMore words.\n"


def test_a_table_says_what_the_variables_say_of_themselves():
    dataset = xr.Dataset(
        {
            "cka": variable(["layer"], [0.5, 0.6], "debiased | CKA"),
            "cka_low": variable(["layer"], [0.4, 0.5], "lower bound"),
            "cka_high": variable(["layer"], [0.6, 0.7], "upper bound"),
            "cka_crossed_low": variable(["layer"], [0.3, 0.4], "lower bound, languages too"),
            "cka_crossed_high": variable(["layer"], [0.7, 0.8], "upper bound, languages too"),
            "margin": variable([], 1.5, "margin", "nat"),
            "p_holm": variable([], 0.2, "p adjusted by Holm over 12 tests (language)"),
            "smallest": variable([], 0.1, "80% power at alpha 1.2e-05"),
            "lowest_low": variable([], 0.0, "a name that ends like a bound"),
        },
        {"layer": [0, 1]},
    )
    lines = variable_table(from_the_paper(dataset, ["cka"])).splitlines()
    assert lines[2:] == [
        r"| `cka` | layer | debiased \| CKA (**paper**) | items, crossed |",
        "| `margin` |  | margin [nat] |  |",
        "| `p_holm` |  | p adjusted by Holm over all tests (language) |  |",
        "| `smallest` |  | 80% power at the corrected alpha |  |",
        "| `lowest_low` |  | a name that ends like a bound |  |",
    ]


def test_only_what_stands_between_the_marks_is_renewed():
    renewed = with_tables(DOCUMENT, {"scale": "new"})
    assert renewed == DOCUMENT.replace("old", "new")
    assert with_tables(renewed, {"scale": "new"}) == renewed


@pytest.mark.parametrize("tables", [{}, {"scale": "new", "lens": "new"}])
def test_a_table_without_a_place_or_a_place_without_a_table_is_refused(tables):
    with pytest.raises(InputError, match="scale|lens"):
        with_tables(DOCUMENT, tables)


def test_the_study_behind_the_tables_is_a_valid_one():
    study = validate(runpy.run_path(str(PROGRAM))["STUDY"])
    assert study.steered_pairs and study.with_lens
