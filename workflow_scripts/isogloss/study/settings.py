"""Slices of a study's settings: what each costly stage of a model and dataset depends on.

A slice names the manifest of its stage: a changed setting that matters gives another name, and
one that does not matter is not in it.
"""

from collections.abc import Callable
from importlib import metadata
from typing import Any

from pydantic import BaseModel

from isogloss import versions
from isogloss.study.schema import Config


def dump(part: BaseModel, **options: Any) -> dict[str, Any]:
    """A part of the configuration as plain values."""
    return part.model_dump(mode="json", exclude_none=True, **options)


class Slices:
    """The slices of one study.

    Args:
        study: its configuration.
        weights_of: slug -> what identifies the model's weights.
    """

    def __init__(self, study: Config, weights_of: Callable[[str], str]) -> None:
        self.study, self.weights_of = study, weights_of

    def questions(self, dataset: str) -> dict[str, Any]:
        """Where a dataset comes from; what is generated carries the versions that generate it."""
        found = dump(self.study.datasets[dataset], exclude={"prompt", "languages"})
        if self.study.datasets[dataset].source == "lexicon":
            found["generator"] = {
                "lexicon": versions.LEXICON_VERSION,
                **{name: metadata.version(name) for name in ("babel", "emoji")},
            }
        return found

    def readout(self, model: str) -> dict[str, Any]:
        """What a readout depends on."""
        about = {"family", "parameters", "licence", "device_map"}
        return {
            "slug": model,
            "model": dump(self.study.models[model], exclude=about),
            "weights": self.weights_of(model),
            "version": versions.READOUT_VERSION,
        }

    def extraction(self, model: str, dataset: str) -> dict[str, Any]:
        """What the activation files of one model and dataset depend on."""
        study = self.study
        return {
            "slug": model,
            "model": dump(study.models[model], exclude={"family", "parameters"}),
            "weights": self.weights_of(model),
            "name": dataset,
            "dataset": self.questions(dataset),
            "languages": study.languages_of(dataset),
            "pivot": study.pivot,
            "prompt": dump(study.prompt_of(dataset)),
            "extraction": dump(study.extraction, exclude={"batch_tokens", "precision_items"}),
            "version": [versions.SCHEMA_VERSION, versions.EXTRACTION_VERSION],
        }

    def lens(self, model: str, dataset: str) -> dict[str, Any]:
        """What the lens files of one model and dataset depend on."""
        return {
            "slug": model,
            "name": dataset,
            "extraction": self.extraction(model, dataset),
            "readout": self.readout(model),
            "version": [versions.SCHEMA_VERSION, versions.LENS_VERSION],
        }

    def folds(self) -> dict[str, Any]:
        """How clusters fall into folds: apart from the bootstrap, whose seed costs no model."""
        how, split = self.study.statistics, self.study.statistics.split
        return {"folds": how.folds, "seed": how.fold_seed, "split": split and dump(split)}

    def vectors(self, model: str, dataset: str) -> dict[str, Any]:
        """What the steering vectors of one model and dataset depend on."""
        assert self.study.steering is not None
        wanted = {"methods", "layers", "random_draws"}
        return {
            "slug": model,
            "name": dataset,
            "pivot": self.study.pivot,
            "extraction": self.extraction(model, dataset),
            "steering": dump(self.study.steering, include=wanted),
            "folds": self.folds(),
            "version": [versions.SCHEMA_VERSION, versions.VECTORS_VERSION],
        }

    def steered(self, model: str, fitted: str, dataset: str) -> dict[str, Any]:
        """What the steered scores of one model depend on: vectors' dataset, evaluated dataset."""
        study = self.study
        assert study.steering is not None
        held = study.languages_of(dataset)
        return {
            "slug": model,
            "model": dump(study.models[model], exclude={"family", "parameters"}),
            "fitted": fitted,
            "name": dataset,
            "dataset": self.questions(dataset),
            "prompt": dump(study.prompt_of(dataset)),
            "languages": [tag for tag in study.steering.languages if tag in held],
            "all_languages": held,
            "pivot": study.pivot,
            "score": study.behaviour.score,
            "steering": dump(study.steering, exclude={"fit_on", "evaluate_on", "languages"}),
            "folds": self.folds(),
            "activations": self.extraction(model, dataset),
            "vectors": self.vectors(model, fitted),
            "version": [versions.SCHEMA_VERSION, versions.STEERING_VERSION],
        }
