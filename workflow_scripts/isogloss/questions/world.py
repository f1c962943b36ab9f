"""A synthetic parallel world: the same facts in made-up languages without a word in common.

A fact is an entity, a relation and an object, as "ronu vibe kalo" in one language and "ronu vibe
kalo" with other endings in the next. `coverage` says which languages a model sees a fact in when it
is trained, so that what it answers from memory can be told from what it carries over. Models are
trained on a world in `isogloss.organisms`; the questions here ask every language for the same
facts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import Any

import numpy as np

from isogloss.errors import InputError
from isogloss.questions.items import Item, ParallelItems
from isogloss.questions.languages import FIRST_SYNTHETIC, LAST_SYNTHETIC, is_synthetic

CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"
SYLLABLES = tuple(consonant + vowel for vowel in VOWELS for consonant in CONSONANTS)
BEGIN, END, UNKNOWN = "<bos>", "<eos>", "<unk>"
SPECIAL = (BEGIN, END, UNKNOWN)
"""Tokens 0, 1 and 2 of every vocabulary; 1 also fills up."""
N_CHOICES = 4


@dataclass(frozen=True)
class World:
    """Facts, and the words of every language for them.

    Attributes:
        languages: tags from qaa to qtz.
        entities, relations, objects: how many there are.
        words: in the name of an entity or an object; with 2, no embedding of a word alone can
            store a fact.
        coverage: share of the facts that a language is trained on; every fact is in one at least.
        seed: of the facts and of their coverage.
    """

    languages: tuple[str, ...]
    entities: int = 120
    relations: int = 4
    objects: int = 24
    words: int = 1
    coverage: float = 0.6
    seed: int = 0

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "World":
        """The world of the settings `world`, `languages` among them.

        Raises:
            InputError: a language that is no synthetic one.
        """
        for tag in spec["languages"]:
            if not is_synthetic(tag):
                raise InputError(
                    f"world: {tag} is no synthetic language: use tags from {FIRST_SYNTHETIC} to "
                    f"{LAST_SYNTHETIC}"
                )
        return cls(**{**spec, "languages": tuple(spec["languages"])})

    @cached_property
    def facts(self) -> np.ndarray:
        """(entity, relation) int, the object of each fact."""
        draw = np.random.default_rng((self.seed, 0))
        return draw.integers(self.objects, size=(self.entities, self.relations))

    @cached_property
    def seen(self) -> np.ndarray:
        """(language, entity, relation) bool, the facts that each language is trained on."""
        draw = np.random.default_rng((self.seed, 1))
        seen = draw.random((len(self.languages), *self.facts.shape)) < self.coverage
        first = draw.integers(len(self.languages), size=self.facts.shape)
        nowhere = ~seen.any(axis=0)
        seen[first[nowhere], *np.nonzero(nowhere)] = True
        return seen

    # Concepts: what words stand for, numbered alike in every language.

    @property
    def n_concepts(self) -> int:
        """Words of one language: "the same as", relations, parts of entities and of objects."""
        return 1 + self.relations + self._parts(self.entities) + self._parts(self.objects)

    def _parts(self, n: int) -> int:
        """Different words in the names of `n` things: of two words, a pool for each place."""
        return n if self.words == 1 else 2 * _side(n)

    def _named(self, index: np.ndarray, n: int, first: int) -> np.ndarray:
        if self.words == 1:
            return first + index[..., None]
        side = _side(n)
        return first + np.stack([index // side, side + index % side], axis=-1)

    def relation_concepts(self, relation: np.ndarray) -> np.ndarray:
        """(..., 1) concepts of relations; that of "the same as" is 0."""
        return 1 + np.asarray(relation)[..., None]

    def entity_concepts(self, entity: np.ndarray) -> np.ndarray:
        """(..., words) concepts of the names of entities."""
        return self._named(np.asarray(entity), self.entities, 1 + self.relations)

    def object_concepts(self, index: np.ndarray) -> np.ndarray:
        """(..., words) concepts of the names of objects."""
        first = 1 + self.relations + self._parts(self.entities)
        return self._named(np.asarray(index), self.objects, first)

    # Words and tokens.

    @property
    def vocabulary_size(self) -> int:
        return len(SPECIAL) + len(self.languages) * self.n_concepts

    def tokens(self, concepts: np.ndarray, language: np.ndarray | int) -> np.ndarray:
        """Token ids of concepts in languages, by their place among `languages`."""
        return len(SPECIAL) + np.asarray(language) * self.n_concepts + concepts

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """The word of every token id."""
        words = [word(c, tag) for tag in self.languages for c in range(self.n_concepts)]
        return (*SPECIAL, *words)

    def text(self, concepts: np.ndarray, language: str) -> str:
        """Concepts as words of a language."""
        return " ".join(word(int(concept), language) for concept in concepts)


def word(concept: int, language: str) -> str:
    """What a language calls a concept: two syllables and the end of the language's tag.

    >>> word(0, "qab"), word(71, "qac")
    ('babaab', 'dadaac')
    """
    high, low = divmod(concept, len(SYLLABLES))
    return SYLLABLES[low] + SYLLABLES[high] + language[1:]


def _side(n: int) -> int:
    """The smallest square that names `n` things has this side.

    >>> _side(24), _side(25), _side(26)
    (5, 5, 6)
    """
    return int(np.ceil(np.sqrt(n)))


def world_items(world: World, languages: Sequence[str], n_items: int, seed: int) -> ParallelItems:
    """Questions about the facts of a world, each with four objects to choose from.

    Entities take turns, and so do relations: with no more items than entities, no entity is asked
    about twice. Items about one entity are one cluster.

    Args:
        world: that models were trained on.
        languages: of the world, that the result has.
        n_items: how many.
        seed: of the draw of facts and of wrong choices.

    Returns:
        Items whose category is their relation.

    Raises:
        InputError: more items than facts, or a language that the world has not.

    Source: our choice.
    """
    asked = asked_facts(world, n_items, seed)
    if unknown := [tag for tag in languages if tag not in world.languages]:
        raise InputError(f"world: {unknown[0]} is not one of its languages: add it to `languages`")
    items = {
        language: tuple(_item(world, asked, row, language) for row in range(n_items))
        for language in languages
    }
    return ParallelItems(
        name="world",
        items=items,
        clusters=np.unique(asked.entity, return_inverse=True)[1],
        licence="CC0-1.0",
        normalised=dict.fromkeys(languages, 0),
    )


@dataclass(frozen=True)
class AskedFacts:
    """Facts that questions ask for.

    Attributes:
        entity, relation, answer: (item,).
        choices: (item, choice) objects; the right one is at `answer`.
    """

    entity: np.ndarray
    relation: np.ndarray
    choices: np.ndarray
    answer: np.ndarray


def asked_facts(world: World, n_items: int, seed: int) -> AskedFacts:
    """The facts behind `world_items`.

    Raises:
        InputError: more items than facts.
    """
    if not 1 <= n_items <= world.facts.size:
        raise InputError(
            f"world: {n_items} items of {world.facts.size} facts: ask for 1 to {world.facts.size}"
        )
    draw = np.random.default_rng((seed, 2))
    order = draw.permutation(world.entities)
    row = np.arange(n_items)
    entity = order[row % world.entities]
    # Each turn of the entities is further on, by so many that no fact is asked for twice.
    n, shift = world.entities, 1
    while gcd(n + shift, world.relations) > 1:
        shift += 1
    relation = (row + shift * (row // n)) % world.relations
    gold = world.facts[entity, relation]
    others = np.argsort(draw.random((n_items, world.objects - 1)), axis=1)[:, : N_CHOICES - 1]
    others += others >= gold[:, None]
    answer = row % N_CHOICES
    choices = np.empty((n_items, N_CHOICES), dtype=int)
    right = np.arange(N_CHOICES) == answer[:, None]
    choices[right], choices[~right] = gold, others.ravel()
    return AskedFacts(entity, relation, choices, answer)


def _item(world: World, asked: AskedFacts, row: int, language: str) -> Item:
    entity, relation = asked.entity[row], asked.relation[row]
    prompt = np.concatenate([world.entity_concepts(entity), world.relation_concepts(relation)])
    named = world.object_concepts(asked.choices[row])
    return Item(
        item_id=f"e{entity:04}-r{relation:02}",
        context="",
        question=world.text(prompt, language),
        choices=tuple(world.text(name, language) for name in named),
        answer=int(asked.answer[row]),
        category=f"relation {relation}",
        cluster=f"entity {entity}",
    )
