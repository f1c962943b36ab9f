"""However many languages there are to extract, one job loads the model once for all of them."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from tests.benchmarks.large_study import settings, tags, write_data
from tests.workflow.conftest import ROOT

from isogloss.extraction import extract as extraction
from isogloss.files.canonical import canonical_json
from isogloss.model.sources import ModelSource
from isogloss.model.tiny_models import save_tiny_model
from isogloss.study.schema import validate
from isogloss.study.settings import Settings


def test_sixteen_languages_load_a_model_once_and_another_one_computes_that_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_tiny_model(tmp_path / "tiny", "gemma3")
    write_data(tmp_path, validate(study(16)), tags(17), items=4)
    loaded: list[str] = []

    def load(source: ModelSource, *arguments: Any) -> Any:
        loaded.append(source.dtype)
        return original(source, *arguments)

    original = extraction.load
    monkeypatch.setattr(extraction, "load", load)

    first = extract(16, monkeypatch)
    assert len(first) == 16 and loaded == ["float32"]
    second = extract(17, monkeypatch)
    assert first.items() <= second.items() and loaded == ["float32"] * 2
    assert [Path(name).parent.name for name in second.keys() - first.keys()] == [tags(17)[-1]]
    assert extract(17, monkeypatch) == second and len(loaded) == 2


def study(languages: int) -> dict[str, Any]:
    """A tiny model on one dataset in so many languages."""
    content = settings(1, 1, tags(languages)) | {"steering": None}
    local = {"source": "path", "path": "tiny", "family": "tiny", "parameters": 1}
    return content | {"models": {"tiny": local | {"dtype": "float32"}}}


def extract(languages: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, int]]:
    """Run the job that extracts; inode and time of every artifact afterwards, by name."""
    config = validate(study(languages))

    (dataset,) = config.datasets
    spec = canonical_json(Settings(config, Path("cache")).activations("tiny", dataset))
    options = ["--store", "store", "--cache", "cache", "--device", "cpu", "--output", "made.json"]
    monkeypatch.setattr("sys.argv", ["extract.py", "--spec", spec, *options])
    runpy.run_path(str(ROOT / "workflow_scripts/extract.py"), run_name="imported")["main"]()
    listed = json.loads(Path("made.json").read_text(encoding="utf-8"))["artifacts"]
    assert len(listed) == languages
    stats = {name: Path(name).stat() for name in map(str, Path("store").rglob("*.h5"))}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}
