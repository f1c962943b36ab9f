"""The matrix over datasets: each cell is that of its effects, Holm is over a model."""

import numpy as np
import pytest
import xarray as xr

from isogloss.figures.matrix import across_datasets
from isogloss.figures.style import Subject, use_style
from isogloss.steering.matrix import EFFECTS, steering_matrix

DATASETS = ("a", "sentences")


def effects(value, p):
    """Effects whose first method is the one named, and another that must not be read."""
    data = {}
    for source, p_name, _ in EFFECTS.values():
        values = {source: value, f"{source}_low": value - 0.05, f"{source}_high": value + 0.05}
        data |= {name: ("method", [9.0, v]) for name, v in (values | {p_name: p}).items()}
    about = {"default_method": "mean_difference", "confidence": 0.95, "pivot": "en"}
    return xr.Dataset(data, {"method": ["linear_map", "mean_difference"]}, about)


@pytest.fixture(scope="module")
def matrix():
    """Vectors of `a` help on `a` (p .001) and on `b` (p .03), those of sentences nowhere."""
    values = {("a", "a"): (0.1, 0.001), ("a", "b"): (0.08, 0.03)}
    return steering_matrix(
        {
            (model, fitted, dataset): effects(*values.get((fitted, dataset), (0.0, 0.9)))
            for model in ("m", "n")
            for fitted in DATASETS
            for dataset in ("a", "b")
        }
    )


def test_cells_are_the_pooled_effects_of_the_first_method(matrix):
    cell = matrix.sel(model="n")
    np.testing.assert_allclose(cell["effect"], [[0.1, 0.08], [0, 0]])
    np.testing.assert_allclose(cell["effect_low"], cell["effect"] - 0.05)
    np.testing.assert_allclose(cell["effect_p_holm"], [[0.004, 0.09], [1, 1]])


def test_the_caption_says_which_items_took_part_in_the_choice(matrix):
    use_style()
    labels = {"m": "m", "n": "n"}
    of_folds = across_datasets(matrix, Subject("", "", "en"), labels).caption
    cells = {(m, f, d): effects(0.0, 0.9) for m in "mn" for f in DATASETS for d in ("a", "b")}
    cells = {key: of.assign_attrs(separate_sets=1) for key, of in cells.items()}
    alone = across_datasets(steering_matrix(cells), Subject("", "", "en"), labels).caption
    assert "vectors of other folds" in of_folds and "fold" not in alone
    assert "those that are evaluated are of neither" in alone


def test_an_effect_is_named_where_transfer_is_unknown(matrix):
    use_style()
    few_right = matrix.copy(deep=True)
    for end in ("", "_low", "_high", "_p", "_p_holm"):
        few_right[f"transfer_to_change{end}"].loc[{"fitted": "a", "dataset": "a"}] = np.nan
    caption = across_datasets(few_right, Subject("", "", "en"), {"m": "m", "n": "n"}).caption
    assert "m: a on a (+10.0 [+5.0, +15.0])" in caption


def test_the_figure_brackets_what_is_not_significant(matrix):
    use_style()
    labels = {"m": "m (4-bit)", "n": "n"}
    drawing = across_datasets(matrix, Subject("", "", "en"), labels)
    panel = drawing.figure.axes[0]
    assert [text.get_text() for text in panel.texts] == ["+10.0", "(+8.0)", "(0.0)", "(0.0)"]
    assert "m (4-bit): a on a (+10.0 [+5.0, +15.0])" in drawing.caption
    numbers = drawing.numbers
    assert set(numbers["quantity"]) >= {"effect", "effect_p_holm", "consistency_change"}
    assert len(numbers[numbers["quantity"] == "effect"]) == 8
