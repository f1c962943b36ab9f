"""
Files of figures, as the report shows them. No rules here.

Which figures there are, and where they lie, is in `isogloss.figures`.
"""

from isogloss.figures.places import (
    all_figures,
    figures_of_model,
    matrix_figures,
    organism_figures,
    scale_figure,
)
from isogloss.figures.titles import figure_files


def files_of(figures) -> list:
    """The files of figures; the first of each is in the report, with its caption."""
    files = []
    for placed in figures:
        stem, number = f"{RESULTS}/{placed.stem}", f"{placed.number}. "
        shown, *others = figure_files(stem, STUDY.figures.formats)
        about = {
            "caption": str(Path(f"{stem}.rst").absolute()),
            "category": placed.model or "All models",
            "subcategory": placed.dataset or "All datasets",
            "labels": {"figure": number * bool(placed.number) + placed.figure.title},
        }
        files += [report(shown, **about), *others]
    return files


def in_the_report(name: str, *about: str):
    """A parameter: settings of a rule whose outputs the report shows.

    The report holds the parameters of these rules inside a script, which `</script>` would end.
    """
    settings = getattr(SETTINGS, name)(*about)
    return as_it_is(canonical_json(settings).replace("<", "\\u003c"))
