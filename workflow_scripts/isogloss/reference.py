"""The tables of variables in docs/reference.md, from what the variables say of themselves."""

import re
from collections.abc import Iterable, Mapping

import xarray as xr

from isogloss.errors import InputError
from isogloss.measures.variables import PAPER
from isogloss.results import StudyResults

BOUNDS = {"low": "items", "crossed_low": "crossed"}
"""By the end of a lower bound's name, what its interval is over, unless `interval_over` says."""

COLUMNS = ("variable", "dimensions", "meaning", "interval over")
OF_THE_STUDY = {
    r"Holm over \d+ tests": "Holm over all tests",
    r"at alpha [\d.e-]+": "at the corrected alpha",
}
"""What a variable says of the size of its study, and what is said in a table."""

_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def datasets(study: StudyResults) -> dict[str, xr.Dataset]:
    """A dataset of every kind of file, by the name of its table, from a study with steering.

    That of wordings where the questions have several.

    Raises:
        InputError: one of them is not computed yet.
    """
    model, (fitted, name) = next(iter(study.config.models)), study.config.steered_pairs[0]
    language = study.config.steering.languages[0] if study.config.steering else study.config.pivot
    worded = {"variants": study.variants(model, name)} if study.config.variants_of(name) else {}
    return {
        "behaviour": study.behaviour(model, name),
        "breakdown": study.breakdown(model, name),
        "pivots": study.pivots(model, name),
        "trajectories": study.trajectories(model, name),
        "similarity": study.similarity(model, name),
        "subspaces": study.subspaces(model, name),
        "steering": study.steering(model, name, fitted),
        "scale": study.scale(name),
        "verdicts": study.verdicts(),
        **worded,
        "activations": study.activations(model, name, language),
        "lens": study.lens(model, name, language),
        "vectors": study.vectors(model, fitted),
        "steered": study.steered(model, name, language, fitted),
    }


def variable_table(dataset: xr.Dataset) -> str:
    """A table of a dataset's variables; bounds and values with something left out stand in the row
    of their variable.

    >>> about = {"long_name": "accuracy", "units": "1"}
    >>> bound = xr.Variable("language", [0.2], about)
    >>> held = xr.Dataset({"accuracy": bound, "accuracy_low": bound, "accuracy_high": bound})
    >>> print(variable_table(held).splitlines()[-1])
    | `accuracy` | language | accuracy | items |
    """
    rows = [_row(dataset, str(name)) for name in dataset.variables if not _is_beside(dataset, name)]
    head = [_line(COLUMNS), _line(["---"] * len(COLUMNS))]
    return "\n".join([*head, *filter(None, rows)])


def _is_beside(dataset: xr.Dataset, name: object) -> bool:
    stem = re.sub(r"((_crossed)?_(low|high)|_without_(cluster|language))$", "", str(name))
    return stem != name and stem in dataset.variables


def _row(dataset: xr.Dataset, name: str) -> str:
    """A variable's line; empty for the labels of a dimension, which say what they are."""
    variable = dataset.variables[name]
    about = variable.attrs.get("long_name")
    if not about:
        return ""
    for pattern, text in OF_THE_STUDY.items():
        about = re.sub(pattern, text, about)
    unit = variable.attrs.get("units", "1")
    meaning = about if unit == "1" else f"{about} [{unit}]"
    kinds = [text for end, text in BOUNDS.items() if f"{name}_{end}" in dataset]
    intervals = variable.attrs.get("interval_over") or ", ".join(kinds)
    if f"{name}_without_cluster" in dataset:
        intervals += ", left out"
    if source := variable.attrs.get("source", "").replace(PAPER, "**paper**"):
        meaning += f" ({source})"
    cells = (
        f"`{name}`",
        ", ".join(map(str, variable.dims)),
        meaning.replace("|", r"\|"),
        intervals,
    )
    return _line(cells)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """A document whose tables, between `<!-- table: name -->` and `<!-- end -->`, are these.

    Raises:
        InputError: the document lacks a table, or asks for one that is not there.
    """
    named = {match[2] for match in _TABLE.finditer(text)}
    if wrong := sorted(named ^ set(tables)):
        raise InputError(f"tables {', '.join(wrong)}: in the document or computed, not both")
    return _TABLE.sub(lambda match: f"{match[1]}{tables[match[2]]}\n{match[3]}", text)
