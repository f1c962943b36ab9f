"""The table of verdicts: what each claim of the paper came to, a sentence a row."""

from collections.abc import Mapping
from typing import Any

import xarray as xr

from isogloss.figures.text import as_markdown, decimal, markdown_table, points
from isogloss.files.netcdf import confidence_of
from isogloss.measures.statistics import significant
from isogloss.measures.verdicts import CLAIMS, UNDECIDED
from isogloss.questions.languages import language_name

# Effects that are differences of shares are said in percentage points.
IN_POINTS = {"size_transfer", "steering_accuracy", "steering_transfer", "steering_size"}
HEADER = ("claim", "put to", "verdict", "what was found")


def verdict_section(verdicts: xr.Dataset, names: Mapping[str, str]) -> str:
    """The verdicts of a study as Markdown: a heading, a table, and how it is decided.

    Args:
        verdicts: of `verdicts.verdicts`, with the attributes `dataset` and `fitted`.
        names: of the models, as they are, by slug.
    """
    dataset = as_markdown(str(verdicts.attrs["dataset"]))
    rows = [
        (claim, as_markdown(subject), f"**{verdict}**", evidence)
        for claim, subject, verdict, evidence in verdict_rows(verdicts, names)
    ]
    heading = f"## Verdicts: the paper's claims, put to these models on {dataset}"
    return "\n\n".join([heading, markdown_table(HEADER, rows), verdict_rule(verdicts)])


def verdict_rows(verdicts: xr.Dataset, names: Mapping[str, str]) -> list[tuple[str, ...]]:
    """The table of verdicts as plain text, a tuple like `HEADER` per row."""
    pivot = language_name(str(verdicts.attrs["pivot"]))
    return [
        (
            CLAIMS[row["claim"]].statement.replace("the pivot", pivot),
            _subject(row["subject"], names),
            row["verdict"],
            _evidence(row, verdicts),
        )
        for row in verdicts.to_dataframe().to_dict("records")
    ]


def _subject(subject: str, names: Mapping[str, str]) -> str:
    """A model, several seeds or a family as they are named."""
    slugs, colon, seeds = subject.partition(": ")
    return ", ".join(names.get(slug, slug) for slug in slugs.split(", ")) + colon + seeds


def _evidence(row: Mapping[str, Any], verdicts: xr.Dataset) -> str:
    """What was found, on which sample, by which test; or why nothing was."""
    if row["missing"]:
        return f"Not tested: {row['missing']}."
    claim = CLAIMS[row["claim"]]
    say, unit = (points, " points") if row["claim"] in IN_POINTS else (decimal, "")
    value, low, high, least = (
        say(row[name])
        for name in ("effect", "effect_low", "effect_high", "minimum_detectable_effect")
    )
    pivot = language_name(str(verdicts.attrs["pivot"]))
    effect = claim.effect.replace("the pivot", pivot)
    p = f"p = {row['p_holm']:.2g} after Holm"
    said = f"{effect[0].upper()}{effect[1:]}: {value} [{low}, {high}]{unit}, {_sample(row)}; {p}"
    said = f"{said} ({row['test']})."
    if row["verdict"] != UNDECIDED:
        return said
    if significant(row["p"], confidence_of(verdicts)):
        tests = verdicts.attrs["n_tests"]
        said += f" The interval leaves out 0, but not after correction for {tests} tests."
    size = f"{least.lstrip('+')}{unit}"
    return f"{said} An effect of {size} would have been detected with 80% power."


def _sample(row: Mapping[str, Any]) -> str:
    """How many languages, models and questions, and which languages need care."""
    marks = [
        f"{row[name]} {text}"
        for name, text in (("n_near_chance", "near chance"), ("n_mostly_alike", "spelled alike"))
        if row[name]
    ]
    languages = f"{row['n_languages']} languages" if row["n_languages"] != 1 else "1 language"
    over = languages + (f" ({', '.join(marks)})" if marks else "")
    models = f"{row['n_models']} models, " if row["n_models"] > 1 else ""
    return f"over {models}{over}, {row['n_items']} questions in {row['n_clusters']} clusters"


def verdict_rule(verdicts: xr.Dataset) -> str:
    """How a verdict comes about, in short, as Markdown."""
    confidence = confidence_of(verdicts)
    level, tests = f"{1 - confidence:.2g}", int(verdicts.attrs["n_tests"])
    steered = ""
    if method := str(verdicts.attrs["default_method"]).replace("_", " "):
        fitted = as_markdown(str(verdicts.attrs["fitted"]))
        steered = f" Steering is by {method}, the study's first method, with vectors of {fitted}."
    return (
        f"The rule stands in docs/reference.md and is older than any result: p, adjusted by Holm "
        f"over the {tests} tests of this table, is at most {level}, and the interval "
        f"({100 * confidence:g}%, of the row alone) lies on the claim's side of 0: *supported*; "
        "wholly on the other side: *contradicted*; else *undecided*, which does not mean that "
        f"there is no effect.{steered}"
    )
