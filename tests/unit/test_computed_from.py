"""What a result was computed from: kept in its file, and compared with what the study names."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from tests.unit.stored_study import CONFIG, labelled, write_config, write_questions

from isogloss.errors import InputError
from isogloss.files.netcdf import computed_from, open_netcdf, write_netcdf
from isogloss.results import StudyResults, open_study
from isogloss.study.job_files import JobFiles
from isogloss.study.keys import Artifacts
from isogloss.study.schema import read
from isogloss.study.settings import Settings
from isogloss.study.study import Study

ROOT = Path(__file__).resolve().parents[2]
MODEL = CONFIG["models"]["tiny"]
OTHERS = {
    "prompt": {"prompt": {"templates": {"default": "{question} ="}}},
    "weights": {"models": {"tiny": MODEL | {"sha256": "b" * 64}}},
    "dtype": {"models": {"tiny": MODEL | {"dtype": "bfloat16"}}},
    "lens": {"extraction": CONFIG["extraction"] | {"lens_layers": [1]}},
    "control": {"extraction": CONFIG["extraction"] | {"control": ["de"]}},
}
RESULTS = ["behaviour", "breakdown", "similarity", "subspaces", "trajectories"]
REFUSED = "computed under other settings than .* has: run `snakemake "


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study with results that name what the study names, and no store."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").touch()
    write_questions(tmp_path)
    study = Study.of(write_config(tmp_path))
    write_config(tmp_path, "results/config.yaml")
    files = JobFiles(Artifacts(study.settings))
    for name in RESULTS:
        stage = "lens" if name == "trajectories" else "activations"
        write(study, f"tiny/own/{name}.nc", name, [Path(files.manifest(stage, "tiny", "own"))])
    tables = [open_netcdf(Path(f"results/tiny/own/{name}.nc")) for name in RESULTS]
    write(study, "scale/own.nc", "scale", tables)
    write(study, "verdicts.nc", "verdicts", [open_netcdf(Path("results/scale/own.nc"))])
    return tmp_path


def write(study: Study, name: str, rule: str, inputs: list[Path | xr.Dataset]) -> None:
    about = ["own"] if rule in ("behaviour", "breakdown") else []
    settings = getattr(study.settings, rule)(*about)
    path = Path("results", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_netcdf(labelled(1.0), path, settings, inputs)


def test_categories_of_drawn_items_do_not_depend_on_what_other_languages_lack(
    folder: Path,
) -> None:
    """Of the items that all languages have, some are drawn; the pivot alone has others too."""
    file = folder / "questions/{}.jsonl"
    lines = {tag: Path(str(file).format(tag)).read_text().splitlines() for tag in ("en", "de")}
    lines["en"] = [json.dumps(json.loads(line) | {"category": "c"}) for line in lines["en"]]
    del lines["de"][3]
    for tag, of_language in lines.items():
        Path(str(file).format(tag)).write_text("\n".join(of_language))
    own = CONFIG["datasets"]["own"] | {"max_items": 10, "exclude": {"rules": ["incomplete"]}}
    study = open_study(write_config(folder, datasets={"own": own}))
    drawn = study.questions("own").item_ids
    table = xr.Dataset({"a": ("item", np.zeros(10))}, {"item": list(drawn)})
    assert study._labelled(table, "own").category.values.tolist() == ["c"] * 10


def opened(study: StudyResults, name: str) -> xr.Dataset:
    about = {"scale": ["own"], "verdicts": []}.get(name, ["tiny", "own"])
    table: xr.Dataset = getattr(study, name)(*about)
    return table


@pytest.mark.parametrize("name", [*RESULTS, "scale", "verdicts"])
@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_numbers_of_other_models_prompts_and_extractions_are_refused(
    folder: Path, name: str, changes: dict[str, Any]
) -> None:
    """By the changed configuration, and by the results that a rerun has not made again yet."""
    assert opened(open_study(folder / "config/config.yaml"), name)["a"].size
    for file in ("config/config.yaml", "results/config.yaml"):
        write_config(folder, file, **changes)
        with pytest.raises(InputError, match=REFUSED):
            opened(open_study(folder / file), name)


@pytest.mark.parametrize("name", RESULTS)
def test_what_a_result_does_not_depend_on_does_not_matter(folder: Path, name: str) -> None:
    write_config(folder, store="elsewhere", extraction=CONFIG["extraction"] | {"batch_tokens": 99})
    assert opened(open_study(folder / "config/config.yaml"), name)["a"].size


def test_a_result_that_does_not_say_what_it_is_from_is_refused(folder: Path) -> None:
    study = Study.of(folder / "config/config.yaml")
    write(study, "tiny/own/similarity.nc", "similarity", [])
    with pytest.raises(InputError, match=REFUSED):
        open_study(folder / "results").similarity("tiny", "own")


def test_where_the_models_digest_cannot_be_known_a_warning_says_so(folder: Path) -> None:
    """A local model without `sha256` whose files are gone: results alone were copied here."""
    gone = {name: value for name, value in MODEL.items() if name != "sha256"}
    write_config(folder, "results/config.yaml", models={"tiny": gone})
    with pytest.warns(UserWarning, match=r"similarity\.nc: whether .* is not known: .*tiny"):
        assert open_study(folder / "results").similarity("tiny", "own")["a"].size


def test_a_ladder_of_other_checkpoints_is_refused(tmp_path: Path) -> None:
    file = ROOT / "config/studies/ladder.yaml"
    config = read(file)
    artifacts = Artifacts(Settings(config))
    checkpoints = [tmp_path / "store" / artifacts.organism(model).name for model in config.rungs]
    spec = artifacts.settings.ladder()
    write_netcdf(labelled(1.0), tmp_path / "organisms/ladder.nc", spec, checkpoints)
    assert StudyResults(config, file, tmp_path, tmp_path).ladder()["a"].size
    recipe = config.models[config.rungs[0]].organism
    assert recipe
    recipe.steps += 1
    assert Settings(config).ladder() == spec
    with pytest.raises(InputError, match=REFUSED):
        StudyResults(config, file, tmp_path, tmp_path).ladder()


def test_what_is_behind_other_results_is_handed_on(tmp_path: Path) -> None:
    one, two = tmp_path / "s/manifests/m/d/a-1.json", tmp_path / "s/manifests/m/d/a-2.json"
    write_netcdf(labelled(1.0), tmp_path / "a.nc", inputs=[two])
    made = open_netcdf(tmp_path / "a.nc")
    write_netcdf(labelled(1.0), tmp_path / "b.nc", inputs=[one, made])
    assert computed_from(open_netcdf(tmp_path / "b.nc")) == {"m/d/a-1.json", "m/d/a-2.json"}
    # A table that says nothing is behind it: what is behind the whole is not known.
    write_netcdf(made, tmp_path / "c.nc", inputs=[one, labelled(1.0)])
    assert not computed_from(open_netcdf(tmp_path / "c.nc"))
