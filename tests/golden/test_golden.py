"""Numbers must not change unseen: stores name artifacts by versions, not by code.

A tiny Gemma 3 with seeded weights answers four questions in two languages; what extraction,
lens, vectors and steering give is summed up in golden.json. Where a change of the numbers is
meant, raise the stage's version and write the file anew:

    ISOGLOSS_WRITE_GOLDEN=1 pytest tests/golden
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from isogloss.extraction.extract import extract_languages, language_extraction
from isogloss.files.activation_file import open_activations, open_scores
from isogloss.files.canonical import key_of
from isogloss.files.hdf5 import verify_hdf5
from isogloss.model.decoder import Decoder
from isogloss.model.logit_lens import lens_of_file
from isogloss.model.tiny_models import tiny_model
from isogloss.questions.items import ParallelItems
from isogloss.questions.local_files import load_files
from isogloss.steering.evaluate import steered_languages
from isogloss.steering.vectors import vectors_of_files
from isogloss.versions import EXTRACTION_VERSION, LENS_VERSION, STEERING_VERSION, VECTORS_VERSION

HERE = Path(__file__).parent
GOLDEN = HERE / "golden.json"
LANGUAGES = ("en", "de")
METHODS = ("mean_difference", "shared_projection", "linear_map")
# In the order in which they feed one another: a change in one shows in all that follow.
VERSIONS = {
    "extraction": ("EXTRACTION_VERSION", EXTRACTION_VERSION),
    "lens": ("LENS_VERSION", LENS_VERSION),
    "vectors": ("VECTORS_VERSION", VECTORS_VERSION),
    "steered": ("STEERING_VERSION", STEERING_VERSION),
}
TOLERANCE = 1e-3
TEMPLATE = "{context}\nQ: {question}\nA:"
REWRITE = "ISOGLOSS_WRITE_GOLDEN=1 pytest tests/golden"


def seeded_model() -> Decoder:
    """A tiny Gemma 3 whose weights depend on no library's way to initialise."""
    decoder = tiny_model("gemma3")
    rng = np.random.default_rng(0)
    for _, weight in sorted(decoder.model.named_parameters(), key=lambda pair: pair[0]):
        weight.copy_(torch.from_numpy(0.3 * rng.standard_normal(weight.shape)))
    return decoder


def summary(values: Any) -> list[float]:
    """Mean, spread, and one weighted sum that notices order, of all that is not NaN."""
    flat = np.asarray(values, dtype=float).ravel()
    flat = flat[~np.isnan(flat)]
    weights = np.cos(np.arange(len(flat)))
    return [round(float(v), 6) for v in (flat.mean(), flat.std(), (flat * weights).mean())]


def extracted(decoder: Decoder, items: ParallelItems, folder: Path) -> dict[str, Path]:
    """The activation file of each language, as `extract` makes it."""
    specs = {
        tag: {
            "model": "golden", "dtype": "float32", "dataset": "golden", "language": tag,
            "pivot": "en", "control": None, "lens_layers": [0.0, 0.5, 1.0],
            "prompt": {"mode": "raw", "template": TEMPLATE, "shots": 0, "truncate": False},
            "scores": {"pmi": True, "letters": True}, "extraction_version": EXTRACTION_VERSION,
        }
        for tag in LANGUAGES
    }  # fmt: skip
    files = {tag: folder / f"{key_of(spec)}.h5" for tag, spec in specs.items()}
    languages = {
        tag: language_extraction(decoder, items, specs[tag], path) for tag, path in files.items()
    }
    finished: list[str] = []
    extract_languages(decoder, languages, 256, {}, finished.append, lambda: decoder)
    assert finished == list(LANGUAGES)
    for path in files.values():
        verify_hdf5(path)
    return files


STEERING = {
    "methods": METHODS, "layers": (0.25, 0.75), "strengths": (0.5, 1.0), "random_draws": 2,
    "controls": ("random", "wrong_layer", "reverse", "zero"), "positions": "prompt",
}  # fmt: skip
FOLDS = {"folds": 4, "seed": 0, "split": None}
STEERED = {
    "slug": "golden", "name": "golden", "fitted": "golden", "pivot": "en", "score": "token",
    "prompt": {"mode": "raw", "templates": {"default": TEMPLATE}, "shots": 0, "truncate": False},
    "steering": STEERING, "folds": FOLDS,
}  # fmt: skip


def numbers(folder: Path) -> dict[str, dict[str, list[float]]]:
    """By stage and quantity, what the golden run gives now."""
    decoder, items = seeded_model(), load_files(HERE, LANGUAGES, "golden")
    files = extracted(decoder, items, folder)
    values: dict[str, dict[str, list[float]]] = {stage: {} for stage in VERSIONS}
    for tag, path in files.items():
        activations = open_activations(path)
        for name in ("prompt_mean", "prompt_last", "rows_state", "log_probability",
                     "unconditional", "letter", "phrase_tokens"):  # fmt: skip
            values["extraction"][f"{tag} {name}"] = summary(activations[name])
        lens = lens_of_file(path, decoder.readout)
        for name in ("log_probability", "first_token"):
            for layer in lens.layer.values:
                values["lens"][f"{tag} {name} {layer}"] = summary(lens[name].sel(layer=layer))
    paths = list(files.values())
    vectors = vectors_of_files(paths, "en", FOLDS, STEERING)
    for name in ("mean", "overall_mean", "basis_variance", "map_penalty"):
        values["vectors"][name] = summary(vectors[name])
    values["vectors"]["random"] = summary(np.abs(vectors["random"]))
    scores = open_scores(paths)
    ((_, steered),) = steered_languages(decoder, items, scores, vectors, STEERED, ["de"], 256)
    keys = zip(steered.role.values, steered.method.values, strict=True)
    for key in dict.fromkeys(keys):
        rows = (steered.role == key[0]) & (steered.method == key[1])
        values["steered"][" ".join(key)] = summary(steered.log_probability[rows.values])
    values["steered"]["norm_ratio"] = summary(steered.norm_ratio)
    for name in ("selected_layer", "selected_alpha"):
        values["steered"][name] = summary(steered[name])
    return values


def changes(golden: dict, computed: dict) -> Iterator[str]:
    """Quantities of one stage that are not what they were."""
    for name in sorted(golden.keys() | computed.keys()):
        old, new = golden.get(name), computed.get(name)
        if old is None or new is None or not np.allclose(old, new, TOLERANCE, TOLERANCE):
            yield f"{name}: {old} became {new}"


def judge(golden: dict, versions: dict, computed: dict) -> str:
    """What is wrong and what to do; empty where nothing is."""
    for stage, (name, version) in versions.items():
        old = golden["versions"][name]
        if old != version:
            return f"golden.json is of {name} {old}, this is {version}: write it anew: {REWRITE}"
        if changed := list(changes(golden["numbers"][stage], computed[stage])):
            return (
                f"{stage}: {len(changed)} numbers changed, but {name} is still {version}, so that "
                f"stores would mix old and new ones: raise {name} and write golden.json anew "
                f"({REWRITE}), or undo the change. First: {changed[0]}"
            )
    return ""


def test_numbers_change_only_with_a_new_version(tmp_path):
    computed = numbers(tmp_path)
    if os.environ.get("ISOGLOSS_WRITE_GOLDEN"):
        content = {"versions": dict(VERSIONS.values()), "numbers": computed}
        GOLDEN.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    message = judge(json.loads(GOLDEN.read_text(encoding="utf-8")), VERSIONS, computed)
    assert not message, message


@pytest.mark.parametrize("stage", VERSIONS)
def test_a_changed_number_asks_for_a_new_version_of_its_stage(stage):
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert judge(golden, VERSIONS, golden["numbers"]) == ""
    changed = json.loads(json.dumps(golden["numbers"]))
    first = next(iter(changed[stage]))
    changed[stage][first][0] += 0.1 + abs(changed[stage][first][0])
    assert f"raise {VERSIONS[stage][0]} and write" in judge(golden, VERSIONS, changed)
    raised = VERSIONS | {stage: (VERSIONS[stage][0], VERSIONS[stage][1] + 1)}
    assert f"golden.json is of {VERSIONS[stage][0]}" in judge(golden, raised, changed)


def test_a_quantity_that_is_gone_is_a_change():
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    less = json.loads(json.dumps(golden["numbers"]))
    name, _ = less["lens"].popitem()
    assert f"{name}: " in judge(golden, VERSIONS, less)
