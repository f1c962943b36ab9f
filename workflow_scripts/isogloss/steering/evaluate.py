"""Steered evaluation of one language's questions, and of all languages with one load of a model."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from isogloss.errors import InputError
from isogloss.files.activation_file import check_items, open_scores
from isogloss.model.decoder import Decoder
from isogloss.model.load import load
from isogloss.model.memory import memory_errors
from isogloss.model.packing import Tree, lay_out
from isogloss.model.readout import Readout, readout_of
from isogloss.program import progress
from isogloss.questions.datasets import load_dataset
from isogloss.questions.items import ParallelItems, check_apart
from isogloss.questions.prompts import Tokens, prompt_clusters, questions
from isogloss.steering.design import Design, evaluation_design
from isogloss.steering.plan import PATCH, Label, LanguageConditions, Plan, Setting, patches
from isogloss.steering.steered_file import SteeredTable
from isogloss.steering.sweep import (
    FAN_OUT,
    Condition,
    Outcome,
    UnsteeredStates,
    run_times,
    steered_scores,
)
from isogloss.study.settings import check_weights, prompt_style, source_of

Progress = Callable[[Iterable], Iterable]


@dataclass(frozen=True)
class Runner:
    """A model, and how questions are run through it.

    Attributes:
        decoder, readout: the model.
        budget: tokens of a batch.
        progress: wraps the iteration over batches.
    """

    decoder: Decoder
    readout: Readout
    budget: int = 2048
    progress: Progress = iter

    def scores(
        self,
        plan: Plan,
        trees: Sequence[Tree],
        conditions: Sequence[Sequence[Condition]],
        unsteered: UnsteeredStates,
    ) -> Outcome:
        """`steered_scores` at the plan's positions."""
        return steered_scores(
            self.decoder,
            self.readout,
            trees,
            conditions,
            positions=plan.positions,
            unsteered=unsteered,
            budget=self.budget,
            progress=self.progress,
        )


@dataclass(frozen=True)
class PivotQuestions:
    """The pivot's questions, unsteered: what all languages of a job share.

    Attributes:
        trees: the questions.
        states: keeps the states that conditions start from.
        outcome: of the unsteered condition.
    """

    trees: Sequence[Tree]
    states: UnsteeredStates
    outcome: Outcome


def unsteered_pivot(runner: Runner, plan: Plan, trees: Sequence[Tree]) -> PivotQuestions:
    """Score the pivot's questions, once for all languages that are steered towards it."""
    states = UnsteeredStates(runner.decoder, plan.layers)
    conditions = [[Condition(max(plan.layers), None)]] * len(trees)
    return PivotQuestions(trees, states, runner.scores(plan, trees, conditions, states))


def evaluate(
    runner: Runner,
    vectors: xr.Dataset,
    plan: Plan,
    language: str,
    trees: Sequence[Tree],
    pivot: PivotQuestions,
    scores: xr.Dataset,
    design: Design,
) -> xr.Dataset:
    """Steer one language's questions: the grid, the selected settings, and their controls.

    Args:
        vectors: from `fit_vectors`.
        plan: what is tried.
        language: of the questions; its vectors are used.
        trees: the questions with their own choices, of the design's items.
        pivot: of `unsteered_pivot`, the same questions in the pivot.
        scores: stored unsteered scores of this language (item, choice), as `open_scores` gives
            them for one language: counts, answers and what the selection needs.
        design: folds, and whose vectors steer an item.

    Returns:
        The steered file's dataset (dimensions condition, item, choice, method, fold).
    """
    began = time.perf_counter()
    table = SteeredTable(plan, scores, design)
    conditions = LanguageConditions(vectors, plan, language)
    folds, evaluated = design.folds, design.evaluated
    vectors_of = [design.vectors_of(fold) for fold in range(int(folds.max()) + 1)]
    labels, by_fold = conditions.grid(vectors_of)
    states = UnsteeredStates(runner.decoder, plan.layers)
    outcome = runner.scores(plan, trees, [by_fold[fold] for fold in folds], states)
    table.add(labels, outcome, np.arange(len(folds)))
    chosen = table.select()
    settings = {
        fold: Setting(vectors_of[fold], *plan.grid()[chosen[0, fold]][1:])
        for fold in design.reported
    }
    if plan.searched_controls():
        labels, by_fold = conditions.control_grid(vectors_of)
        outcome = runner.scores(plan, trees, [by_fold[fold] for fold in folds], states)
        table.add(labels, outcome, np.arange(len(folds)))
        table.add_searched_controls(
            lambda name, draw, fold, layer: conditions.cosine(name, draw, vectors_of[fold], layer)
        )
    labels, controls, cosines = conditions.controls(settings)
    evaluated_trees = [trees[i] for i in evaluated]
    by_item = [controls[fold] for fold in folds[evaluated]]
    table.add_cosines(labels, cosines)
    if PATCH in plan.controls:
        layers = {setting.layer for setting in settings.values()}
        ends = {i: pivot.states.prompt_ends(pivot.trees, i, runner.budget) for i in layers}
        ends = {i: states[evaluated] for i, states in ends.items()}
        oracle = patches(settings, ends, folds[evaluated])
        by_item = [[*some, last] for some, last in zip(by_item, oracle, strict=True)]
        labels = [*labels, Label("control", PATCH)]
    outcome = runner.scores(plan, evaluated_trees, by_item, states)
    zero = _difference_of_zero(labels, outcome)
    table.add(labels[1:], outcome.without_first(), evaluated)
    reference = Label("unsteered", "pivot_unsteered", alpha=0.0)
    table.add([reference], pivot.outcome.of(evaluated), evaluated)
    labels, harm = conditions.harm(settings)
    by_item = [harm[fold] for fold in folds[evaluated]]
    pivot_trees = [pivot.trees[i] for i in evaluated]
    table.add(labels, runner.scores(plan, pivot_trees, by_item, pivot.states), evaluated)
    timed = conditions.timed(vectors_of[design.reported[-1]])
    budget = runner.budget // FAN_OUT
    times = run_times(runner.decoder, trees, timed, plan.positions, budget)
    seconds = time.perf_counter() - began
    return table.dataset(chosen, times, seconds).assign_attrs(
        language=language,
        pivot=vectors.attrs["pivot"],
        score=plan.score,
        controls_search=int(plan.controls_search),
        zero_same_batch_difference=zero,
    )


def _difference_of_zero(labels: Sequence[Label], outcome: Outcome) -> float:
    """The largest difference of the control `zero` from the unsteered rows, which come first."""
    zero = [i for i, label in enumerate(labels) if label.method == "zero"]
    difference = outcome.log_probability[zero] - outcome.log_probability[0]
    return float(np.nanmax(np.abs(difference), initial=0.0))


def check_unsteered(steered: xr.Dataset, scores: xr.Dataset, dtype: str) -> None:
    """Refuse steered scores whose unsteered rows are not the stored ones.

    Args:
        steered: of `evaluate`.
        scores: stored scores of the same language.
        dtype: of the model. In narrower types kernels of different shapes round differently:
            how much is reported with the effects.

    Raises:
        InputError: in float32, unsteered or zero rows that are off by more than 1e-4 a token.
    """
    if dtype != "torch.float32":
        return
    stored = scores["sum"].sel(item=steered["item"]).transpose("item", "choice").values
    names = ("unsteered", "zero")
    rows = steered["log_probability"].isel(condition=np.isin(steered["method"].values, names))
    off = np.abs(rows.transpose("condition", "item", "choice").values - stored)
    difference = float(np.nanmax(off / steered["n_tokens"].transpose("item", "choice").values))
    if not difference <= 1e-4:
        raise InputError(
            f"steering {steered.attrs['language']}: unsteered scores differ from the stored ones "
            f"by {difference:.2g} nat per token, 1e-4 is allowed: delete the activation files of "
            "this model and extract anew"
        )


# All languages of a job


def steered_languages(
    decoder: Decoder,
    items: ParallelItems,
    scores: xr.Dataset,
    vectors: xr.Dataset,
    spec: Mapping[str, Any],
    languages: Sequence[str],
    budget: int = 2048,
) -> Iterator[tuple[str, xr.Dataset]]:
    """Steer the questions of several languages towards the pivot.

    Args:
        items: the questions.
        scores: stored unsteered scores of these languages and the pivot, of `open_scores`.
        vectors: from `fit_vectors`.
        spec: the stage's slice of the study: `slug`, `name` and `fitted` (datasets), `pivot`,
            `prompt`, `folds`, `steering`, `score`.
        languages: those to steer.
        budget: tokens of a batch.

    Yields:
        Language and its steered file, in the order given.

    Raises:
        InputError: unsteered scores are not the stored ones; out of memory.
    """
    tokens, style = Tokens(decoder.tokenizer, decoder.start), prompt_style(spec["prompt"])
    design = design_of(items, spec)
    plan = Plan.of(spec["steering"], spec["score"], vectors)

    def trees(tag: str) -> list[Tree]:
        asked = questions(
            items,
            tag,
            tokens,
            style,
            pivot=spec["pivot"],
            control=None,
            latents=False,
            context_length=decoder.context_length,
            vocabulary=decoder.vocabulary,
            dropped=[int(n) for n in scores["n_truncated_tokens"].sel(language=tag)],
        )
        return [lay_out(asked[i], decoder.reach) for i in design.items]

    readout = readout_of(decoder)

    def runner(label: str) -> Runner:
        return Runner(decoder, readout, budget, partial(progress, label=label, unit="part"))

    job = f"steer {spec['slug']} {spec['name']}"
    label = f"{job} {spec['pivot']}"
    with memory_errors(label):
        pivot = unsteered_pivot(Runner(decoder, readout, budget), plan, trees(spec["pivot"]))
    for tag in progress(languages, job, "language"):
        stored = scores.sel(language=tag)
        label = f"{job} {tag}"
        with memory_errors(label):
            asked = stored.isel(item=design.items)
            steered = evaluate(runner(label), vectors, plan, tag, trees(tag), pivot, asked, design)
        check_unsteered(steered, stored, str(decoder.dtype))
        yield tag, steered


def design_of(items: ParallelItems, spec: Mapping[str, Any]) -> Design:
    """How the items are evaluated, in folds of the clusters that their scores are stored with."""
    clusters = prompt_clusters(items, prompt_style(spec["prompt"]))
    return evaluation_design(clusters, spec["folds"], fitted_here=spec["fitted"] == spec["name"])


def steered_files(
    spec: Mapping[str, Any],
    activations: Mapping[str, Path],
    vectors: xr.Dataset,
    languages: Sequence[str],
    *,
    cache: Path,
    device: str,
    budget: int,
) -> Iterator[tuple[str, xr.Dataset]]:
    """`steered_languages` with what the study names: its questions, stored scores and model.

    Args:
        activations: activation file by language, of the evaluated dataset.
        cache: folder of models.
        device: as `isogloss.model.load.load` takes it.

    Raises:
        InputError: the vectors were fitted on some of these questions, under another name.
    """
    items = load_dataset(spec["dataset"], spec["all_languages"], spec["name"])
    if spec["fitted"] != spec["name"]:
        other = spec["vectors"]["extraction"]
        check_apart(load_dataset(other["dataset"], other["languages"], spec["fitted"]), items)
    scored = {tag: activations[tag] for tag in dict.fromkeys([*languages, spec["pivot"]])}
    check_items(scored, items.digest)
    scores = open_scores(list(scored.values()))
    decoder = load(source_of(spec), cache, device)
    check_weights(spec["activations"], cache)
    yield from steered_languages(decoder, items, scores, vectors, spec, languages, budget)
