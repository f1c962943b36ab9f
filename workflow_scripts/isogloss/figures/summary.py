"""The summary of a study: its main table, what was measured and how well, null results.

Nothing is computed here but the text: every number is a variable of a result or a record of an
extraction.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from isogloss.figures.noise import averaging_line, noise_table
from isogloss.figures.text import (
    ENDS,
    as_markdown,
    between,
    decimal,
    markdown_table,
    percent,
    points,
    span,
    span_of_points,
)
from isogloss.figures.verdicts import verdict_section
from isogloss.files.netcdf import confidence_of
from isogloss.measures.statistics import detectable, significant
from isogloss.questions.languages import language_name
from isogloss.study.steering_methods import MAIN_CLAIM, family_of

# What the main table says of steering, after its own prefix.
STEERING_COLUMNS = ("fitted", "method", "effect", "low", "high", MAIN_CLAIM.p, MAIN_CLAIM.least)
NOTHING = "–"
ALIKE_MARK, FEW_MARK = "†", "‡"
SHARE = partial(percent, unit="")  # the header of its column says %
CHECKS_NOTE = (
    "Steering by 0 must change nothing within a batch. In a narrow type another batch rounds "
    "otherwise: what is unsteered among steered questions differs from what extraction stored, and "
    "some answers flip when nothing is added. How many per language stands beside what the study's "
    "first method flips; effects compare steered with unsteered answers of the same run."
)


@dataclass(frozen=True)
class Result:
    """What one model gave on one dataset.

    Attributes:
        model: name of the model as it is, conversions included.
        dataset: name of the dataset.
        dtype: of the weights when computing.
        behaviour: of `behaviour.behaviour`.
        similarity: of `similarity.similarity`.
        trajectories: of `trajectories.trajectories`; None in a study without the lens.
        variants: of `variants.variants`; None where the questions have one wording.
        steering: of `steering_effects.steering_effects`, by the dataset of the vectors.
        records: of the extraction, by language.
    """

    model: str
    dataset: str
    behaviour: xr.Dataset
    similarity: xr.Dataset
    steering: Mapping[str, xr.Dataset] = field(default_factory=dict)
    records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    trajectories: xr.Dataset | None = None
    variants: xr.Dataset | None = None
    dtype: str = ""

    @property
    def pivot(self) -> str:
        return str(self.behaviour.attrs["pivot"])

    @property
    def languages(self) -> list[str]:
        """The pivot first."""
        tags = [str(tag) for tag in self.behaviour["language"].values]
        return sorted(tags, key=lambda tag: tag != self.pivot)

    @property
    def near_chance(self) -> list[str]:
        return self._marked("near_chance")

    @property
    def mostly_alike(self) -> list[str]:
        """Languages that spell most choices as another one does."""
        return self._marked("mostly_alike")

    def marks(self, tag: str) -> str:
        """What stands behind a language's name where its numbers need care."""
        few = bool(self.similarity["few_decide"].sel(language=tag))
        near, alike = tag in self.near_chance, tag in self.mostly_alike
        marks = f"{'*' * near}{ALIKE_MARK * alike}{FEW_MARK * few}"
        return f" {marks}" if marks else ""

    def _marked(self, name: str) -> list[str]:
        marked = self.behaviour[name].astype(bool)
        return [tag for tag in self.languages if bool(marked.sel(language=tag))]


# Numbers


def default_steering(result: Result, language: str) -> dict[str, Any]:
    """The effect in a language of the study's first method with vectors of its first dataset.

    Both are named before anything is measured: the largest effect of several would need a wider
    interval than its own, and p values of all methods a wider family than the main claim's.

    Returns:
        `STEERING_COLUMNS`; empty where the language was not steered.
    """
    fitted = next(iter(result.steering), None)
    if fitted is None or language not in result.steering[fitted]["language"].values:
        return {}
    method = str(result.steering[fitted].attrs["default_method"])
    effects = result.steering[fitted].sel({"language": language, "method": method})
    names = {"effect": "effect", "low": "effect_low", "high": "effect_high"}
    names |= {name: name for name in (MAIN_CLAIM.p, MAIN_CLAIM.least)}
    values = {key: float(effects[name]) for key, name in names.items()}
    return {"fitted": fitted, "method": method, **values}


def main_table(results: Sequence[Result]) -> pd.DataFrame:
    """A row per model, dataset and language: every number of the main table with its interval."""
    return pd.DataFrame([_row(result, tag) for result in results for tag in result.languages])


def _row(result: Result, tag: str) -> dict[str, Any]:
    alone = result.behaviour.sel(language=tag)
    pair = result.behaviour.sel(language=result.pivot, language_2=tag)
    to_here = pair.sel(sign="positive")
    row: dict[str, Any] = {
        "model": result.model,
        "dataset": result.dataset,
        "language": tag,
        "near_chance": tag in result.near_chance,
        "mostly_alike": tag in result.mostly_alike,
        "chance": float(result.behaviour["chance"]),
    }
    apart = result.similarity.sel(language=tag)
    other = tag != result.pivot
    for name, values, variable in (
        ("accuracy", alone, "accuracy"),
        ("consistency_with_pivot", pair, "consistency"),
        ("transfer_from_pivot", to_here, "transfer"),
        ("transfer_lift", to_here, "lift_independent"),
        ("dissociation_from_pivot", apart, "dissociation_by_language"),
    ):
        for end in ENDS:
            known = other or name == "accuracy"
            row[name + end] = float(values[variable + end]) if known else np.nan
    steered = default_steering(result, tag)
    for key in STEERING_COLUMNS:
        row[f"steering_{key}"] = steered.get(key)
    return row


# Text


def with_interval(row: Mapping[str, Any], name: str, how: Callable[[float], str] = decimal) -> str:
    """A value and its interval: "0.22 [0.18, 0.27]"; a dash where there is none."""
    return between(row, name, how) if np.isfinite(row[name]) else NOTHING


def summary(
    results: Sequence[Result],
    study: str,
    verdicts: xr.Dataset,
    names: Mapping[str, str],
    sections: Sequence[str] = (),
) -> str:
    """The summary of a study as Markdown.

    Args:
        results: every model on every dataset with choices.
        study: its name.
        verdicts: of `verdicts.verdicts`.
        names: of the models, as they are, by slug.
        sections: what else is said of all models, after the verdicts.
    """
    parts = [f"# Summary of the study {study}", verdict_section(verdicts, names), *sections]
    parts += [opening(results)]
    table = main_table(results)
    for dataset in dict.fromkeys(result.dataset for result in results):
        of_dataset = [result for result in results if result.dataset == dataset]
        main = _table_text(table[table["dataset"] == dataset], of_dataset)
        parts += [f"## {dataset}: main table", main, further_tables(of_dataset)]
    return "\n\n".join([*parts, remarks(results)]) + "\n"


def further_tables(results: Sequence[Result]) -> str:
    """What stands below the main table of a dataset, as Markdown: means, and steering."""
    parts = [_overall_table(results)]
    if any(result.steering for result in results):
        parts += [f"## {results[0].dataset}: steering by language", _steering_table(results)]
    return "\n\n".join(parts)


def remarks(results: Sequence[Result]) -> str:
    """What follows all tables, as Markdown: findings, languages to read with care, checks."""
    parts = []
    if any(result.variants is not None for result in results):
        parts += ["## How much of inconsistency is noise", noise_table(results)]
    parts += ["## Findings, and null results with their power"]
    parts += ["\n".join(f"- {line}" for result in results for line in findings(result))]
    parts += ["## Near chance", _languages_text(results, "near_chance")]
    if any(result.mostly_alike for result in results):
        parts += ["## Choices mostly spelled alike", _languages_text(results, "mostly_alike")]
    parts += ["## What was measured, and how exactly", _measured_table(results)]
    if any(result.steering for result in results):
        parts += [CHECKS_NOTE]
    parts += [_models_text(results)]
    return "\n\n".join(parts)


def opening(results: Sequence[Result]) -> str:
    """What the columns of the main table are."""
    pivot = language_name(results[0].pivot)
    return (
        "Values in brackets are intervals over clusters of items "
        f"({100 * confidence_of(results[0].behaviour):g}%). "
        f"Consistency is Spearman's rho of the choices' ranks with those in {pivot}; transfer is "
        f"the share of items right in {pivot} that are right here too, with its lift over what the "
        f"accuracies alone give; dissociation is 1 − item share with {pivot} in the middle half of "
        "depth (1: translations share nothing). Steering is the change of accuracy by the study's "
        "first method with vectors of its first dataset, layer and strength chosen on other "
        "items. An asterisk marks languages whose accuracy is not above chance: consistency and "
        "transfer say little there. No lift (–): where a language is right on all items, or on "
        f"hardly any, nothing can be compared. {ALIKE_MARK} marks languages that spell most "
        "choices as another one does (numbers, names): agreement may be a preference for certain "
        f"strings there, whatever is asked. {FEW_MARK} marks languages where a twentieth of the "
        "questions has most of the variance of the states (massive activations): CKA, cosines and "
        "mean differences rest on these few."
    )


def _table_text(table: pd.DataFrame, results: Sequence[Result]) -> str:
    pivot = language_name(results[0].pivot)
    header = ["model", "language", "accuracy [%]", f"consistency with {pivot}"]
    header += [f"transfer from {pivot} [%]", "lift [points]", f"dissociation from {pivot}"]
    header += ["steering", "its effect [points]"]
    rows = []
    marks = {(r.model, tag): r.marks(tag) for r in results for tag in r.languages}
    for row in table.to_dict("records"):
        mark = marks[row["model"], row["language"]]
        steered = isinstance(row["steering_method"], str)
        method = (
            f"{row['steering_method'].replace('_', ' ')} ({row['steering_fitted']})"
            if steered
            else NOTHING
        )
        effect = {
            "effect": row["steering_effect"],
            "effect_low": row["steering_low"],
            "effect_high": row["steering_high"],
        }
        rows.append(
            [
                row["model"],
                language_name(row["language"]) + mark,
                with_interval(row, "accuracy", SHARE),
                with_interval(row, "consistency_with_pivot"),
                with_interval(row, "transfer_from_pivot", SHARE),
                with_interval(row, "transfer_lift", points),
                with_interval(row, "dissociation_from_pivot"),
                method,
                with_interval(effect, "effect", points) if steered else NOTHING,
            ]
        )
    return markdown_table(header, rows)


def _overall_table(results: Sequence[Result]) -> str:
    """Means over languages and pairs: a row per model."""
    header = (
        "model", "accuracy [%]", "consistency, all pairs", "transfer lift, all pairs [points]",
        "dissociation, all languages", "dissociation over languages too", "with shuffled items",
        "debiased CKA", "CKA over languages too",
    )  # fmt: skip
    rows = []
    for result in results:
        pairs = result.behaviour.sel(scope="all_pairs")
        similarity = result.similarity
        few = f" {FEW_MARK}" if bool(similarity["few_decide"].any()) else ""
        rows.append(
            [
                result.model,
                _with_bounds(pairs, "mean_accuracy", SHARE),
                _with_bounds(pairs, "mean_consistency"),
                _with_bounds(pairs.sel(sign="positive"), "mean_lift_independent", points),
                _with_bounds(similarity, "dissociation"),
                _crossed(similarity, "dissociation"),
                decimal(float(similarity["dissociation_null"])),
                _with_bounds(similarity, "cka_middle_mean") + few,
                _crossed(similarity, "cka_middle_mean") + few,
            ]
        )
    return (
        "Means over languages and their pairs. Intervals are over clusters of items, in these "
        "languages; *over languages too*: for other items and other languages like these.\n\n"
        + markdown_table(header, rows)
    )


def _steering_table(results: Sequence[Result]) -> str:
    """What the study's first method did in each language, and what it took."""
    header = ["model", "vectors from", "language", "method", "accuracy [points]"]
    header += ["items flipped right, wrong", "norm, steered over before"]
    header += ["forward [ms per question]", "steering adds [%]", "all settings and controls [s]"]
    rows = []
    for result in results:
        for fitted, effects in result.steering.items():
            method = str(effects.attrs["default_method"])
            for tag in map(str, effects["language"].values):
                at = effects.sel({"language": tag, "method": method})
                flips = (int(at[f"flipped_{way}"]) for way in ("right", "wrong"))
                rows.append(
                    [
                        result.model,
                        as_markdown(fitted),
                        language_name(tag) + result.marks(tag),
                        method.replace("_", " "),
                        _with_bounds(at, "effect", points),
                        ", ".join(map(str, flips)),
                        decimal(at["norm_ratio"]),
                        decimal(1000 * at["forward_seconds"]),
                        decimal(100 * at["overhead"]),
                        decimal(at["evaluation_seconds"], 0),
                    ]
                )
    searched = any(
        effects.attrs.get("controls_search", 0)
        for result in results
        for effects in result.steering.values()
    )
    controls = (
        "Controls choose their own layer and strength, as the method does."
        if searched
        else "Controls are run at the method's layer and strength, which were chosen for it alone: "
        "`steering.controls_search: true` gives them a search of their own."
    )
    return (
        f"The study's first method at the layer and strength chosen on other items. {controls} "
        "Run times are those of the machine that steered: a forward of the prompt and all choices, "
        "what the change of its states adds, and everything that was run for the language.\n\n"
        + markdown_table(header, rows)
    )


def _values(table: xr.Dataset, name: str) -> dict[str, float]:
    """A scalar variable with its bounds, NaN where it has none."""
    return {name + end: float(table[name + end]) if name + end in table else np.nan for end in ENDS}


def _with_bounds(table: xr.Dataset, name: str, how: Callable[[float], str] = decimal) -> str:
    """A scalar variable with its interval as text; a dash where there is none."""
    return with_interval(_values(table, name), name, how)


def _crossed(table: xr.Dataset, name: str) -> str:
    """The interval of a mean over languages for other items and other languages."""
    low, high = (float(table[f"{name}_crossed_{end}"]) for end in ("low", "high"))
    return f"[{decimal(low)}, {decimal(high)}]" if np.isfinite([low, high]).all() else NOTHING


# Findings and null results


def findings(result: Result) -> Iterator[str]:
    """One line per question asked of a model and dataset, null results with their power."""
    name = f"**{result.model}, {result.dataset}**"
    pairs = result.behaviour.sel(scope="all_pairs", sign="positive")
    lift = _values(pairs, "mean_lift_independent")
    value, low, high = lift.values()
    if np.isfinite([value, low, high]).all():
        change = f"{points(value)} [{points(low)}, {points(high)}] points"
        if low <= 0 <= high:
            least = float(detectable(low, high, confidence_of(result.behaviour)))
            yield (
                f"{name}: transfer beyond accuracy is not significant ({change}); "
                f"{100 * least:.1f} points would have been detected with 80% power."
            )
        else:
            yield f"{name}: transfer beyond what the accuracies give is {change}, over all pairs."
    yield from _choices_lines(result, name)
    if result.trajectories is not None:
        yield f"{name}: {lens_line(result.trajectories, result.pivot)}"
    apart = result.similarity
    if np.isfinite(float(apart["dissociation"])):
        yield (
            f"{name}: dissociation {_with_bounds(apart, 'dissociation')} "
            f"in these languages, {_crossed(apart, 'dissociation')} in languages like them, "
            f"against {decimal(float(apart['dissociation_null']))} with shuffled items "
            f"(p = {float(apart['dissociation_p']):.2g})."
        )
    if result.variants is not None:
        yield f"{name}: {averaging_line(result.variants)}"
    for fitted, effects in result.steering.items():
        for method in effects["method"].values:
            yield f"{name}, vectors from {fitted}: {_steering_line(effects, method)}"


def _choices_lines(result: Result, name: str) -> Iterator[str]:
    """What the choices alone give, where their scores without the question were extracted."""
    pairs = result.behaviour.sel(scope="all_pairs")
    if result.mostly_alike:
        listed = ", ".join(language_name(tag) for tag in result.mostly_alike)
        yield (
            f"{name}: most choices are spelled alike in {listed}: consistency and transfer "
            "between them may be a preference for certain strings."
        )
    if "mean_consistency_choices_only" in pairs:
        alone = _values(pairs, "mean_consistency_choices_only")
        lift = _values(pairs, "mean_lift_independent_choices_only")
        yield (
            f"{name}: without the question, the choices alone give a consistency of "
            f"{with_interval(alone, 'mean_consistency_choices_only')} and a transfer lift of "
            f"{with_interval(lift, 'mean_lift_independent_choices_only', points)} points."
        )


def lens_line(trajectories: xr.Dataset, pivot: str) -> str:
    """How much better the pivot's choices are read than the prompt language's, where most so."""
    of_layers = trajectories.sel(contrast="pivot_prompt")
    name = "mean_latent_accuracy_contrast"
    best = int(of_layers[name].fillna(-np.inf).argmax("layer"))
    at = of_layers.isel(layer=best)
    others = [tag for tag in trajectories["language"].values if tag != pivot]
    read = trajectories.sel(latent="pivot", language=others)
    through = float(read["latent_accuracy"].isel(layer=best).mean())
    alone = float(read["latent_accuracy_choices_only"].mean())
    by_choices = f" (by the choices alone: {percent(alone)})" if np.isfinite(alone) else ""
    return (
        f"the lens reads the choices best in {language_name(pivot)}, compared with the prompt's "
        f"language, at relative depth {decimal(float(at['relative_depth']))}: {percent(through)} "
        f"right{by_choices}, a difference of {_with_bounds(at, name, points)} points from "
        "the prompt's language, mean over languages. That depth is chosen because the difference "
        "is largest there, which the interval does not allow for."
    )


def _steering_line(effects: xr.Dataset, method: str) -> str:
    results, confidence = effects.sel({"method": method}), confidence_of(effects)
    family = family_of(method, effects.attrs["default_method"])
    sure = [
        t
        for t in map(str, results["language"].values)
        if significant(float(results[family.p].sel(language=t)), confidence)
    ]
    pooled = _with_bounds(results, "pooled_effect", points)
    each = (
        f"significant in {', '.join(map(language_name, sure))} (sign-flip, {family.tests})"
        if sure
        else f"not significant in any language (sign-flip, {family.tests}); an effect of "
        f"{span_of_points(results[family.least])} would have been detected with 80% power"
    )
    p = float(results[family.pooled_p])
    verdict = (f"p = {p:.2g}" if np.isfinite(p) else f"p = {NOTHING}") + family.pooled_tests
    if not significant(p, confidence):
        verdict += f", {span_of_points(results[family.pooled_least])} detectable"
    return (
        f"{str(method).replace('_', ' ')} changes accuracy by {pooled} points in the mean over "
        f"languages ({verdict}); {each}."
    )


def _languages_text(results: Sequence[Result], property_name: str) -> str:
    """Which languages of each model and dataset a property of `Result` lists."""
    lines = []
    for result in results:
        names = [language_name(tag) for tag in getattr(result, property_name)]
        total = len(result.languages)
        listed = f"{len(names)} of {total}: {', '.join(names)}" if names else f"none of {total}"
        lines.append(f"- {result.model}, {result.dataset}: {listed}")
    return "\n".join(lines)


def _measured_table(results: Sequence[Result]) -> str:
    """Items, languages, what a narrow dtype costs, self-tests: a row per model and dataset."""
    header = (
        "model", "dtype", "dataset", "items", "clusters", "languages",
        "scores against float32 [nat]", "phrases compared", "lens against model [nat]",
        "steered by 0 against unsteered [nat]", "unsteered against stored [nat]",
        "items flipped by rounding, by steering", "prompts cut", "extraction [s]",
    )  # fmt: skip
    rows = []
    for result in results:
        records = list(result.records.values())
        costs = [r["precision"] for r in records if r.get("precision")]
        exact = [cost for cost in costs if "phrases" in cost]
        reasons = {str(cost["not_compared"]) for cost in costs if "not_compared" in cost}
        tests = [record["self_test"]["lens"] for record in records if "self_test" in record]
        rows.append(
            [
                result.model,
                result.dtype,
                result.dataset,
                str(result.behaviour.sizes["item"]) + _excluded_text(records),
                str(int(result.behaviour.attrs["n_clusters"])),
                str(len(result.languages)),
                _precision_text(exact, sorted(reasons)),
                str(sum(int(row["phrases"]) for row in exact)) if exact else NOTHING,
                _largest([float(test["difference"]) for test in tests]),
                _largest_of(result, "zero_same_batch_difference"),
                _largest_of(result, "unsteered_max_abs_difference"),
                _flips_text(result),
                str(sum(int(record.get("truncated_prompts", 0)) for record in records)),
                f"{sum(float(record.get('seconds', 0)) for record in records):.0f}",
            ]
        )
    return markdown_table(header, rows)


def _excluded_text(records: Sequence[Mapping[str, Any]]) -> str:
    """How many items the study leaves out, by reason; empty where none are."""
    counts: Mapping[str, int] = next(
        (r["excluded_items"] for r in records if r.get("excluded_items")), {}
    )
    reasons = [
        f"{count} {str(reason).replace('_', ' ')}" for reason, count in counts.items() if count
    ]
    return f" (left out: {', '.join(reasons)})" if reasons else ""


def _precision_text(exact: Sequence[Mapping[str, Any]], reasons: Sequence[str]) -> str:
    """Mean and largest difference over the languages' compared phrases, or why there are none."""
    phrases = [float(cost["phrases"]) for cost in exact]
    if not exact or not sum(phrases):
        return "not compared" + (f" ({', '.join(reasons)})" if reasons else "")
    mean = float(np.average([float(cost["mean"]) for cost in exact], weights=phrases))
    return f"{mean:.2g} on average, {max(float(cost['largest']) for cost in exact):.2g} at most"


def _largest(values: Sequence[float]) -> str:
    return f"{max(values):.2g} at most" if values else NOTHING


def _flips_text(result: Result) -> str:
    """Items that `zero` and the first method flip either way: the languages' range each."""
    flips = []
    for prefix in ("zero_flipped", "flipped"):
        values = []
        for effects in result.steering.values():
            both = effects[f"{prefix}_right"] + effects[f"{prefix}_wrong"]
            if "method" in both.dims:
                both = both.sel({"method": effects.attrs["default_method"]})
            values.append(both.values)
        flips.append(span(xr.DataArray(np.concatenate([*values, []]))))
    return ", ".join(flips) if result.steering else NOTHING


def _largest_of(result: Result, name: str) -> str:
    """The largest value of a check of steering, over its vectors' datasets and languages."""
    by_vectors = [
        effects[name].values.ravel() for effects in result.steering.values() if name in effects
    ]
    values = np.concatenate([*by_vectors, []])
    return _largest(values[np.isfinite(values)].tolist())


def _models_text(results: Sequence[Result]) -> str:
    """The models as they are, with licences."""
    lines = {}
    for result in results:
        record = next(iter(result.records.values()), {})
        licence = as_markdown(record.get("licence", {}).get("model", ""))
        lines[result.model] = f"- {result.model}" + (f"; licence: {licence}" if licence else "")
    note = (
        "\n\nModels converted from quantised files are what was measured: nothing here is a claim "
        "about the originals."
        if any("converted" in model for model in lines)
        else ""
    )
    return "Models, as they are:\n\n" + "\n".join(lines.values()) + note
