"""Where the figures of a study lie; apart from `titles`, since figures do not read the schema."""

from isogloss.figures.titles import Figure, figures_of
from isogloss.study.schema import Config


def placed_figures(study: Config, model: str, dataset: str) -> list[tuple[Figure, str]]:
    """The figures of a model on a dataset, with their paths below the results, without suffix."""
    figures = figures_of(study.results_of(dataset), study.fitted_for(dataset))
    return [(figure, f"{model}/{dataset}/figures/{figure.name}") for figure in figures]


def scale_stem(figure: Figure, dataset: str = "") -> str:
    """The path of a figure of all models below the results, without suffix."""
    return f"scale/figures/{figure.name}" + (f"_{dataset}" if dataset else "")
