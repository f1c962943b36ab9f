"""Across datasets: what the vectors of each dataset do to the accuracy on each."""

import numpy as np
import xarray as xr

from isogloss.figures.colours import DIVERGING
from isogloss.figures.style import (
    Drawing,
    Subject,
    confidence,
    heat_map,
    new_figure,
    numbers_of,
    spoken,
)
from isogloss.figures.text import as_rst, between, points
from isogloss.files.netcdf import confidence_of
from isogloss.measures.statistics import significant
from isogloss.steering.matrix import EFFECTS

A_ROW = 3  # panels beside one another


def across_datasets(matrix: xr.Dataset, subject: Subject, labels: dict[str, str]) -> Drawing:
    """A panel per model: vectors from (rows), evaluated on (columns).

    Args:
        matrix: of `isogloss.steering.matrix.steering_matrix`.
        labels: name of each model as it is, by slug.
    """
    models = [str(slug) for slug in matrix["model"].values]
    names = {axis: [str(name) for name in matrix[axis].values] for axis in ("fitted", "dataset")}
    rows = -(-len(models) // A_ROW)
    figure = new_figure(
        subject,
        "Steering across datasets: change of accuracy",
        0.9 + rows * (0.75 + 0.34 * len(names["fitted"])),
        [
            f"{str(matrix.attrs['default_method']).replace('_', ' ')}, mean over languages",
            "in brackets: not significant, Holm over a model's cells",
        ],
    )
    n_columns = min(A_ROW, len(models))
    axes = figure.subplots(rows, n_columns, squeeze=False, sharey=True)
    reach = max(5.0, float(np.nanmax(np.abs(100 * matrix["effect"].values), initial=0)))
    for ax in axes.flat[len(models) :]:
        ax.set_visible(False)
    for ax, model in zip(axes.flat, models, strict=False):
        cell = matrix.sel(model=model)
        faint = ~significant(cell["effect_p_holm"].values, confidence_of(matrix))
        values = 100 * cell["effect"].values
        image = heat_map(
            ax, values, names["fitted"], names["dataset"], (-reach, reach), DIVERGING, "{:+.1f}",
            faint,
        )  # fmt: skip
        ax.set_title(model)
        ax.set_xlabel("evaluated on")
    for ax in axes[:, 0]:
        ax.set_ylabel("vectors from")
    figure.colorbar(image, ax=axes, label="accuracy [points]", aspect=20, pad=0.015)
    shown = [part for name in EFFECTS for part in (name, f"{name}_p", f"{name}_p_holm")]
    numbers = numbers_of(matrix, shown)
    numbers["model_as_it_is"] = numbers["model"].map(labels)
    return Drawing(figure, numbers, _caption(matrix, labels))


def _caption(matrix: xr.Dataset, labels: dict[str, str]) -> str:
    said = []
    for slug in map(str, matrix["model"].values):
        cells = matrix.sel(model=slug).stack(cell=("fitted", "dataset"))
        sure = cells.isel(cell=significant(cells["effect_p_holm"].values, confidence_of(matrix)))
        listed = [
            f"{as_rst(str(fitted))} on {as_rst(str(dataset))} "
            f"({between(sure.isel(cell=i), 'effect', points)})"
            for i, (fitted, dataset) in enumerate(sure["cell"].values)
        ]
        said.append(f"{as_rst(labels[slug])}: {spoken(listed) or 'no change is significant'}")
    where = (
        "Vectors are fitted on a set of the items of their dataset, layer and strength chosen on "
        "another of the evaluated one; those that are evaluated are of neither. "
        if matrix.attrs.get("separate_sets", 0)
        else "On the diagonal vectors of other folds steer an item; elsewhere those of all items "
        "of the other dataset, none of which is among the questions. Layer and strength are chosen "
        "on the evaluated dataset, on other folds. "
    )
    return (
        f"**Steering across datasets**, in percentage points of accuracy ({confidence(matrix)}). "
        f"{'; '.join(said)}.\n\n"
        "*How to read it*: a panel per model; a row per dataset that vectors were fitted on, a "
        f"column per dataset that was steered with them. {where}"
        "Vectors that only work at home hold the dataset, not the language."
    )
