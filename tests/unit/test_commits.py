"""What a branch of the hub stands for is part of every key; no network."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from huggingface_hub import HfApi, constants

from isogloss.errors import InputError
from isogloss.files import commits
from isogloss.files.atomic import write_json
from isogloss.files.commits import commit_of, marker
from isogloss.model.fetching import fetch
from isogloss.model.sources import ModelSource, folder_here, model_digest
from isogloss.study.keys import Artifacts
from isogloss.study.schema import validate
from isogloss.study.settings import Settings, check_weights

OLD, NEW = "0123456789" * 4, "f" * 40


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's own cache, empty, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(commits, "_unreachable", [])
    return tmp_path / "hub"


def moved(hub: Path, commit: str, name: str = "models--maker--tiny", branch: str = "main") -> None:
    """A branch at a commit, as the hub's client leaves it in its cache."""
    refs = hub / name / "refs"
    refs.mkdir(parents=True, exist_ok=True)
    (refs / branch).write_text(commit)
    folder = hub / name / "snapshots" / commit
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / file).write_text(commit)


def source(revision: str = "main") -> ModelSource:
    spec = {"source": "hub", "repo": "maker/tiny", "revision": revision}
    return ModelSource.from_spec("tiny", spec)


def settings(cache: Path, planning: bool = False, **datasets: Any) -> Settings:
    hub_model = {"source": "hub", "repo": "maker/tiny", "family": "f", "parameters": 1}
    quiz = {"source": "lexicon", "items": 30}
    content = {
        "languages": ["en", "de"],
        "models": {"tiny": hub_model | {"revision": "main"}},
        "datasets": datasets or {"quiz": quiz},
        "steering": None,
    }
    return Settings(validate(content, "study"), cache, planning=planning)


def test_a_branch_that_moved_gives_another_key_and_its_own_files(hub: Path, tmp_path: Path) -> None:
    by_commit = {}
    for name, commit in (("before", OLD), ("after", NEW)):
        moved(hub, commit)
        cache = tmp_path / name
        by_commit[name] = {a.name for a in Artifacts(settings(cache)).all()}
        assert model_digest(source(), cache) == f"maker/tiny@{commit}"
        assert settings(cache).readout("tiny")["model"]["revision"] == commit
        write_json({"folder": str(hub / "models--maker--tiny/snapshots" / commit)},
                   marker(cache, "maker/tiny", commit))  # fmt: skip
        assert (fetch(source(), cache) / "config.json").read_text() == commit
        assert folder_here(source(), cache) == fetch(source(), cache)
    assert not by_commit["before"] & by_commit["after"]


def test_a_study_goes_on_with_the_commit_that_it_began_with(hub: Path, tmp_path: Path) -> None:
    moved(hub, OLD)
    before = settings(tmp_path).activations("tiny", "quiz")
    moved(hub, NEW)
    assert settings(tmp_path).activations("tiny", "quiz") == before
    assert model_digest(source(NEW), tmp_path) == f"maker/tiny@{NEW}"


def test_a_marker_of_an_earlier_version_says_the_commit_of_its_snapshot(tmp_path: Path) -> None:
    write_json({"folder": f"/hub/snapshots/{OLD}"}, marker(tmp_path, "maker/tiny", "main"))
    assert model_digest(source(), tmp_path) == f"maker/tiny@{OLD}"


def test_without_a_network_a_study_is_planned_and_its_jobs_refuse(tmp_path: Path) -> None:
    message = (
        "models.tiny.revision: which commit maker/tiny@main stands for is not known here .*"
        "give the commit .40 hex digits., or run `snakemake --cores 1 download`"
    )
    with pytest.raises(InputError, match=message) as caught:
        settings(tmp_path).weights_of("tiny")
    assert "\n" not in str(caught.value)
    planned = settings(tmp_path, planning=True).readout("tiny")
    assert planned["model"]["revision"] == "main"
    assert planned["weights"] != "maker/tiny@main"  # a name under which earlier versions stored
    with pytest.raises(InputError, match=message):
        check_weights(planned, tmp_path)
    assert folder_here(source(), tmp_path) is None


def test_the_hub_is_asked_once_and_its_answer_remembered(tmp_path, monkeypatch, capsys) -> None:
    asked = []

    def repo_info(_: HfApi, repo: str, **about: Any) -> Any:
        asked.append((repo, about["repo_type"], about["revision"]))
        return SimpleNamespace(sha=OLD)

    monkeypatch.setattr(HfApi, "repo_info", repo_info)
    for _ in range(2):
        assert commit_of("maker/tiny", "v1", "model", tmp_path, "models.tiny.revision") == OLD
    assert asked == [("maker/tiny", "model", "v1")]
    assert f"models.tiny.revision: maker/tiny@v1 is the commit {OLD}" in capsys.readouterr().err
    assert commit_of("maker/tiny", None, "dataset", tmp_path, "datasets.quiz.revision") == OLD
    assert asked[1:] == [("maker/tiny", "dataset", "main")]


def test_who_cannot_be_reached_is_asked_once(tmp_path: Path, monkeypatch) -> None:
    asked = []

    def repo_info(_: HfApi, repo: str, **__: Any) -> None:
        asked.append(repo)
        raise ConnectionError("no network")

    monkeypatch.setattr(HfApi, "repo_info", repo_info)
    for repo in ("maker/tiny", "maker/large"):
        with pytest.raises(InputError, match=f"{repo}@main stands for is not .*no network"):
            commit_of(repo, "main", "model", tmp_path, "models.tiny.revision")
    assert asked == ["maker/tiny"]


def test_questions_of_a_branch_are_named_by_its_commit(hub: Path, tmp_path: Path) -> None:
    moved(hub, OLD, "datasets--maker--quiz")
    moved(hub, NEW, "datasets--maker--english", "v2")
    (tmp_path / "local").mkdir()
    quiz = {
        "source": "hub",
        "path": "maker/quiz",
        "configs": {
            "de": "German",
            "en": {"path": "maker/english", "config": "all", "revision": "v2"},
            "fr": {"path": "maker/nowhere", "config": "unread"},
        },
    }
    made = settings(tmp_path, quiz=quiz)
    spec = made.questions("quiz")
    assert spec["revision"] == OLD
    assert spec["configs"]["en"]["revision"] == NEW
    assert spec["configs"]["fr"] == {"path": "maker/nowhere", "config": "unread"}
    assert made.downloads()[0]["dataset"]["revision"] == OLD

    pinned = quiz | {"revision": NEW, "configs": {"de": "German", "en": "English"}}
    given = settings(tmp_path, quiz=pinned).questions("quiz")
    assert (given["revision"], given["configs"]) == (NEW, pinned["configs"])
    here = quiz | {"path": str(tmp_path / "local"), "configs": {"de": "German", "en": "English"}}
    assert "revision" not in settings(tmp_path, quiz=here).questions("quiz")


def test_a_bundle_names_the_commit(hub: Path, tmp_path: Path) -> None:
    from isogloss.store.handover import _config_text

    moved(hub, OLD)
    moved(hub, NEW, "datasets--maker--quiz")
    quiz = {"source": "hub", "path": "maker/quiz", "configs": {"en": "e", "de": "d"}}
    made = settings(tmp_path, quiz=quiz)
    study = SimpleNamespace(config=made.study, settings=made)
    content = yaml.safe_load(_config_text(study))
    assert content["models"]["tiny"]["revision"] == OLD
    assert content["datasets"]["quiz"]["revision"] == NEW
