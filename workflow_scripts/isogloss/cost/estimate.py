"""What a study will cost before anyone spends it: every job, what is already there, the totals."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from isogloss.cost import stages
from isogloss.cost.architecture import Model, loaded_model
from isogloss.cost.machines import HERE, named
from isogloss.cost.stages import Cost, Work
from isogloss.cost.tokens import Questions, announced
from isogloss.errors import InputError
from isogloss.model.load import tokens_here
from isogloss.model.sources import ModelSource, cache_folder
from isogloss.questions.datasets import load_dataset
from isogloss.questions.items import ParallelItems
from isogloss.questions.prompts import Tokens, control_language
from isogloss.store.names import aligned, size_text
from isogloss.store.places import shared_names
from isogloss.study.keys import Artifacts
from isogloss.study.schema import Config
from isogloss.study.settings import Settings, dump, model_spec, prompt_style


@dataclass(frozen=True)
class Line:
    """One job of the study."""

    stage: str
    model: str
    dataset: str
    to_do: Cost = Cost()  # of what has to be computed
    whole: Cost = Cost()  # of all of it, whatever is there
    parts: int = 1  # artifacts
    there: int = 0  # those in this store or in the shared place
    note: str = ""  # what is unknown; '' for nothing


WHOLE = {"all": None}
"""In place of texts by language, for an artifact of a model or of all its languages."""


class Estimate:
    """The jobs of one study on one machine.

    Args:
        study: its configuration.
        machine: as `machines.named` takes it; None: the study's.
        items, tokens: by dataset and by model, questions and tokenizers that were read already.

    Attributes:
        notes: what the costs rest on, as its keys.
    """

    def __init__(
        self,
        study: Config,
        machine: str | None = None,
        *,
        items: Mapping[str, ParallelItems] = MappingProxyType({}),
        tokens: Mapping[str, Tokens] = MappingProxyType({}),
    ) -> None:
        likely = "h100" if study.device.startswith("cuda") else HERE
        name, store = machine or study.estimate.machine or likely, Path(study.store)
        here = {str(path.relative_to(store)) for path in store.glob("*/*/**/*")}
        self.there = here | shared_names(study, otherwise="estimated")  # need not be made
        self.study, self.machine = study, named(name, cache_folder(study.cache))
        self.artifacts = Artifacts(Settings(study, planning=True))
        self.notes: dict[str, None] = {}
        self._known, self._tokens = items, tokens
        self._items = cache(self._read_items)

    def lines(self) -> Iterator[Line]:
        """Every job, in the order of the models; what is unknown with a note in place of a cost."""
        study, small = self.study, partial(stages.analysis, self.machine)
        for slug in study.models:
            try:
                yield from self._of_model(slug)
            except InputError as error:
                yield Line("all", slug, "", note=str(error))
        for dataset in study.questions:
            cost = small(2 + 0.2 * len(study.models))
            yield self._result(Line("scale", "", dataset), f"scale/{dataset}.nc", cost)
        if study.with_matrix:
            yield self._result(Line("steering_matrix", "", ""), "steering_matrix.nc", small(1.5))
        yield self._result(Line("summary", "", ""), "summary.md", small(2, disk=14_000))
        yield self._result(Line("report", "", ""), "report.html", small(9, disk=8e6))

    def _of_model(self, slug: str) -> Iterator[Line]:
        """The jobs of one model."""
        source = ModelSource.from_spec(slug, model_spec(self.study, slug))
        model = loaded_model(self.study, source, self.machine.gpu_memory)
        tokens = self._tokens.get(slug) or tokens_here(source, cache_folder(self.study.cache))
        how = "counted in a sample" if tokens else "from bytes or words, tokenizer not here"
        path = f"; it takes the plain path: {model.plain}" if model.plain else ""
        self.notes[f"{slug}: tokens {how}{path}"] = None
        if organism := self.study.models[slug].organism:
            cost = partial(stages.train, model, self.machine, organism)
            yield self._stored(Line("train", slug, ""), ["organism"], WHOLE, cost)
        if self.study.with_lens:
            cost = partial(stages.readout, model, self.machine)
            yield self._stored(Line("readout", slug, ""), ["readout"], WHOLE, cost)
        for dataset in self.study.datasets:
            try:
                yield from self._on_dataset(slug, dataset, model, tokens)
            except InputError as error:
                yield Line("all", slug, dataset, note=str(error))

    def _on_dataset(
        self, slug: str, dataset: str, model: Model, tokens: Tokens | None
    ) -> Iterator[Line]:
        """The jobs of one model on one dataset."""
        study, artifacts, tags = self.study, self.artifacts, self.study.languages_of(dataset)
        asked = self._questions(dataset, tokens, model)
        choices, n_wordings = int(asked.items.n_choices.max()), 1 + len(study.variants_of(dataset))
        work = Work(study, self.machine, model, tags, asked.n_items, choices, n_wordings)
        control = [tag for tag in study.extraction.control if tag in tags]
        more = {"pivot": study.pivot, **dump(study.extraction, include={"pmi", "letters"})}
        texts = {
            tag: asked.text(tag, control=control_language(tag, study.pivot, control), **more)
            for tag in tags
        }

        def stored(stage: str, made: list[str], *costs: Any) -> Line:
            return self._stored(Line(stage, slug, dataset), made, *costs)

        yield stored("extract", ["activations", dataset], texts, partial(stages.extract, work))
        if study.with_lens:
            sizes = (
                f"{text_of(sum(stages.activation_bytes(work, t, rows) for t in texts.values()))}"
                f" with {rows}"
                for rows in ("keep", "none")
            )
            self.notes[f"{slug}, {dataset}: extraction.rows: {', '.join(sizes)}"] = None
        for variant in study.variants_of(dataset):
            worded = replace(asked, style=prompt_style(artifacts.settings.prompt(dataset, variant)))
            bare = {t: worded.text(t, control=None, latents=False, **more) for t in tags}
            cost = partial(stages.extract, replace(work, with_rows=False))
            yield stored(f"extract {variant}", ["activations", dataset, variant], bare, cost)
        if "lenses" in study.results_of(dataset):
            yield stored("lens", ["lens", dataset], texts, partial(stages.lens, work))
        if dataset in study.vectors_of:
            yield stored("vectors", ["vectors", dataset], WHOLE, partial(stages.vectors, work))
        for fitted in study.fitted_for(dataset):
            stage = "steer" if len(work.steering.fit_on) == 1 else f"steer by {fitted}"
            alone = partial(asked.text, pivot=study.pivot, control=None, latents=False)
            steered = {tag: alone(tag) for tag in work.steering.languages if tag in tags}
            yield stored(stage, ["steered", fitted, dataset], steered, partial(stages.steer, work))

        small, grow = partial(stages.analysis, self.machine), stages.analyses(work)
        for file in study.result_files(dataset):
            name = file.removesuffix(".nc")
            whole = grow.get(name) or small(4 if name.startswith("steering_") else 1.3)
            yield self._result(Line(name, slug, dataset), f"{slug}/{dataset}/{file}", whole)
        figure = f"{slug}/{dataset}/figures/place_and_shape.csv"
        yield self._result(Line("figures", slug, dataset), figure, small(7, disk=5e6))

    def _stored(
        self,
        line: Line,
        made: list[str],
        texts: Mapping[str, Any],
        cost: Callable[[list[Any]], Cost],
    ) -> Line:
        """A line of a stage that writes to the store: what is there costs nothing.

        Args:
            made: method of `Artifacts`, and what it takes beside the model.
            texts: of the artifacts' languages, in their order; "all" where there is one for all.
            cost: of the artifacts of some texts.
        """
        missing, note = list(texts.values()), ""
        try:
            method, *about = made
            known = getattr(self.artifacts, method)(line.model, *about)
            artifacts = known if isinstance(known, list) else [known]
            pairs = zip(artifacts, texts.values(), strict=True)
            missing = [text for artifact, text in pairs if artifact.name not in self.there]
        except InputError as error:
            note = f"{line.dataset or line.model}: not looked up in the store ({error})"
        to_do, whole = cost(missing) if missing else Cost(), cost(list(texts.values()))
        there = len(texts) - len(missing)
        return replace(line, to_do=to_do, whole=whole, parts=len(texts), there=there, note=note)

    def _result(self, line: Line, file: str, cost: Cost) -> Line:
        """A line of a stage that writes a file below the results."""
        there = Path(self.study.results, file).exists()
        return replace(line, to_do=Cost() if there else cost, whole=cost, there=int(there))

    def _questions(self, dataset: str, tokens: Tokens | None, model: Model) -> Questions:
        """The questions for one model; where they are not here, as the study announces them.

        Raises:
            InputError: neither.
        """
        study, kind = self.study, (model.vocabulary, not model.plain)
        try:
            items = self._items(dataset)
        except InputError as error:
            if (shape := study.estimate.datasets.get(dataset)) is None:
                raise InputError(
                    f"datasets.{dataset}: size unknown ({error}): fetch it first (`snakemake"
                    f" --cores 1 download`), or give estimate.datasets.{dataset}"
                ) from error
            self.notes[f"{dataset}: not here: sizes as announced in estimate.datasets"] = None
            n_items = study.announced_items(dataset) or 1
            return announced(shape, n_items, study.languages_of(dataset), *kind)
        style = prompt_style(self.artifacts.settings.prompt(dataset))
        return Questions(items, len(items.item_ids), style, tokens, *kind)

    def _read_items(self, dataset: str) -> ParallelItems:
        if dataset in self._known:
            return self._known[dataset]
        about = self.artifacts.settings.questions(dataset)
        return load_dataset(about, self.study.languages_of(dataset), dataset)


def duration(seconds: float) -> str:
    """A run time for people.

    >>> duration(42.4), duration(700), duration(900_000)
    ('42 s', '12 min', '250 h')
    """
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 3 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def text_of(size: float) -> str:
    """A size for people, "-" for none."""
    return size_text(round(size)) if size else "-"


def as_table(lines: Sequence[Line]) -> str:
    """The jobs of each model and dataset, then the sums by stage and of all."""
    groups: dict[tuple[str, str, str], list[Line]] = {}
    for line in (line for line in lines if line.whole.seconds):
        names = (line.model or "-", line.dataset or "-", line.stage)
        for group in (names, ("all models", "", line.stage), ("whole study", "", "")):
            groups.setdefault(group, []).append(line)
    last = {"all models": 1, "whole study": 2}
    rows = ["model,dataset,stage,to do,time,memory,disk,GPU memory,GPU hours".split(",")]
    for names in sorted(groups, key=lambda names: last.get(names[0], 0)):
        cost = sum((line.to_do for line in groups[names]), Cost())
        parts, there = (sum(getattr(x, n) for x in groups[names]) for n in ("parts", "there"))
        sizes = [text_of(size) for size in (cost.memory, cost.disk, cost.device_memory)]
        hours = f"{cost.gpu_seconds / 3600:.1f}" if cost.gpu_seconds else "-"
        to_do, time = f"{parts - there} of {parts}", duration(cost.seconds)
        rows.append([*names, to_do, time, *sizes, hours])
    return "\n".join(aligned(rows))
