"""Every artifact that a study names, known from its settings and its questions alone.

No model is needed: the keys rest on pinned digests, on what the questions say and on settings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from isogloss.files.canonical import key_of
from isogloss.questions.datasets import load_dataset
from isogloss.study.settings import Slices
from isogloss.study.specs import (
    activation_spec,
    keys_of,
    lens_spec,
    readout_spec,
    steered_spec,
    vectors_spec,
)


def artifact_name(
    stage: str, model: str, dataset: str, language: str, spec: Any, suffix: str
) -> str:
    """Where an artifact lies in a store: `<stage>/<model>/<dataset>/<language>/<key><suffix>`."""
    return f"{stage}/{model}/{dataset}/{language}/{key_of(spec)}{suffix}"


def readout_name(model: str, spec: Any) -> str:
    """Where the readout of a model lies in a store."""
    return f"readouts/{model}/{key_of(spec)}.safetensors"


@dataclass(frozen=True)
class Named:
    """One artifact: what made it, for what, and its name in a store."""

    stage: str
    model: str
    dataset: str
    language: str
    name: str


class Inventory:
    """The artifacts of one study, by stage.

    Questions are read once, when they are asked for, and only their digests are kept: those of
    a hundred languages are gigabytes.
    """

    def __init__(self, slices: Slices) -> None:
        self.slices, self.study = slices, slices.study
        self._digests = cache(self._read_questions)
        self._activation_specs = cache(self._activations)
        self._activation_keys = cache(self._keys)

    def all(self) -> Iterator[Named]:
        """Every artifact of the study."""
        for model in self.study.models:
            if self.study.with_lens:
                yield self.readout(model)
            for dataset in self.study.datasets:
                yield from self.activations(model, dataset)
                if self.study.with_lens and dataset in self.study.questions:
                    yield from self.lens(model, dataset)
            for dataset in self.study.vectors_of:
                yield self.vectors(model, dataset)
            for fitted, dataset in self.study.steered_pairs:
                yield from self.steered(model, fitted, dataset)

    def readout(self, model: str) -> Named:
        return Named("readout", model, "", "", readout_name(model, self._readout(model)))

    def activations(self, model: str, dataset: str) -> list[Named]:
        specs = self._activation_specs(model, dataset)
        return [self._named("activations", model, dataset, t, s, ".h5") for t, s in specs.items()]

    def lens(self, model: str, dataset: str) -> list[Named]:
        readout = key_of(self._readout(model))
        keys = self._activation_keys(model, dataset)
        return [
            self._named("lens", model, dataset, tag, lens_spec(key, readout), ".nc")
            for tag, key in keys.items()
        ]

    def vectors(self, model: str, dataset: str) -> Named:
        return self._named("vectors", model, dataset, "all", self._vectors(model, dataset), ".nc")

    def steered(self, model: str, fitted: str, dataset: str) -> list[Named]:
        slice_ = self.slices.steered(model, fitted, dataset)
        keys = self._activation_keys(model, dataset)
        vectors = key_of(self._vectors(model, fitted))
        pivot, place = keys[self.study.pivot], f"{fitted}.{dataset}"
        return [
            self._named(
                "steered",
                model,
                place,
                tag,
                steered_spec(slice_, vectors, keys[tag], pivot, tag),
                ".nc",
            )
            for tag in slice_["languages"]
        ]

    def _readout(self, model: str) -> dict[str, Any]:
        return readout_spec(self.slices.readout(model))

    def _vectors(self, model: str, dataset: str) -> dict[str, Any]:
        slice_ = self.slices.vectors(model, dataset)
        keys = self._activation_keys(model, dataset)
        return vectors_spec(keys, slice_["folds"], slice_["steering"])

    def _activations(self, model: str, dataset: str) -> dict[str, dict[str, Any]]:
        slice_, digests = self.slices.extraction(model, dataset), self._digests(dataset)
        return {tag: activation_spec(slice_, digests, tag) for tag in digests}

    def _keys(self, model: str, dataset: str) -> dict[str, str]:
        return keys_of(self._activation_specs(model, dataset))

    def _read_questions(self, dataset: str) -> dict[str, str]:
        languages = self.study.languages_of(dataset)
        return load_dataset(self.slices.questions(dataset), languages, dataset).digests()

    def _named(
        self, stage: str, model: str, dataset: str, language: str, spec: Any, suffix: str
    ) -> Named:
        name = artifact_name(stage, model, dataset, language, spec, suffix)
        return Named(stage, model, dataset, language, name)
