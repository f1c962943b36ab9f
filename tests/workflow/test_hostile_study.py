"""A study in which every text that a stranger can give tries to be more than a text.

Questions, ids, licences, families, templates and the names of folders hold commands, wildcards,
markup and formulas. It runs to its report like any other, and nothing of them is run.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from tests.workflow.conftest import ROOT, Study, copy_tree

from isogloss.questions.datasets import load_dataset
from isogloss.study.schema import read

TOKEN = "hf_NobodyMayReadThisToken"
COMMANDS = "\"; touch PWNED; ' $(touch PWNED) `touch PWNED` {model} {{ 7*7 }} \\ $HOME %s"
MARKUP = "</script><script>alert(1)</script> <img src=x onerror=alert(1)> | [a](b) .. raw:: html"
JINJA = "{{ cycler.__init__.__globals__.os.mkdir('PWNED') }} {% set x = 1 %} {# x #}"
FORMULA = r"$5 and $\undefined{6}$"

RESULTS, STORE, CACHE = 're\'sults $(touch PWNED)/"é" ;', "not a;store'", "ca che `x` {y}"

QUESTIONS = 'que\'st "$(touch PWNED)" ;'


def hostile_questions(folder: Path, languages: list[str]) -> None:
    """Some of the everyday questions with more in them than is asked."""
    folder.mkdir()
    for tag in languages:
        lines = (ROOT / f"data/everyday/{tag}.jsonl").read_text("utf-8").splitlines()[::10]
        with (folder / f"{tag}.jsonl").open("w", encoding="utf-8") as file:
            for item in map(json.loads, lines):
                item["item_id"] += f" {JINJA} {MARKUP} `x <javascript:alert(1)>`_ {COMMANDS}"
                item["question"] += f" {MARKUP} {FORMULA} {JINJA}"
                item["choices"] = [f"{text} {FORMULA}\n{MARKUP}" for text in item["choices"]]
                file.write(json.dumps(item) + "\n")


def hostile_config(questions: str, model: str) -> dict[str, Any]:
    said = f"{COMMANDS} {MARKUP} {JINJA}"
    return {
        "study": "hostile", "results": RESULTS, "store": STORE, "cache": CACHE,
        "languages": ["en", "de"],
        "models": {
            "tiny": {
                "source": "path", "path": model, "family": said, "parameters": 60000,
                "dtype": "float32", "licence": said,
            }
        },
        "datasets": {"own": {"source": "jsonl", "path": questions, "licence": said}},
        "prompt": {"templates": {"default": "$(touch PWNED) {{model}} '\"\nQ: {question}\nA:"}},
        "extraction": {"control": ["de"], "lens_layers": 2, "precision_items": 0},
        "similarity": {"permutations": 19, "map_permutations": 19},
        "subspaces": {"layers": 2, "permutations": 19},
        "steering": None,
        "statistics": {"folds": 3},
        "figures": {"dpi": 60, "formats": ["png"]},
    }  # fmt: skip


@dataclass(frozen=True)
class Finished:
    """The hostile study after its run, and all that was said."""

    study: Study
    planned: set[str]
    said: str

    @property
    def results(self) -> Path:
        return self.study.folder / RESULTS


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("hostile") / "it's a {tree} $(touch PWNED)"
    study = copy_tree(folder)
    questions, model = 'que\'st "$(touch PWNED)" ;', "models/ti'ny {model}"
    hostile_questions(folder / questions, ["en", "de"])
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HF_TOKEN", TOKEN)
        made = study.python("workflow_scripts/make_tiny_model.py", model)
        assert made.returncode == 0, made.stderr
        study = replace(study, config=hostile_config(QUESTIONS, model))
        before = {path.name for path in folder.iterdir()}
        plan = study.snakemake("--dry-run")
        assert plan.returncode == 0, plan.stdout + plan.stderr
        planned = {path.name for path in folder.iterdir()} - before
        yield Finished(study, planned, made.stderr + plan.stdout + plan.stderr + study.run("-p"))


def test_nothing_of_it_is_run(hostile: Finished) -> None:
    made = [path for path in hostile.study.folder.rglob("*") if path.name.startswith("PWNED")]
    assert not made
    assert not (hostile.study.folder.parent / "PWNED").exists()
    kept = {name for name in hostile.planned if not re.fullmatch(r"study-\w+\.yaml", name)}
    assert kept <= {".snakemake", CACHE}, "a dry-run keeps digests of local weights, no more"


def test_it_ends_like_any_other_in_the_folders_that_it_names(hostile: Finished) -> None:
    wanted = {"summary.md", "summary.csv", "config.yaml", "report.html", "scale", "tiny"}
    wanted.add("verdicts.nc")
    assert {path.name for path in hostile.results.iterdir()} == wanted
    assert len(list((hostile.results / "tiny/own/figures").glob("*.png"))) == 9
    assert len(list((hostile.study.folder / STORE / "activations").rglob("*.h5"))) == 2
    assert (hostile.study.folder / CACHE / "digests").is_dir()


class Elements(HTMLParser):
    """Elements of a page with their attributes, and the texts of its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag == "script"
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.scripts.append(data)


def test_the_page_holds_no_markup_of_the_data(hostile: Finished) -> None:
    page = Elements((hostile.results / "report.html").read_text("utf-8"))
    assert [tag for tag, _ in page.elements].count("script") == 3 == len(page.scripts)
    assert not [name for _, attributes in page.elements for name in attributes if name[:2] == "on"]
    data = json.loads(page.scripts[0])
    (texts,) = (part["texts"] for part in data["items"].values())
    assert MARKUP in texts["en"][0][1] and JINJA in texts["de"][0][1]
    links = {attributes["href"] for tag, attributes in page.elements if tag == "a"}
    files = {link for link in links if link and not link.startswith("#")}
    assert files and all((hostile.results / unquote(link)).is_file() for link in files)
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert {str(picture.get("src", ""))[:11] for picture in pictures} == {"", "data:image/"}
    shown = " ".join(str(picture["alt"]) for picture in pictures)
    assert "{{ cycler.__init__" in shown and "<script>alert(1)</script>" in shown
    assert "docutils found" not in shown and "system-message" not in shown


def test_the_summary_holds_no_markup_of_the_data(hostile: Finished) -> None:
    text = (hostile.results / "summary.md").read_text("utf-8")
    assert "<" not in text and r"\[a\](b)" in text and "&lt;script>" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert tables and all(line.endswith("|") for line in tables)


def test_the_merged_configuration_keeps_every_character(hostile: Finished) -> None:
    checked = hostile.study.python(
        "workflow_scripts/configure.py", "--check", str(hostile.results / "config.yaml")
    )
    assert checked.returncode == 0, checked.stderr
    config, given = hostile.study.config, read(hostile.results / "config.yaml")
    assert config is not None
    assert given.models["tiny"].licence == config["models"]["tiny"]["licence"]
    assert given.prompt.templates == config["prompt"]["templates"]


def test_what_is_asked_of_the_model_is_what_the_file_says(hostile: Finished) -> None:
    """Braces in questions are no fields of the template."""
    config = hostile.study.config
    assert config is not None
    dataset = config["datasets"]["own"] | {
        "path": str(hostile.study.folder / 'que\'st "$(touch PWNED)" ;')
    }
    items = load_dataset(dataset, ["en"], "own")
    assert items.items["en"][0].question.endswith(JINJA)


def test_nothing_is_written_for_everyone_to_change(hostile: Finished) -> None:
    roots = (RESULTS.split("/")[0], STORE, CACHE, "logs", ".snakemake")
    paths = [path for root in roots for path in (hostile.study.folder / root).rglob("*")]
    assert len(paths) > 50
    assert not [path for path in paths if path.lstat().st_mode & 0o002 and not path.is_symlink()]


def test_no_credential_is_written_or_said(hostile: Finished) -> None:
    assert TOKEN not in hostile.said and "extract" in hostile.said
    for path in hostile.study.folder.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path


def test_no_log_steers_a_terminal(hostile: Finished) -> None:
    logs = [path.read_text("utf-8") for path in (hostile.study.folder / "logs").rglob("*.log")]
    assert any(logs) and not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", "".join(logs))
