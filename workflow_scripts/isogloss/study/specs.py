"""What identifies an artifact: everything that its numbers depend on, and nothing else.

Device, library versions and batch sizes are no part of a key: float32 scores agree within 1e-4
whatever they are, those of narrower types within their rounding.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from isogloss.errors import InputError
from isogloss.files.canonical import key_of
from isogloss.model.sources import ModelSource, model_digest
from isogloss.questions.languages import separator
from isogloss.questions.prompts import PromptStyle, control_language
from isogloss.versions import EXTRACTION_VERSION, LENS_VERSION, STEERING_VERSION, VECTORS_VERSION


def prompt_style(spec: Mapping[str, Any]) -> PromptStyle:
    """The prompt style that a configuration describes."""
    return PromptStyle(spec["mode"], spec["templates"], spec["shots"], spec["truncate"])


def activation_spec(
    spec: Mapping[str, Any], digests: Mapping[str, str], language: str
) -> dict[str, Any]:
    """What one activation file is.

    Args:
        spec: the rule's slice: model, dataset, pivot, prompt, extraction.
        digests: of the items in each of the dataset's languages.
        language: of the prompts.
    """
    extraction = spec["extraction"]
    control = control_language(language, spec["pivot"], _candidates(spec, digests))
    latents = [t for t in dict.fromkeys((language, spec["pivot"], control)) if t is not None]
    prompt = dict(spec["prompt"])
    templates = prompt.pop("templates")
    return {
        "model": spec["weights"],
        "dtype": spec["model"]["dtype"],
        "attention": spec["model"]["attention"],
        "trust_remote_code": spec["model"]["trust_remote_code"],
        "dataset": spec["name"],
        "language": language,
        "pivot": spec["pivot"],
        "control": control,
        "items": {tag: digests[tag] for tag in latents},
        "separators": {tag: separator(tag) for tag in latents},
        "prompt": prompt | {"template": templates.get(language, templates["default"])},
        "scores": {"pmi": extraction["pmi"], "letters": extraction["letters"]},
        "lens_layers": extraction["lens_layers"],
        "pooling": "first position left out",
        "extraction_version": EXTRACTION_VERSION,
    }


def _candidates(spec: Mapping[str, Any], languages: Collection[str]) -> list[str]:
    return [tag for tag in spec["extraction"]["control"] if tag in languages]


def keys_of(specs: Mapping[str, Any]) -> dict[str, str]:
    """The keys of several specs, by the same names."""
    return {name: key_of(spec) for name, spec in specs.items()}


def readout_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What one readout is; where the model's files lie is no part of it."""
    wanted = ("dtype", "trust_remote_code")
    return {
        "model": spec["weights"],
        "loaded": {name: spec["model"][name] for name in wanted},
        "readout_version": spec["version"],
    }


def lens_spec(activation_key: str, readout_key: str) -> dict[str, Any]:
    """What one lens file is."""
    return {"activations": activation_key, "readout": readout_key, "lens_version": LENS_VERSION}


def vectors_spec(
    activation_keys: Mapping[str, str], folds: Mapping[str, int], steering: Mapping[str, Any]
) -> dict[str, Any]:
    """What a file of steering vectors is."""
    return {
        "activations": dict(activation_keys),
        "folds": dict(folds),
        "methods": list(steering["methods"]),
        "layers": list(steering["layers"]),
        "random_draws": steering["random_draws"],
        "vectors_version": VECTORS_VERSION,
    }


def steered_spec(
    spec: Mapping[str, Any], vectors_key: str, activation_key: str, pivot_key: str, language: str
) -> dict[str, Any]:
    """What one file of steered scores is."""
    wanted = ("methods", "layers", "strengths", "positions", "controls", "random_draws")
    return {
        "language": language,
        "vectors": vectors_key,
        "activations": activation_key,
        "pivot_activations": pivot_key,
        "score": spec["score"],
        "folds": dict(spec["folds"]),
        "steering": {name: spec["steering"][name] for name in wanted},
        "steering_version": STEERING_VERSION,
    }


def source_of(spec: Mapping[str, Any]) -> ModelSource:
    """The model of a rule's slice."""
    return ModelSource.from_spec(spec["slug"], spec["model"])


def check_weights(spec: Mapping[str, Any], cache: Path) -> None:
    """Refuse a local model that has changed since the jobs were planned: keys would be wrong.

    Raises:
        InputError: the weights are others than those of the rule's slice.
    """
    if model_digest(source_of(spec), cache) != spec["weights"]:
        raise InputError(
            f"models.{spec['slug']}: its files have changed since this run was planned: run again"
        )
