"""A study whose artifacts exist without a model ever having run: real keys, made-up numbers."""

import json
from pathlib import Path

import numpy as np
import xarray as xr
import yaml

from isogloss.files.canonical import canonical_json
from isogloss.files.netcdf import write_artifact
from isogloss.model.readout import write_readout
from isogloss.model.tiny_models import tiny_model
from isogloss.questions.datasets import load_dataset
from isogloss.study.keys import Artifacts, activation_identity, lens_identity, readout_identity
from isogloss.study.study import Study

CONFIG = {
    "study": "stored",
    "languages": ["en", "de"],
    "models": {
        "tiny": {
            "source": "path", "path": "models/tiny", "sha256": "a" * 64, "family": "tiny",
            "parameters": 1000, "licence": "MIT", "dtype": "float32",
        }
    },
    "datasets": {"own": {"source": "jsonl", "path": "questions", "licence": "CC0-1.0"}},
    "extraction": {"control": [], "lens_layers": "all"},
    "steering": None,
}  # fmt: skip


def write_config(folder: Path, name: str = "config/config.yaml", **changes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**CONFIG, **changes}), encoding="utf-8")
    return path


def write_questions(folder: Path, question: str = "what") -> None:
    (folder / "questions").mkdir(parents=True, exist_ok=True)
    for tag in CONFIG["languages"]:
        lines = [
            {"item_id": f"q{i}", "question": f"{question} {i}?", "choices": [f"{tag}{i}", "no"],
             "answer": 0}
            for i in range(12)
        ]  # fmt: skip
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"questions/{tag}.jsonl").write_text(text, encoding="utf-8")


def labelled(value: float) -> xr.Dataset:
    about = {"long_name": "made up", "units": "1"}
    return xr.Dataset({"a": ("x", np.full(500, value), about)})


def fill(study: Study) -> list[str]:
    """Write every artifact of a study into its store; their names."""
    settings, artifacts = study.settings, Artifacts(study.settings)
    readout = artifacts.readout("tiny")
    (study.store / readout.name).parent.mkdir(parents=True)
    identity = readout_identity(settings.readout("tiny"))
    write_readout(tiny_model("llama"), study.store / readout.name, identity)
    questions = load_dataset(settings.questions("own"), CONFIG["languages"], "own").digests()
    record = {"licence": {"model": "MIT", "data": "CC0-1.0"}, "versions": {"torch": "2.0"}}
    both = zip(artifacts.activations("tiny", "own"), artifacts.lens("tiny", "own"), strict=True)
    for number, (activations, lens) in enumerate(both):
        data = labelled(number).assign_attrs(record=canonical_json(record))
        of = settings.activations("tiny", "own"), questions, activations.language
        write_artifact(data, study.store / activations.name, activation_identity(*of))
        identity = lens_identity(activations.key, readout.key)
        write_artifact(labelled(number + 0.5), study.store / lens.name, identity)
    return [artifact.name for artifact in artifacts.all()]
