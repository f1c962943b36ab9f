"""The check before the hours: mistakes, each named in a line, and what it says of a study."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isogloss.errors import InputError
from isogloss.model.tiny_models import save_tiny_model
from isogloss.preflight import Findings, check_disk, check_study, quick_check
from isogloss.study.schema import validate

WORDS = "ant bee cow dog elk fox gnu hen ibis jay koi lynx".split()


def records(language: str) -> list[dict[str, Any]]:
    return [
        {
            "item_id": f"q{n}",
            "question": f"{language} {word}?",
            "choices": [f"{word} {language}", f"{n} {language}", f"no {word} {language}"],
            "answer": n % 3,
        }
        for n, word in enumerate(WORDS)
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny_model(folder, "gemma3")
    return folder


@pytest.fixture
def study(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A study without a fault, in its own folder; a test changes one thing."""
    monkeypatch.chdir(tmp_path)
    for language in ("en", "nl", "fr"):
        write(tmp_path / f"questions/{language}.jsonl", records(language))
    return {
        "languages": ["en", "nl", "fr"],
        "models": {
            "tiny": {"source": "path", "path": str(model), "family": "tiny", "parameters": 60000}
        },
        "datasets": {"own": {"source": "jsonl", "path": "questions"}},
        "extraction": {"control": ["nl", "fr"], "lens_layers": 2},
        "statistics": {"folds": 2},
        "steering": {"fit_on": ["own"], "evaluate_on": ["own"], "languages": ["nl", "fr"]},
        "cache": "cache",
    }


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def edit(language: str, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    rows = records(language)
    change(rows)
    write(Path(f"questions/{language}.jsonl"), rows)


def check(study: dict[str, Any]) -> Findings:
    try:
        return check_study(validate(study, "study.yaml"))
    except InputError as error:
        return Findings(faults=[str(error)])


def test_a_study_without_a_fault_has_none_and_says_what_it_can_show(study: dict[str, Any]) -> None:
    findings = check(study)
    assert not findings.faults and not findings.to_fetch and not findings.warnings
    assert findings.facts == [
        "own: 12 questions in 12 clusters; a change of accuracy under steering is detected from 55"
        " points on in one language, if 10% of the answers change",
        "no family has three sizes: the paper's claims about size will stay undecided",
    ]


def test_what_a_study_can_show_is_at_its_own_level(study: dict[str, Any]) -> None:
    study["statistics"] |= {"confidence": 0.99}
    assert "is detected from 65 points on" in check(study).facts[0]


def test_questions_that_show_one_another_are_one_cluster(study: dict[str, Any]) -> None:
    study |= {"prompt": {"mode": "few_shot", "shots": 2}, "steering": None}
    findings = check(study)
    assert not findings.faults
    assert findings.facts[0].startswith("own: 12 questions in 10 clusters")


def no_model(study: dict[str, Any]) -> None:
    study["models"]["tiny"]["path"] = "elsewhere"


def no_tokenizer(study: dict[str, Any]) -> None:
    folder = Path("bare")
    folder.mkdir()
    source = Path(study["models"]["tiny"]["path"])
    for name in ("config.json", "model.safetensors"):
        (folder / name).symlink_to(source / name)
    study["models"]["tiny"]["path"] = "bare"


def torn_configuration(study: dict[str, Any]) -> None:
    folder = Path("torn")
    folder.mkdir()
    for file in Path(study["models"]["tiny"]["path"]).iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "config.json").unlink()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    study["models"]["tiny"]["path"] = "torn"


def long_context(study: dict[str, Any]) -> None:
    edit("nl", lambda rows: rows[3].update(context="very long " * 3000))


def no_token(study: dict[str, Any]) -> None:
    edit("fr", lambda rows: rows[2]["choices"].__setitem__(1, " "))


def special_token(study: dict[str, Any]) -> None:
    edit("fr", lambda rows: rows[2].update(question="what is <eos> ?"))


def many_choices(study: dict[str, Any]) -> None:
    for language in study["languages"]:
        more = [f"{n} {language}" for n in range(20, 28)]
        edit(language, lambda rows, more=more: rows[0]["choices"].extend(more))
    study["extraction"]["letters"] = True


def letters_as_answers(study: dict[str, Any]) -> None:
    edit("en", lambda rows: rows[0].update(answer="B"))


def csv_folder(study: dict[str, Any]) -> None:
    for path in Path("questions").iterdir():
        path.rename(path.with_suffix(".csv"))


def missing_language(study: dict[str, Any]) -> None:
    Path("questions/nl.jsonl").unlink()


def few_items(study: dict[str, Any]) -> None:
    for language in study["languages"]:
        write(Path(f"questions/{language}.jsonl"), records(language)[:1])


def dutch(study: dict[str, Any]) -> None:
    study["languages"][1] = "dutch"


def japan(study: dict[str, Any]) -> None:
    study["languages"][1] = "jp"


def unwritable_place(study: dict[str, Any]) -> None:
    study["sharing"] = {"kind": "fs", "folder": "shared/of/nobody"}


def same_questions(study: dict[str, Any]) -> None:
    study["datasets"]["again"] = {"source": "jsonl", "path": "questions"}
    study["steering"]["evaluate_on"] = ["again"]


@pytest.mark.parametrize(
    ("mistake", "named"),
    [
        (no_model, "models.tiny.path: elsewhere is not a folder"),
        (no_tokenizer, "no tokenizer (tokenizer.json"),
        (torn_configuration, "config.json is not usable"),
        (long_context, 'own with tiny: item "q3" (nl): 27022 tokens'),
        (no_token, 'item "q2" (fr)'),
        (special_token, 'item "q2" (fr): spells "<eos>"'),
        (many_choices, "11 choices, letters end at J"),
        (letters_as_answers, 'en.jsonl:1: item "q0" (en): "answer" is not a whole number'),
        (csv_folder, "the folder has en.csv, which `source: table` reads"),
        (missing_language, "questions: no nl.jsonl: add it, or choose from en, fr"),
        (few_items, "1 items in 1 clusters (items with a text in common), 2 folds need 2"),
        (dutch, 'language "dutch": not a language tag: did you mean nl?'),
        (japan, 'language "jp": not a language tag: did you mean ja?'),
        (unwritable_place, "shared/of/nobody"),
        (same_questions, "steering"),
    ],
)
def test_a_mistake_is_one_line(
    study: dict[str, Any], mistake: Callable[[dict[str, Any]], None], named: str
) -> None:
    mistake(study)
    faults = check(study).faults
    assert any(named in fault for fault in faults), faults
    assert all("\n" not in fault for fault in faults)


def test_what_is_seldom_meant_is_a_warning(study: dict[str, Any]) -> None:
    study["datasets"]["own"]["max_items"] = 40
    study["extraction"] |= {"control": ["nl", "sw"], "lens_layers": 30}
    first, second, third, fourth = sorted(check(study).warnings)
    assert first == "datasets.own.max_items: 40, there are 12: all are taken"
    assert second.startswith("extraction.control: nl of own have no control language")
    assert third == "extraction.control: no dataset has sw: it is left out"
    assert fourth.startswith("extraction.lens_layers: 30, tiny has 5, the embedding among them")


def test_every_fault_is_named_at_once(study: dict[str, Any]) -> None:
    study["models"]["other"] = dict(study["models"]["tiny"], path="elsewhere")
    special_token(study)
    assert len(check(study).faults) == 2


def test_what_has_to_be_fetched_is_named(study: dict[str, Any]) -> None:
    study["models"]["far"] = {
        "source": "hub", "repo": "owner/name", "revision": "0" * 40, "family": "far",
        "parameters": 1,
    }  # fmt: skip
    assert check(study).to_fetch == ["the model far"]


def test_weights_whose_digest_is_pinned_may_be_elsewhere(study: dict[str, Any]) -> None:
    study["models"]["tiny"] |= {"path": "elsewhere", "sha256": "0" * 64}
    findings = check(study)
    assert not findings.faults and len(findings.warnings) == 1
    assert "models.tiny.path: elsewhere is not here" in findings.warnings[0]
    assert not quick_check(validate(study, "study.yaml")).faults
    del study["models"]["tiny"]["sha256"]
    (fault,) = quick_check(validate(study, "study.yaml")).faults
    assert "models.tiny.path: elsewhere is not a folder" in fault


def test_a_disk_too_small_is_refused(tmp_path: Path) -> None:
    check_disk(tmp_path / "store", 1.0)
    with pytest.raises(
        InputError, match="store.* needs 1000000.0 TB.* are free: keep it on another"
    ):
        check_disk(tmp_path / "store", 1e18)
