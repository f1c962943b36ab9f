"""The page of a study as one HTML file."""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

import vl_convert
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from isogloss.figures.summary import (
    SHARE,
    Result,
    further_tables,
    main_table,
    opening,
    remarks,
    with_interval,
)
from isogloss.figures.text import decimal, points
from isogloss.figures.verdicts import verdict_rows, verdict_rule
from isogloss.questions.languages import language_name, script
from isogloss.report.arrays import (
    BY_LAYER,
    ONCE,
    items_part,
    known,
    languages_part,
    lens_part,
    lens_size,
    pairs_part,
)
from isogloss.report.budget import Budget
from isogloss.report.captions import markdown
from isogloss.report.charts import chart_specs
from isogloss.report.pictures import in_reading_order, pictures
from isogloss.results import StudyResults

MOST_BYTES = 14_000_000
"""Of the page; what does not fit is left out, and named in it."""

# Columns of the main table: name, header, how a value is written.
COLUMNS = (
    ("accuracy", "accuracy [%]", SHARE),
    ("consistency_with_pivot", "consistency with {pivot}", decimal),
    ("transfer_from_pivot", "transfer from {pivot} [%]", SHARE),
    ("transfer_lift", "lift [points]", points),
    ("dissociation_from_pivot", "dissociation from {pivot}", decimal),
    ("steering_effect", "effect of steering [points]", points),
)


def render_page(study: StudyResults, most_bytes: int = MOST_BYTES) -> str:
    """The page of a study whose results, figures and summary are there.

    Args:
        most_bytes: of the page, roughly.

    Raises:
        InputError: a result is missing, or was made under other settings.
    """
    library = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    budget = Budget(most_bytes - len(library))
    results = list(_results(study))
    charts = chart_specs()
    shown = list(pictures(study, budget))
    parts = _parts(study, budget)
    environment = Environment(
        loader=PackageLoader("isogloss.report", "."),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [Markup(library.replace("</script", "<\\/script")), Markup(_own_file("page.js"))]
    languages = languages_part(study.config.languages)
    verdicts = study.verdicts() if study.config.questions else None
    environment.globals["zip"] = zip
    return environment.get_template("page.html.j2").render(
        study=study.config.study,
        settings=yaml.safe_dump(
            study.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True
        ),
        pivot=language_name(study.config.pivot),
        languages=languages,
        models=study.model_names,
        datasets=list(study.config.datasets),
        questions=study.config.questions,
        verdicts=[] if verdicts is None else verdict_rows(verdicts, study.model_names),
        verdict_dataset="" if verdicts is None else verdicts.attrs["dataset"],
        rule="" if verdicts is None else markdown(verdict_rule(verdicts)),
        columns=_columns(study),
        rows=list(_table_rows(study, results)),
        opening=markdown(opening(results)) if results else "",
        further=[(d, markdown(further_tables(of))) for d, of in _by_dataset(results)],
        remarks=markdown(remarks(results)) if results else "",
        pictures=in_reading_order(shown),
        measures={**BY_LAYER, **ONCE},
        level=f"{100 * (1 - study.config.statistics.confidence):g}%",
        left_out=budget.left_out,
        data=parts | {"charts": charts, "languages": languages, "pivot": study.config.pivot,
                      "models": study.model_names, "measures": {**BY_LAYER, **ONCE}},
        style=Markup(_own_file("page.css")),
        scripts=scripts,
        allowed=" ".join(f"'{_digest(str(text))}'" for text in scripts),
    )  # fmt: skip


def _own_file(name: str) -> str:
    return (files("isogloss.report") / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """What a content security policy knows a script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# The main table


def _results(study: StudyResults) -> Iterator[Result]:
    """Every model on every dataset with choices, in the study's order."""
    for model, name in study.model_names.items():
        for dataset in study.config.questions:
            yield Result(
                model=name,
                dataset=dataset,
                behaviour=study.behaviour(model, dataset),
                similarity=study.similarity(model, dataset),
                steering={
                    fitted: study.steering(model, dataset, fitted)
                    for fitted in study.config.fitted_for(dataset)
                },
                trajectories=(
                    study.trajectories(model, dataset) if study.config.with_lens else None
                ),
                variants=(
                    study.variants(model, dataset) if study.config.variants_of(dataset) else None
                ),
                records=study.records(model, dataset),
                dtype=study.config.models[model].dtype,
            )


def _by_dataset(results: Sequence[Result]) -> list[tuple[str, list[Result]]]:
    names = dict.fromkeys(result.dataset for result in results)
    return [(name, [r for r in results if r.dataset == name]) for name in names]


def _columns(study: StudyResults) -> list[tuple[str, str]]:
    pivot = language_name(study.config.pivot)
    return [(name, header.format(pivot=pivot)) for name, header, _ in COLUMNS]


def _table_rows(study: StudyResults, results: Sequence[Result]) -> Iterator[dict[str, Any]]:
    """The main table: names, marks, and every number as text and as it is."""
    slugs = {name: slug for slug, name in study.model_names.items()}
    marks = {(r.model, r.dataset, tag): r.marks(tag) for r in results for tag in r.languages}
    for row in main_table(results).to_dict("records"):
        row |= {f"steering_effect_{end}": row[f"steering_{end}"] for end in ("low", "high")}
        row = {key: float("nan") if value is None else value for key, value in row.items()}
        tag, model, dataset = row["language"], row["model"], row["dataset"]
        yield {
            "model": model,
            "slug": slugs[model],
            "dataset": dataset,
            "tag": tag,
            "language": language_name(tag),
            "mark": marks[model, dataset, tag],
            "script": script(tag),
            "near": bool(row["near_chance"]),
            "steering": (
                f"{row['steering_method'].replace('_', ' ')} ({row['steering_fitted']})"
                if isinstance(row["steering_method"], str)
                else ""
            ),
            "cells": {
                name: {
                    "text": with_interval(row, name, how),
                    "values": [known(row[name + end]) for end in ("", "_low", "_high")],
                }
                for name, _, how in COLUMNS
            },
        }


# What the script draws from


def _parts(study: StudyResults, budget: Budget) -> dict[str, Any]:
    """Arrays and texts by dataset and by `model/dataset`, as far as they fit."""
    config = study.config
    parts: dict[str, Any] = {"items": {}, "lens": {}, "pairs": {}}
    for dataset in config.datasets:
        for model in study.model_names:
            behaviour = study.behaviour(model, dataset) if dataset in config.questions else None
            similarity = study.similarity(model, dataset)
            for only, what in ((False, "intervals and nulls in"), (True, "all of")):
                pairs = pairs_part(similarity, behaviour, values_only=only)
                name = f"{what} the language map of {model} on {dataset}"
                if budget.holds(_size(pairs), name):
                    parts["pairs"][f"{model}/{dataset}"] = pairs
                    break
    for dataset in config.questions if config.with_lens else ():
        items = items_part(study.questions(dataset))
        if not budget.holds(_size(items), f"the lens explorer of {dataset}"):
            continue
        parts["items"][dataset] = items
        for model in study.model_names:
            name = f"the lens explorer of {model} on {dataset}"
            if budget.holds(lens_size(study, model, dataset), name):
                parts["lens"][f"{model}/{dataset}"] = lens_part(study, model, dataset, items["ids"])
    return parts


def _size(part: Any) -> int:
    """Bytes of a part in the page, roughly: strings are nearly all of it."""
    match part:
        case dict():
            return sum(_size(key) + _size(value) for key, value in part.items())
        case list():
            return sum(map(_size, part))
        case str():
            return len(part.encode()) + 3
        case _:
            return 8
