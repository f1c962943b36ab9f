"""Steering effects: what steering changed, in whom, and against which controls.

Everything is a paired difference from the unsteered model over the same items. The setting behind
an effect was selected on other folds than the item's, so no item has chosen its treatment.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from isogloss.errors import InputError
from isogloss.measures.behaviour import choice_scores, cohens_kappa, predictions
from isogloss.measures.statistics import mean_present
from isogloss.measures.transfer import MIN_ITEMS, expected_rows, lift_rows, transfer_rows
from isogloss.steering.answers import (
    HARM,
    HARM_REFERENCE,
    STEERED_SCORES,
    SteeredAnswers,
    checked_files,
)
from isogloss.steering.effect_table import EffectTable, Entry, first_entry
from isogloss.steering.inference import Search

EQUAL = 1e-9
RUN_TIMES = {
    "forward_seconds": "run time of an unsteered forward, per question",
    "evaluation_seconds": "run time of steering the language: all settings and controls",
}


# Kernels


def rank_p(effect: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """One-sided p of an effect among draws of a random control: (...) and (draw, ...) to (...).

    >>> float(rank_p(np.array(0.3), np.array([0.1, 0.3, 0.0, -0.2])))
    0.4
    """
    present = np.isfinite(draws)
    reached = ((draws >= effect - EQUAL) & present).sum(axis=0)
    p = (1 + reached) / (1 + present.sum(axis=0))
    return np.where(np.isfinite(effect) & present.any(axis=0), p, np.nan)


# The whole


def steering_effects(
    steered: Mapping[str, xr.Dataset],
    scores: xr.Dataset,
    score: str = "token",
    seed: int = 0,
    confidence: float = 0.95,
    n_perm: int = 9999,
) -> xr.Dataset:
    """Effects of steering by language and pooled over languages, with their controls and tests.

    Args:
        steered: steered files by language, of the same items; a file of the pivot is left out.
        scores: of `open_scores`: stored unsteered scores, the pivot's and those of the steered
            languages, of at least the same items.
        score: what ranks the choices: "token", "sum", "char" or "byte".
        seed, n_perm: sign patterns of the tests, the same for all languages.
        confidence: of the intervals.

    Returns:
        Dataset over language, method, control, draw, fold, relative_depth and alpha; the names
        are in docs/reference.md. The first selected method is the default one (`default_method`):
        controls, `primary_*` and `p_random` are its. What the files hold no control for is left
        out.

    Raises:
        InputError: unknown score, missing conditions, or files that differ in their items.
    """
    if score not in STEERED_SCORES:
        known = ", ".join(STEERED_SCORES)
        raise InputError(f"score: steered files have no {score!r}: use one of {known}")
    files = checked_files(steered, scores)
    first = next(iter(files.values()))
    scores = scores.sel(item=first["item"].values)
    answers = SteeredAnswers.of(files, scores, score)
    table = EffectTable(answers, n_perm, seed, confidence)
    methods, controls = answers.labels("selected"), answers.labels("control")
    pivot_scores = choice_scores(scores.sel(language=[scores.attrs["pivot"]]), score)[0]
    pivot_prediction = predictions(pivot_scores)
    pivot_right = (pivot_prediction == first["answer"].values).astype(float)
    _add_unsteered(table)
    _add_effect(table, methods)
    _add_consistency(table, methods, scores, pivot_prediction.astype(float))
    _add_transfer(table, methods, pivot_right[:, None, None])
    _add_harm(table)
    _add_checks(table, scores)
    _add_costs(table, methods)
    coordinates: dict[str, Any] = {"language": list(files), "method": methods}
    coordinates |= _add_surface(table, methods) | _add_selection(table, methods)
    if controls:
        coordinates |= _add_controls(table, methods[0], controls)
    if "random" in controls:
        coordinates |= _add_random(table, methods[0])
    settings = {"score": score, "seed": seed, "confidence": confidence}
    settings |= {"n_perm": n_perm, "min_items": MIN_ITEMS, "pivot": scores.attrs["pivot"]}
    settings |= {"default_method": methods[0], "n_items": first.sizes["item"]}
    settings |= {"n_clusters": table.jackknife.n_clusters}
    settings |= {"controls_search": int(first.attrs.get("controls_search", 0))}
    settings |= {"separate_sets": int(answers.separate_sets)}
    return xr.Dataset(table.variables, coordinates, settings)


def _add_unsteered(table: EffectTable) -> None:
    """Where the languages start from."""
    correct = table.answers.unsteered("correct")[..., 0]
    accuracy = table.jackknife.share_interval(table.jackknife.means(correct), len(correct))
    chance = float(np.mean(1 / table.answers.first["n_choices"].values))
    table.add_interval("accuracy_unsteered", ("language",), accuracy, "accuracy, unsteered")
    table.add("chance", (), chance, "accuracy of guessing")
    near = ~(accuracy.low > chance)
    text = "unsteered accuracy's interval does not lie above chance"
    table.add("near_chance", ("language",), near, text)
    rows = table.jackknife.means(table.answers.unsteered("consistency")[..., 0])
    text = "consistency with the pivot, unsteered"
    table.add_rows("consistency_unsteered", ("language",), rows, text)


def _changes(
    table: EffectTable, field: str, methods: Sequence[str]
) -> list[tuple[np.ndarray, Search]]:
    """Differences from unsteered at every searched setting, by method."""
    answers = table.answers
    before = answers.unsteered(field)
    return [
        (getattr(answers, field)[..., answers.searched(method)] - before, answers.search(method))
        for method in methods
    ]


def _add_effect(table: EffectTable, methods: Sequence[str]) -> None:
    """Accuracy at the selected setting: the change, its tests, and the items flipped."""
    answers, dims = table.answers, ("language", "method")
    after = answers.mean("correct", "selected", methods)
    rows = table.jackknife.means(after)
    share = table.jackknife.share_interval(rows, len(after))
    table.add_rows("accuracy_steered", dims, rows, "accuracy at the selected setting", share)
    text = "accuracy change at the selected setting"
    entries = _changes(table, "correct", methods)
    by_language, pooled = table.add_change("effect", "method", entries, text, tests="")
    change = after - answers.unsteered("correct")
    default, text = change[..., 0], "items flipped right less items flipped wrong"
    note = f"accuracy change, default method ({text})"
    searched = entries[0][1].change.shape[2] > 1
    table.add_tests("primary_", ("language",), first_entry(by_language), default, note, searched)
    table.add("primary_net", ("language",), default.sum(axis=0), f"{text}, default method", "items")
    note = "accuracy change, default method, pooled"
    table.add_tests("pooled_primary_", (), first_entry(pooled), default, note, searched)
    for name, flipped, note in (
        ("flipped_right", change > 0, "items flipped from wrong to right"),
        ("flipped_wrong", change < 0, "items flipped from right to wrong"),
    ):
        table.add(name, dims, flipped.sum(axis=0), note, "items")
    table.add("net", dims, change.sum(axis=0), text, "items")


def _add_consistency(
    table: EffectTable, methods: Sequence[str], scores: xr.Dataset, pivot: np.ndarray
) -> None:
    """Consistency with the unsteered pivot: Spearman's rho, and Cohen's kappa beside it."""
    answers, text = table.answers, "change of consistency with the pivot"
    entries = _changes(table, "consistency", methods)
    table.add_change("consistency_change", "method", entries, text, tests="consistency_change_")
    same = scores["identical_to_pivot"].transpose("language", "item", "choice")
    same = same.sel(language=answers.languages)
    exists = np.arange(same.sizes["choice"]) < scores["n_choices"].values[:, None]
    distinct = ~np.any(same.values.astype(bool) & exists, axis=-1).T[..., None]
    entries = [(np.where(distinct, change, np.nan), search) for change, search in entries]
    note = f"{text}, items without a choice spelled alike"
    table.add_change("consistency_change_distinct", "method", entries, note)
    after = answers.mean("predicted", "selected", methods)
    before = answers.unsteered("predicted")
    pairs = [(x, pivot[:, None, None]) for x in (after, before)]
    kappa = [cohens_kappa(*pair, scores["n_choices"].values, table.jackknife) for pair in pairs]
    note = "change of Cohen's kappa of predictions with the pivot's"
    table.add_rows("kappa_change", ("language", "method"), kappa[0] - kappa[1], note)


def _add_transfer(table: EffectTable, methods: Sequence[str], pivot_right: np.ndarray) -> None:
    """Positive transfer with the unsteered pivot, both ways."""
    dims, jackknife = ("language", "method"), table.jackknife
    n_choices = table.answers.first["n_choices"].values
    after = table.answers.mean("correct", "selected", methods)
    before = table.answers.unsteered("correct")
    enough = pivot_right.sum() >= MIN_ITEMS
    known = np.where((pivot_right == 1) & enough, 0.0, np.nan)
    entries = [(change + known, search) for change, search in _changes(table, "correct", methods)]
    text = "change of transfer from the pivot"
    table.add_change("transfer_to_change", "method", entries, text, "transfer_to_change_")
    lifts = [
        lift_rows(
            transfer_rows(pivot_right, x, jackknife),
            expected_rows(pivot_right, x, n_choices, jackknife),
        )
        for x in (after, before)
    ]
    text = "change of transfer from the pivot, above the change of accuracy"
    table.add_rows("transfer_to_lift_change", dims, lifts[0] - lifts[1], text)
    back = [transfer_rows(x, pivot_right, jackknife) for x in (after, before)]
    text = "change of transfer to the pivot"
    table.add_rows("transfer_from_change", dims, back[0] - back[1], text)


def _add_controls(table: EffectTable, method: str, controls: list[str]) -> dict[str, Any]:
    """The controls' changes, and how far the default method is above each; their coordinate."""
    answers, dims = table.answers, ("language", "control")
    jackknife = table.jackknife
    correct = answers.mean("correct", "control", controls)
    changes = correct - answers.unsteered("correct")
    searched = bool(answers.first.attrs.get("controls_search", 0))
    if searched:
        fixed = Search.none(*changes.shape[:2])
        searches = [answers.control_search(name) for name in controls]
        entries = [
            (changes[..., [i]], fixed) if search is None else (search.change, search)
            for i, search in enumerate(searches)
        ]
        table.add_change("control_effect", "control", entries, "accuracy change of the control")
    else:
        rows = jackknife.means(changes)
        table.add_rows("control_effect", dims, rows, "accuracy change of the control")
    consistency = answers.mean("consistency", "control", controls)
    rows = jackknife.means(consistency - answers.unsteered("consistency"))
    text = "change of consistency with the pivot of the control"
    table.add_rows("control_consistency_change", dims, rows, text)
    if searched:
        _add_over_searched_controls(table, method, controls, searches)
    else:
        over = answers.mean("correct", "selected", [method]) - correct
        fixed = Search.none(*over.shape[:2])
        entries = [(over[..., [i]], fixed) for i in range(len(controls))]
        text = "accuracy change of the default method less the control's, both at its setting"
        table.add_change("effect_over_control", "control", entries, text, "effect_over_control_")
    for name, source, text in (
        (
            "control_norm_ratio",
            "norm_ratio",
            "norm of the steered states over that before, control",
        ),
        ("control_cosine", "cosine", "cosine of the control's shift with the default method's"),
    ):
        table.add(name, dims, answers.variable(source, "control", controls), text)
    return {"control": controls}


def _add_over_searched_controls(
    table: EffectTable, method: str, controls: list[str], searches: Sequence[Search | None]
) -> None:
    """The method less each control, as the settings of both were chosen.

    Against a control with a search of its own both choose anew; against one at the method's setting
    (`zero`, `patch`) the method does. Against several draws, each at a setting of its own, there is
    no test but `p_random`, which is fair: every draw is searched as the method is.
    """
    answers, search = table.answers, table.answers.search(method)
    correct = answers.mean("correct", "control", controls)
    steered = answers.correct[..., answers.searched(method)]
    of_method, fixed = (
        answers.mean("correct", "selected", [method]),
        Search.none(*correct.shape[:2]),
    )
    entries: list[Entry] = []
    untested = [
        not answers.separate_sets and len(answers.conditions("control", name)) > 1
        for name in controls
    ]
    for i, rival in enumerate(searches):
        if rival is not None:
            entries.append((search, rival))
        elif untested[i]:
            entries.append((of_method - correct[..., [i]], fixed))
        else:
            entries.append((steered - correct[..., [i]], search))
    text = "accuracy change of the default method less the control's, each at its own setting"
    prefix = "effect_over_control_"
    table.add_change("effect_over_control", "control", entries, text, prefix, untested)


def _add_random(table: EffectTable, method: str) -> dict[str, Any]:
    """The random control draw by draw, the default effect's rank among them; the coordinate."""
    answers = table.answers
    rows = answers.conditions("control", "random")
    before = answers.unsteered("correct")
    effects = (answers.correct[..., rows] - before).mean(axis=0)
    effect = (answers.mean("correct", "selected", [method]) - before)[..., 0].mean(axis=0)
    dims, text = ("language", "draw"), "accuracy change of a draw of the random control"
    table.add("random_draws", dims, effects, text)
    note = "one-sided rank p of the default effect among random draws, at least 1 / (draws + 1)"
    table.add("p_random", ("language",), rank_p(effect, effects.T), note)
    pooled = rank_p(effect.mean(), effects.mean(axis=0))
    table.add("pooled_p_random", (), pooled, f"{note}, pooled")
    return {"draw": answers.first["draw"].values[rows].astype(int)}


def _add_harm(table: EffectTable) -> None:
    """What each language's steering does to the pivot's questions."""
    after = table.answers.mean("correct", "control", [HARM])
    change = after - table.answers.mean("correct", "unsteered", [HARM_REFERENCE])
    text = "accuracy change of the pivot's questions, steered as this language's"
    fixed = Search.none(*change.shape[:2])
    table.add_change("pivot_harm", "", [(change, fixed)], text, tests="pivot_harm_")


def _add_checks(table: EffectTable, scores: xr.Dataset) -> None:
    """How far the zero control and the unsteered rows are from what they must equal."""
    answers = table.answers
    zero, stored, same_batch = np.full((3, len(answers.files)), np.nan)
    for i, (language, file) in enumerate(answers.files.items()):
        sums = file["log_probability"].transpose("condition", "item", "choice").values
        plain = sums[answers.conditions("unsteered", "unsteered")[0]]
        for row in answers.conditions("control", "zero"):
            zero[i] = np.nanmax(np.abs(sums[row] - plain))
        before = scores["sum"].sel(language=language).transpose("item", "choice")
        stored[i] = np.nanmax(np.abs(before.values - plain))
        same_batch[i] = file.attrs.get("zero_same_batch_difference", np.nan)
    for name, values, text in (
        ("zero_max_abs_difference", zero, "zero control less unsteered, largest over choices"),
        ("zero_same_batch_difference", same_batch, "the same within one batch"),
        ("unsteered_max_abs_difference", stored, "unsteered less stored scores, largest"),
    ):
        table.add(name, ("language",), values, text, "nat")
    change = (answers.mean("correct", "control", ["zero"]) - answers.unsteered("correct"))[..., 0]
    absent = np.isnan(change).any(axis=0)
    for name, flipped, text in (
        ("zero_flipped_right", change > 0, "items that rounding alone flips from wrong to right"),
        ("zero_flipped_wrong", change < 0, "items that rounding alone flips from right to wrong"),
    ):
        values = np.where(absent, np.nan, flipped.sum(axis=0))
        table.add(name, ("language",), values, f"{text}: zero against unsteered", "items")


def _add_costs(table: EffectTable, methods: list[str]) -> None:
    """Norms and run times."""
    dims, answers = ("language", "method"), table.answers
    norms = answers.variable("norm_ratio", "selected", methods)
    table.add("norm_ratio", dims, norms, "norm of the steered states over that before")
    files = answers.files.values()
    overhead = [file["overhead"].sel(selected_method=methods).values for file in files]
    text = "run time of a steered forward above an unsteered one, share of it"
    table.add("overhead", dims, np.array(overhead), text)
    for name in ("forward_seconds", "evaluation_seconds"):
        values = np.array([float(file[name]) for file in files])
        table.add(name, ("language",), values, RUN_TIMES[name], "s")


def _add_surface(table: EffectTable, methods: list[str]) -> dict[str, Any]:
    """Changes over the whole grid of layers and strengths; gives the grid's coordinates."""
    answers = table.answers
    grid = answers.first.isel(condition=answers.first["role"].values == "grid")
    axes = {n: sorted(set(grid[n].values.astype(float))) for n in ("relative_depth", "alpha")}
    shape = (len(answers.files), len(methods), *(len(axis) for axis in axes.values()))
    surfaces = {name: np.full(shape, np.nan) for name in ("correct", "consistency", "norm_ratio")}
    for m, method in enumerate(methods):
        for row in answers.conditions("grid", method):
            depth, alpha = (
                axis.index(float(answers.first[name].values[row])) for name, axis in axes.items()
            )
            for field in ("correct", "consistency"):
                change = getattr(answers, field)[..., row] - answers.unsteered(field)[..., 0]
                surfaces[field][:, m, depth, alpha] = mean_present(change, axis=0)
            norms = [float(file["norm_ratio"][row]) for file in answers.files.values()]
            surfaces["norm_ratio"][:, m, depth, alpha] = norms
    dims = ("language", "method", *axes)
    table.add("surface", dims, surfaces["correct"], "accuracy change")
    text = "change of consistency with the pivot"
    table.add("surface_consistency", dims, surfaces["consistency"], text)
    text = "norm of the steered states over that before"
    table.add("surface_norm_ratio", dims, surfaces["norm_ratio"], text)
    return axes


def _add_selection(table: EffectTable, methods: list[str]) -> dict[str, Any]:
    """The setting that each fold was given; gives the folds' coordinate."""
    for name, text in (
        ("selected_layer", "layer selected on the other folds"),
        ("selected_alpha", "strength selected on the other folds"),
        ("selected_depth", "relative depth selected on the other folds"),
    ):
        chosen = [
            file[name].transpose("selected_method", "selected_fold").sel(selected_method=methods)
            for file in table.answers.files.values()
        ]
        table.add(name, ("language", "method", "fold"), np.stack(chosen).astype(float), text)
    return {"fold": np.arange(table.answers.first.sizes["selected_fold"])}
