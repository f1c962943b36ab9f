"""Keys: what identifies every artifact of a study, known before any model runs.

    settings, digests of the questions -> identity -> key -> name of the artifact in a store

An *identity* holds everything that an artifact's numbers depend on, and nothing else; its SHA-256
is the *key*. Device, library versions and batch sizes are no part of it: float32 scores agree
within 1e-4 whatever they are, those of narrower types within their rounding. Which settings a
stage has, and the manifest that lists its artifacts, is in `isogloss.study.settings`.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from isogloss.files.canonical import key_of
from isogloss.questions.datasets import load_dataset
from isogloss.questions.items import ParallelItems
from isogloss.questions.languages import separator
from isogloss.questions.prompts import control_language, other_partners
from isogloss.study.settings import Settings, prompt_style
from isogloss.versions import EXTRACTION_VERSION, LENS_VERSION, STEERING_VERSION, VECTORS_VERSION


@dataclass(frozen=True)
class Stage:
    """A stage that costs a model: the rule that makes its artifacts, and how they are named."""

    rule: str
    folder: str
    suffix: str


STAGES = {
    "organism": Stage("train", "organisms", ".safetensors"),
    "readout": Stage("readout", "readouts", ".safetensors"),
    "activations": Stage("extract", "activations", ".h5"),
    "lens": Stage("lens", "lens", ".nc"),
    "vectors": Stage("vectors", "vectors", ".nc"),
    "steered": Stage("steer", "steered", ".nc"),
}
"""In the order in which they feed one another. Organisms and readouts are of a model alone, vectors
are of `all` languages, and the dataset of steered scores is `<vectors' dataset>.<evaluated
dataset>`."""

OF_A_MODEL = ("organism", "readout")
_SLUG, _TAG, _KEY = r"[a-z0-9][a-z0-9._-]*", r"[A-Za-z0-9-]+", r"[0-9a-f]{64}"
_NAMES = {
    name: re.compile(
        rf"{stage.folder}/(?P<model>{_SLUG})"
        + ("" if name in OF_A_MODEL else rf"/(?P<dataset>{_SLUG})/(?P<language>{_TAG})")
        + rf"/(?P<key>{_KEY}){re.escape(stage.suffix)}"
    )
    for name, stage in STAGES.items()
}


@dataclass(frozen=True)
class Artifact:
    """A file of a store: what made it, for what, and its key.

    Attributes:
        stage: of `STAGES`.
        dataset, language: empty for what is of a model alone.
    """

    stage: str
    model: str
    dataset: str
    language: str
    key: str

    @property
    def name(self) -> str:
        """Where it lies in a store: `<folder>/<model>/<dataset>/<language>/<key><suffix>`."""
        stage = STAGES[self.stage]
        parts = (stage.folder, self.model, self.dataset, self.language, self.key)
        return "/".join(filter(None, parts)) + stage.suffix


def artifact_name(
    stage: str, model: str, dataset: str, language: str, identity: Mapping[str, Any]
) -> str:
    """Where the artifact of an identity lies in a store."""
    return Artifact(stage, model, dataset, language, key_of(identity)).name


def parse_name(name: str) -> Artifact | None:
    """What an artifact's name says; None where it is no artifact's name.

    No such name is absolute or leads out of its store.

    >>> parse_name("lens/tiny/cities/de/" + "0" * 64 + ".nc").language
    'de'
    >>> parse_name("../lens/tiny/cities/de/" + "0" * 64 + ".nc")
    """
    for stage, pattern in _NAMES.items():
        if match := pattern.fullmatch(name):
            parts = {"dataset": "", "language": ""} | match.groupdict()
            return Artifact(stage, **parts)
    return None


def readout_identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a readout is; where the model's files lie is no part of it."""
    return {
        "model": settings["weights"],
        "loaded": {name: settings["model"][name] for name in ("dtype", "trust_remote_code")},
        "readout_version": settings["version"],
    }


def activation_identity(
    settings: Mapping[str, Any],
    digests: Mapping[str, str],
    language: str,
    repartnered: Collection[str] = (),
) -> dict[str, Any]:
    """What an activation file is.

    Args:
        settings: of the stage: model, dataset, pivot, prompt, extraction.
        digests: of the items in each of the dataset's languages.
        language: of the prompts.
        repartnered: languages whose mismatched phrases clusters alone do not say
            (`other_partners`): once they did, all other files have their names.
    """
    extraction, pivot = settings["extraction"], settings["pivot"]
    known = [tag for tag in extraction["control"] if tag in digests]
    alone = not extraction.get("latents", True)
    control = None if alone else control_language(language, pivot, known)
    latents = [t for t in dict.fromkeys((language, pivot, control)) if t is not None]
    prompt = dict(settings["prompt"])
    templates = prompt.pop("templates")
    return {
        "model": settings["weights"],
        "dtype": settings["model"]["dtype"],
        "attention": settings["model"]["attention"],
        "trust_remote_code": settings["model"]["trust_remote_code"],
        "dataset": settings["name"],
        "language": language,
        "pivot": pivot,
        "control": control,
        "items": {tag: digests[tag] for tag in latents},
        "separators": {tag: separator(tag) for tag in latents},
        "prompt": prompt | {"template": templates.get(language, templates["default"])},
        "scores": {"pmi": extraction["pmi"], "letters": extraction["letters"]},
        "lens_layers": extraction["lens_layers"],
        "pooling": "first position left out",
        "extraction_version": EXTRACTION_VERSION,
        **({"latents": False} if alone else {}),
        **({"mismatched": "another right choice"} if language in repartnered and not alone else {}),
        **({"rows": "none"} if extraction.get("rows") == "none" else {}),
    }


def lens_identity(activation_key: str, readout_key: str) -> dict[str, Any]:
    """What a lens file is."""
    return {"activations": activation_key, "readout": readout_key, "lens_version": LENS_VERSION}


def vectors_identity(
    activation_keys: Mapping[str, str], folds: Mapping[str, int], steering: Mapping[str, Any]
) -> dict[str, Any]:
    """What a file of steering vectors is.

    Args:
        activation_keys: by language.
        folds, steering: of the stage's settings.
    """
    return {
        "activations": dict(activation_keys),
        "folds": dict(folds),
        "methods": list(steering["methods"]),
        "layers": list(steering["layers"]),
        "random_draws": steering["random_draws"],
        "vectors_version": VECTORS_VERSION,
    }


def steered_identity(
    settings: Mapping[str, Any],
    vectors_key: str,
    activation_key: str,
    pivot_key: str,
    language: str,
) -> dict[str, Any]:
    """What a file of steered scores is."""
    searched = {"controls_search": True} if settings["steering"].get("controls_search") else {}
    needed = ("methods", "layers", "strengths", "positions", "controls", "random_draws")
    return {
        "language": language,
        "vectors": vectors_key,
        "activations": activation_key,
        "pivot_activations": pivot_key,
        "score": settings["score"],
        "folds": dict(settings["folds"]),
        "steering": {name: settings["steering"][name] for name in needed} | searched,
        "steering_version": STEERING_VERSION,
    }


class Artifacts:
    """The artifacts of one study, by stage.

    Questions are read once, when they are asked for, and only their digests and what their keys
    say of them are kept: those of a hundred languages are gigabytes.

    Raises:
        InputError: by every method, where questions or a model's digest cannot be had.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.study = settings, settings.study
        self._digests_of: dict[str, dict[str, str]] = {}
        self._repartnered: dict[str, set[str]] = {}
        self._activation_keys = cache(self._keys_of_activations)

    def all(self) -> Iterator[Artifact]:
        """Every artifact of the study."""
        for model in self.study.models:
            if self.study.models[model].organism:
                yield self.organism(model)
            if self.study.with_lens:
                yield self.readout(model)
            for dataset in self.study.datasets:
                yield from self.activations(model, dataset)
                for variant in self.study.variants_of(dataset):
                    yield from self.activations(model, dataset, variant)
                if self.study.with_lens and dataset in self.study.questions:
                    yield from self.lens(model, dataset)
            for dataset in self.study.vectors_of:
                yield self.vectors(model, dataset)
            for fitted, dataset in self.study.steered_pairs:
                yield from self.steered(model, fitted, dataset)

    def organism(self, model: str) -> Artifact:
        return Artifact("organism", model, "", "", self.settings.weights_of(model))

    def readout(self, model: str) -> Artifact:
        identity = readout_identity(self.settings.readout(model))
        return Artifact("readout", model, "", "", key_of(identity))

    def activations(self, model: str, dataset: str, variant: str | None = None) -> list[Artifact]:
        """Files of the main wording, or of a variant."""
        keys = self._activation_keys(model, dataset, variant)
        return [Artifact("activations", model, dataset, tag, key) for tag, key in keys.items()]

    def lens(self, model: str, dataset: str) -> list[Artifact]:
        readout = self.readout(model).key
        return [
            Artifact("lens", model, dataset, tag, key_of(lens_identity(key, readout)))
            for tag, key in self._activation_keys(model, dataset).items()
        ]

    def vectors(self, model: str, dataset: str) -> Artifact:
        settings = self.settings.vectors(model, dataset)
        keys = self._activation_keys(model, dataset)
        identity = vectors_identity(keys, settings["folds"], settings["steering"])
        return Artifact("vectors", model, dataset, "all", key_of(identity))

    def steered(self, model: str, fitted: str, dataset: str) -> list[Artifact]:
        settings = self.settings.steered(model, fitted, dataset)
        vectors, keys = self.vectors(model, fitted).key, self._activation_keys(model, dataset)
        pivot = keys[self.study.pivot]
        identities = {
            tag: steered_identity(settings, vectors, keys[tag], pivot, tag)
            for tag in settings["languages"]
        }
        place = f"{fitted}.{dataset}"
        return [Artifact("steered", model, place, t, key_of(i)) for t, i in identities.items()]

    def _keys_of_activations(
        self, model: str, dataset: str, variant: str | None = None
    ) -> dict[str, str]:
        settings = self.settings.activations(model, dataset, variant)
        digests = self._digests(dataset)
        repartnered = self._repartnered[dataset]
        return {
            tag: key_of(activation_identity(settings, digests, tag, repartnered)) for tag in digests
        }

    def know(self, dataset: str, items: ParallelItems) -> None:
        """Take a dataset's questions from who has read them."""
        style = prompt_style(self.settings.prompt(dataset))
        self._repartnered[dataset] = other_partners(items, style, self.study.pivot)
        self._digests_of[dataset] = items.digests()

    def _digests(self, dataset: str) -> dict[str, str]:
        if dataset not in self._digests_of:
            languages = self.study.languages_of(dataset)
            self.know(dataset, load_dataset(self.settings.questions(dataset), languages, dataset))
        return self._digests_of[dataset]
