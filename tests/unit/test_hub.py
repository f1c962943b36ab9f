"""Questions of the hub: folders in its layout, snapshots, tables as they are published."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from isogloss.errors import InputError
from isogloss.questions.columns import record_of_row
from isogloss.questions.datasets import dataset_files, is_local, load_dataset
from isogloss.questions.hub import load_hub
from isogloss.study.schema import validate

README = (Path(__file__).parents[2] / "config/README.md").read_text("utf-8")
STUDIES = [
    study
    for block in re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    if "datasets" in (study := yaml.safe_load(block))
]
PUBLISHED: dict[str, dict[str, Any]] = {
    name: dataset
    for study in STUDIES
    for name, dataset in study["datasets"].items()
    if dataset["source"] == "hub"
}
"""Published questions of the hub, as the document on the configuration says them."""


def hub_folder(path: Path, tables: dict[str, list[dict[str, Any]]]) -> Path:
    """A repository of the hub: one configuration a table, declared in its card."""
    lines = ["---", "configs:"]
    for config, rows in tables.items():
        (path / config).mkdir(parents=True, exist_ok=True)
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        (path / config / "test.jsonl").write_text(text, encoding="utf-8")
        lines += [f"- config_name: {config}", "  data_files:", "  - split: test"]
        lines += [f"    path: {config}/test.jsonl"]
    (path / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")
    return path


@pytest.fixture
def offline_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's own cache, empty, and no network."""
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_document_shows_a_whole_study_of_published_questions(name: str) -> None:
    study = next(study for study in STUDIES if name in study["datasets"])
    dataset = validate(study).datasets[name].model_dump(mode="json", exclude_none=True)
    assert dataset["configs"] == PUBLISHED[name]["configs"]


def belebele_row(number: int, text: str, gold: str = "1") -> dict[str, Any]:
    return {
        "link": "https://en.wikinews.org/x",
        "question_number": number,
        "flores_passage": f"{text} passage.",
        "question": f"{text} question {number}?",
        **{f"mc_answer{i}": f"{text} {i}" for i in range(1, 5)},
        "correct_answer_num": gold,
        "dialect": "eng_Latn",
        "ds": "2023-05-03",
    }


@pytest.mark.usefixtures("offline_cache")
def test_belebele_maps_passages_answers_from_one_and_clusters(tmp_path: Path) -> None:
    tables = {
        code: [belebele_row(1, text, "4"), belebele_row(2, text)]
        for code, text in (("eng_Latn", "An"), ("swh_Latn", "Na"))
    }
    spec = PUBLISHED["belebele"] | {"path": str(hub_folder(tmp_path / "belebele", tables))}
    items = load_dataset(spec, ["swh"], "belebele")
    assert items.languages == ("sw",)
    assert items.item_ids == ("https://en.wikinews.org/x:1", "https://en.wikinews.org/x:2")
    assert items.answers.tolist() == [3, 0]
    assert items.items["sw"][0].context == "Na passage."
    assert items.items["sw"][0].choices == ("Na 1", "Na 2", "Na 3", "Na 4")
    assert items.clusters.tolist() == [0, 0]
    assert items.licence == "CC-BY-SA-4.0"


@pytest.mark.usefixtures("offline_cache")
def test_xcopa_maps_two_choices_and_answers_from_nought(tmp_path: Path) -> None:
    row = {"premise": "P.", "choice1": "A.", "choice2": "B.", "question": "cause", "label": 1}
    table = [{**row, "idx": 7, "changed": False}]
    spec = PUBLISHED["xcopa"] | {
        "path": str(hub_folder(tmp_path / "xcopa", {"et": table, "sw": table}))
    }
    item = load_dataset(spec, ["sw"], "xcopa").items["sw"][0]
    assert (item.item_id, item.context, item.answer, item.category) == ("7", "P.", 1, "cause")


@pytest.mark.usefixtures("offline_cache")
def test_mmmlu_maps_letters_and_takes_english_from_elsewhere(tmp_path: Path) -> None:
    french = {"Question": "Q ?", "A": "a", "B": "b", "C": "c", "D": "d", "Answer": "C"}
    english = {"question": "Q?", "choices": ["a", "b", "c", "d"], "answer": 2, "subject": "art"}
    translated = hub_folder(tmp_path / "mmmlu", {"FR_FR": [{**french, "Subject": "art"}]})
    original = hub_folder(tmp_path / "mmlu", {"all": [english]})
    configs = PUBLISHED["mmmlu"]["configs"]
    spec = PUBLISHED["mmmlu"] | {
        "path": str(translated),
        "configs": {"fr": "FR_FR", "en": configs["en"] | {"path": str(original)}},
    }
    items = load_dataset(spec, ["en", "fr"], "mmmlu")
    assert items.item_ids == ("0",)
    assert items.answers.tolist() == [2]
    assert items.items["fr"][0].category == items.items["en"][0].category == "art"


@pytest.mark.usefixtures("offline_cache")
def test_global_mmlu_maps_letters_and_the_cultural_flag(tmp_path: Path) -> None:
    def row(name: str, text: str, answer: str, flag: str | None) -> dict[str, Any]:
        options = {f"option_{letter}": f"{text} {letter}" for letter in "abcd"}
        labels = {"cultural_sensitivity_label": flag, "is_annotated": flag is not None}
        there = {"sample_id": name, "subject": "art", "subject_category": "Humanities"}
        return {**there, "question": f"{text}?", **options, "answer": answer, **labels}

    english = [row("art/test/0", "Who", "D", "CS"), row("art/test/1", "Who", "B", "CA")]
    german = [row("art/test/1", "Wer", "B", "CA"), row("art/test/0", "Wer", "D", "CS")]
    english.append(row("art/test/2", "Who", "A", None))
    german.append(row("art/test/2", "Wer", "A", None))
    folder = hub_folder(tmp_path / "global", {"en": english, "de": german})
    spec = PUBLISHED["global_mmlu"] | {"path": str(folder), "configs": {"en": "en", "de": "de"}}
    items = load_dataset(spec, ["de", "en"], "global_mmlu")
    assert items.answers.tolist() == [3, 1, 0]
    german_items = items.items["de"]
    assert german_items[0].choices == ("Wer a", "Wer b", "Wer c", "Wer d")
    assert [item.category or "" for item in german_items] == ["CS", "CA", ""]


@pytest.mark.usefixtures("offline_cache")
def test_m_arc_has_three_to_five_options(tmp_path: Path) -> None:
    def row(name: str, options: str, answer: str) -> dict[str, Any]:
        cells = {
            f"option_{letter}": f"choice {letter}" if letter in options else None
            for letter in "abcde"
        }
        return {"id": name, "instruction": f"{name}?", **cells, "answer": answer}

    rows = [row("x/0", "abcde", "E"), row("x/1", "abc", "C"), row("x/2", "abcd", "A")]
    tables = {"en": [*rows, row("x/3", "ab", "B")], "zh": rows[::-1]}
    folder = hub_folder(tmp_path / "arc", tables)
    columns = {
        "item_id": ["id"],
        "question": "{instruction}",
        "choices": [f"option_{letter}" for letter in "abcde"],
        "answer": "answer",
        "answer_from": "letter",
    }
    spec: dict[str, Any] = {
        "source": "hub",
        "path": str(folder),
        "configs": {"en": "en", "zh": "zh"},
        "columns": columns,
    }
    with pytest.raises(InputError, match=r'item "x/3" \(zh\): missing in zh'):
        load_dataset(spec, ["en", "zh"], "m_arc")
    items = load_dataset(spec | {"exclude": {"ids": ["x/3"]}}, ["en", "zh"], "m_arc")
    rule = {"exclude": {"rules": ["incomplete"]}}
    by_rule = load_dataset(spec | rule, ["zh"], "m_arc")  # English is read as the reference
    assert by_rule.items["zh"] == items.items["zh"]
    assert by_rule.excluded == {"incomplete": 1}
    assert items.item_ids == ("x/0", "x/1", "x/2")
    assert items.n_choices.tolist() == [5, 3, 4]
    assert items.answers.tolist() == [4, 2, 0]


@pytest.mark.usefixtures("offline_cache")
def test_xstory_cloze_joins_four_sentences_and_has_two_endings(tmp_path: Path) -> None:
    def row(name: str, text: str, answer: int) -> dict[str, Any]:
        sentences = {f"input_sentence_{i}": f"{text} {i}." for i in range(1, 5)}
        endings = {"sentence_quiz1": f"{text} won.", "sentence_quiz2": f"{text} lost."}
        return {"story_id": name, **sentences, **endings, "answer_right_ending": answer}

    tables = {
        code: [row("s-1", text, 2), row("s-2", text, 1)]
        for code, text in (("en", "A"), ("sw", "B"))
    }
    folder = hub_folder(tmp_path / "story", tables)
    card = (folder / "README.md").read_text().replace("split: test", "split: eval")
    (folder / "README.md").write_text(card)
    spec = PUBLISHED["xstory_cloze"] | {"path": str(folder), "configs": {"en": "en", "sw": "sw"}}
    items = load_dataset(spec, ["en", "sw"], "xstory_cloze")
    assert items.items["sw"][0].question == "B 1. B 2. B 3. B 4."
    assert items.items["sw"][0].choices == ("B won.", "B lost.")
    assert items.answers.tolist() == [1, 0]


@pytest.mark.usefixtures("offline_cache")
def test_mgsm_is_refused_until_it_has_choices(tmp_path: Path) -> None:
    row = {"answer": None, "answer_number": 18, "equation_solution": None}
    tables = {code: [{"question": f"{code}: 9 x 2?", **row}] for code in ("en", "sw")}
    spec: dict[str, Any] = {
        "source": "hub",
        "path": str(hub_folder(tmp_path / "mgsm", tables)),
        "configs": {"en": "en", "sw": "sw"},
    }
    columns: dict[str, Any] = {
        "question": "{question}",
        "answer": "answer_number",
        "answer_from": "text",
    }
    with pytest.raises(InputError, match='no "choices": .* questions without choices, as MGSM'):
        load_dataset(spec | {"columns": columns}, ["en"], "mgsm")
    with pytest.raises(InputError, match="has 1 choices: give at least 2"):
        load_dataset(spec | {"columns": columns | {"choices": ["answer_number"]}}, ["en"], "mgsm")
    copied = {code: [{**rows[0], "wrong_1": 11, "wrong_2": 16}] for code, rows in tables.items()}
    spec["path"] = str(hub_folder(tmp_path / "copy", copied))
    columns["choices"] = ["wrong_1", "answer_number", "wrong_2"]
    item = load_dataset(spec | {"columns": columns}, ["en", "sw"], "mgsm").items["sw"][0]
    assert (item.question, item.choices, item.answer) == ("sw: 9 x 2?", ("11", "18", "16"), 1)


def include_rows(text: str, answers: list[int]) -> list[dict[str, Any]]:
    place = {"language": text, "country": text, "domain": "Law", "subject": "Law"}
    options = {f"option_{letter}": f"{text} {letter}" for letter in "abcd"}
    return [
        {**place, "level": "", "question": f"{text} {n}?", **options, "answer": answer}
        for n, answer in enumerate(answers)
    ]


INCLUDE = {
    "source": "hub",
    "configs": {"de": "German", "el": "Greek"},
    "columns": {
        "question": "{question}",
        "choices": ["option_a", "option_b", "option_c", "option_d"],
        "answer": "answer",
        "answer_from": "0",
    },
}


@pytest.mark.usefixtures("offline_cache")
@pytest.mark.parametrize("greek", [[0, 2, 3, 3, 1, 2, 0, 1], [0, 2, 3, 3, 1, 2, 0, 1, 1, 3]])
def test_include_is_refused_since_its_rows_are_other_questions(
    tmp_path: Path, greek: list[int]
) -> None:
    german = [0, 1, 2, 3, 0, 1, 2, 3]
    tables = {"German": include_rows("Was", german), "Greek": include_rows("Ti", greek)}
    spec = INCLUDE | {"path": str(hub_folder(tmp_path / "include", tables))}
    message = (
        r'\(Greek, test\):1: item "1" \(el\): the answer is 2, in de it is 1, and 6 of 8 rows'
        " differ so: rows are not the same questions across languages: use parallel data"
    )
    with pytest.raises(InputError, match=message):
        load_dataset(spec, ["de", "el"], "include")


@pytest.mark.usefixtures("offline_cache")
def test_rows_without_ids_are_never_incomplete(tmp_path: Path) -> None:
    tables = {"eng": quiz("Which", 4), "swh": quiz("Ipi", 3)}
    spec = QUIZ | {"path": str(hub_folder(tmp_path / "quiz", tables))}
    with pytest.raises(InputError, match="exclude.rules: incomplete: .* give columns.item_id"):
        load_dataset(spec | {"exclude": {"rules": ["incomplete"]}}, ["en", "sw"], "quiz")


@pytest.mark.usefixtures("offline_cache")
@pytest.mark.parametrize(
    ("greek", "message"),
    [
        ([0, 1, 2, 3, 0, 1, 2, 0], 'item "7" .el.: the answer is 0, in de it is 3: give every'),
        ([0, 1, 2, 3, 0, 1, 2], 'item "7" .el.: missing in el .1 such.: give every'),
    ],
)
def test_a_wrong_or_missing_row_of_parallel_data_is_named_as_that(
    tmp_path: Path, greek: list[int], message: str
) -> None:
    german = [0, 1, 2, 3, 0, 1, 2, 3]
    tables = {"German": include_rows("Was", german), "Greek": include_rows("Ti", greek)}
    spec = INCLUDE | {"path": str(hub_folder(tmp_path / "include", tables))}
    with pytest.raises(InputError, match=message):
        load_dataset(spec, ["de", "el"], "include")


@pytest.mark.usefixtures("offline_cache")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"languages": ["de"]}, r"no configuration for de: add it to configs, which has en"),
        ({"split": "dev"}, r"cannot be had"),
        ({"columns": {"question": "{nothing}"}}, r'no column "nothing"'),
        ({"columns": {"choices": ["mc_answer1", "x"]}}, r'no column "x"'),
        ({"columns": {"answer_from": "2"}}, r'answer_from is "2": use 0, 1, letter'),
        ({"columns": {"answer_from": "letter"}}, r'the answer is "4": check answer_from'),
        ({"columns": {"answer_from": "0"}}, r"the answer is 4, the choices are 0 to 3"),
        ({"columns": {"answer": "dialect"}}, r'the answer is "eng_Latn": check answer_from'),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = hub_folder(tmp_path / "belebele", {"eng_Latn": [belebele_row(1, "An", "4")]})
    columns = PUBLISHED["belebele"]["columns"] | changes.pop("columns", {})
    options = {"languages": ["en"], **changes}
    with pytest.raises(InputError, match=message):
        load_hub(str(folder), {"en": "eng_Latn"}, columns=columns, name="belebele", **options)


@pytest.mark.usefixtures("offline_cache")
def test_an_incomplete_mapping_is_refused(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "belebele", {"eng_Latn": [belebele_row(1, "An")]})
    with pytest.raises(InputError, match='columns has no "choices"'):
        load_hub(str(folder), {"en": "eng_Latn"}, ["en"], {"question": "{question}"}, "b")


@pytest.mark.usefixtures("offline_cache")
def test_a_dataset_that_is_not_there_is_refused_with_a_remedy(tmp_path: Path) -> None:
    columns = PUBLISHED["xcopa"]["columns"]
    with pytest.raises(InputError, match=r"cannot be had .*snakemake --cores 1 download"):
        load_hub(str(tmp_path / "none"), {"en": "en"}, ["en"], columns, "none")


# --- what is read is what the files say


QUIZ: dict[str, Any] = {
    "source": "hub",
    "configs": {"en": "eng", "sw": "swh"},
    "columns": {
        "question": "{question}",
        "choices": ["A", "B"],
        "answer": "answer",
        "answer_from": "letter",
    },
}


def quiz(word: str, n: int = 3) -> list[dict[str, Any]]:
    row = {"A": "wet", "B": "dry", "answer": "B"}
    return [{"question": f"{word} {number}?", **row} for number in range(n)]


@pytest.mark.usefixtures("offline_cache")
def test_an_edited_file_and_another_folder_of_the_same_name_give_their_own_rows(
    tmp_path: Path,
) -> None:
    folders = {}
    for name in ("a", "b"):
        tables = {"eng": quiz(f"Which {name}"), "swh": quiz("Ipi")}
        folders[name] = hub_folder(tmp_path / name / "questions", tables)
    loaded = {
        name: load_dataset(QUIZ | {"path": str(folder)}, ["en", "sw"], "quiz")
        for name, folder in folders.items()
    }
    assert loaded["a"].items["en"][0].question == "Which a 0?"
    assert loaded["b"].items["en"][0].question == "Which b 0?"
    assert loaded["a"].digest("en") != loaded["b"].digest("en")
    assert loaded["a"].digest("sw") == loaded["b"].digest("sw")

    file = folders["a"] / "eng/test.jsonl"
    file.write_text(file.read_text().replace("Which a 1?", "Which is it?"))
    again = load_dataset(QUIZ | {"path": str(folders["a"])}, ["en", "sw"], "quiz")
    assert again.items["en"][1].question == "Which is it?"
    assert again.digest("en") != loaded["a"].digest("en")


def snapshot(cache: Path, commit: str, word: str, branch: str | None = None) -> None:
    """A commit of maker/quiz as the hub's client leaves it in its cache."""
    place = cache / "datasets--maker--quiz"
    hub_folder(place / "snapshots" / commit, {"eng": quiz(word), "swh": quiz("Ipi")})
    (place / "refs").mkdir(exist_ok=True)
    if branch:
        (place / "refs" / branch).write_text(commit)


def test_a_revision_gives_its_own_rows_whatever_was_read_before(offline_cache: Path) -> None:
    first, second = "1" * 40, "2" * 40
    snapshot(offline_cache, first, "Old", branch="v1")
    snapshot(offline_cache, second, "New", branch="main")
    spec = QUIZ | {"path": "maker/quiz"}
    for revision, word in ((second, "New"), (first, "Old"), ("v1", "Old"), (None, "New")):
        pinned = spec | ({"revision": revision} if revision else {})
        items = load_dataset(pinned, ["en"], "quiz")
        assert items.items["en"][0].question == f"{word} 0?", revision
    with pytest.raises(InputError, match=r"maker/quiz \(eng, test\): cannot be had .*download"):
        load_dataset(spec | {"revision": "3" * 40}, ["en"], "quiz")


def test_files_of_a_local_folder_are_known_and_a_repository_has_none(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "quiz", {"eng": quiz("Which"), "swh": quiz("Ipi")})
    (folder / ".cache").mkdir()
    (folder / ".cache/x").write_text("")
    spec = QUIZ | {"path": str(folder)}
    names = [str(file.relative_to(folder)) for file in dataset_files(spec, ["sw"])]
    assert names == ["README.md", "eng/test.jsonl", "swh/test.jsonl"]
    assert is_local(spec, ["sw"])
    assert not is_local(QUIZ | {"path": "maker/quiz"}, ["sw"])
    apart = {"configs": {"en": {"path": "maker/quiz", "config": "eng"}, "sw": "swh"}}
    assert not is_local(spec | apart, ["sw"])


# --- tables as they are published


def csv_folder(path: Path, tables: dict[str, list[list[str]]]) -> Path:
    """A repository whose configurations are CSV files."""
    folder = hub_folder(path, {config: [] for config in tables})
    card = (folder / "README.md").read_text().replace("test.jsonl", "test.csv")
    (folder / "README.md").write_text(card)
    for config, rows in tables.items():
        (folder / config / "test.jsonl").unlink()
        with (folder / config / "test.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return folder


@pytest.mark.usefixtures("offline_cache")
def test_words_and_numbers_in_csv_are_text_as_they_stand_there(tmp_path: Path) -> None:
    rows = [["question", "A", "B", "answer"], ["How many?", "007", "7.50", "A"]]
    folder = csv_folder(tmp_path / "quiz", {"eng": rows, "swh": rows})
    item = load_dataset(QUIZ | {"path": str(folder)}, ["en"], "quiz").items["en"][0]
    assert item.choices == ("007", "7.50")
    rows = [["question", "A", "B", "answer"], ["Which?", "None", "N/A", "A"], ["?", "a", "b", "B"]]
    folder = csv_folder(tmp_path / "words", {"eng": rows, "swh": rows})
    item = load_dataset(QUIZ | {"path": str(folder)}, ["en"], "quiz").items["en"][0]
    assert item.choices == ("None", "N/A")


@pytest.mark.usefixtures("offline_cache")
def test_numbers_in_json_are_text_but_what_has_no_text_is_refused(tmp_path: Path) -> None:
    whole = [{"question": "2 + 2?", "A": 4, "B": 5, "answer": "A"}]
    folder = hub_folder(tmp_path / "whole", {"eng": whole, "swh": whole})
    item = load_dataset(QUIZ | {"path": str(folder)}, ["en"], "quiz").items["en"][0]
    assert item.choices == ("4", "5")
    broken = [whole[0] | {"A": 0.1}]
    folder = hub_folder(tmp_path / "broken", {"eng": broken, "swh": broken})
    with pytest.raises(InputError, match=r'\(eng, test\):0 \(en\): column "A" holds a float, 0.1'):
        load_dataset(QUIZ | {"path": str(folder)}, ["en"], "quiz")


@pytest.mark.usefixtures("offline_cache")
def test_empty_option_columns_at_the_end_are_no_options(tmp_path: Path) -> None:
    rows = [
        {"question": "q", "A": "a", "B": "b", "C": "c", "answer": "C"},
        {"question": "r", "A": "a", "B": "b", "C": None, "answer": "B"},
    ]
    columns = QUIZ["columns"] | {"choices": ["A", "B", "C"]}
    folder = hub_folder(tmp_path / "quiz", {"eng": rows, "swh": rows})
    items = load_dataset(QUIZ | {"path": str(folder), "columns": columns}, ["sw"], "quiz")
    assert items.n_choices.tolist() == [3, 2]
    assert items.answers.tolist() == [2, 1]
    rows[1] |= {"B": None, "C": "c"}
    folder = hub_folder(tmp_path / "hole", {"eng": rows, "swh": rows})
    with pytest.raises(InputError, match=r'test\):1 \(en\): column "B" is empty and "C" is not'):
        load_dataset(QUIZ | {"path": str(folder), "columns": columns}, ["sw"], "quiz")


def arc_row(key: str, labels: str = "ABC") -> dict[str, Any]:
    choices = {"text": ["bee", "cow", "hen"], "label": list(labels)}
    return {"question": {"stem": f"{key}?"}, "choices": choices, "answerKey": key}


@pytest.mark.usefixtures("offline_cache")
@pytest.mark.parametrize(
    "choices", [{"choices": "choices"}, {"choices": "choices.text", "labels": "choices.label"}]
)
def test_nested_choices_and_keys_that_are_letters_digits_or_labels(
    tmp_path: Path, choices: dict[str, str]
) -> None:
    # The last row's labels are in another order than the alphabet's: they decide.
    rows = [arc_row("B"), arc_row("3"), arc_row("2", "123"), arc_row("A", "CBA")]
    columns = {"question": "{question.stem}", "answer": "answerKey", "answer_from": "letter"}
    folder = hub_folder(tmp_path / "arc", {"eng": rows, "swh": rows})
    spec = QUIZ | {"path": str(folder), "columns": columns | choices}
    items = load_dataset(spec, ["en"], "arc")
    assert items.answers.tolist() == [1, 2, 1, 2]
    assert items.items["en"][0].question == "B?"
    assert items.items["en"][0].choices == ("bee", "cow", "hen")


def answer_of(labels: str, answer: Any) -> Any:
    """The answer of a row whose choices x, y, z have labels."""
    columns = {"question": "{q}", "choices": "c", "answer": "a", "answer_from": "letter"}
    row = {"q": "?", "c": {"text": ["x", "y", "z"], "label": list(labels)}, "a": answer}
    return record_of_row(row, 0, columns, "here")["answer"]


@pytest.mark.parametrize(
    ("labels", "answer", "place"),
    [("BCD", "b", 0), ("BCD", " C", 1), ("012", 1, 1), ("012", "0", 0), ("BCD", "2", 1)],
)
def test_labels_are_found_however_they_are_written(labels: str, answer: Any, place: int) -> None:
    assert answer_of(labels, answer) == place


@pytest.mark.parametrize(("labels", "answer"), [("BCD", "A"), ("012", 3)])
def test_an_answer_that_is_no_label_is_not_counted_off(labels: str, answer: Any) -> None:
    with pytest.raises(InputError, match="check answer_from"):
        answer_of(labels, answer)


@pytest.mark.usefixtures("offline_cache")
def test_answers_as_text_and_as_labels(tmp_path: Path) -> None:
    rows = [{"question": "q", "options": ["a", "b"], "marks": ["x", "y"], "answer": "b"}]
    folder = hub_folder(tmp_path / "text", {"eng": rows, "swh": rows})
    columns = {"question": "{question}", "choices": "options", "answer": "answer"}
    spec = QUIZ | {"path": str(folder), "columns": columns | {"answer_from": "text"}}
    assert load_dataset(spec, ["en"], "quiz").answers.tolist() == [1]
    rows = [rows[0] | {"answer": "y"}]
    folder = hub_folder(tmp_path / "label", {"eng": rows, "swh": rows})
    labels = {"labels": "marks", "answer_from": "label"}
    spec = QUIZ | {"path": str(folder), "columns": columns | labels}
    assert load_dataset(spec, ["en"], "quiz").answers.tolist() == [1]
    rows = [rows[0] | {"answer": "z"}]
    folder = hub_folder(tmp_path / "none", {"eng": rows, "swh": rows})
    with pytest.raises(InputError, match='the answer is "z": check answer_from, which is "label"'):
        load_dataset(spec | {"path": str(folder)}, ["en"], "quiz")


@pytest.mark.usefixtures("offline_cache")
def test_rows_are_matched_by_id_and_clusters_keep_the_reference_order(tmp_path: Path) -> None:
    rows = [belebele_row(1, "An", "4"), belebele_row(2, "An", "1"), belebele_row(3, "An", "2")]
    moved = [belebele_row(3, "Na", "2"), belebele_row(1, "Na", "4"), belebele_row(2, "Na", "1")]
    folder = hub_folder(tmp_path / "belebele", {"eng_Latn": rows, "swh_Latn": moved})
    spec = PUBLISHED["belebele"] | {"path": str(folder)}
    items = load_dataset(spec, ["sw", "en"], "belebele")
    assert [item.question for item in items.items["sw"]] == [f"Na question {n}?" for n in (1, 2, 3)]
    assert items.answers.tolist() == [3, 0, 1]
    without_ids = {k: v for k, v in spec["columns"].items() if k != "item_id"}
    with pytest.raises(
        InputError, match=r'test\):0: item "0" \(sw\): the answer is 1, in en it is 3'
    ):
        load_dataset(spec | {"columns": without_ids}, ["sw", "en"], "belebele")


@pytest.mark.usefixtures("offline_cache")
def test_items_are_left_out_by_id_and_by_rule_in_every_language(tmp_path: Path) -> None:
    english, swahili = quiz("Which", 6), quiz("Ipi", 6)
    swahili[2]["A"] = swahili[2]["B"]
    folder = hub_folder(tmp_path / "quiz", {"eng": english, "swh": swahili})
    spec = QUIZ | {"path": str(folder)}
    with pytest.raises(
        InputError, match=r'item "2" \(sw\): the choice "dry" is there twice.*exclude'
    ):
        load_dataset(spec, ["en", "sw"], "quiz")
    spec |= {"exclude": {"ids": ["0", "5"], "rules": ["repeated_choices", "empty_choices"]}}
    items = load_dataset(spec, ["en", "sw"], "quiz")
    assert items.item_ids == ("1", "3", "4")
    assert items.excluded == {"ids": 2, "repeated_choices": 1, "empty_choices": 0}
    with pytest.raises(InputError, match='exclude.ids has "99", which no item is'):
        load_dataset(spec | {"exclude": {"ids": ["99"]}}, ["en"], "quiz")
