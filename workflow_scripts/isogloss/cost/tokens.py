"""How much text a study runs: tokens, states and scored phrases per language of a dataset.

A sample of questions is laid out as extraction does it, with the model's tokenizer. Where that is
not here, texts have as many tokens as their bytes of UTF-8 say, and where the questions are not
here either, their announced size: by what was measured for the language, else for its script
(`token_lengths.yaml`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from isogloss.model.packing import lay_out
from isogloss.questions.items import Item, ParallelItems
from isogloss.questions.languages import script, separator
from isogloss.questions.prompts import PromptStyle, Question, Tokens, questions
from isogloss.study.resources import DatasetShape

SAMPLE = 40  # questions per language that are laid out; the rest is taken to be like them
LARGE_VOCABULARY = 100_000  # from this size on, taken for one made for many languages


@dataclass(frozen=True)
class Text:
    """One language of a dataset in a model's tokens, all its questions together."""

    tokens: float
    squares: float  # sum of the sequences' squared lengths, which attention grows with
    sequences: float  # that are attended over: packed questions, or a prompt with one phrase each
    states: float  # to which the unembedding is applied
    stored_states: float  # those of PMI and letters are not
    phrases: float  # of questions whose states are stored

    @classmethod
    def of(cls, asked: Sequence[Question], packed: bool, scale: float = 1) -> "Text":
        """The text of which some questions are a sample, `scale` times as large.

        Args:
            packed: a question is one row with all its phrases; else each has the prompt again.
        """
        trees, rows = [lay_out(question) for question in asked], []
        for question, tree in zip(asked, trees, strict=True):
            phrases = [len(question.prompt) + len(phrase.tokens) - 1 for phrase in question.phrases]
            rows += [len(tree)] if packed or not phrases else phrases
        lengths, states = np.array(rows, dtype=float), [len(tree.predicting) for tree in trees]
        main = [(n, len(q.phrases)) for n, q in zip(states, asked, strict=True) if q.kind == "main"]
        sums = lengths.sum(), (lengths**2).sum(), len(lengths), sum(states), *np.sum(main, axis=0)
        return cls(*(float(scale * n) for n in sums))


@dataclass(frozen=True)
class Questions:
    """The questions of one dataset for one model."""

    items: ParallelItems  # all of them, or some that stand for all
    n_items: int
    style: PromptStyle
    tokens: Tokens | None  # the model's tokenizer; None where it is not here
    vocabulary: int  # its size
    packed: bool = True  # whether the model takes packed rows

    def text(self, language: str, **asked: Any) -> Text:
        """One language in the model's tokens, from a sample of the items.

        Args:
            asked: what is scored after its prompts, as `prompts.questions` takes it.
        """
        sample, style, tokens = self.items.sample(SAMPLE), self.style, self.tokens
        if tokens is None:
            tokens = ByteTokens(sample, language, self.vocabulary)
            style = replace(style, mode="raw") if style.mode == "chat" else style
        made = questions(sample, language, tokens, style, **asked)
        return Text.of(made, self.packed, self.n_items / len(sample.item_ids))


class ByteTokens(Tokens):
    """Stands for a tokenizer that is not here: so many bytes a token, no two texts begin alike.

    Args:
        items: whose choices are in their own languages; all other text is in the prompt's.
        language: the prompt's.
        vocabulary: the tokenizer's size.
    """

    def __init__(self, items: ParallelItems, language: str, vocabulary: int) -> None:
        super().__init__(None, (-1,))
        self.language, self.unused = language, count()
        self.kind = "large" if vocabulary >= LARGE_VOCABULARY else "small"
        spoken = {tag: {c for item in of for c in item.choices} for tag, of in items.items.items()}
        self.spoken = {separator(tag) + c: tag for tag, choices in spoken.items() for c in choices}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """As many new ids as each text has tokens, one at least."""
        rates = [measured(self.spoken.get(text, self.language))[self.kind] for text in texts]
        sizes = [len(text.encode()) / rate for text, rate in zip(texts, rates, strict=True)]
        return [list(islice(self.unused, max(1, round(size)))) for size in sizes]

    def after(self, prompt: str, phrases: Sequence[str]) -> Iterator[tuple[tuple[int, ...], bool]]:
        """Tokens of each phrase by itself."""
        yield from ((tuple(ids), False) for ids in self.encode(phrases))


def announced(
    shape: DatasetShape, n_items: int, languages: Sequence[str], vocabulary: int, packed: bool
) -> Questions:
    """Questions of the announced size: two of letters without a meaning stand for all."""
    items = {}
    for tag in languages:
        per_word = measured("en")["word"] * measured(tag)["bytes"]
        size = round(shape.choice_words * per_word) - len(separator(tag))
        prompt, choices = "x" * round(shape.prompt_words * per_word), range(shape.choices)
        texts = [[f"{name}{choice}{tag}".ljust(size, "x") for choice in choices] for name in "ab"]
        made = zip("ab", map(tuple, texts), strict=True)
        items[tag] = tuple(Item(name, "", prompt, of, bool(of) - 1) for name, of in made)
    alone = PromptStyle("raw", {"default": "{question}"})
    sample = ParallelItems("announced", items, np.arange(2))
    return Questions(sample, n_items, alone, None, vocabulary, packed)


@cache
def measured(language: str) -> dict[str, float]:
    """What was measured of a language, of its script, or of other scripts: bytes per token.

    >>> measured("en")["large"], measured("en")["small"]
    (4.66, 4.58)
    """
    path = Path(__file__).with_name("token_lengths.yaml")
    table: dict[str, dict[str, float]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return table.get(language) or table.get(script(language)) or table["other"]
