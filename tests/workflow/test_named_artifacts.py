"""What a study names, known from its settings, is what its jobs write."""

from tests.workflow.conftest import Study

from isogloss.study.keys import STAGES, Artifacts, parse_name
from isogloss.study.schema import validate
from isogloss.study.settings import Settings


def test_the_artifacts_named_are_those_that_a_run_leaves_in_the_store(
    finished: Study, monkeypatch
) -> None:
    monkeypatch.chdir(finished.folder)
    study = validate(dict(finished.config or {}))
    artifacts = list(Artifacts(Settings(study, finished.cache)).all())
    store = finished.folder / "store"
    suffixes = {stage.suffix for stage in STAGES.values()}
    files = {str(path.relative_to(store)) for path in store.rglob("*") if path.suffix in suffixes}
    assert {artifact.name for artifact in artifacts} == files and len(files) > 10
    assert [parse_name(artifact.name) for artifact in artifacts] == artifacts


def test_the_manifests_named_are_those_that_a_run_leaves_in_the_store(
    finished: Study, monkeypatch
) -> None:
    monkeypatch.chdir(finished.folder)
    settings = Settings(validate(dict(finished.config or {})), finished.cache)
    names = set(settings.manifests())
    store = finished.folder / "store"
    files = {str(path.relative_to(store)) for path in store.glob("manifests/*/*/*.json")}
    assert names == files and len(files) > 4
