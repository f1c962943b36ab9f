"""`snakemake estimate`: what is there costs nothing, what is unknown is said."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from tests.workflow.conftest import ROOT, SMALL, Study

from isogloss.cost.machines import named
from isogloss.errors import InputError
from isogloss.study.schema import read


def estimated(study: Study, *arguments: str) -> list[dict]:
    done = study.python(
        "workflow_scripts/estimate.py", "--spec", json.dumps(study.config), "--json", *arguments
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def by_stage(lines: list[dict], dataset: str = "own") -> dict[str, dict]:
    return {line["stage"]: line for line in lines if line["dataset"] == dataset}


def test_the_rule_prints_and_plans_nothing_else(finished: Study) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.folder.glob("store/*/*/*/*/*")}
    done = finished.snakemake("estimate", "--cores", "1")
    assert done.returncode == 0, done.stderr
    assert "rule extract" not in done.stderr and "whole study" in done.stdout
    assert before == {p: p.stat().st_mtime_ns for p in finished.folder.glob("store/*/*/*/*/*")}


def test_what_is_in_the_store_costs_nothing_and_is_as_large_as_predicted(finished: Study) -> None:
    lines = estimated(finished)
    stored = {"readout", "extract", "lens", "vectors", "steer"}
    for line in lines:
        assert line["to_do"]["seconds"] == 0 < line["whole"]["seconds"], line
        if line["stage"] in stored:
            assert line["there"] == line["parts"] and not line["note"]
    for dataset in ("own", "lexicon"):
        files = finished.folder.glob(f"store/activations/tiny/{dataset}/*/*.h5")
        real = sum(path.stat().st_size for path in files)
        predicted = by_stage(lines, dataset)["extract"]["whole"]["disk"]
        assert predicted == pytest.approx(real, rel=0.1)


def test_a_language_more_costs_its_own_part(finished: Study) -> None:
    study = finished.changed(languages=["en", "de", "es", "sw"])
    extract = by_stage(estimated(study))["extract"]
    assert (extract["parts"], extract["there"]) == (4, 3)
    assert 0 < extract["to_do"]["disk"] < extract["whole"]["disk"] / 3


def test_a_wording_more_is_an_extraction_of_less_text(finished: Study) -> None:
    wordings = {"plain": {"default": "{context}\n{question}"}}
    lines = by_stage(estimated(finished.changed(prompt={"variants": wordings})))
    wording, main = lines["extract plain"], lines["extract"]
    assert (wording["parts"], wording["there"]) == (3, 0) and main["to_do"]["seconds"] == 0
    for cost in ("seconds", "disk"):
        assert 0 < wording["whole"][cost] < main["whole"][cost]
    assert lines["variants"]["to_do"]["seconds"] > 0


def test_what_others_share_costs_nothing(finished: Study, tmp_path) -> None:
    study = finished.copy(tmp_path / "study").changed(sharing={"kind": "fs", "folder": "place"})
    place = study.folder / "place"
    for name in ("activations", "readouts", "lens", "vectors", "steered"):
        shutil.copytree(study.folder / "store" / name, place / name)
    shutil.rmtree(study.folder / "store")
    for line in estimated(study):
        if line["stage"] in ("readout", "extract", "lens", "vectors", "steer"):
            assert line["there"] == line["parts"] and line["to_do"]["seconds"] == 0
    shutil.rmtree(place / "steered")
    steer = by_stage(estimated(study))["steer"]
    assert steer["there"] == 0 and steer["to_do"]["seconds"] == steer["whole"]["seconds"] > 0


def test_an_unknown_model_is_said_in_one_line_and_the_others_are_estimated(finished: Study) -> None:
    far = {"source": "hub", "repo": "nobody/nothing", "revision": "main", "family": "f"}
    models = SMALL["models"] | {"far": far | {"parameters": 1_000_000}}
    study = finished.changed(models=models)
    lines = estimated(study)
    unknown = [line for line in lines if line["model"] == "far"]
    assert len(unknown) == 1 and unknown[0]["whole"]["seconds"] == 0
    assert "\n" not in unknown[0]["note"]
    assert "fetch it first (`snakemake --cores 1 download`)" in unknown[0]["note"]
    assert "estimate.models.far" in unknown[0]["note"]
    assert {line["stage"] for line in lines if line["model"] == "tiny"} >= {"extract", "lens"}
    shape = {"layers": 4, "width": 32, "intermediate": 64, "heads": 4, "kv_heads": 2}
    shape |= {"head_dim": 8, "vocabulary": 384, "tied": True}
    given = study.changed(estimate={"models": {"far": shape}})
    far = by_stage([line for line in estimated(given) if line["model"] == "far"])
    assert far.keys() >= {"extract", "lens", "steer"}
    assert far["extract"]["to_do"] == far["extract"]["whole"] and far["extract"]["there"] == 0


def test_questions_that_are_not_here_are_announced_or_said_to_be_unknown(finished: Study) -> None:
    datasets = SMALL["datasets"] | {
        "far": {
            "source": "hub",
            "path": "nobody/nothing",
            "configs": {t: t for t in SMALL["languages"]},
        }
    }
    study = finished.changed(datasets=datasets)
    lines = [line for line in estimated(study) if line["dataset"] == "far" and line["model"]]
    assert len(lines) == 1 and "estimate.datasets.far" in lines[0]["note"]
    shape = {"items": 900, "choices": 4, "prompt_words": 145, "choice_words": 4}
    given = study.changed(estimate={"datasets": {"far": shape}})
    extract = by_stage(estimated(given), "far")["extract"]
    assert extract["to_do"]["seconds"] > 0 and "not looked up in the store" in extract["note"]


def test_the_plan_for_belebele_is_a_study_and_needs_nothing_to_be_estimated(tree: Study) -> None:
    path = ROOT / "config/studies/belebele-plan.yaml"
    plan = read(path)
    assert len(plan.languages) == 122 == len(plan.datasets["belebele"].configs)
    study = Study(tree.folder, yaml.safe_load(path.read_text(encoding="utf-8")))
    lines = estimated(study)
    jobs = {(line["model"], line["stage"]): line for line in lines}
    for slug in plan.models:
        extract, lens = (jobs[slug, stage]["to_do"] for stage in ("extract", "lens"))
        assert extract["gpu_seconds"] > 3600 and extract["disk"] > 1e11 > lens["disk"]


def test_without_the_lens_less_is_stored(finished: Study) -> None:
    bare = by_stage(estimated(finished.changed(extraction={"lens_layers": 0})))
    assert "lens" not in bare and "readout" not in bare
    extract = by_stage(estimated(finished))["extract"]
    assert bare["extract"]["whole"]["disk"] < extract["whole"]["disk"] / 2


def test_this_machine_is_measured_once_and_every_figure_says_for_which(
    finished: Study, tmp_path: Path
) -> None:
    study = finished.changed(cache=str(tmp_path))
    lines = estimated(study, "--machine", "here")
    (file,) = tmp_path.glob("rates/*.yaml")
    rates = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert torch.__version__ in rates["about"]
    assert {line["machine"] for line in lines} == {rates["about"]}
    assert min(*rates["products"].values(), rates["analysis"]) > 1e8
    file.write_text(yaml.safe_dump(rates | {"about": "kept"}), encoding="utf-8")
    assert {line["machine"] for line in estimated(study, "--machine", "here")} == {"kept"}
    done = study.python(
        "workflow_scripts/estimate.py", "--spec", json.dumps(study.config), "--machine", str(file)
    )
    assert done.returncode == 0 and " on kept\n" in done.stdout, done.stderr


@pytest.mark.parametrize("machine, said", [
    ("abacus", "FileNotFoundError"), ("slow.yaml", "nor a file with the rates of one (TypeError")
])  # fmt: skip
def test_an_unknown_machine_is_refused(tmp_path, machine: str, said: str) -> None:
    (tmp_path / "slow.yaml").write_text("like: cpu\nspeed: 3\n", encoding="utf-8")
    with pytest.raises(InputError, match="machine: .* is neither here") as refused:
        named(machine if "." not in machine else str(tmp_path / machine), tmp_path)
    assert said in str(refused.value)
