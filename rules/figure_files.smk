"""
Files of figures, as the report shows them, and the results behind them. No rules here.

The list of figures itself is in `isogloss.figures.titles`.
"""

from isogloss.figures.places import placed_figures, scale_stem
from isogloss.figures.titles import (
    CALIBRATION_FIGURE,
    LADDER_FIGURE,
    MATRIX_FIGURE,
    SCALE_FIGURE,
    figure_files,
)

WORLD = STUDY.asked_of_the_world
ORGANISMS = f"{RESULTS}/organisms"
COMPARED = {}
if STUDY.planted:
    COMPARED[f"{ORGANISMS}/calibration.nc"] = CALIBRATION_FIGURE
if STUDY.rungs:
    COMPARED[f"{ORGANISMS}/ladder.nc"] = LADDER_FIGURE


def in_every_format(stem: str, title: str, model: str, dataset: str) -> list:
    """The files of a figure; the first is in the report, with its caption."""
    shown, *others = figure_files(f"{RESULTS}/{stem}", STUDY.figures.formats)
    caption = str(Path(f"{RESULTS}/{stem}.rst").absolute())
    about = {"category": model, "subcategory": dataset, "labels": {"figure": title}}
    return [report(shown, caption=caption, **about), *others]


def figures(model: str, dataset: str) -> list:
    """Every file that the figures of a model on a dataset make."""
    files = []
    for number, (figure, stem) in enumerate(placed_figures(STUDY, model, dataset), 1):
        files += in_every_format(stem, f"{number}. {figure.title}", model, dataset)
    return files


def scale_figure(dataset: str) -> list:
    """The files of the figure that sets the models of the study side by side."""
    stem = scale_stem(SCALE_FIGURE, dataset)
    return in_every_format(stem, SCALE_FIGURE.title, "All models", dataset)


def matrix_figure() -> list:
    """The files of the figure of steering across datasets; none where there is one pair."""
    about = (scale_stem(MATRIX_FIGURE), MATRIX_FIGURE.title, "All models", "Steering")
    return in_every_format(*about) if STUDY.with_matrix else []


def organism_figures() -> list:
    """The files of the figures that set organisms side by side."""
    files = []
    for figure in COMPARED.values():
        stem = f"organisms/figures/{figure.name}"
        files += in_every_format(stem, figure.title, "All models", "organisms")
    return files


def all_figures() -> list:
    """Every figure of the study."""
    files = [f for m in STUDY.models for d in STUDY.datasets for f in figures(m, d)]
    files += [f for d in STUDY.questions for f in scale_figure(d)]
    return files + matrix_figure() + organism_figures()


def in_the_report(name: str, *about: str):
    """A parameter: settings of a rule whose outputs the report shows.

    The report holds the parameters of these rules inside a script, which `</script>` would end.
    """
    settings = getattr(SETTINGS, name)(*about)
    return as_it_is(canonical_json(settings).replace("<", "\\u003c"))
