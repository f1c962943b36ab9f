"""What reruns when: by dry-run after each change, and with real runs where the store is at stake.

The table of config/README.md says the same in words.
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.workflow.conftest import MODEL, STATISTICS, WITH_A_MODEL, Study

Copied = Callable[..., Study]


def touch_all(*folders: Path) -> None:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                os.utime(path)


def test_nothing_reruns_when_nothing_changed(finished: Study) -> None:
    assert not finished.plan()


def test_touching_code_questions_and_weights_reruns_nothing(copied: Copied) -> None:
    study = copied()
    names = ("rules", "workflow_scripts", "config", "questions", MODEL)
    touch_all(*(study.folder / name for name in names))
    (study.folder / "Snakefile").touch()
    assert not study.plan()


@pytest.mark.parametrize(
    "changes",
    [
        {"device": "cuda"},
        {"extraction": {"batch_tokens": 512}},
        {"extraction": {"precision_items": 2}},
        {"cache": "elsewhere"},
        {"cluster": {"gpus": 0, "max_threads": 1, "max_mem_mb": 9000}},
    ],
    ids=lambda changes: json.dumps(changes)[1:-1].replace('"', ""),
)
def test_settings_that_no_result_depends_on_compute_nothing(
    finished: Study, changes: dict[str, Any]
) -> None:
    assert not finished.changed(**changes).computing()


def test_another_study_does_not_write_into_these_results(finished: Study) -> None:
    done = finished.changed(study="renamed").snakemake("--dry-run")
    assert done.returncode == 1
    assert "error: results: results has the results of the study small" in done.stderr


def test_a_plot_option_redraws_and_does_nothing_else(finished: Study) -> None:
    plan = finished.changed(figures={"font_size": 9}).plan()
    figures = {"figures_tiny@own", "figures_tiny@lexicon", "figures_scale"}
    assert set(plan) == figures | {"configuration", "report"}


def test_a_steering_strength_steers_again_and_no_more(finished: Study) -> None:
    plan = finished.changed(steering={"strengths": [8.0, 4.0]}).computing()
    assert plan == {"steer": 1, "steering_effects": 1, "breakdown": 1, "verdicts": 1}


def test_a_steered_layer_fits_vectors_again_without_extracting(finished: Study) -> None:
    plan = finished.changed(steering={"layers": [0.25, 0.75]}).computing()
    anew = ("vectors", "steer", "steering_effects", "breakdown", "verdicts")
    assert plan == dict.fromkeys(anew, 1)


def test_another_seed_reruns_what_is_drawn_and_no_model(finished: Study) -> None:
    plan = finished.changed(statistics={"seed": 1}).computing()
    assert set(plan) <= STATISTICS - {"behaviour", "trajectories"}
    assert plan["steering_effects"] == 1


def test_another_confidence_reruns_statistics_and_no_model(finished: Study) -> None:
    plan = finished.changed(statistics={"confidence": 0.9}).computing()
    assert set(plan) <= STATISTICS | {"pivots"}
    assert plan["behaviour"] == plan["trajectories"] == 2 and plan["steering_effects"] == 1


def test_other_folds_are_steered_again_without_extracting(finished: Study) -> None:
    plan = finished.changed(statistics={"fold_seed": 1}).computing()
    assert plan["vectors"] == plan["steer"] == 1
    assert not {"extract", "lens", "behaviour"} & set(plan)


def test_permutations_rerun_similarity_alone(finished: Study) -> None:
    plan = finished.changed(similarity={"map_permutations": 29}).computing()
    assert set(plan) == {"similarity", "scale", "verdicts"}


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": {"templates": {"default": "{context} {question} Answer:"}}},
        {"prompt": {"mode": "few_shot", "shots": 1}, "steering": None},
        {"models": {"tiny": {"dtype": "bfloat16"}}},
        {"extraction": {"pmi": True}},
    ],
    ids=["template", "few_shot", "dtype", "pmi"],
)
def test_what_the_model_is_asked_extracts_anew(finished: Study, changes: dict[str, Any]) -> None:
    both = "prompt" not in changes  # lexicon has a prompt of its own
    plan = finished.changed(**changes).computing()
    assert plan["extract"] == (2 if both else 1)


def test_a_model_that_is_added_leaves_the_others_alone(copied: Copied) -> None:
    second = {"source": "path", "path": "models/second", "family": "tiny", "parameters": 9000}
    study = copied(models={"second": second})
    made = study.python("workflow_scripts/make_tiny_model.py", "models/second", "--seed", "1")
    assert made.returncode == 0, made.stderr
    plan = study.computing()
    assert plan["extract"] == plan["lens"] == plan["behaviour"] == 2
    assert plan["readout"] == plan["vectors"] == plan["steer"] == 1


def test_an_edit_reruns_the_programs_that_import_it(copied: Copied) -> None:
    study = copied()
    library = study.folder / "workflow_scripts/isogloss"
    originals = {name: (library / name).read_text("utf-8") for name in EDITS}
    for name, importers in EDITS.items():
        (library / name).write_text(originals[name] + "\n# edited\n", encoding="utf-8")
        plan = study.computing()
        assert set(plan) == importers, name
        (library / name).write_text(originals[name], encoding="utf-8")
    assert not study.computing()


EDITS = {
    "measures/transfer.py": STATISTICS - {"similarity", "subspaces"} | {"pivots"},
    "measures/similarity.py": {"similarity", "scale", "verdicts"},
    "measures/verdicts.py": {"verdicts"},
    "steering/effects.py": {"steering_effects", "verdicts"},
    "steering/__init__.py": {"breakdown", "steering_effects", "verdicts"},
    "extraction/__init__.py": set(),
    "study/settings.py": set(),
}
"""By module, the rules that compute again; those that cost hours carry a version instead."""


def test_an_edited_question_in_a_file_that_looks_old_is_refused(copied: Copied) -> None:
    study = copied()
    path = study.folder / "questions/de.jsonl"
    times = path.stat()
    path.write_text(path.read_text("utf-8").replace("?", "??", 1), "utf-8")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as `mv` and `cp -p` keep it
    done = study.snakemake("--dry-run")
    assert done.returncode == 1 and "error: datasets.own: questions/" in done.stderr
    assert "`touch questions/*`, and run again" in done.stderr
    touch_all(path.parent)
    assert study.computing()["extract"] == 1


def test_an_edited_question_extracts_its_dataset_only(copied: Copied) -> None:
    study = copied()
    path = study.folder / "questions/de.jsonl"
    path.write_text(path.read_text("utf-8").replace("?", " ?", 1), encoding="utf-8")
    assert study.computing()["extract"] == 1


def test_other_weights_in_the_same_folder_are_seen(copied: Copied) -> None:
    study = copied()
    weights = study.folder / MODEL / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    plan = study.computing()
    assert plan["readout"] == 1 and plan["extract"] == 2


def test_the_same_weights_in_another_folder_leave_the_readout(copied: Copied) -> None:
    study = copied(models={"tiny": {"path": "models/moved"}})
    shutil.copytree(study.folder / MODEL, study.folder / "models/moved")
    assert "readout" not in study.computing()


def test_an_added_language_is_the_only_one_extracted(copied: Copied) -> None:
    study = copied(languages=["en", "de", "es", "sw"])
    before = study.artifacts("activations")
    plan = study.computing()
    assert plan["extract"] == 2 and "readout" not in plan
    log = study.run("--no-hooks", "--until", "extract")
    assert log.count("3 of 4 languages are in the store; extracting sw\n") == 2
    after = study.artifacts("activations")
    assert before.items() <= after.items()
    assert {Path(name).parent.name for name in after.keys() - before.keys()} == {"sw"}
    assert len(after) == len(before) + 2


def test_going_back_to_an_old_template_costs_no_model(copied: Copied) -> None:
    study = copied()
    other = study.changed(prompt={"templates": {"default": "{question}\n"}})
    before = study.artifacts()
    targets = [f"results/tiny/own/{name}.nc" for name in ("trajectories", "steering_own")]
    other.run("--no-hooks", *targets)
    between = study.artifacts()
    assert before.items() <= between.items()
    stages = {"activations": 3, "lens": 3, "vectors": 1, "steered": 2}
    new = [name.split("/")[1] for name in between.keys() - before.keys()]
    assert {stage: new.count(stage) for stage in set(new)} == stages

    back = study.plan()
    assert not set(back) & (WITH_A_MODEL | {"vectors"})
    assert {"trajectories", "steering_effects"} <= set(back)


def test_raising_a_version_plans_its_rule_and_what_follows(copied: Copied) -> None:
    """The costly rules take no code as input: their version must name other manifests."""
    study = copied()
    path = study.folder / "workflow_scripts/isogloss/versions.py"
    original = path.read_text("utf-8")
    for version, rules in VERSIONED.items():
        raised = re.sub(rf"^{version} = \d+", f"{version} = 99", original, flags=re.MULTILINE)
        path.write_text(raised, encoding="utf-8")
        plan = set(study.computing())
        assert rules <= plan and not (COSTLY - rules) & plan, version
        path.write_text(original, encoding="utf-8")


COSTLY = {"extract", "lens", "vectors", "steer", "readout"}
VERSIONED = {
    "EXTRACTION_VERSION": {"extract", "lens", "vectors", "steer"},
    "LENS_VERSION": {"lens"},
    "VECTORS_VERSION": {"vectors", "steer"},
    "STEERING_VERSION": {"steer"},
    "READOUT_VERSION": {"readout", "lens"},
}
"""By version, the costly rules that compute anew where it is raised."""
