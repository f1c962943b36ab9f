"""What a study will cost before anyone spends it: every job, what is already there, the totals."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from isogloss.cost import costs, workload
from isogloss.cost import requests as cluster
from isogloss.cost.architectures import architecture_of
from isogloss.cost.costs import Cost, Grid, Job
from isogloss.cost.machines import Machine
from isogloss.cost.side_by_side import models_at_once
from isogloss.cost.workload import Rows, Scored
from isogloss.errors import InputError
from isogloss.measures.lens import lens_layers
from isogloss.model.sources import ModelSource, cache_folder, folder_here
from isogloss.questions.datasets import load_dataset
from isogloss.questions.items import ParallelItems
from isogloss.questions.prompts import Tokens, control_language
from isogloss.study.keys import Artifact, Artifacts
from isogloss.study.schema import Config
from isogloss.study.settings import dump, prompt_style


@dataclass(frozen=True)
class Line:
    """One job of the study.

    Attributes:
        stage, model, dataset: which.
        cost: of what has to be computed.
        whole: of all of it, whatever is there.
        parts, here, shared: its artifacts: how many, in this store, only in the shared place.
        note: what is unknown or assumed; '' for nothing.
    """

    stage: str
    model: str
    dataset: str
    cost: Cost
    whole: Cost
    parts: int = 1
    here: int = 0
    shared: int = 0
    note: str = ""


@dataclass(frozen=True)
class Present:
    """Names of the artifacts that need not be computed: here, and in the shared place."""

    here: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()


class Estimator:
    """The costs of one study on one machine.

    Args:
        study: its configuration.
        machine: that it will run on.
        inventory: its artifacts.
        present: those that are there.
        results: whether a result file is there, by its name below the results folder.
    """

    def __init__(
        self,
        study: Config,
        machine: Machine,
        inventory: Artifacts,
        present: Present,
        results: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self.study, self.machine, self.inventory = study, machine, inventory
        self.present, self.results = present, results
        self.notes: dict[str, None] = {}
        self._data: dict[str, ParallelItems | None] = {}
        self._tokens: dict[str, Tokens | None] = {}

    def lines(self) -> Iterable[Line]:
        """Every job of the study, in the order of the models; what is unknown with a note."""
        lines = list(self._lines())
        for stage in cluster.MODEL_MB:
            jobs = [line for line in lines if line.stage.split()[0] == stage]
            left = self._slowdown(stage, [line for line in jobs if line.cost.seconds])
            whole = self._slowdown(stage, jobs)
            lines = [
                replace(line, cost=slower(line.cost, left), whole=slower(line.whole, whole))
                if line in jobs
                else line
                for line in lines
            ]
        return lines

    def _slowdown(self, stage: str, jobs: Sequence[Line]) -> float:
        """What jobs take longer that run one at a time; 1 where they share the cores."""
        request, models = cluster.MODEL_MB[stage], self.study.models
        sizes = [cluster.by_size(*request, models[job.model].parameters) for job in jobs]
        at_most = cluster.model_threads(self.study.cluster)
        together = models_at_once(sizes, self.machine.cores, at_most, room=len(jobs))
        return self.machine.alone if together == 1 else 1.0

    def _lines(self) -> Iterable[Line]:
        for slug in self.study.models:
            try:
                yield from _OfModel(self, slug).lines()
            except InputError as error:
                yield Line("all", slug, "", Cost(), Cost(), note=str(error))
        yield from self._ending()

    def _ending(self) -> Iterable[Line]:
        """What sets the models side by side."""
        for dataset in self.study.questions:
            seconds = self.machine.analysis_start * 2 * (1 + 0.1 * len(self.study.models))
            yield self.result("scale", "", dataset, f"scale/{dataset}.nc", Cost(seconds, disk=8e4))
        seconds = self.machine.analysis_start * 2
        yield self.result("summary", "", "", "summary.md", Cost(seconds, disk=14e3))

    def result(self, stage: str, model: str, dataset: str, name: str, cost: Cost) -> Line:
        """A line of a stage that writes to the results."""
        cost = replace(cost, memory=max(cost.memory, self.machine.process))
        there = self.results(name)
        return Line(stage, model, dataset, Cost() if there else cost, cost, here=int(there))

    def items(self, dataset: str) -> ParallelItems | None:
        """The questions; None where the study announces them instead.

        Raises:
            InputError: neither.
        """
        if dataset not in self._data:
            try:
                self._data[dataset] = load_dataset(
                    dump(self.study.datasets[dataset], exclude={"prompt", "languages"}),
                    self.study.languages_of(dataset),
                    dataset,
                )
            except InputError as error:
                if dataset not in self.study.estimate.datasets:
                    raise InputError(
                        f"datasets.{dataset}: size unknown ({error}): fetch it first (`snakemake"
                        f" download`), or give estimate.datasets.{dataset}"
                    ) from error
                self._data[dataset] = None
                self.notes[f"{dataset}: not here: sizes as announced in estimate.datasets"] = None
        return self._data[dataset]

    def tokens(self, slug: str, source: ModelSource) -> Tokens | None:
        """The model's tokenizer where it is here."""
        if slug not in self._tokens:
            folder = folder_here(source, cache_folder(self.study.cache))
            self._tokens[slug] = None
            if folder is not None:
                from isogloss.model.decoder import begins_with
                from isogloss.model.load import load_tokenizer

                tokenizer = load_tokenizer(folder, source)
                self._tokens[slug] = Tokens(tokenizer, begins_with(tokenizer))
            how = "counted in a sample" if folder else "from bytes or words, tokenizer not here"
            self.notes[f"{slug}: tokens {how}"] = None
        return self._tokens[slug]


class _OfModel:
    """The jobs of one model."""

    def __init__(self, of: Estimator, slug: str) -> None:
        self.of, self.study, self.machine, self.slug = of, of.study, of.machine, slug
        entry = self.study.models[slug]
        self.source = ModelSource.from_spec(slug, dump(entry))
        one = architecture_of(self.study, self.source, cache_folder(self.study.cache))
        stored, gpus = costs.BYTES[entry.dtype], self._gpus()
        if self.source.source == "package":
            stored = 4
        self.one = replace(one, by_segments=not gpus and entry.attention == "sdpa")
        self.model = costs.Model(self.one, entry.dtype, stored, gpus)
        self.layers = lens_layers(self.one.layers, self.study.extraction.lens_layers)
        self.kept = len(self.layers)
        self.budget = self.study.extraction.batch_tokens

    def _gpus(self) -> int:
        if not self.machine.gpu:
            return 0
        about, entry = self.study.cluster, self.study.models[self.slug]
        held = about.gpu_mem_mb or int(self.machine.gpu_memory / 1e6)
        asked = about.model_copy(update={"gpus": max(1, about.gpus), "gpu_mem_mb": held})
        if fault := cluster.too_large_for_a_gpu({self.slug: entry}, asked):
            raise InputError(fault)
        return cluster.gpus(entry, asked)

    def lines(self) -> Iterable[Line]:
        if self.study.with_lens:
            job = Job(Cost(), {"": costs.readout(self.model, self.machine)})
            yield self._stored(
                "readout", "", job, 0, lambda: [self.of.inventory.readout(self.slug)]
            )
        for dataset in self.study.datasets:
            try:
                yield from self._on(dataset)
            except InputError as error:
                yield Line("all", self.slug, dataset, Cost(), Cost(), note=str(error))

    def _on(self, dataset: str) -> Iterable[Line]:
        """The jobs of one dataset."""
        at = _Questions(self, dataset)
        inventory, slug = self.of.inventory, self.slug
        job = costs.extract(
            self.model, self.machine, at.rows, self.kept, budget=self.budget,
            precision_items=self.study.extraction.precision_items, n_choices=at.choices,
        )  # fmt: skip
        yield self._stored(
            "extract", dataset, job, self.model.gpus, lambda: inventory.activations(slug, dataset)
        )
        if self.study.with_lens and dataset in self.study.questions:
            job = costs.lens(self.model, self.machine, at.rows, self.layers)
            yield self._stored(
                "lens", dataset, job, min(1, self.model.gpus), lambda: inventory.lens(slug, dataset)
            )
        if dataset in self.study.vectors_of:
            yield self._vectors(at)
        for fitted, evaluated in self.study.steered_pairs:
            if evaluated == dataset:
                yield self._steer(at, fitted)
        yield from self._analyses(at)

    def _vectors(self, at: "_Questions") -> Line:
        steering = self.study.steering
        assert steering is not None
        cost = costs.vectors(
            self.machine, self.one, len(at.languages), at.items, at.grid,
            steering.random_draws, "linear_map" in steering.methods,
        )  # fmt: skip
        job = Job(Cost(), {"all": cost})
        return self._stored(
            "vectors", at.dataset, job, 0,
            lambda: [self.of.inventory.vectors(self.slug, at.dataset)],
        )  # fmt: skip

    def _steer(self, at: "_Questions", fitted: str) -> Line:
        steering = self.study.steering
        assert steering is not None
        tags = [tag for tag in steering.languages if tag in at.languages]
        rows = {tag: at.own(tag) for tag in tags}
        job = costs.steer(
            self.model, self.machine, rows, at.own(self.study.pivot), at.grid,
            budget=self.budget, n_choices=at.choices,
        )  # fmt: skip
        stage = "steer" if len(steering.fit_on) == 1 else f"steer by {fitted}"
        return self._stored(
            stage, at.dataset, job, self.model.gpus,
            lambda: self.of.inventory.steered(self.slug, fitted, at.dataset),
        )  # fmt: skip

    def _analyses(self, at: "_Questions") -> Iterable[Line]:
        """What rests on the artifacts, on a CPU."""
        study, machine, n = self.study, self.machine, len(at.languages)
        draws, folder = study.statistics.n_boot, f"{self.slug}/{at.dataset}"

        def line(stage: str, cost: Cost, name: str = "") -> Line:
            return self.of.result(
                stage, self.slug, at.dataset, f"{folder}/{name or stage}.nc", cost
            )

        if at.dataset in study.questions:
            yield line("behaviour", costs.resampled(machine, n, at.items, draws, 20, True, 2))
            if study.with_lens:
                columns = self.kept * 12
                yield line(
                    "trajectories",
                    costs.resampled(machine, n, at.items, draws, columns / 10, False, 1.3),
                )
        about = study.similarity
        yield line(
            "similarity",
            costs.similarity(machine, self.one, n, at.items, about.map_permutations),
        )
        layers = min(study.subspaces.layers, self.one.layers + 1)
        yield line(
            "subspaces",
            costs.subspaces(
                machine, self.one, n, at.items, layers,
                study.subspaces.permutations, study.statistics.folds,
            ),
        )  # fmt: skip
        for fitted, dataset in study.steered_pairs:
            if dataset == at.dataset:
                cost = costs.resampled(
                    machine, at.grid.steered, at.items, draws, 10 * at.grid.conditions, False, 2.5
                )
                yield line("steering_effects", cost, f"steering_{fitted}")
        figures = self.of.result(
            "figures", self.slug, at.dataset, f"{folder}/figures/place_and_shape.csv",
            Cost(machine.analysis_start + machine.figures, disk=5e6),
        )  # fmt: skip
        yield figures

    def _stored(
        self,
        stage: str,
        dataset: str,
        job: Job,
        gpus: int,
        artifacts: Callable[[], list[Artifact]],
    ) -> Line:
        """A line of a stage that writes to the store: what is there costs nothing."""
        tags = list(job.languages)
        here = shared = 0
        missing, note = tags, ""
        try:
            named = artifacts()
            present = self.of.present
            missing = []
            for tag, one in zip(tags, _in_order(named, tags), strict=True):
                if one.name in present.here:
                    here += 1
                elif one.name in present.shared:
                    shared += 1
                else:
                    missing.append(tag)
        except InputError as error:
            note = f"{dataset or self.slug}: not looked up in the store ({error})"
            if dataset and self.of.items(dataset) is None:
                note = f"{dataset}: not looked up in the store, which takes the questions"
        cost, whole = (
            replace(c, gpu_seconds=c.seconds * gpus) for c in (job.of(missing), job.of(tags))
        )
        return Line(stage, self.slug, dataset, cost, whole, len(tags), here, shared, note)


def _in_order(named: list[Artifact], tags: list[str]) -> list[Artifact]:
    """The artifacts of these languages; where there is one for all, that one."""
    if len(named) == 1 == len(tags):
        return named
    by_language = {one.language: one for one in named}
    return [by_language[tag] for tag in tags]


class _Questions:
    """The rows of one dataset in a model's tokens."""

    def __init__(self, of: _OfModel, dataset: str) -> None:
        self.of, self.study, self.dataset = of, of.study, dataset
        self.languages = self.study.languages_of(dataset)
        self.data = of.of.items(dataset)
        if self.data is not None:
            self.items = len(self.data.item_ids)
            self.choices = max(1, int(self.data.n_choices.max()))
        else:
            self.items = self.study.announced_items(dataset) or 1
            self.choices = max(1, self.study.estimate.datasets[dataset].choices)
        self.rows = {tag: self._rows(tag, latents=True) for tag in self.languages}

    def own(self, tag: str) -> Rows:
        """The rows with the language's own choices alone, as steering runs them."""
        return self._rows(tag, latents=False)

    @cached_property
    def grid(self) -> Grid:
        """The steered evaluation."""
        steering, split = self.study.steering, self.study.statistics.split
        assert steering is not None
        n = self.of.one.layers
        shares = (1.0, 1.0)
        if split is not None:
            total = split.fit + split.select + split.test
            shares = ((split.select + split.test) / total, split.test / total)
        return Grid(
            layers=tuple(sorted({round(depth * n) for depth in steering.layers})),
            settings=len(steering.methods) * len(steering.strengths),
            methods=len(steering.methods),
            controls=len(steering.controls) - 1 + steering.random_draws,
            folds=self.study.statistics.folds if split is None else 2,
            steered=len([tag for tag in steering.languages if tag in self.languages]),
            selected_on=shares[0],
            tested_on=shares[1],
        )

    def _control(self, tag: str) -> str | None:
        candidates = [c for c in self.study.extraction.control if c in self.languages]
        return control_language(tag, self.study.pivot, candidates)

    def _rows(self, tag: str, latents: bool) -> Rows:
        study = self.study
        extra = study.extraction
        scored = Scored(
            tag, study.pivot, self._control(tag) if latents else None, latents,
            pmi=latents and extra.pmi, letters=latents and extra.letters,
        )  # fmt: skip
        vocabulary = self.of.one.vocabulary
        if self.data is None:
            shape = study.estimate.datasets[self.dataset]
            return workload.announced(
                self.items, shape.choices, shape.prompt_words, shape.choice_words,
                vocabulary, scored,
            )  # fmt: skip
        style = prompt_style(dump(study.prompt_of(self.dataset)))
        tokens = self.of.of.tokens(self.of.slug, self.of.source)
        if tokens is None:
            return workload.from_bytes(self.data, vocabulary, style, scored)
        return workload.counted(self.data, tokens, style, scored)


def slower(cost: Cost, times: float) -> Cost:
    """A cost whose job takes so many times as long."""
    rates = {name: seconds * times for name, seconds in cost.at_full_rate.items()}
    return replace(cost, seconds=cost.seconds * times, at_full_rate=rates)


def total(lines: Iterable[Line]) -> Cost:
    """The sum of the costs of some jobs, run one after the other."""
    found = Cost()
    for line in lines:
        found = found + line.cost
    return found


# -- as text ---------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """A run time as people say it.

    >>> duration(0), duration(42.4), duration(600), duration(9000), duration(900_000)
    ('-', '42 s', '10 min', '2.5 h', '250 h')
    """
    if seconds <= 0:
        return "-"
    for unit, size, below in (("s", 1, 100), ("min", 60, 100), ("h", 3600, math.inf)):
        if seconds < below * size:
            value = seconds / size
            return f"{value:.1f} {unit}" if value < 9.95 and unit == "h" else f"{value:.0f} {unit}"
    raise AssertionError


def size(n_bytes: float) -> str:
    """A number of bytes as people say it, in powers of 1000.

    >>> size(0), size(5_000), size(335_546_296), size(6.7e11)
    ('-', '5 kB', '336 MB', '670 GB')
    """
    if n_bytes <= 0:
        return "-"
    for unit, one in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12)):
        if n_bytes < 999.5 * one or unit == "TB":
            value = n_bytes / one
            return f"{value:.2g} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
    raise AssertionError


def table(rows: list[list[str]]) -> str:
    """Rows as columns of text, the first three to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


HEADER = ["model", "dataset", "stage", "to do", "time", "memory", "disk"]
ON_GPUS = ["GPU memory", "GPU hours"]


def row_of(model: str, dataset: str, stage: str, to_do: str, cost: Cost, gpu: bool) -> list[str]:
    """One job's costs as cells of `table`."""
    cells = [model, dataset, stage, to_do]
    cells += [duration(cost.seconds), size(cost.memory), size(cost.disk)]
    hours = f"{cost.gpu_seconds / 3600:.1f}" if cost.gpu_seconds else "-"
    return cells + [size(cost.device_memory), hours] * gpu


def to_do(lines: list[Line]) -> str:
    """How many parts are to be computed, and where the others are."""
    parts, here, shared = (sum(getattr(x, n) for x in lines) for n in ("parts", "here", "shared"))
    left = parts - here - shared
    if not left:
        return "in the shared place" if shared and not here else "there"
    said = f"{left} of {parts}" if parts > 1 else "1"
    return said + (f" ({shared} shared)" if shared else "")


OWN_ROWS = ("readout", "extract", "lens", "vectors", "steer", "similarity", "subspaces")
"""Stages with a row of their own; the others take seconds and share one."""


def as_table(lines: list[Line], machine: Machine) -> str:
    """The jobs of each model and dataset, then the sums by stage and of all."""
    known = [line for line in lines if line.whole.seconds]
    rows = [HEADER + ON_GPUS * machine.gpu]
    groups: dict[tuple[str, str, str], list[Line]] = {}
    for line in known:
        own = line.stage.split()[0] in OWN_ROWS
        stage = line.stage if own else "other analyses" if line.model else "all models"
        groups.setdefault((line.model or "-", line.dataset or "-", stage), []).append(line)
    for (model, dataset, stage), held in groups.items():
        rows.append(row_of(model, dataset, stage, to_do(held), total(held), machine.gpu))
    for stage in dict.fromkeys(stage for _, _, stage in groups):
        held = [line for (_, _, name), some in groups.items() if name == stage for line in some]
        if len(held) > 1 and total(held).seconds:
            rows.append(row_of("sum", "", stage, "", total(held), machine.gpu))
    rows.append(row_of("whole study", "", "", "", total(known), machine.gpu))
    return table(rows)


def as_json(line: Line) -> Mapping[str, Any]:
    """A line for programs: seconds, bytes, FLOPs."""
    return {
        "stage": line.stage,
        "model": line.model,
        "dataset": line.dataset,
        "parts": line.parts,
        "here": line.here,
        "shared": line.shared,
        "note": line.note,
        "to_do": vars(line.cost),
        "whole": vars(line.whole),
    }


def present_in(store: Path, shared: Iterable[str]) -> Present:
    """What this store and the shared place have."""
    here = {
        str(path.relative_to(store))
        for path in store.glob("*/*/**/*")
        if path.suffix in (".h5", ".nc", ".safetensors") and not path.name.startswith(".")
    }
    return Present(frozenset(here), frozenset(shared))
