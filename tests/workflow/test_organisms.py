"""Two organisms from nothing to their calibration: through the workflow of every other model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from tests.workflow.conftest import Study, copy_tree

import isogloss
from isogloss.errors import InputError
from isogloss.model.tensor_file import read_tensors

RECIPE = {"width": 16, "layers": 4, "steps": 80, "batch": 64, "learning_rate": 0.01}
STUDY = {
    "study": "organisms",
    "languages": ["qaa", "qab", "qac"],
    "pivot": "qaa",
    "world": {"entities": 20, "relations": 2, "objects": 6},
    "models": {
        f"s{sharing}": {
            "source": "organism", "family": f"sharing {sharing}",
            "organism": RECIPE | {"sharing": sharing},
        }
        for sharing in (0, 1)
    },
    # All facts, and so what an organism is asked while it is trained.
    "datasets": {"facts": {"source": "world", "items": 40}},
    "prompt": {"templates": {"default": "{question}"}},
    "extraction": {"control": ["qab", "qac"], "lens_layers": 0, "precision_items": 0},
    "similarity": {"permutations": 19, "map_permutations": 19},
    "subspaces": {"layers": 2, "permutations": 19},
    "steering": None,
    "measures": {"agreement": "agreement.py:agreement"},
}  # fmt: skip
AGREEMENT = "import numpy as np\n\n\ndef agreement(states):\n    return float(states.std())\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study up to its calibration."""
    study = replace(copy_tree(tmp_path_factory.mktemp("organisms") / "tree"), config=STUDY)
    (study.folder / "agreement.py").write_text(AGREEMENT, encoding="utf-8")
    study.run("results/organisms/calibration.nc")
    return study


def test_the_calibration_opens_in_a_notebook(
    trained: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOGLOSS_CACHE", str(trained.cache))
    monkeypatch.chdir(trained.folder)
    study = isogloss.open(trained.folder / trained.written())
    assert study.calibration()["model"].values.tolist() == ["s0", "s1"]
    with pytest.raises(InputError, match="ladder: the study has no organisms for one"):
        study.ladder()


def checkpoints(study: Study) -> list[Path]:
    return sorted((study.folder / "store/organisms").glob("*/*.safetensors"))


def test_planted_sharing_is_seen_by_the_measures_of_every_model(trained: Study) -> None:
    table = xr.load_dataset(trained.folder / "results/organisms/calibration.nc")
    apart = table["value"].sel(measure="dissociation").values
    assert apart[0] > 0.9 and apart[1] < 0.5
    assert bool(table["tracks"].sel(measure="dissociation"))
    assert np.isfinite(table["value"].sel(measure="agreement")).all()


def test_extraction_measures_what_was_measured_in_training(trained: Study) -> None:
    for path in checkpoints(trained):
        history = read_tensors(path, "organism")[1]["record"]["history"]
        folder = trained.folder / "results" / path.parent.name / "facts"
        similarity, behaviour = (
            xr.load_dataset(folder / f"{name}.nc") for name in ("similarity", "behaviour")
        )
        values = {
            "dissociation": similarity["dissociation"],
            "accuracy": behaviour["mean_accuracy"],
            "consistency": behaviour["mean_consistency"].sel(scope="all_pairs"),
        }
        for name, value in values.items():
            assert history[name][-1] == pytest.approx(float(value), abs=1e-3), name


def test_a_checkpoint_is_trained_once_and_another_recipe_is_another_one(trained: Study) -> None:
    target = "results/organisms/calibration.nc"
    assert not trained.plan(target)
    longer = {"organism": RECIPE | {"sharing": 0, "steps": 90}}
    plan = trained.changed(models={"s0": longer}).plan(target)
    assert plan["train"] == plan["extract"] == 1
    # Bare of what Snakemake compares, the store is enough.
    assert len(checkpoints(trained)) == 2
