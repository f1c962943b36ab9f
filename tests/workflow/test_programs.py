"""Programs and rules belong together; what programs write says what it is."""

import re
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import xarray as xr
from tests.workflow.conftest import MODEL, ROOT, Study

from isogloss.activations import open_activations, verify
from isogloss.config import Config, commented, schema

PROGRAMS = sorted((ROOT / "workflow_scripts").glob("*.py"))
WITHOUT_A_RULE = {"configure", "make_tiny_model"}
WITHOUT_A_PROGRAM = {"all", "configuration"}


@pytest.fixture(scope="module")
def helps() -> dict[str, subprocess.CompletedProcess[str]]:
    """What every program answers to --help; two at a time, since imports take seconds."""

    def ask(path: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(path), "--help"], capture_output=True, text=True, timeout=120
        )

    with ThreadPoolExecutor(2) as pool:
        return dict(zip((p.stem for p in PROGRAMS), pool.map(ask, PROGRAMS), strict=True))


@pytest.mark.parametrize("name", [path.stem for path in PROGRAMS])
def test_a_program_explains_itself_and_each_option(
    helps: dict[str, subprocess.CompletedProcess[str]], name: str
) -> None:
    answer = helps[name]
    assert answer.returncode == 0 and answer.stdout.startswith("usage:"), answer.stderr
    options = re.split(r"\n  (?=\S)", answer.stdout.split("\n\n", 2)[2])[1:]
    assert options and all(len(option.split()) > 2 for option in options), answer.stdout


def test_every_rule_has_a_program_of_its_name(finished: Study) -> None:
    """The rules of figures, one a model and dataset, are named after their program too."""
    listed = finished.snakemake("--list-rules")
    assert listed.returncode == 0, listed.stderr
    rules = set(re.findall(r"^\w\S*$", listed.stdout, re.MULTILINE)) - WITHOUT_A_PROGRAM
    own = {"figures" if re.match("figures?_", rule) else rule for rule in rules}
    assert own == {path.stem for path in PROGRAMS} - WITHOUT_A_RULE


def test_a_rules_inputs_cover_what_its_program_imports(finished: Study) -> None:
    """The closure of imports that the rules list is at least what Python really loads."""
    listed = finished.snakemake("--dry-run", "--forceall").stdout
    jobs = re.findall(r"^(?:local)?rule (\w+):\n    input: (.*)", listed, re.MULTILINE)
    code = {rule: set(re.findall(r"workflow_scripts/\S+?\.py", line)) for rule, line in jobs}
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
        verify(path)
        states = open_activations(path)["prompt_mean"]
        assert states.dims == ("item", "layer", "feature")
        assert states.attrs["long_name"] and "units" in states.attrs


def test_shipped_configuration_and_schema_are_what_configure_writes(tmp_path: Path) -> None:
    program = str(ROOT / "workflow_scripts/configure.py")
    subprocess.run([sys.executable, program, "--folder", str(tmp_path)], check=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.yaml", "schema.json"]
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
