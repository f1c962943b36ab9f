"""What a study names, known from its settings, is what its jobs write."""

from tests.workflow.conftest import Study

from isogloss.model.sources import ModelSource, model_digest
from isogloss.study.keys import Inventory
from isogloss.study.schema import validate
from isogloss.study.settings import Slices


def test_the_inventory_is_what_a_run_leaves_in_the_store(finished: Study, monkeypatch) -> None:
    monkeypatch.chdir(finished.folder)
    study = validate(dict(finished.config or {}))

    def weights_of(slug: str) -> str:
        spec = study.models[slug].model_dump(mode="json", exclude_none=True)
        return model_digest(ModelSource.from_spec(slug, spec), finished.cache)

    named = {artifact.name for artifact in Inventory(Slices(study, weights_of)).all()}
    store = finished.folder / "store"
    found = {
        str(path.relative_to(store))
        for path in store.rglob("*")
        if path.is_file() and path.suffix in (".h5", ".nc", ".safetensors")
    }
    assert named == found and len(named) > 10
