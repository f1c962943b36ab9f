"""Files that tools read: hooks, citation, the line that tells an editor a study's schema."""

import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
STUDIES = [ROOT / "config/config.yaml", *sorted((ROOT / "config/studies").glob("*.yaml"))]


def test_a_commit_is_checked_by_what_make_lint_runs():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    entries = [hook["entry"] for repo in hooks["repos"] for hook in repo["hooks"]]
    assert entries == commands and len(commands) >= 5


def test_the_citation_names_the_version_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == project["version"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_an_editor_finds_the_schema_of_a_study_and_agrees_with_it(path: Path):
    text = path.read_text("utf-8")
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", text.splitlines()[0])
    assert named
    schema = json.loads((path.parent / named[1]).read_text("utf-8"))
    assert schema["title"] == "Config"
    jsonschema.validate(yaml.safe_load(text), schema)


POINTER = re.compile(r'(docs/[\w/-]+\.md),\s+(?:#\s*)?"([^"]+)"')


def sources():
    """Text of the programs, the library and the rules, by file."""
    files = [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]
    files += (ROOT / "workflow_scripts").rglob("*.py")
    return {file.relative_to(ROOT): file.read_text("utf-8") for file in files}


def test_docstrings_point_to_sections_that_the_documents_have():
    pointers = {
        (file, *pointer) for file, text in sources().items() for pointer in POINTER.findall(text)
    }
    assert len(pointers) >= 3
    for file, document, section in sorted(pointers):
        headings = re.findall(r"^#+ (.+)$", (ROOT / document).read_text("utf-8"), re.MULTILINE)
        assert section in headings, f"{file}: {document} has no section {section!r}"


def test_docstrings_point_to_no_document_that_the_repository_does_not_have():
    gone = re.compile(r"\bMETHOD(?:, section)? \d|\bARCHITECTURE\b")
    named = re.compile(r"\bdocs/[\w/-]+\.md")
    for file, text in sources().items():
        assert not gone.search(text), file
        for document in named.findall(text):
            assert (ROOT / document).is_file(), f"{file}: {document}"


DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "CHANGELOG.md",
]
DOCUMENTS += [*sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "config").glob("*.md"))]


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path):
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if path.startswith("http"):
            continue
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def prose(document: Path) -> list[str]:
    """The words of a document beside its blocks of code and its tables."""
    text = document.read_text("utf-8")
    return re.sub(r"^```.*?^```|^\|.*?$|<!--.*?-->", "", text, flags=re.M | re.S).split()


def test_documents_that_everybody_reads_are_short():
    assert len(prose(ROOT / "README.md")) <= 900
    assert len((ROOT / "docs/performance.md").read_text("utf-8").split()) <= 800


def test_functions_behind_a_number_are_where_the_walk_says():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    walk = text.split("## Where a number comes from")[1].split("\n## ")[0]
    named = re.findall(r"`([\w/]+\.py): (\w+)`", walk) + re.findall(
        r"(steering/effects\.py): .*?`(_add_effect)`", walk
    )
    assert len(named) == 7
    for file, function in named:
        source = (ROOT / "workflow_scripts/isogloss" / file).read_text("utf-8")
        assert re.search(rf"^def {function}\(", source, re.MULTILINE), f"{file}: {function}"


def test_the_container_is_built_from_files_that_are_here() -> None:
    lines = (ROOT / "Containerfile").read_text("utf-8").splitlines()
    copied = [line.split()[1] for line in lines if line.startswith("COPY")]
    assert copied == ["requirements.txt", "."] and (ROOT / copied[0]).is_file()
    (base,) = [line for line in lines if line.startswith("FROM")]
    assert base.endswith("python:3.11-slim")  # as environment.yml
    assert "python=3.11" in (ROOT / "environment.yml").read_text("utf-8")
