"""How much text a study runs: packed rows, counted or estimated from what its questions say.

With the model's tokenizer the rows of a sample of questions are laid out as extraction does.
Without it tokens follow from bytes of UTF-8, and without the questions from their announced size,
by what was measured for a language, else for its script (`token_lengths.yaml`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from isogloss.items import ParallelItems
from isogloss.languages import script, separator
from isogloss.packing import batches, lay_out
from isogloss.prompts import LETTERS, PromptStyle, Tokens, mismatched, prompt_text, questions

SAMPLE = 40
"""Questions a language that are laid out; the rest is taken to be like them."""

LARGE_VOCABULARY = 100_000
"""From this size on, a vocabulary is taken for one made for many languages."""

SHARD = 32


@dataclass(frozen=True)
class Rows:
    """Packed rows of one language, one entry a question of a sample.

    Attributes:
        length: (question,) tokens of the row.
        prompt: (question,) tokens of its prompt.
        predicting: (question,) states that predict a scored token.
        targets: (question,) scored tokens.
        main: (question,) bool, whether its states are kept (those of PMI and letters are not).
        scale: questions of the study for each of the sample.
    """

    length: np.ndarray
    prompt: np.ndarray
    predicting: np.ndarray
    targets: np.ndarray
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
    def kept_states(self) -> float:
        """States that are stored for the lens."""
        return float(self.predicting[self.main].sum()) * self.scale

    @property
    def kept_targets(self) -> float:
        return float(self.targets[self.main].sum()) * self.scale

    def forwards(self, budget: int, at_once: int = SHARD) -> tuple[float, float, float]:
        """What batches of at most `budget` tokens come to, padding counted.

        Args:
            budget: tokens of a batch.
            at_once: questions that are put into batches together.

        Returns:
            Forwards, tokens, and the sum over rows of the padded length squared.
        """
        calls = tokens = squares = 0.0
        rows: Any = [range(n) for n in self.length]
        for start in range(0, len(rows), at_once):
            members = range(start, min(start + at_once, len(rows)))
            for batch in batches(rows, members, budget):
                longest = len(rows[batch[0]])
                calls += 1
                tokens += longest * len(batch)
                squares += longest**2 * len(batch)
        return calls * self.scale, tokens * self.scale, squares * self.scale


def counted(
    items: ParallelItems,
    language: str,
    tokens: Tokens,
    style: PromptStyle,
    *,
    pivot: str,
    control: str | None,
    latents: bool = True,
    pmi: bool = False,
    letters: bool = False,
) -> Rows:
    """The rows of one language as extraction lays them out, of a sample of the items.

    Args: as `isogloss.prompts.questions`.
    """
    sample, scale = _sample(items)
    asked = questions(
        sample, language, tokens, style, pivot=pivot, control=control, latents=latents,
        pmi=pmi, letters=letters,
    )  # fmt: skip
    trees = [lay_out(one) for one in asked]
    return _rows(
        [
            (len(t), t.n_prompt, len(t.predicting), len(t.target_token), one.kind == "main")
            for t, one in zip(trees, asked, strict=True)
        ],
        scale,
    )


def from_bytes(
    items: ParallelItems,
    language: str,
    vocabulary: int,
    style: PromptStyle,
    *,
    pivot: str,
    control: str | None,
    latents: bool = True,
    pmi: bool = False,
    letters: bool = False,
) -> Rows:
    """The same without a tokenizer: tokens from bytes, no two phrases beginning alike."""
    sample, scale = _sample(items)
    partner = mismatched(sample.clusters)
    roles = _roles(language, pivot, control, latents)
    found = []
    for index, item in enumerate(sample.items[language]):
        prompt = 1 + n_tokens(prompt_text(sample, language, index, style), language, vocabulary)
        own = [sample.items[tag][index].choices for tag in roles]
        phrases = [
            n_tokens(separator(tag) + words, tag, vocabulary)
            for tag, choices in zip(roles, own, strict=True)
            for words in choices
        ]
        if latents and item.choices and partner[index] >= 0:
            for tag in dict.fromkeys((language, pivot)):
                other = sample.items[tag][partner[index]]
                phrases.append(n_tokens(other.choices[other.answer], tag, vocabulary))
        found.append(_row(prompt, phrases))
        mine = phrases[: len(item.choices)]
        found += _extra(prompt, mine, pmi, letters)
    return _rows(found, scale)


def announced(
    n_items: int,
    n_choices: int,
    prompt_words: float,
    choice_words: float,
    language: str,
    vocabulary: int,
    *,
    pivot: str,
    control: str | None,
    latents: bool = True,
    pmi: bool = False,
    letters: bool = False,
) -> Rows:
    """The same without the questions: their number, and words of an English prompt and choice.

    Every question has the mean size; padding is then none.
    """

    def length(words: float, tag: str) -> int:
        return max(1, round(words * tokens_a_word(tag, vocabulary)))

    roles = _roles(language, pivot, control, latents)
    phrases = [length(choice_words, tag) for tag in roles for _ in range(n_choices)]
    if latents and n_choices:
        phrases += [length(choice_words, tag) for tag in dict.fromkeys((language, pivot))]
    prompt = 1 + length(prompt_words, language)
    rows = [_row(prompt, phrases), *_extra(prompt, phrases[:n_choices], pmi, letters)]
    held = min(n_items, SAMPLE)
    return _rows(rows * held, n_items / held)


def _roles(language: str, pivot: str, control: str | None, latents: bool) -> list[str]:
    """Languages whose choices are scored after a prompt, its own first."""
    others = [pivot, control] if latents else []
    return [tag for tag in dict.fromkeys((language, *others)) if tag is not None]


def _sample(items: ParallelItems) -> tuple[ParallelItems, float]:
    n = len(items.item_ids)
    sample = items.sample(SAMPLE) if n > SAMPLE else items
    return sample, n / len(sample.item_ids)


def _row(prompt: int, phrases: Sequence[int]) -> tuple[int, int, int, int, bool]:
    behind = sum(n - 1 for n in phrases)
    return prompt + behind, prompt, (1 + behind) * bool(phrases), sum(phrases), True


def _extra(
    prompt: int, own: Sequence[int], pmi: bool, letters: bool
) -> list[tuple[int, int, int, int, bool]]:
    """Rows of the passes for PMI and for letters."""
    found = [(*_row(4, own)[:4], False)] if pmi else []
    if letters:
        listed = prompt + sum(own) + 3 * len(own)
        found += [(*_row(listed, [1] * min(len(own), len(LETTERS)))[:4], False)] * len(own)
    return found


def _rows(found: Sequence[tuple[int, int, int, int, bool]], scale: float) -> Rows:
    length, prompt, predicting, targets, main = np.array(found).T
    return Rows(length, prompt, predicting, targets, main.astype(bool), scale)


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
