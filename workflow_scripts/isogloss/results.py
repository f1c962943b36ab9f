"""A study's results and artifacts as labelled datasets, for people in a notebook.

    import isogloss as iso

    study = iso.open("results")
    study.similarity("gemma-3-270m", "everyday").item_share

Every method opens the file that this study names: results by their place and their settings,
artifacts of the store by their keys. Relative paths of a configuration start where Snakemake ran,
whatever folder the notebook runs in.
"""

import functools
import json
import os
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import xarray as xr

from isogloss.errors import InputError
from isogloss.files.activation_file import open_activations
from isogloss.files.canonical import canonical_json
from isogloss.files.netcdf import computed_from, open_artifact, open_netcdf, store_name
from isogloss.model.sources import cache_folder
from isogloss.questions.datasets import load_dataset
from isogloss.questions.items import ParallelItems
from isogloss.store.manifests import read_manifest
from isogloss.study.keys import Artifacts
from isogloss.study.schema import Config, read
from isogloss.study.settings import Settings, manifest_name


def open_study(where: str | os.PathLike[str]) -> "StudyResults":
    """The results of a study.

    Args:
        where: its results folder, or its configuration file.

    Raises:
        InputError: neither of them, or not a valid configuration.
    """
    path = Path(where).expanduser().resolve()
    file = path / "config.yaml" if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise InputError(
            f"{path}: no config.yaml, which a run writes beside its results: give the results"
            " folder of a study, or its configuration file"
        )
    if not file.is_file():
        raise InputError(
            f"{path}: no such folder or file: give the results folder of a study, or its"
            " configuration file"
        )
    config = read(file, only_read=True)
    root = _root(file, config.results)
    return StudyResults(config, file, root, path if path.is_dir() else root / config.results)


def _root(file: Path, results: str) -> Path:
    """The folder that a configuration's relative paths start from: where Snakemake ran.

    It is the folder from which `results` leads to the file, else the nearest folder above the
    file that has a Snakefile, else the working directory.
    """
    parts = Path(results).parts
    if not Path(results).is_absolute() and file.parent.parts[-len(parts) :] == parts:
        return file.parents[len(parts)]
    return next((f for f in file.parents if (f / "Snakefile").is_file()), Path.cwd())


class StudyResults:
    """What a study has computed: a method per file, each an `xarray.Dataset`.

    Items are labelled by their ids (`.sel(item="cause-01")`), with their category where the
    dataset has it, languages by their tags.

    Attributes:
        config: the study's configuration.
        folder: of its results.
        root: where Snakemake ran.

    Raises:
        InputError: by every method that opens a file: the study has no such model, dataset or
            language, or the file is not computed yet, or under other settings.
    """

    def __init__(self, config: Config, file: Path, root: Path, folder: Path) -> None:
        self.config, self.root, self.folder = config, root, folder
        self._file = file
        self._settings = Settings(config, root / cache_folder(config.cache), root)
        self._category_of = functools.cache(self._categories)
        self._names_of = functools.cache(self._store_names)

    def behaviour(self, model: str, dataset: str) -> xr.Dataset:
        """Accuracy, consistency and transfer (language, language_2, item, ...)."""
        self._check_questions(model, dataset)
        settings = self._settings.behaviour(dataset)
        return self._result(f"{model}/{dataset}/behaviour.nc", settings, dataset)

    def breakdown(self, model: str, dataset: str) -> xr.Dataset:
        """Results by category, script, family and resources (group, language, fitted)."""
        self._check_questions(model, dataset)
        settings = self._settings.breakdown(dataset)
        return self._result(f"{model}/{dataset}/breakdown.nc", settings, dataset)

    def pivots(self, model: str, dataset: str) -> xr.Dataset:
        """What other languages share with each language as pivot (pivot, language)."""
        self._check_questions(model, dataset)
        if not self.config.pivots_of(dataset):
            raise self._error("no language is put in the pivot's place: set pivots: all")
        settings = self._settings.pivots(dataset)
        return self._result(f"{model}/{dataset}/pivots.nc", settings, dataset)

    def trajectories(self, model: str, dataset: str) -> xr.Dataset:
        """The logit lens by layer (language, latent, layer, item)."""
        self._check_lens(model, dataset)
        settings = self._settings.trajectories()
        return self._result(f"{model}/{dataset}/trajectories.nc", settings, dataset)

    def similarity(self, model: str, dataset: str) -> xr.Dataset:
        """Same place, same shape, dissociation (layer, language, language_2)."""
        self._check(model, dataset)
        settings = self._settings.similarity()
        return self._result(f"{model}/{dataset}/similarity.nc", settings, dataset)

    def subspaces(self, model: str, dataset: str) -> xr.Dataset:
        """Language offsets, overlaps, shared directions (layer, language, ...)."""
        self._check(model, dataset)
        settings = self._settings.subspaces()
        return self._result(f"{model}/{dataset}/subspaces.nc", settings, dataset)

    def variants(self, model: str, dataset: str) -> xr.Dataset:
        """Each language under other wordings: the ceiling of consistency and of similarity."""
        self._check_questions(model, dataset)
        if not self.config.variants_of(dataset):
            raise self._error(f"{dataset}: its questions have one wording: see prompt.variants")
        settings = self._settings.variants(dataset)
        return self._result(f"{model}/{dataset}/variants.nc", settings, dataset)

    def steering(self, model: str, dataset: str, fitted: str | None = None) -> xr.Dataset:
        """Effects of steering (language, method, control, ...).

        Args:
            fitted: dataset that the vectors were fitted on; needed where there are several.
        """
        name = self._fitted(model, dataset, fitted)
        settings = self._settings.steering_effects()
        return self._result(f"{model}/{dataset}/steering_{name}.nc", settings, dataset)

    def steering_matrix(self) -> xr.Dataset:
        """Steering with vectors of each dataset, evaluated on each (model, fitted, dataset)."""
        if not self.config.with_matrix:
            raise self._error("one dataset is steered with vectors of one: there is no matrix")
        target = self.config.main_dataset
        return self._result("steering_matrix.nc", self._settings.steering_matrix(), target)

    def scale(self, dataset: str) -> xr.Dataset:
        """The models side by side (model, measure, family, ...)."""
        self._check_questions(next(iter(self.config.models)), dataset)
        return self._result(f"scale/{dataset}.nc", self._settings.scale(), dataset)

    def verdicts(self) -> xr.Dataset:
        """Each claim of the paper put to the models (row)."""
        return self._result("verdicts.nc", self._settings.verdicts(), self.config.main_dataset)

    def calibration(self) -> xr.Dataset:
        """Every measure of the organisms against planted sharing (model, measure, sharing)."""
        return self._compared("calibration", self.config.planted, self._settings.calibration())

    def ladder(self) -> xr.Dataset:
        """Organisms of several sizes, compared by every rule (rule, model, family, measure)."""
        return self._compared("ladder", self.config.rungs, self._settings.ladder())

    def _compared(self, name: str, models: list[str], settings: Mapping[str, Any]) -> xr.Dataset:
        if not models:
            raise InputError(f"{name}: the study has no organisms for one: docs/calibration.md")
        return self._result(f"organisms/{name}.nc", settings, self.config.asked_of_the_world)

    def activations(
        self, model: str, dataset: str, language: str, variant: str | None = None
    ) -> xr.Dataset:
        """Hidden states and scores of a language's questions; states are read when asked for.

        Args:
            variant: of `prompt.variants`; None: the main wording.
        """
        self._check(model, dataset)
        _among(f"language of {dataset}", self.config.languages_of(dataset), language)
        if variant is not None:
            _among(f"wording of {dataset}", self.config.variants_of(dataset), variant)
        settings = self._settings.activations(model, dataset, variant)
        table = open_activations(self._listed("activations", settings)[language])
        return self._labelled(table, dataset).assign_coords(language=language)

    def lens(self, model: str, dataset: str, language: str) -> xr.Dataset:
        """Latent log-probabilities of every choice (layer, item, latent, choice)."""
        self._check_lens(model, dataset)
        _among(f"language of {dataset}", self.config.languages_of(dataset), language)
        listed = self._listed("lens", self._settings.lens(model, dataset))
        table = open_artifact(listed[language])
        return self._labelled(table, dataset).assign_coords(language=language)

    def vectors(self, model: str, dataset: str) -> xr.Dataset:
        """Steering vectors fitted on a dataset (pooling, layer, fold, language, feature)."""
        self._check(model, dataset)
        if dataset not in self.config.vectors_of:
            raise self._error(f"no vectors are fitted on {dataset}: see steering.fit_on")
        return open_artifact(self._listed("vectors", self._settings.vectors(model, dataset))["all"])

    def steered(
        self, model: str, dataset: str, language: str, fitted: str | None = None
    ) -> xr.Dataset:
        """Scores of a steered language's questions (condition, item, choice), see `steering`."""
        settings = self._settings.steered(model, self._fitted(model, dataset, fitted), dataset)
        _among("steered language", settings["languages"], language)
        return self._labelled(open_artifact(self._listed("steered", settings)[language]), dataset)

    def questions(self, dataset: str) -> ParallelItems:
        """The questions of a dataset in all its languages, in the order of the results' items."""
        self._check(next(iter(self.config.models)), dataset)
        spec = self._question_source(dataset)
        return load_dataset(spec, self.config.languages_of(dataset), dataset)

    def records(self, model: str, dataset: str) -> dict[str, dict[str, Any]]:
        """What the extraction of each language's activation file recorded."""
        tags = self.config.languages_of(dataset)
        return {
            tag: json.loads(self.activations(model, dataset, tag).attrs["record"]) for tag in tags
        }

    @property
    def model_names(self) -> dict[str, str]:
        """Each model as it is, conversions included, by slug."""
        return {model["slug"]: model["name"] for model in self._settings.summary()["models"]}

    def __repr__(self) -> str:
        config = self.config
        computed: dict[str, list[bool]] = {}
        for kind, path in self._files():
            computed.setdefault(kind, []).append(path.exists())
        shown = [
            kind if all(there) else f"{kind} ({sum(there)} of {len(there)})"
            for kind, there in computed.items()
            if any(there)
        ]
        languages = [f"{tag} (pivot)" if tag == config.pivot else tag for tag in config.languages]
        rows = {
            "study": f"{config.study}, results in {self.folder}",
            "models": ", ".join(config.models),
            "datasets": ", ".join(config.datasets),
            "languages": textwrap.shorten(", ".join(languages), 80, placeholder=" ..."),
            "computed": ", ".join(shown) or "nothing yet",
        }
        return "\n".join(f"{name + ':':<11}{text}" for name, text in rows.items())

    # What a study has.

    def _check(self, model: str, dataset: str) -> None:
        _among("model", self.config.models, model)
        _among("dataset", self.config.datasets, dataset)

    def _check_questions(self, model: str, dataset: str) -> None:
        self._check(model, dataset)
        if dataset not in self.config.questions:
            raise self._error(f"{dataset}: sentences have no choices, so there is no such result")

    def _check_lens(self, model: str, dataset: str) -> None:
        self._check_questions(model, dataset)
        if not self.config.with_lens:
            raise self._error("it keeps no states for the lens: set extraction.lens_layers")

    def _fitted(self, model: str, dataset: str, fitted: str | None) -> str:
        """The dataset of the vectors that are evaluated on a dataset."""
        self._check_questions(model, dataset)
        known = self.config.fitted_for(dataset)
        if not known:
            raise self._error(f"{dataset}: nothing is steered there: see steering.evaluate_on")
        if fitted is None and len(known) > 1:
            raise self._error(f"{dataset}: vectors of {', '.join(known)}: name them by fitted=")
        return _among("vectors fitted on", known, fitted or known[0])

    def _error(self, text: str) -> InputError:
        return InputError(f"study {self.config.study}: {text}")

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Every file that the methods open, by method."""
        config, folder = self.config, self.folder
        for model in config.models:
            for dataset in config.datasets:
                for name in config.result_files(dataset):
                    path = folder / model / dataset / name
                    yield path.stem.partition("_")[0], path
        for dataset in config.questions:
            yield "scale", folder / "scale" / f"{dataset}.nc"
        if self.config.with_matrix:
            yield "steering_matrix", folder / "steering_matrix.nc"
        if self.config.questions:
            yield "verdicts", folder / "verdicts.nc"
        for name, (stage, _) in self._manifests().items():
            yield stage, self._store / name

    def _manifests(self) -> Mapping[str, tuple[str, str]]:
        """Stage and model of every manifest; none where a model's digest cannot be known here."""
        try:
            return self._settings.manifests()
        except InputError:
            return {}

    # Opening a file, and naming what it holds.

    @property
    def _store(self) -> Path:
        return self.root / self.config.store

    def _result(self, name: str, settings: Mapping[str, Any], dataset: str) -> xr.Dataset:
        """A file of the results folder, made under the settings of this study."""
        path = self.folder / name
        target = f"{self.config.results}/{name}"
        if not path.exists():
            raise InputError(f"{path}: not computed yet: {self._command(target)}")
        table = open_netcdf(path)
        same = table.attrs.get("spec") == canonical_json(settings)
        if not (same and self._is_from_this_study(table, path)):
            raise InputError(
                f"{path}: computed under other settings than {self._file} has:"
                f" {self._command(target)}"
            )
        return self._labelled(table, dataset)

    def _is_from_this_study(self, table: xr.Dataset, path: Path) -> bool:
        """Whether all that a result was computed from is what the study names today.

        Its own settings say nothing of the model or the prompts. Where the names cannot be known
        here, such as without a local model's files, a warning says so.
        """
        behind = computed_from(table)
        models = {part for name in behind for part in name.split("/")} & set(self.config.models)
        try:
            named = set().union(*map(self._names_of, models))
        except InputError as error:
            warnings.warn(
                f"{path}: whether it was computed under the study's settings is not known: {error}",
                stacklevel=4,
            )
            return bool(behind)
        return bool(behind) and behind <= named

    def _store_names(self, model: str) -> set[str]:
        """What the study names of a model in the store, as results name what is behind them."""
        names = list(self._settings.manifests([model]))
        if self.config.models[model].organism:
            names.append(Artifacts(self._settings).organism(model).name)
        return {store_name(Path(name)) for name in names}

    def _listed(self, stage: str, settings: Mapping[str, Any]) -> dict[str, Path]:
        """A stage's artifacts by language, from the manifest that its settings name."""
        name = manifest_name(stage, settings)
        manifest = self._store / name
        if not manifest.exists():
            target = f"{self.config.store}/{name}"
            raise InputError(f"{manifest}: not computed yet: {self._command(target)}")
        return read_manifest(manifest, self.root)

    def _command(self, target: str) -> str:
        """The command that computes a file."""
        command = f"snakemake --cores all {quote(target)}"
        if self._file != self.root / "config/config.yaml":
            inside = self._file.is_relative_to(self.root)
            file = self._file.relative_to(self.root) if inside else self._file
            command += f" --configfile {quote(str(file))}"
        return f"run `{command}` in {self.root}"

    def _labelled(self, table: xr.Dataset, dataset: str) -> xr.Dataset:
        """The same dataset with ids as the index of its items, and their categories."""
        if "item_id" in table.variables:
            ids = table["item_id"].values.astype(str)
            table = table.drop_vars("item_id").assign_coords(item=("item", ids))
        if "item" not in table.coords:
            return table
        category_of = self._category_of(dataset)
        if not category_of:
            return table
        ids = table["item"].values
        if unknown := [name for name in ids if name not in category_of]:
            warnings.warn(
                f"{dataset}: categories are left out: item {unknown[0]} is not among its questions"
                " any more",
                stacklevel=3,
            )
            return table
        categories = np.array([category_of[name] for name in ids])
        return table.assign_coords(category=("item", categories))

    def _question_source(self, dataset: str) -> dict[str, Any]:
        """Where a dataset's questions lie, seen from here."""
        spec = self._settings.pinned_dataset(dataset)
        if "path" in spec and (self.root / spec["path"]).exists():
            spec["path"] = str(self.root / spec["path"])
        return spec

    def _categories(self, dataset: str) -> dict[str, str]:
        """Category by item id; empty where the dataset has none.

        Categories are part of the questions alone: where these cannot be read here, a warning
        says so.
        """
        if self.config.datasets[dataset].source == "sentences":
            return {}
        # Items of the lexicon depend on all languages.
        every = self.config.languages_of(dataset)
        lexicon = self.config.datasets[dataset].source == "lexicon"
        languages = every if lexicon else [self.config.pivot]
        try:
            # All of them: which are left out, so which are drawn, depends on all languages too.
            spec = self._question_source(dataset) | {"max_items": None}
            items = load_dataset(spec, languages, dataset).items[self.config.pivot]
        except InputError as error:
            warnings.warn(f"{dataset}: categories are left out: {error}", stacklevel=4)
            return {}
        known = {item.item_id: item.category or "" for item in items}
        return known if any(known.values()) else {}


def _among(kind: str, known: Any, name: str) -> str:
    """The name, if it is one that the study has."""
    if name not in known:
        raise InputError(f'{kind} "{name}": the study has {", ".join(known)}')
    return name
