"""Programs and rules belong together; what programs write says what it is."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr
from tests.workflow.conftest import MODEL, ROOT, Study

from isogloss.files.activation_file import open_activations
from isogloss.files.hdf5 import verify_hdf5
from isogloss.study.default_study import commented, schema
from isogloss.study.schema import Config

PROGRAMS = sorted((ROOT / "workflow_scripts").glob("*.py"))
WITHOUT_A_RULE = {"configure", "coverage", "export", "make_tiny_model", "reference", "share"}
OF_SOME_STUDIES = {"calibration", "ladder", "organism_figures", "steering_matrix"}
"""Programs whose rules are there for organisms, or for several datasets that are steered."""
WITHOUT_A_PROGRAM = {"all", "configuration"}


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_explains_itself_and_each_option(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr().out
    assert ended.value.code in (0, None) and said.startswith(f"usage: {path.name}")
    options = re.split(r"\n  (?=\S)", said.split("\n\n", 2)[2])[1:]
    assert options and all(len(option.split()) > 2 for option in options), said


SLOW = {"torch", "transformers", "scipy.stats", "sklearn", "statsmodels", "matplotlib"}
NEEDED = {
    "subspaces": {"sklearn", "scipy.stats"}, "figures": {"matplotlib"},
    "organism_figures": {"matplotlib"},
}  # fmt: skip


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_starts_without_slow_libraries_that_it_may_not_need(path: Path) -> None:
    """Each is half a second to two of every job, where all jobs together may take a minute."""
    started = subprocess.run(
        [sys.executable, "-X", "importtime", str(path), "--help"], capture_output=True, text=True
    )
    assert started.returncode == 0, started.stderr
    loaded = set(re.findall(r"^import time:.*\| +(\S+)$", started.stderr, re.MULTILINE))
    assert "argparse" in loaded
    assert SLOW & loaded == NEEDED.get(path.stem, set())


def program_of(rule: str) -> str:
    """The rules of figures, one a model and dataset, are named after their program too."""
    return "figures" if re.match("figures?_", rule) else rule.removesuffix("_part")


def test_every_rule_has_a_program_of_its_name(finished: Study) -> None:
    listed = finished.snakemake("--list-rules")
    assert listed.returncode == 0, listed.stderr
    rules = set(re.findall(r"^\w\S*$", listed.stdout, re.MULTILINE)) - WITHOUT_A_PROGRAM
    assert {program_of(rule) for rule in rules} == {path.stem for path in PROGRAMS} - (
        WITHOUT_A_RULE | OF_SOME_STUDIES
    )


def test_a_rules_inputs_cover_what_its_program_imports(finished: Study) -> None:
    """The closure of imports that the rules list is at least what Python really loads."""
    listed = finished.snakemake("--dry-run", "--forceall").stdout
    jobs = re.findall(r"^(?:local)?rule (\w+):\n    input: (.*)", listed, re.MULTILINE)
    code = {program_of(r): set(re.findall(r"workflow_scripts/\S+?\.py", i)) for r, i in jobs}
    code = {rule: files for rule, files in code.items() if files}
    assert len(code) >= 6
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if is_library(name)}
    try:
        for rule, files in code.items():
            runpy.run_path(str(ROOT / f"workflow_scripts/{rule}.py"), run_name="imported")
            loaded = {name: sys.modules.pop(name) for name in list(sys.modules) if is_library(name)}
            paths = {str(Path(m.__file__ or "").relative_to(ROOT)) for m in loaded.values()}
            bare = {path for path in paths if (ROOT / path).stat().st_size > 100}
            assert bare <= files, f"{rule} misses {sorted(bare - files)}"
    finally:
        sys.modules.update(before)


def is_library(name: str) -> bool:
    return name == "isogloss" or name.startswith("isogloss.")


def test_every_table_opens_with_names_meanings_and_units(finished: Study) -> None:
    paths = [p for root in ("results", "store") for p in (finished.folder / root).rglob("*.nc")]
    assert len(paths) >= 20
    for path in paths:
        with xr.open_dataset(path) as dataset:
            assert dataset.data_vars and "spec" in dataset.attrs, path
            for name, variable in dataset.data_vars.items():
                where = f"{path.relative_to(finished.folder)}: {name}"
                assert variable.attrs.get("long_name"), f"{where}: no long_name"
                assert "units" in variable.attrs, f"{where}: no units"
                nameless = [d for d in variable.dims if re.fullmatch(r"(phony_)?dim_\d+", str(d))]
                assert not nameless, f"{where}: dimensions {nameless}"


def test_every_activation_file_is_whole_and_opens_with_names(finished: Study) -> None:
    paths = sorted((finished.folder / "store/activations").rglob("*.h5"))
    assert len(paths) == 6
    for path in paths:
        verify_hdf5(path)
        states = open_activations(path)["prompt_mean"]
        assert states.dims == ("item", "layer", "feature")
        assert states.attrs["long_name"] and "units" in states.attrs


def test_shipped_files_of_config_are_what_configure_writes(tmp_path: Path) -> None:
    program = str(ROOT / "workflow_scripts/configure.py")
    subprocess.run([sys.executable, program, "--folder", str(tmp_path)], check=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "config.yaml",
        "schema.json",
        "settings.md",
    ]
    for written in tmp_path.iterdir():
        advice = f"config/{written.name} is out of date: run workflow_scripts/configure.py"
        assert (ROOT / "config" / written.name).read_text("utf-8") == written.read_text(), advice
    assert commented(Config()) in (tmp_path / "config.yaml").read_text("utf-8")
    assert (tmp_path / "schema.json").read_text("utf-8") == schema()


def test_a_tiny_model_is_the_same_every_time(finished: Study, tmp_path: Path) -> None:
    made = finished.python("workflow_scripts/make_tiny_model.py", str(tmp_path / "again"))
    assert made.returncode == 0, made.stderr
    weights = (finished.folder / MODEL / "model.safetensors").read_bytes()
    assert (tmp_path / "again/model.safetensors").read_bytes() == weights
