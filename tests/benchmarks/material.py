"""What the tools work on: the model, and questions with long and with short prompts."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from isogloss.model.sources import ModelSource
from isogloss.questions.items import Item, ParallelItems
from isogloss.questions.local_files import load_files
from isogloss.questions.prompts import PromptStyle

ROOT = Path(__file__).resolve().parents[2]
EVERYDAY = ROOT / "data" / "everyday"

LONG, SHORT = "long", "short"
FOLDERS = {LONG: "xquad_mc", SHORT: "xcopa"}
NAMES = {LONG: "XQuAD-MC", SHORT: "XCOPA"}
LANGUAGES = {LONG: ("en", "th"), SHORT: ("en", "sw")}
OWN_NAMES = {LONG: "synthetic passages", SHORT: "everyday, two choices"}
OWN_LANGUAGES = {LONG: ("en", "zh"), SHORT: ("en", "sw")}
TEMPLATES = {LONG: "{context}\nQ: {question}\nA:", SHORT: "{context} {question}"}

PASSAGE_ITEMS = 12
"""Everyday questions with their answers that a synthetic reading passage is made of."""


@dataclass(frozen=True)
class Setting:
    """What every comparison is told.

    Attributes:
        source: the model.
        cache: folder of models.
        data: folder with `xquad_mc` and `xcopa`; None for the questions that come along.
        quick: few items: a try.
        times: how many times the default number of items.
        repetitions: turns that are kept.
        scratch: folder for files, on the disk that is measured.
    """

    source: ModelSource
    cache: Path
    data: Path | None
    quick: bool
    times: int
    repetitions: int
    scratch: Path

    def n(self, normal: int, quick: int) -> int:
        """A number of items."""
        return quick if self.quick else normal * self.times

    def languages(self, kind: str) -> tuple[str, ...]:
        """The two languages of long or short prompts."""
        return (OWN_LANGUAGES if self.data is None else LANGUAGES)[kind]

    def name(self, kind: str) -> str:
        """Of long or short prompts' dataset."""
        return (OWN_NAMES if self.data is None else NAMES)[kind]

    def in_type(self, dtype: str) -> "Setting":
        """The same with the model in another type."""
        return replace(self, source=replace(self.source, dtype=dtype))


def style(kind: str) -> PromptStyle:
    """How a question of this kind becomes a prompt."""
    return PromptStyle("raw", {"default": TEMPLATES[kind]})


def all_items(setting: Setting, kind: str) -> ParallelItems:
    """Every question with long or short prompts, in both languages."""
    languages = setting.languages(kind)
    if setting.data is None:
        questions = load_files(EVERYDAY, languages, "everyday")
        return passages(questions) if kind == LONG else two_choices(questions)
    return load_files(setting.data / FOLDERS[kind], languages, FOLDERS[kind])


def chosen(items: ParallelItems, rows: np.ndarray) -> ParallelItems:
    """Some of the items, in the order given; each row of an item is a cluster of its own."""
    ids = [f"{items.item_ids[row]}-{place}" for place, row in enumerate(rows)]
    made = {
        tag: tuple(
            replace(questions[row], item_id=name) for row, name in zip(rows, ids, strict=True)
        )
        for tag, questions in items.items.items()
    }
    return replace(items, items=made, clusters=np.arange(len(rows)))


def spread(n_all: int, wanted: int) -> np.ndarray:
    """Places evenly over all items, beginning anew where more are wanted than there are.

    >>> spread(10, 3).tolist(), spread(2, 5).tolist()
    ([1, 5, 8], [0, 1, 0, 1, 0])
    """
    if wanted > n_all:
        return np.arange(wanted) % n_all
    return ((np.arange(wanted) + 0.5) * n_all / wanted).astype(int)


def two_choices(items: ParallelItems) -> ParallelItems:
    """Each question with its right choice and the one after it."""

    def cut(item: Item) -> Item:
        other = (item.answer + 1) % len(item.choices)
        kept = sorted((item.answer, other))
        choices = tuple(item.choices[place] for place in kept)
        return replace(item, choices=choices, answer=kept.index(item.answer))

    return replace(
        items, items={tag: tuple(map(cut, questions)) for tag, questions in items.items.items()}
    )


def passages(items: ParallelItems) -> ParallelItems:
    """Each question after a passage of other questions with their answers: long prompts."""

    def read(questions: tuple[Item, ...], row: int) -> Item:
        around = [questions[(row + step) % len(questions)] for step in range(1, PASSAGE_ITEMS + 1)]
        context = " ".join(f"{item.question} {item.choices[item.answer]}." for item in around)
        return replace(questions[row], context=context)

    made = {
        tag: tuple(read(questions, i) for i in range(len(questions)))
        for tag, questions in items.items.items()
    }
    return replace(items, items=made)
