"""What a user can get wrong ends in one line that says where, what and what to do."""

import json
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.workflow.conftest import ROOT, SMALL, Study, merged, write_questions

from isogloss.errors import InputError
from isogloss.files.netcdf import open_netcdf
from isogloss.store.manifests import read_manifest
from isogloss.study.schema import read, validate

CONFIGURATIONS = {
    # file content: what the message must name
    "languages: [en, de": "cannot be read",
    "- languages": "expected keys and values, got list",
    "pivto: en": "pivto: no such key: did you mean pivot?",
    "figures: {colour: red}": "figures.colour: no such key",
    "languages: en": "languages: ",
    "languages: [en]": "languages: ",
    "languages: [en, en]": "languages: en is named twice",
    "languages: [en, German]": "languages.1: ",
    "pivot: fr": "pivot: fr is not one of languages",
    "models: {}": "models: ",
    "models: {m: {source: ftp, family: f, parameters: 1}}": "'package' or 'organism'",
    "models: {m: {source: hub, family: f, parameters: 1}}": "source hub needs repo, revision",
    "models: {m: {source: path, path: x, repo: a/b, family: f, parameters: 1}}": "has no repo",
    "models: {m: {source: path, path: x, parameters: 1}}": "models.m.family: is needed",
    "models: {m: {source: path, path: x, family: f, parameters: 7B}}": "a whole number",
    "steering: {fit_on: own}": "steering.fit_on: use a list: [one, another]",
    "figures: {width: 3.3}": "figures.width: ",
    "models: {A B: {source: path, path: x, family: f, parameters: 1}}": "models.A B",
    "prompt: {templates: {default: '{context}'}}": "does not use {question}",
    "prompt: {templates: {default: '{query}'}}": "a field other than",
    "prompt: {mode: few_shot}": "shots of 1 or more",
    "prompt: {mode: essay}": "'raw', 'chat' or 'few_shot'",
    "datasets: {d: {source: jsonl}}": "datasets.d: source jsonl needs path",
    "datasets: {d: {source: lexicon, languages: [de, es]}}": "the pivot en is missing",
    "behaviour: {score: pmi}": "behaviour.score: pmi",
    "steering: {fit_on: [elsewhere]}": "steering.fit_on: elsewhere is not a dataset",
    "steering: {languages: [en]}": "steering.languages: ",
    "steering: {languages: [fr]}": "steering.languages: fr is not one of languages",
    "steering: {strengths: [0.0, 1.0]}": "steering.strengths: ",
    "steering: {methods: [mean_diference]}": "'mean_difference'",
    "steering: {layers: [12]}": "steering.layers.0: ",
    "statistics: {folds: many}": "statistics.folds: ",
    "statistics: {confidence: 95}": "statistics.confidence: ",
    "figures: {formats: [gif]}": "'pdf', 'png' or 'svg'",
}

A_MODEL = "source: path, path: x, family: f, parameters: 1"
A_HUB = "source: hub, path: a/b, configs: {en: en, de: de}"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefg", "bcdefgh", strict=True)
)

HOSTILE = {
    # what it is: (file content, what the message must name)
    "no as a language": ("languages: [en, no]", "languages: false has no place here"),
    "on as the pivot": ("pivot: on", "pivot: true has no place here"),
    "yes as a number": ("prompt: {shots: yes}", "prompt.shots: true has no place here"),
    "a number as a name": ("study: 2024", "study: use a text (got 2024)"),
    "a date as a name": ("study: 2024-01-01", "study: "),
    "a number as a slug": (f"models: {{1: {{{A_MODEL}}}}}", "models.1"),
    "a key that is no text": ("2024-01-01: x", "Keys should be strings"),
    "a key that is a list": ("? [1, 2]\n: 3", ":1:3: cannot be read: found unhashable key"),
    "an object": ("study: !!python/object/apply:os.getcwd []", ":1:8: cannot be read: "),
    "a module": ("study: !!python/name:os.system", "could not determine a constructor"),
    "a tag of its own": ("study: !secret x", "could not determine a constructor"),
    "a program": ("__use_yte__: true\nstudy: ?1 + 1", "__use_yte__: Snakemake runs"),
    "a key twice": ("study: a\npivot: en\nstudy: b", ":3:1: cannot be read: study: the key is"),
    "a key twice within": ("figures: {dpi: 60, dpi: 61}", "dpi: the key is there twice"),
    "a key twice in JSON": ('{"study": "a", "study": "b"}', 'field "study" is there twice'),
    "a YAML bomb": (BOMB, "more than 100000 values, aliases followed"),
    "an alias of itself": ("study: &a [*a]", ":1:8: cannot be read: an alias stands for what it"),
    "an unknown alias": ("study: *b", ":1:8: cannot be read: found undefined alias"),
    "deep nesting": ("languages: " + "[" * 5000, "cannot be read: maximum recursion depth"),
    "deep nesting in JSON": ('{"languages": ' + "[" * 100_000, "cannot be read: maximum rec"),
    "two documents": ("study: a\n---\nstudy: b", "found another document"),
    "tabs": ("figures:\n\tdpi: 60", ":2:1: cannot be read: found character"),
    "a NUL byte": (b"study: a\0b", "cannot be read: unacceptable character #x0000"),
    "a NUL character": (r'study: "a\0b"', "study: character U+0000"),
    "UTF-16": ("study: a".encode("utf-16"), "cannot be read: 'utf-8' codec"),
    "Latin-1": ("study: \u00e4".encode("latin-1"), "cannot be read: 'utf-8' codec"),
    "half a surrogate pair": (r'{"study": "\ud800"}', "study: character U+D800"),
    "an escape sequence": (r'datasets: {d: {source: lexicon, licence: "\e[2J"}}',
                           "datasets.d.licence: character U+001B"),
    "a licence of two lines": (r'datasets: {d: {source: lexicon, licence: "a\nb"}}',
                               "datasets.d.licence: character U+000A"),
    "a line that turns round": (r'models: {m: {family: "\u202E"}}', "m.family: character U+202E"),
    "a slug of two lines": (r'study: "a\n"', "study: character U+000A"),
    "a slug with a command": ("study: $(touch x)", "study: use lower-case letters"),
    "a slug with wildcards": ("study: '{model}'", "study: use lower-case letters"),
    "a slug like an option": ("study: -n", "study: use lower-case letters"),
    "a slug that climbs": ("study: ../x", "study: use lower-case letters"),
    "a slug of dots": (f"models: {{'..': {{{A_MODEL}}}}}", "models..."),
    "a slug that looks Latin": ("study: p\u0430per", "study: use lower-case letters"),
    "a slug of 65 letters": ("study: " + "a" * 65, "study: String should have at most 64"),
    "a language that looks Latin": ("languages: [en, d\u0435]", "languages.1: "),
    "a language with a command": ("languages: [en, de;x]", "languages.1: "),
    "an empty language": ("languages: [en, '']", "languages.1: "),
    "a language that is none": ("languages: [en, xx]", 'language "xx": not a language tag'),
    "not a number": ("steering: {strengths: [.nan]}", "steering.strengths.0: Input should be a fi"),
    "an infinite share": ("statistics: {split: {fit: .inf, select: 1, test: 1}}", "split.fit: "),
    "an infinite width": ("figures: {width: .inf}", "figures.width: "),
    "a layer that is no number": ("steering: {layers: [.nan, 0.5]}", "steering.layers.0: "),
    "a negative seed": ("statistics: {seed: -1}", "statistics.seed: "),
    "a seed beyond 64 bits": (f"statistics: {{seed: {10**30}}}", "statistics.seed: the number is"),
    "a number of 5000 digits": ("statistics: {seed: " + "9" * 5000 + "}", "be read: Exceeds"),
    "a huge hexadecimal": ("statistics: {seed: 0x" + "f" * 5000 + "}", "seed: the number is too"),
    "endless draws": ("steering: {random_draws: 10000000000}", "steering.random_draws: "),
    "a size of 10^20": ("models: {m: {source: path, path: x, family: f, parameters: 1"
                        + "0" * 19 + "}}", "models.m.parameters: "),
    "an endless width": ("prompt: {templates: {default: '{question:>99999999999}'}}", "a field ot"),
    "an attribute": ("prompt: {templates: {default: '{question.__class__}'}}", "a field other"),
    "a conversion": ("prompt: {templates: {default: '{question!r}'}}", "a field other than"),
    "a list of templates": ("prompt: {templates: ['{question}']}", "prompt.templates: "),
    "the folder above": ("results: ..", "results: is the workflow's own folder or one above it"),
    "the root": ("store: /", "store: is the workflow's own folder or one above it"),
    "the folder itself": ("results: ./", "results: is the workflow's own folder"),
    "above and above": ("results: ../../..", "results: is the workflow's own folder or one above"),
    "the configuration's folder": ("results: config", "results: is among the workflow's own files"),
    "among the code": ("store: x/../workflow_scripts/y", "store: is among the workflow's own"),
    "below a file": ("results: README.md/x", "README.md is a file: name a folder"),
    "one folder for both": ("results: out\nstore: ./out", "results: is the same folder as store"),
    "a folder with wildcards": ("results: 'a/{model}'", "results: braces"),
    "a folder like an option": ("store: -rf", "store: braces, < and >, a leading - or ~ cannot"),
    "a folder in a home": ("results: ~/results", "results: braces, < and >, a leading - or ~"),
    "a folder of markup": ("results: a<b>c", "results: braces, < and >"),
    "a name of 300 letters": ("results: " + "a" * 300, "results: cannot be a folder"),
    "an empty folder": ("results: ''", "results: String should have at least 1 character"),
    "a dataset with wildcards": ("datasets: {d: {source: jsonl, path: 'a{b}'}}", "path: braces"),
    "a repository that climbs": (
        "models: {m: {source: hub, repo: ../../x, revision: main, family: f, parameters: 1}}",
        "models.m.repo: String should match pattern",
    ),
    "a revision like an option": (
        "models: {m: {source: hub, repo: a/b, revision: --upload, family: f, parameters: 1}}",
        "models.m.revision: String should match pattern",
    ),
    "a package like an option": (
        "models: {m: {source: package, packages: [--index-url=x], file: a, sha256: b}}",
        "models.m.packages.0: String should match pattern",
    ),
    "a file elsewhere": ("models: {m: {file: ../a.gguf}}", "models.m.file: String should match"),
    "a device with a command": ("device: cpu;x", "device: use auto, cpu"),
    "a part that there is not": (f"datasets: {{d: {{{A_HUB}, columns: {{query: x}}}}}}",
                                 "datasets.d.columns: query: no such part of an item"),
    "a column as a number": (f"datasets: {{d: {{{A_HUB}, columns: {{answer: 0}}}}}}",
                             "datasets.d.columns: answer: name columns in quotes"),
    "an endless column": (f"datasets: {{d: {{{A_HUB}, columns: {{question: '{{q:>9}}'}}}}}}",
                          "datasets.d.columns: question: "),
}  # fmt: skip


CASES = {name: (name, named) for name, named in CONFIGURATIONS.items()} | HOSTILE


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_setting_is_named_with_what_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(ROOT)  # where paths of a study begin
    content, named = CASES[case]
    path = tmp_path / "study.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        read(path)
    said = str(caught.value)
    assert said.startswith(f"{path}:") and named in said
    assert said.isprintable() and "pydantic" not in said and len(said) < 2100


@pytest.mark.parametrize("kind", ["missing", "folder", "loop"])
def test_a_study_that_is_no_file_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "study.yaml"
    if kind == "folder":
        path.mkdir()
    if kind == "loop":
        path.symlink_to(path)
    with pytest.raises(InputError, match="study.yaml: cannot be read: no such file"):
        read(path)


def test_the_workflows_files_are_safe_from_a_run_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (ROOT, ROOT.parent, ROOT / "config", ROOT / "data/everyday/x"):
        with pytest.raises(InputError, match="store: is (the|among the) workflow's own"):
            validate({"store": str(folder)})


def test_folders_elsewhere_and_with_odd_names_are_allowed(tmp_path: Path) -> None:
    for text in (str(tmp_path / "new/deep"), "results/a b", 'it\'s $(x) "q"', "../beside/é"):
        content = {"results": text, "store": text + "2"}
        assert validate(content).results == text


def test_damaged_artifacts_name_the_file_and_the_remedy(tmp_path: Path) -> None:
    table, listing, emptied = (tmp_path / n for n in ("a.nc", "m.json", "n.json"))
    table.write_bytes(b"\x89HDF\r\n\x1a\n")
    listing.write_text('{"artifacts": [')
    emptied.write_text(json.dumps({"artifacts": [{"language": "en", "path": str(tmp_path / "x")}]}))
    openers: list[tuple[Callable[[Path], Any], Path]] = [
        (open_netcdf, table), (read_manifest, listing), (read_manifest, emptied),
    ]  # fmt: skip
    for opener, path in openers:
        with pytest.raises(InputError, match="delete .* run again") as caught:
            opener(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"pivto": "en"}, "pivto: no such key: did you mean pivot?"),
        ({"languages": ["en", "de", "es", "sw"]}, "datasets.own: questions: no sw.jsonl: add it"),
        ({"datasets": {"own": {"path": "nowhere"}}}, "datasets.own: nowhere"),
        (
            {"models": {"tiny": {"source": "path", "path": "nowhere", "repo": None,
                                 "revision": None}}},
            "models.tiny.path: nowhere is not a folder",
        ),
        ({"results": "../.."}, "results: is the workflow's own folder or one above it"),
        ({"models": {"$(touch PWNED)": {}}}, "models.$(touch PWNED)"),
        ({"datasets": {"{model}": {"source": "lexicon"}}}, "datasets.{model}"),
        ({"datasets": {"own": {"licence": "a\n; touch PWNED"}}}, "datasets.own.licence: character"),
        ({"models": {"tiny": {"repo": "`touch PWNED`"}}}, "models.tiny.repo: String should match"),
    ],
    ids=["unknown-key", "language-without-file", "no-folder", "no-model", "climbing-results",
         "command-as-slug", "wildcard-as-slug", "licence-of-two-lines", "command-as-repository"],
)  # fmt: skip
def test_snakemake_passes_the_line_on_without_a_traceback(
    unmade: Study, changes: dict[str, Any], named: str
) -> None:
    done = unmade.changed(**changes).snakemake("--cores", "1")
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and len(said) == 1 and named in said[0], done.stderr
    assert not re.search(r"Traceback|Error in|Exception", done.stdout + done.stderr)
    assert not (unmade.folder / "store").exists()
    assert not list(unmade.folder.rglob("PWNED"))


@pytest.mark.parametrize("fault", ["a key twice", "a program"])
def test_what_snakemake_would_take_is_refused_by_the_workflow(unmade: Study, fault: str) -> None:
    """Snakemake reads the file first, and by rules of its own."""
    content, named = HOSTILE[fault]
    (unmade.folder / "hostile.yaml").write_text(str(content), encoding="utf-8")
    done = unmade.python("-m", "snakemake", "--dry-run", "--configfile", "hostile.yaml")
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and len(said) == 1 and "hostile.yaml" in said[0], done.stderr
    assert named.removeprefix(":") in said[0] and "Traceback" not in done.stderr


def checking(file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What `configure.py --check` ends with."""
    monkeypatch.setattr(sys, "argv", ["configure.py", "--check", str(file)])
    try:
        runpy.run_path(str(ROOT / "workflow_scripts/configure.py"), run_name="__main__")
    except SystemExit as ended:
        return str(ended.code)
    return ""


def test_what_snakemake_cannot_read_is_explained_by_a_check_that_runs_nothing(
    unmade: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = unmade.folder / "torn.yaml"
    path.write_text("study: a\nlanguages: [en, de\n", encoding="utf-8")
    done = unmade.python("-m", "snakemake", "--dry-run", "--configfile", path.name)
    assert done.returncode == 1 and "not valid JSON or YAML" in done.stdout + done.stderr
    program = unmade.folder / "evil.yaml"
    program.write_text("__use_yte__: true\nstudy: ?open('PWNED', 'w')\n", encoding="utf-8")
    checked = unmade.python("workflow_scripts/configure.py", "--check", path.name)
    assert checked.returncode == 1 and "Traceback" not in checked.stderr
    assert re.fullmatch(r"error: torn\.yaml:3:1: cannot be read: .*\n", checked.stderr)
    assert "__use_yte__" in checking(program, monkeypatch)
    assert not (unmade.folder / "PWNED").exists()
    assert checking(ROOT / "config/config.yaml", monkeypatch) == ""


def test_a_check_reads_the_questions_and_counts_them_for_the_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def faults() -> list[str]:
        """But for the model, which is not there."""
        assert checking(file, monkeypatch) == "1"
        lines = capsys.readouterr().err.splitlines()
        return [x for x in lines if x.startswith("error: ") and "models.tiny" not in x]

    write_questions(tmp_path / "questions", ["en", "de", "es"])
    study = SMALL | {"datasets": {"own": SMALL["datasets"]["own"]}}
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(merged(study, {"statistics": {"folds": 10}})), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert faults() == []
    file.write_text(json.dumps(merged(study, {"statistics": {"folds": 11}})), encoding="utf-8")
    (said,) = faults()
    assert said.startswith("error: datasets.own: 30 items in 11 folds leave 2 in one, 3 are needed")
    (tmp_path / "questions/de.jsonl").write_text("{\n", encoding="utf-8")
    assert "de.jsonl:1: (de) not JSON" in faults()[0]


def torn(records: list[dict[str, Any]]) -> None:
    records[3]["answer"] = "B"


def many_choices(records: list[dict[str, Any]]) -> None:
    records[0]["choices"] += [f"choice {n}" for n in range(8)]


def few_items(records: list[dict[str, Any]]) -> None:
    del records[2:]


def test_a_dry_run_names_every_mistake_in_the_questions(unmade: Study, tmp_path: Path) -> None:
    """Those of `configure.py --check` that need no tokenizer, all at once, where a job extracts."""
    study = unmade.copy(tmp_path / "tree")
    for mistake in (torn, many_choices, few_items):
        shutil.copytree(study.folder / "questions", study.folder / mistake.__name__)
        for path in (study.folder / mistake.__name__).iterdir():
            records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            mistake(records)
            path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    names = ("own", "torn", "many_choices", "few_items")
    datasets = {name: {"source": "jsonl", "path": name} for name in names[1:]}
    whole = study.changed(datasets=datasets, extraction={"letters": True})
    done = whole.snakemake("--dry-run")
    said = sorted(line for line in done.stderr.splitlines() if line.startswith("error: "))
    named = (
        "few_items: 2 items in 2 clusters",
        'torn/en.jsonl:4: item "',
        "12 choices, letters end at J",
    )
    assert done.returncode == 1 and len(said) == len(named), done.stdout + done.stderr
    assert all(any(part in line for line in said) for part in named), said
    assert "Traceback" not in done.stderr and "Job stats" not in done.stdout


def test_snakemake_elsewhere_says_where_to_run(unmade: Study, tmp_path: Path) -> None:
    study = str(unmade.folder / "config/config.yaml")
    options = ["--directory", str(tmp_path), "--configfile", study]
    done = unmade.python("-m", "snakemake", "--dry-run", *options)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"error: run Snakemake in {unmade.folder}" in done.stderr


def test_a_run_stops_at_a_wrong_question_before_the_model(unmade: Study, tmp_path: Path) -> None:
    study = unmade.copy(tmp_path / "tree")
    path = study.folder / "questions/de.jsonl"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3].replace("answer", "anwser"), "utf-8")
    target = study.snakemake("--cores", "1", "results/tiny/own/behaviour.nc")
    assert target.returncode != 0
    (log,) = (study.folder / "logs/tiny/own").glob("extract-*.log")
    said = log.read_text("utf-8")
    assert re.fullmatch(r'error: questions/de\.jsonl:4: item "[\w-]+" \(de\): .*"anwser".*\n', said)
    assert f"{said}" in target.stderr and "Traceback" not in target.stderr


def test_a_run_stops_at_too_few_questions_for_the_folds_before_the_model(
    unmade: Study, tmp_path: Path
) -> None:
    study = unmade.copy(tmp_path / "tree").changed(statistics={"folds": 11})
    assert study.snakemake("--cores", "1", "results/tiny/own/behaviour.nc").returncode != 0
    (log,) = (study.folder / "logs/tiny/own").glob("extract-*.log")
    said = log.read_text("utf-8")
    assert said.startswith("error: datasets.own: 30 items in 11 folds leave 2 in one, 3 are needed")
    assert said.count("\n") == 1
