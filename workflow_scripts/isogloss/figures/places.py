"""Where the figures of a study lie; apart from `titles`, since figures do not read the schema."""

from dataclasses import dataclass

from isogloss.figures.titles import (
    CALIBRATION_FIGURE,
    LADDER_FIGURE,
    MATRIX_FIGURE,
    SCALE_FIGURE,
    Figure,
    figures_of,
)
from isogloss.study.schema import Config


@dataclass(frozen=True)
class Placed:
    """A figure of a study.

    Attributes:
        stem: its path below the results, without suffix.
        model, dataset: that it shows; "" where it shows all.
        number: of its place among those of its model and dataset.
    """

    figure: Figure
    stem: str
    model: str = ""
    dataset: str = ""
    number: int = 0


def figures_of_model(study: Config, model: str, dataset: str) -> list[Placed]:
    """The figures of a model on a dataset, in the order in which they are looked at."""
    figures = figures_of(study.results_of(dataset), study.fitted_for(dataset))
    folder = f"{model}/{dataset}/figures"
    return [Placed(f, f"{folder}/{f.name}", model, dataset, n) for n, f in enumerate(figures, 1)]


def scale_figure(dataset: str) -> Placed:
    """The figure that sets all models side by side on a dataset."""
    return Placed(SCALE_FIGURE, f"scale/figures/{SCALE_FIGURE.name}_{dataset}", dataset=dataset)


def matrix_figures(study: Config) -> list[Placed]:
    """The figure of steering across datasets; none where there is one pair."""
    placed = Placed(MATRIX_FIGURE, f"scale/figures/{MATRIX_FIGURE.name}")
    return [placed] if study.with_matrix else []


def organism_figures(study: Config) -> list[Placed]:
    """The figures that set organisms side by side, each of a result of its name."""
    shown = ((CALIBRATION_FIGURE, study.planted), (LADDER_FIGURE, study.rungs))
    return [Placed(f, f"organisms/figures/{f.name}") for f, organisms in shown if organisms]


def all_figures(study: Config) -> list[Placed]:
    """Every figure of the study."""
    of_models = [
        f for m in study.models for d in study.datasets for f in figures_of_model(study, m, d)
    ]
    return [
        *of_models,
        *map(scale_figure, study.questions),
        *matrix_figures(study),
        *organism_figures(study),
    ]
