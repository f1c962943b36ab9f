"""Questions in local tables: CSV, TSV, Parquet and saved datasets give the same items."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from isogloss.errors import InputError
from isogloss.questions.datasets import dataset_files, load_dataset

ROWS = [
    {"item_id": "a", "question": "What do bees make?", "choice_1": "honey", "choice_2": "007",
     "answer": "0", "category": "food"},
    {"item_id": "b", "question": "And \"cows\",\nthen?", "choice_1": "None", "choice_2": "milk",
     "answer": "1", "category": "food"},
]  # fmt: skip


def as_csv(rows: list[dict[str, Any]], path: Path) -> None:
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def as_tsv(rows: list[dict[str, Any]], path: Path) -> None:
    lines = ["\t".join(rows[0]), *("\t".join(row.values()).replace("\n", " ") for row in rows)]
    path.with_suffix(".tsv").write_text("\n".join(lines), "utf-8")


def as_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    datasets.Dataset.from_list(rows).to_parquet(str(path.with_suffix(".parquet")))


def as_saved(rows: list[dict[str, Any]], path: Path) -> None:
    datasets.Dataset.from_list(rows).save_to_disk(str(path))


@pytest.mark.parametrize("save", [as_csv, as_tsv, as_parquet, as_saved])
def test_tables_of_any_kind_give_the_items(
    tmp_path: Path, save: Callable[[list[dict[str, Any]], Path], None]
) -> None:
    for language, rows in (("en", ROWS), ("de", ROWS[::-1])):  # rows are matched by id
        save(rows, tmp_path / language)
    spec = {"source": "table", "path": str(tmp_path)}
    items = load_dataset(spec, ["de", "en"], "own")
    assert items.item_ids == ("a", "b") and items.languages == ("de", "en")
    first, second = items.items["de"]
    assert first.choices == ("honey", "007") and second.choices[0] == "None"
    assert second.answer == 1 and second.category == "food"
    assert second.question.split() == ["And", '"cows",', "then?"]
    assert all(file.is_file() for file in dataset_files(spec, ["de", "en"]))


def test_an_empty_cell_names_no_cluster(tmp_path: Path) -> None:
    rows = [
        {"item_id": str(n), "question": f"{n}?", "choice_1": f"a{n}", "choice_2": f"b{n}",
         "answer": "0", "cluster": "text 1" if n < 2 else ""}
        for n in range(5)
    ]  # fmt: skip
    for language in ("en", "de"):
        as_csv(rows, tmp_path / language)
    items = load_dataset({"source": "table", "path": str(tmp_path)}, ["de", "en"], "own")
    assert items.clusters.tolist() == [0, 0, 1, 2, 3]


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    as_csv([{"Frage": "eins?", "A": "ja", "B": "nein", "key": "B"}] * 2, tmp_path / "de")
    columns = {"question": "{Frage}", "choices": ["A", "B"], "answer": "key",
               "answer_from": "letter"}  # fmt: skip
    items = load_dataset(
        {"source": "table", "path": str(tmp_path), "columns": columns}, ["de"], "x"
    )
    assert items.items["de"][0].choices == ("ja", "nein") and items.items["de"][0].answer == 1


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"question,choice_1,choice_2\nwhat?,a,b\n", r'en\.csv: columns has no "answer"'),
        (
            b"question,choice_1,choice_2,answer\nwhat?,a,b,B\n",
            r'en\.csv:2 \(en\): the answer is "B"',
        ),
        (b"question,choice_1,choice_2,answer\n", r"en\.csv: the table is empty"),
        (b"question\xff\n", r"en\.csv: \(en\) cannot be read \(UnicodeDecodeError"),
        (b"", r"en\.csv: \(en\) the file is empty"),
        (
            b"question,choice_1,choice_2,answer\nwhat?,a,b,0,\nwho?,a,b,1,\n",
            r"en\.csv:2: \(en\) 5 cells, the header has 4: ",
        ),
        (b"question,choice_1,choice_2,answer\nwhat?,a,b,0\nwho?,a,b\n", r"en\.csv:3: .* 3 cells"),
        (b"question,choice_1,choice_1,answer\n", r'en\.csv:1: .* two columns "choice_1"'),
        (b'question,answer\n"What" then?,0\n', r"en\.csv: \(en\) cannot be read \(Error: "),
        (b'question,answer\n"What then?,0\n', r"en\.csv: \(en\) cannot be read \(Error: "),
    ],
)
def test_a_table_that_cannot_be_used_is_named(tmp_path: Path, content: bytes, named: str) -> None:
    (tmp_path / "en.csv").write_bytes(content)
    with pytest.raises(InputError, match=named):
        load_dataset({"source": "table", "path": str(tmp_path)}, ["en"], "own")


def tsv(folder: Path, *questions: str) -> dict[str, Any]:
    """A table of two choices, with these bytes for questions."""
    rows = [f"{question}\tyes\tno\t0\n" for question in questions]
    text = "question\tchoice_1\tchoice_2\tanswer\n" + "".join(rows)
    (folder / "en.tsv").write_text(text, "utf-8")
    return {"source": "table", "path": str(folder)}


def test_cells_of_tsv_files_are_the_text_that_they_are(tmp_path: Path) -> None:
    texts = ['"Honey", said the bee.', 'Say "honey"', '"Honey" or "milk"?', "a, b"]
    items = load_dataset(tsv(tmp_path, *texts), ["en"], "own").items["en"]
    assert [item.question for item in items] == texts


@pytest.mark.parametrize(
    "questions",
    [
        ['"Honey', '"Milk'],  # were one question
        ['"Honey"'],  # was Honey
        ['"Say ""honey"""'],
        ['"over\ttwo cells"'],
        ['"over\ntwo lines"'],
        ['"'],
    ],
)
def test_what_may_be_quoted_in_tsv_files_is_refused(tmp_path: Path, questions: list[str]) -> None:
    with pytest.raises(InputError, match=r'en\.tsv:2: \(en\) the cell ".* save .* as CSV'):
        load_dataset(tsv(tmp_path, *questions), ["en"], "own")


def test_two_tables_of_one_language_are_refused(tmp_path: Path) -> None:
    as_csv(ROWS, tmp_path / "en")
    as_parquet(ROWS, tmp_path / "en")
    named = r"en\.parquet: en\.csv is en as well: keep one of them"
    with pytest.raises(InputError, match=named):
        load_dataset({"source": "table", "path": str(tmp_path)}, ["en"], "own")
