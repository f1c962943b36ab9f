"""How much text a study runs: tokens, states and scored phrases per language of a dataset.

With the model's tokenizer a sample of questions is laid out as extraction does. Without it tokens
follow from bytes of UTF-8, and without the questions from their announced size, by what was
measured for the language, else for its script (`token_lengths.yaml`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from isogloss.model.packing import lay_out
from isogloss.model.sources import ModelSource, cache_folder, folder_here
from isogloss.questions.items import Item, ParallelItems
from isogloss.questions.languages import script, separator
from isogloss.questions.prompts import PromptStyle, Tokens, prompt_text, questions
from isogloss.study.resources import DatasetShape
from isogloss.study.schema import Config

SAMPLE = 40  # questions per language that are laid out; the rest is taken to be like them
LARGE_VOCABULARY = 100_000  # from this size on, taken for one made for many languages


@dataclass(frozen=True)
class Asked:
    """What is asked in one language, and what is scored after it: see `prompts.questions`."""

    language: str
    pivot: str
    control: str | None = None
    latents: bool = True
    pmi: bool = False
    letters: bool = False

    @property
    def latent_languages(self) -> list[str]:
        """Languages whose choices are scored, the prompt's first."""
        others = [self.pivot, self.control] if self.latents else []
        return [tag for tag in dict.fromkeys([self.language, *others]) if tag]


class Row(NamedTuple):
    """A packed question: a prompt and every phrase scored after it, their last tokens left out."""

    tokens: float
    states: float  # that predict a scored token
    phrases: float
    stored: bool  # whether its states are; those of PMI and letters are not


@dataclass(frozen=True)
class Text:
    """One language of a dataset in a model's tokens, all its questions together."""

    tokens: float
    squares: float  # sum of the rows' squared lengths, which attention grows with
    states: float  # to which the unembedding is applied
    stored_states: float
    phrases: float  # of rows whose states are stored

    @classmethod
    def of(cls, rows: Sequence[Row], scale: float) -> "Text":
        """The text of which some rows are a sample, `scale` times as large."""
        stored = [row for row in rows if row.stored]
        return cls(
            tokens=scale * sum(row.tokens for row in rows),
            squares=scale * sum(row.tokens**2 for row in rows),
            states=scale * sum(row.states for row in rows),
            stored_states=scale * sum(row.states for row in stored),
            phrases=scale * sum(row.phrases for row in stored),
        )


@dataclass(frozen=True)
class Questions:
    """The questions of one dataset for one model."""

    items: ParallelItems  # all of them, or some that stand for all
    n_items: int
    style: PromptStyle
    tokens: Tokens | None  # the model's tokenizer; None where it is not here
    vocabulary: int  # its size

    def text(self, asked: Asked) -> Text:
        """One language in the model's tokens, from a sample of the items."""
        sample, rows = self.items.sample(SAMPLE), []
        if self.tokens is None:
            rows = self._from_bytes(sample, asked)
        else:
            for question in questions(sample, tokens=self.tokens, style=self.style, **vars(asked)):
                tree, stored = lay_out(question), question.kind == "main"
                rows.append(Row(len(tree), len(tree.predicting), len(question.phrases), stored))
        return Text.of(rows, self.n_items / len(sample.item_ids))

    def _from_bytes(self, sample: ParallelItems, asked: Asked) -> list[Row]:
        """Rows without a tokenizer, no two of whose phrases begin alike."""

        def tokens(text: str, language: str) -> float:
            return max(1.0, len(text.encode()) / bytes_per_token(language, self.vocabulary))

        rows = []
        for index, item in enumerate(sample.items[asked.language]):
            prompt = prompt_text(sample, asked.language, index, self.style)
            length, n = 1 + tokens(prompt, asked.language), len(item.choices)
            phrases = [
                tokens(separator(language) + choice, language)
                for language in asked.latent_languages
                for choice in sample.items[language][index].choices
            ]
            if asked.latents:  # and the answers of other questions, taken to be as long
                phrases += phrases[:1]
                phrases += phrases[n : n + 1] if asked.language != asked.pivot else []
            rows.append(row(length, phrases, True))
            if asked.pmi:
                rows.append(row(4, phrases[:n], False))
            if asked.letters:  # listed as "A. ..." in the prompt, once per rotation
                rows += [row(length + sum(phrases[:n]) + 3 * n, [1.0] * n, False)] * n
        return rows


def row(prompt: float, phrases: Sequence[float], stored: bool) -> Row:
    """A question of which only tokens are known: of its prompt and of each phrase."""
    behind = sum(phrases) - len(phrases)
    return Row(prompt + behind, (1 + behind) * bool(phrases), len(phrases), stored)


def announced(
    shape: DatasetShape, n_items: int, languages: Sequence[str], vocabulary: int
) -> Questions:
    """Questions of the announced size: two of letters without a meaning stand for all."""
    items = {}
    for tag in languages:
        per_word = measured("en")["word"] * measured(tag)["bytes"]
        size = round(shape.choice_words * per_word) - len(separator(tag))
        choices = tuple(f"{index:02d}".ljust(size, "x") for index in range(shape.choices))
        prompt = "x" * round(shape.prompt_words * per_word)
        items[tag] = tuple(Item(name, "", prompt, choices, bool(choices) - 1) for name in "ab")
    alone = PromptStyle("raw", {"default": "{question}"})
    sample = ParallelItems("announced", items, np.arange(2))
    return Questions(sample, n_items, alone, None, vocabulary)


def bytes_per_token(language: str, vocabulary: int) -> float:
    """Bytes of UTF-8 per token of a language.

    >>> bytes_per_token("en", 250_000), bytes_per_token("en", 49_152)
    (4.66, 4.58)
    """
    return measured(language)["large" if vocabulary >= LARGE_VOCABULARY else "small"]


@cache
def measured(language: str) -> dict[str, float]:
    """What was measured of a language, of its script, or of other scripts."""
    path = Path(__file__).with_name("token_lengths.yaml")
    table: dict[str, dict[str, float]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return table.get(language) or table.get(script(language)) or table["other"]


def tokenizer_here(study: Config, source: ModelSource) -> Tokens | None:
    """A model's tokenizer; None where it is not here."""
    if (folder := folder_here(source, cache_folder(study.cache))) is None:
        return None
    from isogloss.model.adapt import begins_with
    from isogloss.model.load import load_tokenizer

    tokenizer = load_tokenizer(folder, source)
    return Tokens(tokenizer, begins_with(tokenizer))
