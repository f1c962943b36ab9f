"""share.py beside real runs: a bundle in place of a model, a damaged file mended."""

import re
import shlex
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import xarray as xr
import yaml
from tests.workflow.conftest import MODEL, Study, copy_tree, write_questions

from isogloss.files.hdf5 import verify_hdf5

SHARE = "workflow_scripts/share.py"
RESULTS = [f"results/tiny/own/{name}.nc" for name in ("trajectories", "similarity", "steering_own")]


def test_an_imported_bundle_stands_in_for_the_model(
    copied: Callable[..., Study], tmp_path: Path
) -> None:
    author = copied()
    bundle = tmp_path / "small.zip"
    done = author.python(SHARE, "export", str(bundle), "--configfile", author.written())
    assert done.returncode == 0, done.stderr

    reader = copy_tree(tmp_path / "reader")
    write_questions(reader.folder / "questions", ["en", "de", "es"])
    with zipfile.ZipFile(bundle) as archive:
        config = yaml.safe_load(archive.read("small/data/config.yaml"))
    reader = Study(reader.folder, config)
    assert not (reader.folder / MODEL).exists()
    done = reader.python(SHARE, "import", str(bundle))
    assert done.returncode == 0, done.stderr
    imported = reader.artifacts()
    assert imported and set(imported) == set(author.artifacts())

    reader.run("--no-hooks", *RESULTS)
    assert reader.artifacts() == imported
    for name in RESULTS:
        with (
            xr.open_dataset(reader.folder / name) as old,
            xr.open_dataset(author.folder / name) as wanted,
        ):
            xr.testing.assert_equal(old, wanted)
    again = reader.python(SHARE, "import", str(bundle))
    assert again.stdout.startswith("0 artifacts imported"), again.stdout + again.stderr


def numbers(path: Path) -> dict[str, np.ndarray]:
    """Every array of numbers in an activation file."""
    old: dict[str, np.ndarray] = {}

    def add(name: str, entry: object) -> None:
        if isinstance(entry, h5py.Dataset) and entry.dtype.kind in "fiub":
            old[name] = entry[()]

    with h5py.File(path) as file:
        file.visititems(add)
    return old


def test_what_a_refusal_tells_to_set_aside_is_computed_again(copied: Callable[..., Study]) -> None:
    study = copied()
    behaviour = "results/tiny/own/behaviour.nc"
    (path,) = (study.folder / "store/activations/tiny/own/de").glob("*.h5")
    whole = path.read_bytes()
    values, others = numbers(path), study.artifacts()
    del others[str(path.relative_to(study.folder))]
    path.write_bytes(whole[: len(whole) // 2])

    refused = study.snakemake("--cores", "2", "--no-hooks", "--forcerun", "behaviour", behaviour)
    printed = re.search(rf"`python ({SHARE} set-aside \S+)`", refused.stderr)
    assert refused.returncode != 0 and printed, refused.stderr
    done = study.python(*shlex.split(printed[1]))
    assert done.returncode == 0, done.stderr
    assert not path.exists() and len(list((study.folder / "store/set-aside").rglob("*Z"))) == 1

    assert "extracting de\n" in study.run("--no-hooks", behaviour)
    verify_hdf5(path)
    for name, again in numbers(path).items():
        # Another batch, so other bits: the values agree.
        np.testing.assert_allclose(again, values[name], atol=1e-4, err_msg=name)
    assert others.items() <= study.artifacts().items()


def test_what_is_set_aside_is_made_again_where_all_results_are_there(
    copied: Callable[..., Study],
) -> None:
    study = copied()
    assert not study.plan()
    (path,) = (study.folder / "store/lens/tiny/own/de").glob("*.nc")
    done = study.python(SHARE, "set-aside", str(path.relative_to(study.folder)))
    assert done.returncode == 0, done.stderr
    assert study.plan()["lens"] == 1 and "extract" not in study.plan()


def test_a_study_without_its_model_prunes_nothing(copied: Callable[..., Study]) -> None:
    study = copied()
    done = study.python(SHARE, "list", "--configfile", study.written())
    assert done.returncode == 0 and "not named by the study" not in done.stdout, done.stdout
    shutil.rmtree(study.folder / MODEL)
    before = study.artifacts()
    done = study.python(SHARE, "prune", study.written(), "--delete")
    assert done.returncode == 1 and "nothing is pruned" in done.stderr
    assert study.artifacts() == before
