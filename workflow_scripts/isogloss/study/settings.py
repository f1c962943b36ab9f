"""Settings: what each rule gets of a study's configuration, and nothing that it does not need.

A rule reruns when its settings change and at no other time. Those of a stage that costs a model
also name its manifest, the list of its artifacts. What identifies a single artifact is in
`isogloss.study.keys`.
"""

import copy
import functools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from isogloss import versions
from isogloss.errors import InputError
from isogloss.files.canonical import canonical_json, key_of
from isogloss.files.commits import COMMIT
from isogloss.model.sources import ModelSource, cache_folder, model_digest
from isogloss.questions.chat import DATE
from isogloss.questions.hub import pinned_repositories
from isogloss.questions.prompts import PromptStyle
from isogloss.study.schema import Config
from isogloss.study.sections import MAIN_VARIANT

OF_COMPARISON = {"family", "parameters", "seed"}
"""What a model is beside others: no artifact depends on it."""


def dump(part: BaseModel, **options: Any) -> dict[str, Any]:
    """A part of the configuration as plain values."""
    return part.model_dump(mode="json", exclude_none=True, **options)


def world_spec(study: Config) -> dict[str, Any]:
    """The study's synthetic world as plain values, its languages among them."""
    assert study.world is not None
    return dump(study.world) | {"languages": list(study.languages)}


def model_spec(study: Config, slug: str, exclude: Collection[str] = ()) -> dict[str, Any]:
    """A model of the study as plain values; an organism with the world that it is trained on."""
    content = dump(study.models[slug], exclude=set(exclude))
    return content | ({"world": world_spec(study)} if content["source"] == "organism" else {})


def dataset_spec(study: Config, name: str) -> dict[str, Any]:
    """A dataset of the study as plain values; questions of a world with that world."""
    content = dump(study.datasets[name])
    return content | ({"world": world_spec(study)} if content["source"] == "world" else {})


def manifest_name(stage: str, settings: Mapping[str, Any]) -> str:
    """Where the list of a stage's artifacts lies in a store; `readout` needs none."""
    about = f"{stage}-{settings['fitted']}" if "fitted" in settings else stage
    key = key_of(settings)[:16]
    return f"manifests/{settings['slug']}/{settings['name']}/{about}-{key}.json"


def source_of(settings: Mapping[str, Any]) -> ModelSource:
    """The model that a stage's settings name."""
    return ModelSource.from_spec(
        settings["slug"], {"licence": settings.get("licence"), **settings["model"]}
    )


def check_weights(settings: Mapping[str, Any], cache: Path) -> None:
    """Refuse a local model that has changed since the jobs were planned: keys would be wrong.

    Raises:
        InputError: the weights are others than those of the settings.
    """
    if model_digest(source_of(settings), cache) != settings["weights"]:
        raise InputError(
            f"models.{settings['slug']}: its files have changed since this run was planned: "
            "run again"
        )


def prompt_style(prompt: Mapping[str, Any]) -> PromptStyle:
    """The prompt style that the settings `prompt` describe."""
    return PromptStyle(
        prompt["mode"],
        prompt["templates"],
        prompt["shots"],
        prompt["truncate"],
        prompt.get("chat_date", DATE),
        prompt.get("chat_template_kwargs", {}),
    )


class Settings:
    """The settings of every rule of one study: a method per rule or stage.

    Args:
        study: its configuration.
        cache: folder of models; that of the study by default.
        root: where relative paths of the study start: where Snakemake runs.
        planning: whether names may be made up where nobody knows here which commit a branch of the
            hub stands for. A study can so be planned without a network; its jobs refuse.
    """

    def __init__(
        self, study: Config, cache: Path | None = None, root: Path = Path(), planning: bool = False
    ) -> None:
        self.study, self.root, self.planning = study, root, planning
        self.cache = cache or cache_folder(study.cache)
        self.weights_of = functools.cache(self._weights_of)
        self._source_of = functools.cache(self._pinned_dataset)

    def _weights_of(self, model: str) -> str:
        """What identifies a model's weights, known without fetching them where they are pinned.

        Raises:
            InputError: it cannot be known.
        """
        source = ModelSource.from_spec(model, model_spec(self.study, model))
        if source.path:
            source = replace(source, path=self.root / source.path)
        try:
            return model_digest(source, self.cache)
        except InputError:
            if self.planning and source.source == "hub":
                return f"{source.repo}@{source.revision}: commit not known"
            raise

    def model(self, model: str, without: Collection[str] = ()) -> dict[str, Any]:
        """A model's part of the study, of the hub at a commit where that is known."""
        spec = model_spec(self.study, model, without)
        commit = self.weights_of(model).rpartition("@")[2]
        return spec | ({"revision": commit} if COMMIT.fullmatch(commit) else {})

    def pinned_dataset(self, dataset: str) -> dict[str, Any]:
        """A dataset's part of the study, a repository of the hub at a commit.

        Raises:
            InputError: nobody knows which commit a branch stands for.
        """
        return copy.deepcopy(self._source_of(dataset))

    def _pinned_dataset(self, dataset: str) -> dict[str, Any]:
        spec, languages = dataset_spec(self.study, dataset), self.study.languages_of(dataset)
        if spec["source"] != "hub":
            return spec
        try:
            return pinned_repositories(spec, languages, self.cache, f"datasets.{dataset}")
        except InputError:
            if self.planning:
                return spec
            raise

    # Stages that cost a model: their settings name a manifest.

    def organism(self, model: str) -> dict[str, Any]:
        """What the checkpoint of an organism depends on; its key is that of the weights."""
        content = model_spec(self.study, model)
        about = {name: content[name] for name in ("source", "organism", "world")}
        return {"slug": model, "model": about, "weights": self.weights_of(model)}

    def readout(self, model: str) -> dict[str, Any]:
        """What a readout depends on."""
        about = {*OF_COMPARISON, "licence", "device_map"}
        return {
            "slug": model,
            "model": self.model(model, about),
            "weights": self.weights_of(model),
            "version": versions.READOUT_VERSION,
        }

    def fetched(self, model: str) -> dict[str, Any]:
        """`readout`, and what is said where the model is fetched."""
        return self.readout(model) | {"licence": self.study.models[model].licence}

    def activations(self, model: str, dataset: str, variant: str | None = None) -> dict[str, Any]:
        """What the activation files of a model and dataset depend on.

        Args:
            variant: of `prompt.variants`; None: the main wording. A variant is scored in its own
                language alone and keeps no rows for the lens: nothing reads them.
        """
        study = self.study
        extraction = dump(study.extraction, exclude={"batch_tokens", "precision_items"})
        if study.extraction.rows == "keep" or not study.with_lens:
            del extraction["rows"]  # as before there was a choice: the same names
        if variant is not None:
            extraction.pop("rows", None)
            extraction |= {"lens_layers": 0, "latents": False, "control": []}
        return {
            "slug": model,
            "model": self.model(model, OF_COMPARISON),
            "weights": self.weights_of(model),
            "name": dataset,
            "dataset": self.questions(dataset),
            "languages": study.languages_of(dataset),
            "pivot": study.pivot,
            "prompt": self.prompt(dataset, variant),
            "extraction": extraction,
            "version": [versions.SCHEMA_VERSION, versions.EXTRACTION_VERSION],
        }

    def lens(self, model: str, dataset: str) -> dict[str, Any]:
        """What the lens files of a model and dataset depend on."""
        return {
            "slug": model,
            "name": dataset,
            "extraction": self.activations(model, dataset),
            "readout": self.readout(model),
            "version": [versions.SCHEMA_VERSION, versions.LENS_VERSION],
        }

    def vectors(self, model: str, dataset: str) -> dict[str, Any]:
        """What the steering vectors of a model and dataset depend on."""
        assert self.study.steering is not None
        needed = {"methods", "layers", "random_draws"}
        return {
            "slug": model,
            "name": dataset,
            "pivot": self.study.pivot,
            "extraction": self.activations(model, dataset),
            "steering": dump(self.study.steering, include=needed),
            "folds": self.folds(),
            "version": [versions.SCHEMA_VERSION, versions.VECTORS_VERSION],
        }

    def steered(self, model: str, fitted: str, dataset: str) -> dict[str, Any]:
        """What the steered scores of a model depend on.

        Args:
            fitted: dataset that the vectors are fitted on.
            dataset: that is evaluated.
        """
        study = self.study
        assert study.steering is not None
        languages = study.languages_of(dataset)
        not_needed = {"fit_on", "evaluate_on", "languages"}
        if not study.steering.controls_search:  # as it was before there was a choice
            not_needed.add("controls_search")
        return {
            "slug": model,
            "model": self.model(model, OF_COMPARISON),
            "fitted": fitted,
            "name": dataset,
            "dataset": self.questions(dataset),
            "prompt": self.prompt(dataset),
            "languages": [tag for tag in study.steering.languages if tag in languages],
            "all_languages": languages,
            "pivot": study.pivot,
            "score": study.behaviour.score,
            "steering": dump(study.steering, exclude=not_needed),
            "folds": self.folds(),
            "activations": self.activations(model, dataset),
            "vectors": self.vectors(model, fitted),
            "version": [versions.SCHEMA_VERSION, versions.STEERING_VERSION],
        }

    def manifests(self, models: Iterable[str] | None = None) -> dict[str, tuple[str, str]]:
        """The manifests of some models of the study, by default of all: stage and model by name."""
        study = self.study
        jobs: list[tuple[str, tuple[str, ...]]] = []
        for model in study.models if models is None else models:
            jobs += [("activations", (model, dataset)) for dataset in study.datasets]
            jobs += [("activations", (model, d, v)) for d, v in study.worded]
            if study.with_lens:
                jobs += [("lens", (model, dataset)) for dataset in study.questions]
            jobs += [("vectors", (model, dataset)) for dataset in study.vectors_of]
            jobs += [("steered", (model, *pair)) for pair in study.steered_pairs]
        return {
            manifest_name(stage, getattr(self, stage)(*about)): (stage, about[0])
            for stage, about in jobs
        }

    # What several stages have.

    def questions(self, dataset: str) -> dict[str, Any]:
        """Where a dataset comes from; what is generated carries the versions that generate it."""
        content = self._without_prompt(dataset)
        if self.study.datasets[dataset].source == "world":
            content["generator"] = {"world": versions.WORLD_VERSION}
        if self.study.datasets[dataset].source == "lexicon":
            content["generator"] = {
                "lexicon": versions.LEXICON_VERSION,
                **{name: metadata.version(name) for name in ("babel", "emoji")},
            }
        return content

    def _without_prompt(self, dataset: str) -> dict[str, Any]:
        spec = self.pinned_dataset(dataset)
        return {key: value for key, value in spec.items() if key not in ("prompt", "languages")}

    def prompt(self, dataset: str, variant: str | None = None) -> dict[str, Any]:
        """The prompt style of a dataset in one wording; what other modes have is left out."""
        prompt = self.study.prompt_of(dataset)
        left_out = {"variants"} | (
            {"chat_date", "chat_template_kwargs"} if prompt.mode != "chat" else set()
        )
        # Once each item had others, then mismatched phrases were of the dataset's clusters: such
        # files are computed anew, all others have their names.
        pool = {"worked_items": "one pool, one cluster"} if prompt.mode == "few_shot" else {}
        return dump(prompt, exclude=left_out) | {"templates": prompt.templates_of(variant)} | pool

    def folds(self) -> dict[str, Any]:
        """How clusters fall into folds: apart from `statistics.seed`, which costs no model."""
        statistics, split = self.study.statistics, self.study.statistics.split
        return {
            "folds": statistics.folds,
            "seed": statistics.fold_seed,
            "split": split and dump(split),
        }

    def variant_of(self, model: str, dataset: str, key: str) -> str | None:
        """The wording whose manifest of activation files has a key in its name; None: the main one.

        A variant's questions are other prompts to the same program: one job per wording.
        """
        for variant in self.study.variants_of(dataset):
            if key_of(self.activations(model, dataset, variant)).startswith(key):
                return variant
        return None

    # Analyses, figures and tables, made again from the artifacts within minutes.

    def behaviour(self, dataset: str) -> dict[str, Any]:
        """The score of behaviour, and the questions: choices may be spelled alike."""
        about = {"dataset": dataset, "questions": self.questions(dataset)}
        return dump(self.study.behaviour) | self._statistics("confidence") | about

    def variants(self, dataset: str) -> dict[str, Any]:
        """The score of behaviour, the states of similarity, and the wordings with their names."""
        names, prompt = self.study.variants_of(dataset), self.study.prompt_of(dataset)
        return {
            **dump(self.study.behaviour),
            **self._statistics("confidence"),
            "pooling": self.study.similarity.pooling,
            "variants": [MAIN_VARIANT, *names],
            # Two that swap their names are the same files: manifests alone would not tell.
            "templates": [prompt.templates_of(name) for name in names],
        }

    def breakdown(self, dataset: str) -> dict[str, Any]:
        """The score, the questions with their categories, and where steering is from."""
        study = self.study
        about = {"dataset": dataset, "questions": self.questions(dataset)}
        about |= {"fitted": study.fitted_for(dataset), "pooling": study.similarity.pooling}
        return dump(study.behaviour) | self._statistics("seed", "confidence") | about

    def pivots(self, dataset: str) -> dict[str, Any]:
        """The languages in the pivot's place, the score, and the states of similarity."""
        about = {"pivots": self.study.pivots_of(dataset), "pooling": self.study.similarity.pooling}
        return dump(self.study.behaviour) | self._statistics("confidence") | about

    def steering_effects(self) -> dict[str, Any]:
        """The same score; seed and confidence of tests and intervals."""
        return dump(self.study.behaviour) | self._statistics("seed", "confidence")

    def trajectories(self) -> dict[str, Any]:
        """Latents are scored by sum where behaviour is, else per token."""
        score = "sum" if self.study.behaviour.score == "sum" else "token"
        return self._statistics("confidence") | {"score": score}

    def similarity(self) -> dict[str, Any]:
        """Which states are compared, with which pivot, against how many permutations."""
        statistics = self._statistics("seed", "confidence")
        return dump(self.study.similarity) | statistics | {"pivot": self.study.pivot}

    def subspaces(self) -> dict[str, Any]:
        """Which states and layers, and the folds of what is fitted."""
        return dump(self.study.subspaces) | self._statistics("seed", "folds", "fold_seed")

    def scale(self) -> dict[str, Any]:
        """The models side by side, and what their association is tested against."""
        models = [
            {"slug": slug} | dump(model, include=OF_COMPARISON)
            for slug, model in self.study.models.items()
        ]
        permutations = {"permutations": self.study.similarity.permutations}
        return {"models": models, **permutations, **self._statistics("seed", "confidence")}

    def verdicts(self) -> dict[str, Any]:
        """The dataset that the paper's claims are put to models on, and the vectors steered by."""
        dataset = self.study.main_dataset
        fitted = self.study.fitted_for(dataset)
        return {
            "dataset": dataset,
            "fitted": fitted[0] if fitted else None,
            "models": list(self.study.models),
        }

    def steering_matrix(self) -> dict[str, Any]:
        """The axes of the matrix over datasets."""
        steering = self.study.steering
        assert steering is not None
        return {
            "models": list(self.study.models),
            "fit_on": list(steering.fit_on),
            "evaluate_on": list(steering.evaluate_on),
        }

    def calibration(self) -> dict[str, Any]:
        """The organisms with their planted sharing, their questions, and measures of the study.

        Steering, where there is any, is by the vectors of the first dataset `fitted`.
        """
        study, name = self.study, self.study.asked_of_the_world
        models = [
            {"slug": slug, "sharing": organism.sharing, "seed": organism.seed}
            for slug in study.planted
            if (organism := study.models[slug].organism)
        ]
        return {
            "models": models,
            "dataset": name,
            "questions": dataset_spec(study, name) if models else {},
            "fitted": study.fitted_for(name)[:1],
            "pooling": study.similarity.pooling,
            "measures": study.measures,
            **self._statistics("confidence"),
        }

    def ladder(self) -> dict[str, Any]:
        """The organisms with their sizes, and where they are compared."""
        models = [
            {
                "slug": slug,
                **dump(self.study.models[slug], include={"family", "parameters", "seed"}),
            }
            for slug in self.study.rungs
        ]
        return {"models": models, **dump(self.study.ladder), **self._statistics("confidence")}

    def figures(self, model: str, dataset: str) -> dict[str, Any]:
        """What the looks of the figures of a model and dataset depend on."""
        return self._looks() | {
            "models": {model: self._model_names()[model]},
            "model": model,
            "dataset": dataset,
            "questions": self._without_prompt(dataset),
        }

    def figures_scale(self) -> dict[str, Any]:
        """What the looks of the figures of all models depend on."""
        return self._looks() | {"models": self._model_names()}

    def figures_organisms(self) -> dict[str, Any]:
        """What the looks of the figures of organisms depend on."""
        return self._looks()

    def summary(self) -> dict[str, Any]:
        """What the summary names: models and datasets in the study's order."""
        study = self.study
        return {
            "study": study.study,
            "results": study.results,
            "pivot": study.pivot,
            "models": [
                {"slug": slug, "name": name, "dtype": study.models[slug].dtype}
                for slug, name in self._model_names().items()
            ],
            "datasets": [
                {
                    "name": d,
                    "fitted": study.fitted_for(d),
                    "lens": study.with_lens,
                    "variants": bool(study.variants_of(d)),
                }
                for d in study.questions
            ],
        }

    def downloads(self) -> list[dict[str, Any]]:
        """The datasets to fetch from the hub, each in its languages."""
        return [
            {
                "name": name,
                "dataset": self.pinned_dataset(name),
                "languages": self.study.languages_of(name),
            }
            for name, dataset in self.study.datasets.items()
            if dataset.source in ("hub", "harness")
        ]

    def on_this_machine(self) -> dict[str, str]:
        """Options of programs that no result depends on, by their names."""
        study = self.study
        values = {
            "store": study.store,
            "sharing": canonical_json(dump(study.sharing)),
            "cache": self.cache,
            "device": study.device,
            "batch-tokens": study.extraction.batch_tokens,
            "precision-items": study.extraction.precision_items,
            "folds": study.statistics.folds,
        }
        return {name: str(value) for name, value in values.items()}

    def _statistics(self, *names: str) -> dict[str, Any]:
        return dump(self.study.statistics, include=set(names))

    def _looks(self) -> dict[str, Any]:
        return {"figures": dump(self.study.figures), "pivot": self.study.pivot}

    def _model_names(self) -> dict[str, str]:
        """Name of every model by slug, with what was done to its weights."""
        study = self.study
        sources = {s: ModelSource.from_spec(s, model_spec(study, s)) for s in study.models}
        return {s: f"{s} ({source.note})" if source.note else s for s, source in sources.items()}
