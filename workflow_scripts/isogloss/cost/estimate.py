"""What a study will cost before anyone spends it: every job, what is already there, the totals."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from isogloss.cost import stages
from isogloss.cost.architecture import Model, loaded_model
from isogloss.cost.machines import HERE, Machine, named
from isogloss.cost.stages import Cost, Work
from isogloss.cost.tokens import Questions, announced, tokenizer_here
from isogloss.errors import InputError
from isogloss.model.sources import ModelSource, cache_folder
from isogloss.questions.datasets import load_dataset
from isogloss.questions.items import ParallelItems
from isogloss.questions.prompts import Tokens, control_language
from isogloss.store.names import aligned, size_text
from isogloss.study.keys import Artifact, Artifacts
from isogloss.study.schema import Config
from isogloss.study.settings import Settings, dump, model_spec, prompt_style


def estimate(
    study: Config, machine: str | None = None, again: bool = False, shared: Set[str] = frozenset()
) -> "Estimator":
    """The jobs of a study on a machine, else on that of `estimate.machine`, or on this one.

    Args:
        machine: as `machines.named` takes it.
        again: measure this machine again.
        shared: names of the artifacts in the shared place.
    """
    likely = "h100" if study.device.startswith("cuda") else HERE
    name, store = machine or study.estimate.machine or likely, Path(study.store)
    here = {str(path.relative_to(store)) for path in store.glob("*/*/**/*")}
    on = named(name, cache_folder(study.cache), again)
    return Estimator(study, on, Artifacts(Settings(study, planning=True)), here, shared)


@dataclass(frozen=True)
class Line:
    """One job of the study."""

    stage: str
    model: str
    dataset: str
    to_do: Cost = Cost()  # of what has to be computed
    whole: Cost = Cost()  # of all of it, whatever is there
    parts: int = 1  # artifacts
    here: int = 0  # those in this store
    shared: int = 0  # those only in the shared place
    note: str = ""  # what is unknown; '' for nothing


@dataclass
class Estimator:
    """The jobs of one study on one machine."""

    study: Config
    machine: Machine
    artifacts: Artifacts
    here: Set[str]  # names of the artifacts in this store
    shared: Set[str]  # names of those in the shared place
    notes: dict[str, None] = field(default_factory=dict)  # what the costs rest on
    _loaded: dict[str, ParallelItems] = field(default_factory=dict)  # questions, by dataset

    def lines(self) -> Iterator[Line]:
        """Every job, in the order of the models; what is unknown with a note in place of a cost."""
        for slug in self.study.models:
            try:
                yield from self._of_model(slug)
            except InputError as error:
                yield Line("all", slug, "", note=str(error))
        for dataset in self.study.questions:
            starts = 2 + 0.2 * len(self.study.models)
            yield self._result("scale", "", dataset, f"scale/{dataset}.nc", self._small(starts))
        yield self._result("summary", "", "", "summary.md", self._small(2, 14_000))
        yield self._result("report", "", "", "report.html", self._small(9, 8_000_000))

    def _of_model(self, slug: str) -> Iterator[Line]:
        """The jobs of one model."""
        source = ModelSource.from_spec(slug, model_spec(self.study, slug))
        model = loaded_model(self.study, source, self.machine)
        tokens = tokenizer_here(self.study, source)
        how = "counted in a sample" if tokens else "from bytes or words, tokenizer not here"
        path = f"; it takes the plain path: {model.plain}" if model.plain else ""
        self.notes[f"{slug}: tokens {how}{path}"] = None
        if organism := self.study.models[slug].organism:
            cost = partial(stages.train, model, self.machine, organism)
            names = partial(self.artifacts.organism, slug)
            yield self._stored(slug, "", "train", names, {"all": None}, cost)
        if self.study.with_lens:
            cost = partial(stages.readout, model, self.machine)
            names = partial(self.artifacts.readout, slug)
            yield self._stored(slug, "", "readout", names, {"all": None}, cost)
        for dataset in self.study.datasets:
            try:
                yield from self._on_dataset(slug, dataset, model, tokens)
            except InputError as error:
                yield Line("all", slug, dataset, note=str(error))

    def _on_dataset(
        self, slug: str, dataset: str, model: Model, tokens: Tokens | None
    ) -> Iterator[Line]:
        """The jobs of one model on one dataset."""
        study, artifacts = self.study, self.artifacts
        questions = self._questions(dataset, tokens, model)
        tags, choices = study.languages_of(dataset), int(questions.items.n_choices.max())
        work = Work(study, self.machine, model, tags, questions.n_items, choices)
        control = [tag for tag in study.extraction.control if tag in tags]
        asked = {"pivot": study.pivot, **dump(study.extraction, include={"pmi", "letters"})}
        third = {tag: control_language(tag, study.pivot, control) for tag in tags}
        texts = {tag: questions.text(tag, control=third[tag], **asked) for tag in tags}
        stored = partial(self._stored, slug, dataset)

        names = partial(artifacts.activations, slug, dataset)
        yield stored("extract", names, texts, partial(stages.extract, work))
        if study.with_lens:
            self._compare_rows(slug, dataset, work, list(texts.values()))
        for variant in study.variants_of(dataset):
            names = partial(artifacts.activations, slug, dataset, variant)
            style = prompt_style(self.artifacts.settings.prompt(dataset, variant))
            worded = replace(questions, style=style)
            bare = {t: worded.text(t, control=None, latents=False, **asked) for t in tags}
            cost = partial(stages.extract, replace(work, with_rows=False))
            yield stored(f"extract {variant}", names, bare, cost)
        if study.with_lens and dataset in study.questions:
            names = partial(artifacts.lens, slug, dataset)
            yield stored("lens", names, texts, partial(stages.lens, work))
        if dataset in study.vectors_of:
            vectors = partial(artifacts.vectors, slug, dataset)
            yield stored("vectors", vectors, {"all": None}, partial(stages.vectors, work))
        fitted_on = [fitted for fitted, other in study.steered_pairs if other == dataset]
        alone = partial(questions.text, pivot=study.pivot, control=None, latents=False)
        for fitted in fitted_on:
            names = partial(artifacts.steered, slug, fitted, dataset)
            steered = {tag: alone(tag) for tag in work.steering.languages if tag in tags}
            stage = "steer" if len(work.steering.fit_on) == 1 else f"steer by {fitted}"
            yield stored(stage, names, steered, partial(stages.steer, work, alone(study.pivot)))

        analyses = {"similarity": stages.similarity(work), "subspaces": stages.subspaces(work)}
        if dataset in study.questions:
            analyses["behaviour"] = stages.behaviour(work)
            if study.with_lens:
                analyses["trajectories"] = self._small(1.3, 160_000)
        if variants := study.variants_of(dataset):
            analyses["variants"] = stages.variants(work, 1 + len(variants))
        analyses |= {f"steering_{name}": self._small(2.5, 400_000) for name in fitted_on}
        results = {stage: (f"{stage}.nc", cost) for stage, cost in analyses.items()}
        results["figures"] = ("figures/place_and_shape.csv", self._small(6, 5e6))
        for stage, (file, whole) in results.items():
            yield self._result(stage, slug, dataset, f"{slug}/{dataset}/{file}", whole)

    def _compare_rows(
        self, slug: str, dataset: str, work: Work, texts: Sequence[stages.Text]
    ) -> None:
        """Note what the activation files weigh with and without the states behind the lens."""
        sizes = {}
        for rows in ("keep", "none"):
            extraction = work.study.extraction.model_copy(update={"rows": rows})
            study = work.study.model_copy(update={"extraction": extraction})
            sizes[rows] = stages.extract(replace(work, study=study), texts).disk
        said = ", ".join(f"{size_text(round(size))} with {rows}" for rows, size in sizes.items())
        self.notes[f"{slug}, {dataset}: extraction.rows: {said}"] = None

    def _small(self, starts: float, disk: float = 80_000) -> Cost:
        return stages.small(self.machine, starts, disk)

    def _stored(
        self,
        model: str,
        dataset: str,
        stage: str,
        names: Callable[[], Artifact | list[Artifact]],
        texts: Mapping[str, Any],
        cost: Callable[[list[Any]], Cost],
    ) -> Line:
        """A line of a stage that writes to the store: what is there costs nothing.

        Args:
            names: gives its artifacts, in the order of `texts`.
            texts: of their languages; "all" where there is one for all.
            cost: of the artifacts of some texts.
        """
        missing, here, note = list(texts.values()), 0, ""
        try:
            named = names()
            artifacts = named if isinstance(named, list) else [named]
            here = sum(artifact.name in self.here for artifact in artifacts)
            there, pairs = self.here | self.shared, zip(artifacts, texts.values(), strict=True)
            missing = [text for artifact, text in pairs if artifact.name not in there]
        except InputError as error:
            note = f"{dataset or model}: not looked up in the store ({error})"
        to_do, whole = cost(missing) if missing else Cost(), cost(list(texts.values()))
        shared = len(texts) - here - len(missing)
        return Line(stage, model, dataset, to_do, whole, len(texts), here, shared, note)

    def _result(self, stage: str, model: str, dataset: str, name: str, cost: Cost) -> Line:
        """A line of a stage that writes a file below the results."""
        there = Path(self.study.results, name).exists()
        return Line(stage, model, dataset, Cost() if there else cost, cost, here=int(there))

    def _questions(self, dataset: str, tokens: Tokens | None, model: Model) -> Questions:
        """The questions for one model; where they are not here, as the study announces them.

        Raises:
            InputError: neither.
        """
        study, tags = self.study, self.study.languages_of(dataset)
        about = self.artifacts.settings.questions(dataset)
        kind = (model.vocabulary, not model.plain)
        try:
            items = self._loaded.get(dataset) or load_dataset(about, tags, dataset)
        except InputError as error:
            if (shape := study.estimate.datasets.get(dataset)) is None:
                raise InputError(
                    f"datasets.{dataset}: size unknown ({error}): fetch it first (`snakemake"
                    f" download`), or give estimate.datasets.{dataset}"
                ) from error
            self.notes[f"{dataset}: not here: sizes as announced in estimate.datasets"] = None
            return announced(shape, study.announced_items(dataset) or 1, tags, *kind)
        self._loaded[dataset], style = items, prompt_style(dump(study.prompt_of(dataset)))
        return Questions(items, len(items.item_ids), style, tokens, *kind)


def duration(seconds: float) -> str:
    """A run time for people.

    >>> duration(42.4), duration(700), duration(900_000)
    ('42 s', '12 min', '250 h')
    """
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 3 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


ROWS = ("train", "readout", "extract", "lens", "vectors", "steer", "similarity", "subspaces")
"""Stages with a row each; the others take seconds and share one."""


def as_table(lines: Sequence[Line]) -> str:
    """The jobs of each model and dataset, then the sums by stage and of all."""
    groups: dict[tuple[str, str, str], list[Line]] = {}
    sums: dict[tuple[str, str, str], list[Line]] = {}
    for line in (line for line in lines if line.whole.seconds):
        stage = line.stage if line.stage.split()[0] in ROWS else "other analyses"
        groups.setdefault((line.model or "-", line.dataset or "-", stage), []).append(line)
        sums.setdefault(("sum", "", stage), []).append(line)
    total = {("whole study", "", ""): [line for group in groups.values() for line in group]}
    rows = ["model,dataset,stage,to do,time,memory,disk,GPU memory,GPU hours".split(",")]
    for names, members in (groups | sums | total).items():
        cost = sum((line.to_do for line in members), Cost())
        sizes = [cost.memory, cost.disk, cost.device_memory]
        memory, disk, on_gpus = (size_text(round(size)) if size else "-" for size in sizes)
        hours = f"{cost.gpu_seconds / 3600:.1f}" if cost.gpu_seconds else "-"
        time = duration(cost.seconds)
        rows.append([*names, _to_do(members), time, memory, disk, on_gpus, hours])
    return "\n".join(aligned(rows))


def _to_do(lines: Sequence[Line]) -> str:
    """How many parts are to be computed, and where the others are."""
    parts, here, shared = (sum(getattr(x, n) for x in lines) for n in ("parts", "here", "shared"))
    left = parts - here - shared
    if not left:
        return "in the shared place" if shared and not here else "there"
    return (f"{left} of {parts}" if parts > 1 else "1") + (f" ({shared} shared)" if shared else "")
