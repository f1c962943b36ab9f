"""The list of figures: name, title in the report, and the result that each shows.

The rules name files by it, and the program draws by it. Nothing here draws.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A figure of a model on a dataset.

    Attributes:
        name: of its files.
        title: in the report.
        result: that it shows, as `Config.results_of` names it.
        fitted: dataset of the steering vectors, where it shows steering.
    """

    name: str
    title: str
    result: str
    fitted: str = ""


FIGURES = (
    Figure("accuracy", "Accuracy, consistency", "behaviour"),
    Figure("transfer", "Transfer", "behaviour"),
    Figure("breakdown", "By category, script, family, resources", "breakdown"),
    Figure("pivots", "Every language as pivot", "pivots"),
    Figure("lens_accuracy", "Logit lens: accuracy", "trajectories"),
    Figure("lens_language", "Logit lens: language", "trajectories"),
    Figure("lens_items", "Logit lens: single items", "lenses"),
    Figure("place_and_shape", "Same place, same shape", "similarity"),
    Figure("language_pairs", "Pairs of languages", "similarity"),
    Figure("language_subspace", "Language subspace", "subspaces"),
    Figure("wordings", "Wordings: consistency and its ceiling", "variants"),
    Figure("wordings_averaged", "Wordings: averaged, beside steering", "variants"),
    Figure("wordings_states", "Wordings: states and their ceiling", "variants"),
)
"""In the order in which they are looked at."""

STEERING_FIGURES = (
    Figure("steering_surface", "Steering: settings", "steering"),
    Figure("steering_effect", "Steering: effect", "steering"),
)
"""For each dataset that vectors are fitted on, whose name is added."""

SCALE_FIGURE = Figure("scale", "Against scale", "scale")
"""Of all models on a dataset, whose name is added."""

MATRIX_FIGURE = Figure("steering_matrix", "Steering across datasets", "steering_matrix")
"""Of all models, where vectors of several datasets are evaluated, or vectors on several."""

CALIBRATION_FIGURE = Figure("calibration", "Calibration: planted sharing", "calibration")
LADDER_FIGURE = Figure("ladder", "Ladder: size, by when models are compared", "ladder")
"""Of all organisms."""


def figures_of(results: Collection[str], fitted: Sequence[str] = ()) -> list[Figure]:
    """The figures that some results of a model on a dataset allow.

    Args:
        results: as `Config.results_of` names them.
        fitted: datasets of the steering vectors that are evaluated.

    >>> [figure.name for figure in figures_of(["similarity"], ["cities"])][-1]
    'steering_effect_cities'
    """
    figures = [figure for figure in FIGURES if figure.result in results]
    return figures + [
        Figure(f"{figure.name}_{dataset}", f"{figure.title} ({dataset})", figure.result, dataset)
        for dataset in fitted
        for figure in STEERING_FIGURES
    ]


def figure_files(stem: str, formats: Sequence[str]) -> list[str]:
    """The files of a figure: in every format, the report's first, its numbers and its caption.

    >>> figure_files("figures/accuracy", ["pdf", "png"])[:2]
    ['figures/accuracy.png', 'figures/accuracy.pdf']
    """
    shown = next(suffix for suffix in ("png", "svg", "pdf") if suffix in formats)
    others = [suffix for suffix in (*formats, "csv", "rst") if suffix != shown]
    return [f"{stem}.{suffix}" for suffix in (shown, *others)]
