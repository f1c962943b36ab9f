"""Planning a large study: what is done once, not once a job or a language. Counts, not seconds."""

import pstats
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from tests.benchmarks.large_study import TOUCH, checked, make, settings, tags
from tests.workflow.conftest import Study

MODELS, DATASETS, LANGUAGES = 3, 2, 30


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A finished study whose artifacts are all in the place that it shares."""
    folder = tmp_path_factory.mktemp("large") / "study"
    about = make(folder, MODELS, DATASETS, LANGUAGES, items=15)
    assert about["jobs"] > 15 * MODELS
    sharing = {"kind": "fs", "folder": "store"}
    study = Study(folder, settings(MODELS, DATASETS, tags(LANGUAGES)) | {"sharing": sharing})
    checked(study.snakemake(*TOUCH, "results/config.yaml"))  # where it says what is shared
    return study


def calls_while_planning(study: Study) -> tuple[str, Counter[tuple[str, str]]]:
    """What a dry-run says, and how often it calls each function, by file and name."""
    profile = study.folder / "calls.prof"
    profiled = ("-m", "cProfile", "-o", profile.name, "-m", "snakemake", "--dry-run")
    done = study.python(*profiled, "--configfile", study.written())
    calls: Counter[tuple[str, str]] = Counter()
    for (file, _, name), (_, count, *_) in vars(pstats.Stats(str(profile)))["stats"].items():
        calls[Path(file).name, name] += count
    return checked(done), calls


def test_where_nothing_changed_nothing_is_planned_listed_or_read(large: Study) -> None:
    said, calls = calls_while_planning(large)
    assert "Nothing to be done" in said
    assert calls["places.py", "open_place"] == calls["local_files.py", "_read_file"] == 0
    assert calls["schema.py", "validate"] == 1


def test_one_language_more_reads_every_file_once_and_lists_the_place_once(large: Study) -> None:
    more = replace(large, config=large.config | {"languages": tags(LANGUAGES + 1)})
    said, calls = calls_while_planning(more)
    assert calls["places.py", "files"] == 1
    assert calls["local_files.py", "_read_file"] == DATASETS * (LANGUAGES + 1)
    assert calls["items.py", "digest"] == DATASETS * (LANGUAGES + 1)
    # One job computes all languages of a model and dataset, and loads the model once for them.
    assert more.plan()["extract"] == MODELS * DATASETS
