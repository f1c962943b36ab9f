"""The DAG of every study that is shipped: built without a network, models or their files."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_log import DEFAULT_STUDY
from tests.workflow.conftest import COMPUTE, ROOT, SMALL, Study

from isogloss.study.schema import Config, read

STUDIES = sorted(p for p in (ROOT / "config/studies").glob("*.yaml") if p.stem != "quick")


def expected_jobs(study: Config) -> Counter[str]:
    """How many jobs of each rule a study needs, counted from its configuration."""
    models = len(study.models)
    questions = [name for name, d in study.datasets.items() if d.source != "sentences"]
    steering = study.steering
    pairs = len(steering.fit_on) * len(steering.evaluate_on) if steering else 0
    per_question = ["behaviour", "breakdown"]
    per_question += ["lens", "trajectories"] if study.with_lens else []
    jobs = {
        "readout": models if study.with_lens else 0,
        "extract": models * (len(study.datasets) + len(study.worded)),
        "variants": models * len({dataset for dataset, _ in study.worded}),
        "similarity": models * len(study.datasets),
        "subspaces": models * len(study.datasets),
        **{rule: models * len(questions) for rule in per_question},
        "pivots": models * len([name for name in questions if study.pivots_of(name)]),
        "vectors": models * len(steering.fit_on) if steering else 0,
        "steer": models * pairs,
        "steering_effects": models * pairs,
        "scale": len(questions),
        "verdicts": 1,
    }
    return Counter({rule: count for rule, count in jobs.items() if count})


@pytest.mark.parametrize("path", [ROOT / "config/config.yaml", *STUDIES], ids=lambda p: p.stem)
def test_a_shipped_study_plans_every_job_once_and_fetches_nothing(tree: Study, path: Path) -> None:
    study = read(path)
    options = [] if path.stem == "config" else ["--configfile", str(path.relative_to(ROOT))]
    plan = tree.plan(*options)
    assert Counter({r: n for r, n in plan.items() if r in COMPUTE}) == expected_jobs(study)
    if path.stem == "config":  # what test_log.py counts the lines of
        assert sorted(plan.values()) == sorted(DEFAULT_STUDY.values())
    assert not tree.cache.exists()


def test_a_named_study_replaces_the_default_models_and_datasets(tree: Study) -> None:
    listed = tree.snakemake("--dry-run", "--configfile", "config/studies/own-data.yaml").stdout
    assert set(re.findall(r"model=([^,\s]+)", listed)) == {"gemma-3-270m"}
    assert set(re.findall(r"dataset=([^,\s]+)", listed)) == {"own"}


def test_one_result_asks_for_what_it_needs_and_no_more(unmade: Study) -> None:
    behaviour = unmade.plan("results/tiny/own/behaviour.nc")
    assert behaviour == {"extract": 1, "behaviour": 1}
    lens = unmade.plan("results/tiny/own/trajectories.nc")
    assert lens == {"extract": 1, "readout": 1, "lens": 1, "trajectories": 1}


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({"steering": None}, {"vectors", "steer", "steering_effects"}),
        ({"extraction": {"lens_layers": 0}}, {"readout", "lens", "trajectories"}),
    ],
    ids=["no-steering", "no-lens"],
)
def test_what_a_study_leaves_out_is_not_planned(
    unmade: Study, changes: dict[str, Any], absent: set[str]
) -> None:
    plan = unmade.changed(**changes).computing()
    assert plan["behaviour"] == 2 and not absent & set(plan)


def test_sentences_are_compared_but_not_answered(unmade: Study) -> None:
    folder = unmade.folder / "lines"
    folder.mkdir()
    for tag in ("en", "de", "es"):
        (folder / f"{tag}.txt").write_text("".join(f"{tag} {i}\n" for i in range(12)), "utf-8")
    lines = {"source": "sentences", "path": "lines"}
    plan = unmade.changed(datasets={"lines": lines}).computing()
    assert plan["similarity"] == plan["subspaces"] == plan["extract"] == 3
    assert plan["verdicts"] == 1
    assert plan["behaviour"] == plan["lens"] == plan["scale"] == 2


def test_names_that_run_together_are_kept_apart(unmade: Study) -> None:
    """Models a_b and a on c and b_c: four rules of figures, not three names."""
    pinned = {"source": "hub", "repo": "a/b", "revision": "0" * 40, "family": "f", "parameters": 1}
    dataset = {"source": "jsonl", "path": "questions"}
    config = SMALL | {
        "models": {"a_b": pinned, "a": pinned},
        "datasets": {"c": dataset, "b_c": dataset},
    }
    plan = replace(unmade, config=config | {"steering": None}).plan()
    assert plan["extract"] == sum(name.startswith("figures_a") for name in plan) == 4


def test_downloading_is_a_target_of_its_own(tree: Study) -> None:
    assert tree.plan("download") == {"download": 1}


def test_the_rules_are_formatted(tree: Study) -> None:
    formatted = tree.python("-m", "snakefmt", "--check", "Snakefile", "rules")
    assert formatted.returncode == 0, formatted.stderr


def test_the_linter_finds_only_what_was_decided(tree: Study) -> None:
    """One environment for all rules, made before Snakemake."""
    lint = tree.snakemake("--lint")
    titles = set(re.findall(r"^    \* (.*):$", lint.stdout + lint.stderr, re.MULTILINE))
    assert titles <= {"Specify a conda environment or container for each rule."}
    assert bool(titles) == (lint.returncode != 0)
