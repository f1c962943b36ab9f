"""
Files of figures, as the report shows them, and the results behind them. No rules here.

The list of figures itself is in `isogloss.figures.titles`.
"""

from isogloss.figures.titles import (
    CALIBRATION_FIGURE,
    LADDER_FIGURE,
    MATRIX_FIGURE,
    SCALE_FIGURE,
    figure_files,
    figures_of,
)


def figures_on(dataset: str) -> list:
    """The figures of each model on a dataset."""
    return figures_of(STUDY.results_of(dataset), STUDY.fitted_for(dataset))


def in_every_format(stem: str, title: str, model: str, dataset: str) -> list:
    """The files of a figure; the first is in the report, with its caption."""
    shown, *others = figure_files(stem, STUDY.figures.formats)
    caption = str(Path(f"{stem}.rst").absolute())
    about = {"category": model, "subcategory": dataset, "labels": {"figure": title}}
    return [report(shown, caption=caption, **about), *others]


def figures(model: str, dataset: str) -> list:
    """Every file that the figures of a model on a dataset make."""
    folder = f"{RESULTS}/{model}/{dataset}/figures"
    files = []
    for number, figure in enumerate(figures_on(dataset), 1):
        stem, title = f"{folder}/{figure.name}", f"{number}. {figure.title}"
        files += in_every_format(stem, title, model, dataset)
    return files


def scale_figure(dataset: str) -> list:
    """The files of the figure that sets the models of the study side by side."""
    stem = f"{RESULTS}/scale/figures/{SCALE_FIGURE.name}_{dataset}"
    return in_every_format(stem, SCALE_FIGURE.title, "All models", dataset)


def matrix_figure() -> list:
    """The files of the figure of steering across datasets; none where there is one pair."""
    stem = f"{RESULTS}/scale/figures/{MATRIX_FIGURE.name}"
    about = (stem, MATRIX_FIGURE.title, "All models", "Steering")
    return in_every_format(*about) if STUDY.with_matrix else []


def results(model: str, dataset: str) -> list[str]:
    """The results of a model on a dataset that figures show."""
    names = [name for name in STUDY.results_of(dataset) if name != "lenses"]
    names += [f"steering_{fitted}" for fitted in STUDY.fitted_for(dataset)]
    return [f"{RESULTS}/{model}/{dataset}/{name}.nc" for name in names]


def lens_manifest(model: str, dataset: str) -> list[str]:
    """The list of the lens files that figures show; none where the study has no lens there."""
    with_lens = "lenses" in STUDY.results_of(dataset)
    return [manifest_of("lens", model, dataset)] if with_lens else []


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


WORLD = STUDY.asked_of_the_world
ORGANISMS = f"{RESULTS}/organisms"
COMPARED = {
    f"{ORGANISMS}/calibration.nc": CALIBRATION_FIGURE if STUDY.planted else None,
    f"{ORGANISMS}/ladder.nc": LADDER_FIGURE if STUDY.rungs else None,
}
COMPARED = {file: figure for file, figure in COMPARED.items() if figure}


def of_organisms(name: str) -> list[str]:
    """A result of every organism of a calibration."""
    return [f"{RESULTS}/{model}/{WORLD}/{name}.nc" for model in STUDY.planted]


def organism_figures() -> list:
    """The files of the figures that set organisms side by side."""
    return [
        file
        for figure in COMPARED.values()
        for file in in_every_format(
            f"{ORGANISMS}/figures/{figure.name}",
            figure.title,
            "All models",
            "organisms",
        )
    ]
