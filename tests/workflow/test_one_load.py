"""However many languages there are to extract, one job loads the model once for all of them."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from tests.benchmarks.large_study import settings, tags, write_data
from tests.workflow.conftest import ROOT

from isogloss.errors import InputError
from isogloss.extraction import extract as extraction
from isogloss.extraction.parts import Part
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


def test_jobs_that_share_the_languages_compute_each_once_and_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_tiny_model(tmp_path / "tiny", "gemma3")
    write_data(tmp_path, validate(study(5)), tags(5), items=4)
    with pytest.raises(InputError, match="left out en de es id sw"):
        extract(5, monkeypatch, "--gather")
    first = extract(3, monkeypatch, "--part=1-of-2", of=5)
    assert {Path(name).parent.name for name in first} == set(tags(5)[::2])
    both = extract(2, monkeypatch, "--part=2-of-2", of=5)
    assert first.items() < both.items() and len(both) == 5
    assert extract(5, monkeypatch, "--gather") == both == extract(5, monkeypatch)


def test_jobs_that_share_the_languages_take_different_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    free = [80 << 30, 80 << 30, 80 << 30]
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(free))
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda n: (free[n], 80 << 30))
    assert [Part(n, 3).gpu("auto") for n in (1, 2, 3)] == ["cuda:0", "cuda:1", "cuda:2"]
    free[1] = 10 << 30  # another job's model is there
    assert Part(2, 3).gpu("cuda") == "cuda:2"
    assert Part(2, 3).gpu("cpu") == "cpu" and Part(2, 3).gpu("cuda:1") == "cuda:1"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert Part(2, 3).gpu("auto") == "auto"


def test_a_part_that_is_none_is_refused() -> None:
    for text in ("3-of-2", "0-of-2", "1of2", ""):
        with pytest.raises(InputError, match="write 1-of-4"):
            Part.parsed(text)


def study(languages: int) -> dict[str, Any]:
    """A tiny model on one dataset in so many languages."""
    content = settings(1, 1, tags(languages)) | {"steering": None}
    local = {"source": "path", "path": "tiny", "family": "tiny", "parameters": 1}
    return content | {"models": {"tiny": local | {"dtype": "float32"}}}


def extract(
    languages: int, monkeypatch: pytest.MonkeyPatch, *options: str, of: int | None = None
) -> dict[str, tuple[int, int]]:
    """Run the job that extracts some of the languages; inode and time of their files, by name."""
    config = validate(study(of or languages))

    (dataset,) = config.datasets
    spec = canonical_json(Settings(config, Path("cache")).activations("tiny", dataset))
    machine = ["--store", "store", "--cache", "cache", "--device", "cpu", "--output", "made.json"]
    monkeypatch.setattr("sys.argv", ["extract.py", "--spec", spec, *machine, *options])
    runpy.run_path(str(ROOT / "workflow_scripts/extract.py"), run_name="imported")["main"]()
    listed = json.loads(Path("made.json").read_text(encoding="utf-8"))["artifacts"]
    assert len(listed) == languages
    stats = {name: Path(name).stat() for name in map(str, Path("store").rglob("*.h5"))}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}
