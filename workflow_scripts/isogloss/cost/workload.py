"""How much text a study runs: packed rows, counted or estimated from what its questions say.

With the model's tokenizer the rows of a sample of questions are laid out as extraction does.
Without it tokens follow from bytes of UTF-8, and without the questions from their announced size,
by what was measured for a language, else for its script (`token_lengths.yaml`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from isogloss.extraction.shards import shard_members
from isogloss.model.attention import multiplied
from isogloss.model.packing import lay_out, packed_rows
from isogloss.questions.items import ParallelItems
from isogloss.questions.languages import script, separator
from isogloss.questions.prompts import (
    LETTERS,
    PromptStyle,
    Question,
    Tokens,
    mismatched,
    prompt_text,
    questions,
)

SAMPLE = 40
"""Questions a language that are laid out; the rest is taken to be like them."""

BATCHED = 2000
"""Rows that are put into batches to see what padding costs; the rest is taken to be like them."""

LARGE_VOCABULARY = 100_000
"""From this size on, a vocabulary is taken for one made for many languages."""


@dataclass(frozen=True)
class Scored:
    """What is asked in one language, and what is scored after it: see `prompts.questions`."""

    language: str
    pivot: str
    control: str | None = None
    latents: bool = True
    pmi: bool = False
    letters: bool = False

    @property
    def roles(self) -> list[str]:
        """Languages whose choices are scored after a prompt, its own first."""
        others = [self.pivot, self.control] if self.latents else []
        return [tag for tag in dict.fromkeys((self.language, *others)) if tag is not None]


@dataclass(frozen=True)
class Forwards:
    """What forwards run, padding counted.

    Attributes:
        calls: forwards.
        tokens: of all their rows.
        squares: pairs of places whose attention is computed: of a padded row its length squared.
    """

    calls: float = 0.0
    tokens: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(
        cls, trees: Sequence[Any], made: Iterable[Sequence[Sequence[int]]], joined: bool
    ) -> "Forwards":
        """Those of batches of rows of trees, as `packing.packed_rows` makes them."""
        total = cls()
        for rows in made:
            sizes = [sum(len(trees[m]) for m in row) for row in rows]
            if joined:
                total += cls(1, sum(sizes), sum(map(multiplied, sizes)))
            else:
                total += cls.batch(len(rows), max(sizes))
        return total

    @classmethod
    def batch(cls, n_rows: int, length: int, by_segments: bool = False) -> "Forwards":
        """That of one batch of padded rows, under SDPA or by segments."""
        pairs = multiplied(length) if by_segments else length**2
        return cls(1, n_rows * length, n_rows * pairs)

    def __add__(self, other: "Forwards") -> "Forwards":
        return Forwards(
            self.calls + other.calls, self.tokens + other.tokens, self.squares + other.squares
        )

    def times(self, factor: float) -> "Forwards":
        return Forwards(self.calls * factor, self.tokens * factor, self.squares * factor)


@dataclass(frozen=True)
class Rows:
    """Packed rows of one language, one entry a question of a sample.

    Attributes:
        length: (question,) tokens of the row.
        prompt: (question,) tokens of its prompt.
        predicting: (question,) states that predict a scored token.
        targets: (question,) scored tokens.
        phrases: (question,) scored phrases.
        longest: (question,) tokens of the longest of them.
        main: (question,) bool, whether its states are kept (those of PMI and letters are not).
        scale: questions of the study for each of the sample.
    """

    length: np.ndarray
    prompt: np.ndarray
    predicting: np.ndarray
    targets: np.ndarray
    phrases: np.ndarray
    longest: np.ndarray
    main: np.ndarray
    scale: float = 1.0

    @property
    def tokens(self) -> float:
        return float(self.length.sum()) * self.scale

    @property
    def states(self) -> float:
        """States at which the head is applied."""
        return float(self.predicting.sum()) * self.scale

    @property
    def kept_items(self) -> float:
        return float(self.main.sum()) * self.scale

    @property
    def kept_states(self) -> float:
        """States that are stored for the lens."""
        return float(self.predicting[self.main].sum()) * self.scale

    @property
    def kept_targets(self) -> float:
        return float(self.targets[self.main].sum()) * self.scale

    @property
    def kept_phrases(self) -> float:
        return float(self.phrases[self.main].sum()) * self.scale

    def share(self, part: float) -> "Rows":
        """Those of a part of the items."""
        return replace(self, scale=self.scale * part)

    def at(self, index: np.ndarray | slice) -> "Rows":
        """Some of the sample, which stand for themselves alone."""
        return Rows(**{name: column[index] for name, column in self.columns().items()})

    def columns(self) -> dict[str, Any]:
        """What there is of each question, an array each."""
        return {name: values for name, values in vars(self).items() if name != "scale"}

    def all(self) -> tuple[list[Any], float]:
        """In place of trees every row of the study, at most `BATCHED`; and what one stands for."""
        n = len(self.length) * self.scale
        held = max(1, min(BATCHED, round(n)))
        return in_place_of_trees(np.resize(self.length, held)), n / held

    def forwards(self, budget: int, joined: bool) -> Forwards:
        """Those of extraction, in batches of at most `budget` tokens."""
        trees, each = self.all()
        made = (
            rows
            for members in shard_members(len(trees))
            for rows in packed_rows(trees, members, budget, joined)
        )
        return Forwards.of(trees, made, joined).times(each)


def in_place_of_trees(lengths: Sequence[int] | np.ndarray) -> list[Any]:
    """What batches can be made of: nothing but lengths counts for that."""
    return [range(length) for length in lengths]


def together(rows: Sequence[Rows]) -> Rows:
    """Those of several languages, one behind the other; each of a sample of its own."""
    columns = [own.columns() for own in rows]
    joined: Any = {name: np.concatenate([own[name] for own in columns]) for name in columns[0]}
    return Rows(**joined)


def counted(items: ParallelItems, tokens: Tokens, style: PromptStyle, scored: Scored) -> Rows:
    """The rows of one language as extraction lays them out, of a sample of the items."""
    sample, scale = _sample(items)
    asked = questions(
        sample, scored.language, tokens, style, pivot=scored.pivot, control=scored.control,
        latents=scored.latents, pmi=scored.pmi, letters=scored.letters,
    )  # fmt: skip
    return _rows([_laid_out(question) for question in asked], scale)


def _laid_out(question: Question) -> "_Row":
    tree, sizes = lay_out(question), [len(phrase.tokens) for phrase in question.phrases]
    states, targets = len(tree.predicting), len(tree.target_token)
    longest = max(sizes, default=0)
    main = question.kind == "main"
    return len(tree), tree.n_prompt, states, targets, len(sizes), longest, main


def from_bytes(items: ParallelItems, vocabulary: int, style: PromptStyle, scored: Scored) -> Rows:
    """The same without a tokenizer: tokens from bytes, no two phrases beginning alike."""
    sample, scale = _sample(items)
    partner = mismatched(sample.clusters)
    language = scored.language
    found = []
    for index, item in enumerate(sample.items[language]):
        prompt = 1 + n_tokens(prompt_text(sample, language, index, style), language, vocabulary)
        phrases = [
            n_tokens(separator(tag) + words, tag, vocabulary)
            for tag in scored.roles
            for words in sample.items[tag][index].choices
        ]
        if scored.latents and item.choices and partner[index] >= 0:
            for tag in dict.fromkeys((language, scored.pivot)):
                other = sample.items[tag][partner[index]]
                phrases.append(n_tokens(other.choices[other.answer], tag, vocabulary))
        found += _asked(prompt, phrases, len(item.choices), scored)
    return _rows(found, scale)


def announced(
    n_items: int,
    n_choices: int,
    prompt_words: float,
    choice_words: float,
    vocabulary: int,
    scored: Scored,
) -> Rows:
    """The same without the questions: their number, and words of an English prompt and choice.

    Every question has the mean size; padding is then none.
    """

    def length(words: float, tag: str) -> int:
        return max(1, round(words * tokens_a_word(tag, vocabulary)))

    phrases = [length(choice_words, tag) for tag in scored.roles for _ in range(n_choices)]
    if scored.latents and n_choices:
        both = dict.fromkeys((scored.language, scored.pivot))
        phrases += [length(choice_words, tag) for tag in both]
    rows = _asked(1 + length(prompt_words, scored.language), phrases, n_choices, scored)
    held = min(n_items, SAMPLE)
    return _rows(rows * held, n_items / held)


def _sample(items: ParallelItems) -> tuple[ParallelItems, float]:
    n = len(items.item_ids)
    sample = items.sample(SAMPLE) if n > SAMPLE else items
    return sample, n / len(sample.item_ids)


_Row = tuple[int, int, int, int, int, int, bool]
"""A question as `Rows` has them."""


def _asked(prompt: int, phrases: Sequence[int], n_choices: int, scored: Scored) -> list[_Row]:
    """The rows of one item: the main one, and those of PMI and of letters.

    Args:
        prompt: its tokens.
        phrases: tokens of each, the language's own choices first.
        n_choices: how many these are.
    """
    own, made = phrases[:n_choices], [_row(prompt, phrases, True)]
    if scored.pmi:
        made.append(_row(4, own, False))
    if scored.letters:
        listed = prompt + sum(own) + 3 * len(own)
        made += [_row(listed, [1] * min(len(own), len(LETTERS)), False)] * len(own)
    return made


def _row(prompt: int, phrases: Sequence[int], main: bool) -> _Row:
    behind = sum(n - 1 for n in phrases)
    states, longest = (1 + behind) * bool(phrases), max(phrases, default=0)
    return prompt + behind, prompt, states, sum(phrases), len(phrases), longest, main


def _rows(found: Sequence[_Row], scale: float) -> Rows:
    length, prompt, predicting, targets, phrases, longest, main = np.array(found).T
    return Rows(length, prompt, predicting, targets, phrases, longest, main.astype(bool), scale)


# What a text comes to in tokens


def n_tokens(text: str, language: str, vocabulary: int) -> int:
    """Tokens of a text, from its bytes; at least one.

    >>> n_tokens("a" * 83, "en", 250_000), n_tokens("a" * 83, "en", 49_152)
    (18, 18)
    """
    size = _about(language)[_class_of(vocabulary)]
    return max(1, round(len(text.encode()) / size))


def tokens_a_word(language: str, vocabulary: int) -> float:
    """Tokens in which a language says what English says in one word."""
    english, own = _about("en"), _about(language)
    return english["word"] * own["bytes"] / own[_class_of(vocabulary)]


def _class_of(vocabulary: int) -> str:
    return "large" if vocabulary >= LARGE_VOCABULARY else "small"


def _about(language: str) -> dict[str, float]:
    """What was measured of a language, of its script, or of other scripts."""
    table = _table()
    return table.get(language) or table.get(script(language)) or table["other"]


@cache
def _table() -> dict[str, dict[str, float]]:
    path = Path(__file__).with_name("token_lengths.yaml")
    table: dict[str, dict[str, float]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return table
