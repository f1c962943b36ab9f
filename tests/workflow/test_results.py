"""The front door: what a notebook gets of a finished study, from any folder."""

import builtins
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from tests.workflow.conftest import ROOT, SMALL, Study

import isogloss as iso
from isogloss.errors import InputError
from isogloss.files.netcdf import computed_from, open_netcdf, store_name
from isogloss.results import StudyResults
from isogloss.samples import samples


@pytest.fixture
def study(finished: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyResults:
    """The finished study, opened from a folder that has nothing to do with it."""
    monkeypatch.setenv("ISOGLOSS_CACHE", str(finished.cache))
    monkeypatch.chdir(tmp_path)
    return iso.open(finished.folder / "results")


@pytest.mark.parametrize("name", ["behaviour", "trajectories", "similarity", "subspaces"])
def test_a_result_is_the_file_of_the_study(study: StudyResults, finished: Study, name: str) -> None:
    table = getattr(study, name)("tiny", "own")
    with xr.open_dataset(finished.folder / f"results/tiny/own/{name}.nc") as stored:
        xr.testing.assert_identical(table.drop_vars("category", errors="ignore"), stored)
    assert list(table["language"].values) == SMALL["languages"]


def test_effects_and_scale_are_the_files_of_the_study(study: StudyResults, finished: Study) -> None:
    folder = finished.folder / "results"
    with xr.open_dataset(folder / "tiny/own/steering_own.nc") as stored:
        xr.testing.assert_identical(study.steering("tiny", "own"), stored)
        xr.testing.assert_identical(study.steering("tiny", "own", fitted="own"), stored)
    with xr.open_dataset(folder / "scale/lexicon.nc") as stored:
        xr.testing.assert_identical(study.scale("lexicon"), stored)
    with xr.open_dataset(folder / "verdicts.nc") as stored:
        xr.testing.assert_identical(study.verdicts(), stored)


def test_items_are_found_by_their_ids_and_have_their_categories(
    study: StudyResults, finished: Study
) -> None:
    lines = (finished.folder / "questions/de.jsonl").read_text("utf-8").splitlines()
    items = {item["item_id"]: item for item in map(json.loads, lines)}
    states = study.activations("tiny", "own", "de")
    for table in (states, study.lens("tiny", "own", "de"), study.behaviour("tiny", "own")):
        for name, item in items.items():
            assert table.sel(item=name).category == item["category"]
    assert states.language == "de"
    assert [int(states.answer.sel(item=name)) for name in items] == [
        item["answer"] for item in items.values()
    ]


def test_states_are_read_a_layer_at_a_time(study: StudyResults) -> None:
    states = study.activations("tiny", "own", "es").prompt_mean
    layer = states.sel(layer=2)
    assert layer.dims == ("item", "feature") and layer.dtype == np.float32
    assert np.isfinite(layer).all() and (layer != states.sel(layer=3)).any()


def test_vectors_and_steered_scores_open_too(study: StudyResults) -> None:
    assert {"mean", "basis", "random"} <= set(study.vectors("tiny", "own"))
    assert "cause-01" in study.steered("tiny", "own", "de")["item"]


def test_a_file_of_another_key_is_never_taken(
    copied: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changing a setting names other files, though the old ones lie there still."""
    study = copied(prompt={"templates": {"default": "{question}"}})
    monkeypatch.setenv("ISOGLOSS_CACHE", str(study.cache))
    opened = iso.open(study.folder / study.written())
    with pytest.raises(InputError, match=r"not computed yet: run `snakemake .*manifests/tiny/own"):
        opened.activations("tiny", "own", "de")
    old = iso.open(study.folder / "results").activations("tiny", "own", "de")
    before = next((study.folder / "store/activations/tiny/own/de").iterdir())
    assert old.attrs["key"] == before.stem


def test_results_under_other_settings_are_refused(
    copied: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = copied(statistics={"confidence": 0.9})
    monkeypatch.setenv("ISOGLOSS_CACHE", str(study.cache))
    opened = iso.open(study.folder / study.written())
    command = f"snakemake --cores all results/tiny/own/behaviour.nc --configfile {study.written()}"
    with pytest.raises(InputError, match=f"computed under other settings .* run `{command}`"):
        opened.behaviour("tiny", "own")
    assert opened.subspaces("tiny", "own").sizes["layer"] == 5  # its settings are the same


def all_results(study: StudyResults) -> dict[str, Callable[[], xr.Dataset]]:
    """Every result of the small study, not opened yet."""
    names = ["behaviour", "breakdown", "similarity", "subspaces", "trajectories", "pivots"]
    about = {name: ("tiny", "own") for name in [*names, "steering"]}
    about |= {"scale": ("own",), "verdicts": ()}
    return {name: partial(getattr(study, name), *given) for name, given in about.items()}


def refused(study: StudyResults) -> set[str]:
    """The results that were computed under other settings."""
    found = set()
    for name, opened in all_results(study).items():
        try:
            opened()
        except InputError as error:
            assert "computed under other settings" in str(error)
            found.add(name)
    return found


@pytest.mark.parametrize(
    ("changes", "others"),
    [
        ({}, set()),
        ({"steering": {"strengths": [4.0]}}, {"steering", "breakdown", "verdicts"}),
        ({"extraction": {"pmi": True}}, "all"),
        ({"models": {"tiny": {"dtype": "bfloat16"}}}, "all"),
    ],
)
def test_results_of_another_extraction_are_refused(
    copied: Callable[..., Study],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    others: set[str] | str,
) -> None:
    """Also by the results themselves, where a run has written its configuration and no more yet."""
    study = copied(**changes)
    monkeypatch.setenv("ISOGLOSS_CACHE", str(study.cache))
    opened = iso.open(study.folder / study.written())
    expected = set(all_results(opened)) if others == "all" else others
    assert refused(opened) == expected
    study.run("results/config.yaml")
    assert refused(iso.open(study.folder / "results")) == expected


def test_results_name_what_they_were_computed_from(finished: Study) -> None:
    files = list((finished.folder / "results").rglob("*.nc"))
    behind = {path: computed_from(open_netcdf(path)) for path in files}
    assert all(behind.values())
    listed = {store_name(p) for p in (finished.folder / "store/manifests").rglob("*.json")}
    # Steered scores, not results, are made from vectors.
    assert listed - set().union(*behind.values()) == {n for n in listed if "/vectors-" in n}
    assert set().union(*behind.values()) <= listed


def test_what_is_gone_is_named_with_the_command_that_makes_it(
    copied: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = copied()
    monkeypatch.setenv("ISOGLOSS_CACHE", str(study.cache))
    (study.folder / "results/tiny/own/similarity.nc").unlink()
    opened = iso.open(study.folder / "results")
    command = "results/tiny/own/similarity.nc --configfile results/config.yaml` in "
    with pytest.raises(InputError, match=rf"similarity\.nc: not computed yet: .*{command}"):
        opened.similarity("tiny", "own")
    assert "similarity (1 of 2)" in repr(opened)


def test_results_without_their_questions_open_without_categories(
    copied: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = copied()
    monkeypatch.setenv("ISOGLOSS_CACHE", str(study.cache))
    shutil.rmtree(study.folder / "questions")
    opened = iso.open(study.folder / "results")
    with pytest.warns(UserWarning, match="own: categories are left out: .*questions"):
        table = opened.behaviour("tiny", "own")
    assert "category" not in table.coords and "cause-01" in table["item"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.behaviour("gemma", "own"), 'model "gemma": the study has tiny'),
        (lambda s: s.behaviour("tiny", "else"), 'dataset "else": the study has own, lexicon'),
        (lambda s: s.activations("tiny", "own", "sw"), '"sw": the study has en, de, es'),
        (lambda s: s.steered("tiny", "own", "en"), '"en": the study has de, es'),
        (lambda s: s.steering("tiny", "lexicon"), "lexicon: nothing is steered there"),
        (lambda s: s.steering("tiny", "own", "lexicon"), '"lexicon": the study has own'),
        (lambda s: s.scale("else"), 'dataset "else": the study has own, lexicon'),
    ],
)
def test_what_a_study_does_not_have_is_answered_with_what_it_has(
    study: StudyResults, call: Callable[[StudyResults], object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        call(study)


def test_the_study_says_what_it_is_in_a_few_lines(study: StudyResults) -> None:
    lines = repr(study).splitlines()
    assert len(lines) == 5 and max(map(len, lines)) < 200
    assert "tiny" in lines[1] and "own, lexicon" in lines[2] and "en (pivot), de, es" in lines[3]
    for kind in ("behaviour", "similarity", "steering", "scale", "verdicts", "activations", "lens"):
        assert kind in lines[4]
    assert " of " not in lines[4]


def test_a_study_opens_by_its_configuration_too(finished: Study, study: StudyResults) -> None:
    by_file = iso.open(str(finished.folder / "results/config.yaml"))
    assert (by_file.root, by_file.folder) == (study.root, study.folder)
    assert study.root == finished.folder.resolve()


def test_a_notebook_may_run_in_the_results_folder(
    finished: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.folder / "results")
    assert iso.open(".").folder == (finished.folder / "results").resolve()


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder or file"):
        iso.open(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"no config\.yaml"):
        iso.open(tmp_path)


def test_importing_isogloss_is_light_and_leaves_the_builtin_open_alone() -> None:
    code = (
        "import sys\nfrom isogloss import *\nimport isogloss\n"
        "assert not {'numpy', 'xarray', 'torch', 'pydantic'} & set(sys.modules)\n"
        "import builtins\nassert open is builtins.open is not isogloss.open\n"
    )
    environment = {"PYTHONPATH": str(ROOT / "workflow_scripts")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert builtins.open is open


def test_samples_of_the_harness_hold_the_scores(study: StudyResults) -> None:
    stored = study.activations("tiny", "own", "de").log_probability.sel(latent="prompt")
    records = list(samples(study, "tiny", "own", "de"))
    assert [record["doc_id"] for record in records] == list(range(stored.sizes["item"]))
    third = records[2]
    values = [value for [[value, greedy]] in third["resps"]]
    np.testing.assert_allclose(values, stored[2, : len(values)])
    prompt, choice = third["arguments"][1]
    assert third["doc"]["question"] in prompt and choice == " " + third["doc"]["choices"][1]
    assert third["acc"] == float(np.argmax(values) == third["target"])


def test_samples_of_questions_that_were_edited_are_refused(
    copied: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = copied()
    monkeypatch.setenv("ISOGLOSS_CACHE", str(study.cache))
    path = study.folder / "questions/de.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("?", "??"), encoding="utf-8")
    opened = iso.open(study.folder / "results")
    with pytest.raises(InputError, match=r"datasets.own: its questions \(de\) have changed"):
        list(samples(opened, "tiny", "own", "de"))
    assert list(samples(opened, "tiny", "own", "es"))
