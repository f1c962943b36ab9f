"""What the comparisons use of Isogloss: its own functions, as `extract` calls them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.material import Setting, all_items, chosen, spread, style

from isogloss.errors import InputError
from isogloss.extraction.assembly import assemble
from isogloss.extraction.language import LanguageExtraction
from isogloss.extraction.shards import compute_shard, compute_shards
from isogloss.files.canonical import key_of
from isogloss.model.decoder import Decoder
from isogloss.model.load import load
from isogloss.model.packing import Tree, lay_out
from isogloss.questions.items import ParallelItems
from isogloss.questions.languages import separator
from isogloss.questions.prompts import Question, Tokens, prompt_text, questions

BUDGET = 2048
"""Tokens of a batch: what `extract` takes by default."""


@dataclass(frozen=True)
class Loaded:
    """The model, and the questions that it can be asked."""

    setting: Setting
    decoder: Decoder

    @cached_property
    def tokens(self) -> Tokens:
        return Tokens(self.decoder.tokenizer, self.decoder.start)

    @property
    def layers(self) -> list[int]:
        """All of them, the embedding first."""
        return list(range(self.decoder.n_layers + 1))

    def items(self, kind: str, language: str, n: int) -> ParallelItems:
        """Questions, evenly over the dataset, without those that tools tokenise differently.

        Where the tokeniser merges a choice with the prompt's end, Isogloss scores the choice's
        own tokens and others what is left of the merged ones: their scores are not the same.
        """
        every = all_items(self.setting, kind)
        asked = self.ask(every, kind, language)
        alike = np.array([q.item for q in asked if not any(p.merged for p in q.phrases)])
        if not len(alike):
            raise InputError(f"{language}: the tokeniser merges a choice of every item's prompt")
        return chosen(every, alike[spread(len(alike), n)])

    def ask(self, items: ParallelItems, kind: str, language: str) -> list[Question]:
        """Each item's prompt with its own choices, and nothing else to score."""
        return questions(
            items, language, self.tokens, style(kind), pivot=language, control=None, latents=False
        )

    def compute(self, trees: Sequence[Tree]) -> dict[str, np.ndarray]:
        """States of all layers, and log-probabilities."""
        return compute_shard(self.decoder, trees, range(len(trees)), self.layers, BUDGET)

    def scored(self, items: ParallelItems, kind: str, language: str) -> list[float]:
        """From text to the log-likelihood of every choice, item by item; states are kept."""
        trees = [lay_out(question) for question in self.ask(items, kind, language)]
        shard = self.compute(trees)
        return sums(trees, shard["log_probability"])

    def extract(
        self, folder: Path, items: ParallelItems, asked: Sequence[Question], language: str
    ) -> Path:
        """An activation file of these questions, all layers' rows kept for the lens."""
        spec = {"language": language, "pivot": language, "items": items.digest(language)}
        target = folder / f"{key_of(spec)}.h5"
        target.unlink(missing_ok=True)
        extraction = LanguageExtraction(target, spec, items, asked, self.layers)
        assemble(extraction, {}, compute_shards(self.decoder, extraction, BUDGET))
        return target


def prompts_alone(asked: Sequence[Question]) -> list[Question]:
    """The same prompts with nothing to score."""
    return [replace(question, phrases=()) for question in asked]


def first_tokens(asked: Sequence[Question], items: ParallelItems) -> list[Question]:
    """The same prompts with the first token of the right choice to score."""
    return [
        replace(question, phrases=(replace(right, tokens=right.tokens[:1]),))
        for question, answer in zip(asked, items.answers, strict=True)
        for right in question.phrases
        if right.choice == answer
    ]


def loaded(setting: Setting) -> Loaded:
    """Load the model in its type."""
    decoder = load(setting.source, setting.cache, "cpu")
    read_all(decoder.model)
    return Loaded(setting, decoder)


def read_all(model: Any) -> None:
    """Read every weight once: from a mapped file they come into memory only then."""
    for parameter in model.parameters():
        parameter.sum()


def sums(trees: Sequence[Tree], log_probability: np.ndarray) -> list[float]:
    """Log-likelihood of every phrase of every question, in order [nat]."""
    ends = np.cumsum([len(tree.target_token) for tree in trees])[:-1]
    parts = zip(trees, np.split(log_probability, ends), strict=True)
    return np.concatenate([np.bincount(tree.target_phrase, part) for tree, part in parts]).tolist()


def texts(items: ParallelItems, kind: str, language: str) -> list[tuple[str, list[str]]]:
    """Each item's prompt, and its choices as they stand after it."""
    gap = separator(language)
    return [
        (prompt_text(items, language, i, style(kind)), [gap + words for words in item.choices])
        for i, item in enumerate(items.items[language])
    ]
