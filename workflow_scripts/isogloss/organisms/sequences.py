"""What organisms read: facts in one language, and the bridge, sequences that mix two.

Every sequence is BOS, a name, a word and a name. A fact is an entity, a relation and an object. The
bridge is half translations (an entity in one language, "the same as", the entity in another) and
half facts whose entity is named in another language than the rest. All its facts are seen in the
entity's language, so that it gives away nothing that no language is trained on.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from isogloss.questions.world import World


@dataclass(frozen=True)
class Sequences:
    """Token ids, and where the answer begins: what comes before it is the prompt.

    Attributes:
        ids: (sequence, position) int.
        answer_from: position of the first token of the answer.
    """

    ids: np.ndarray
    answer_from: int


def _sequences(world: World, first: np.ndarray, middle: np.ndarray, last: np.ndarray) -> Sequences:
    """Sequences of names as tokens, BOS before them."""
    begin = np.zeros((len(first), 1), dtype=int)
    return Sequences(np.concatenate([begin, first, middle, last], axis=1), 2 + world.words)


def _joined(parts: list[Sequences]) -> Sequences:
    return Sequences(np.concatenate([part.ids for part in parts]), parts[0].answer_from)


def statements(
    world: World,
    entity: np.ndarray,
    relation: np.ndarray,
    named: np.ndarray,
    language: np.ndarray,
    of_entity: np.ndarray | None = None,
) -> Sequences:
    """Statements that entities have objects by a relation, true or not.

    Args:
        entity, relation, named: (sequence,), the last of the object.
        language: (sequence,) by its place among the world's.
        of_entity: the language of the entity's name; None: the same.
    """
    first = language if of_entity is None else of_entity
    return _sequences(
        world,
        world.tokens(world.entity_concepts(entity), first[:, None]),
        world.tokens(world.relation_concepts(relation), language[:, None]),
        world.tokens(world.object_concepts(named), language[:, None]),
    )


def translations(
    world: World, entity: np.ndarray, source: np.ndarray, target: np.ndarray
) -> Sequences:
    """Entities named in a language and then in another."""
    name = world.entity_concepts(entity)
    same = np.zeros((len(entity), 1), dtype=int)
    return _sequences(
        world,
        world.tokens(name, source[:, None]),
        world.tokens(same, target[:, None]),
        world.tokens(name, target[:, None]),
    )


@dataclass(frozen=True)
class Corpus:
    """What is drawn from when an organism is trained.

    Attributes:
        world: whose facts are told.
        bridge: share of the sequences that mix two languages.
        seed: of all draws.
    """

    world: World
    bridge: float
    seed: int

    def batch(self, step: int, size: int) -> Sequences:
        """The sequences of a training step: the same for the same step, whatever came before."""
        draw = np.random.default_rng((self.seed, 0, step))
        n_bridge = round(self.bridge * size)
        parts = [self._facts(draw, size - n_bridge), *self._bridge(draw, n_bridge)]
        return _joined([part for part in parts if len(part.ids)])

    def bridge_sample(self, size: int) -> Sequences:
        """Sequences of the bridge to measure how well it is learnt, always the same."""
        return _joined(self._bridge(np.random.default_rng((self.seed, 1)), size))

    def _facts(self, draw: np.random.Generator, size: int) -> Sequences:
        """Seen facts, each in a language that sees it."""
        language, entity, relation = self._drawn(draw, size)
        named = self.world.facts[entity, relation]
        return statements(self.world, entity, relation, named, language)

    def _bridge(self, draw: np.random.Generator, size: int) -> list[Sequences]:
        """Half facts whose entity is named in another language, half translations."""
        world, n_languages, half = self.world, len(self.world.languages), size // 2
        of_entity, entity, relation = self._drawn(draw, half)
        language = (of_entity + draw.integers(1, n_languages, size=half)) % n_languages
        named = world.facts[entity, relation]
        mixed = statements(world, entity, relation, named, language, of_entity)
        translated = draw.integers(world.entities, size=size - half)
        source = draw.integers(n_languages, size=size - half)
        target = (source + draw.integers(1, n_languages, size=size - half)) % n_languages
        return [mixed, translations(world, translated, source, target)]

    def _drawn(self, draw: np.random.Generator, size: int) -> np.ndarray:
        """(3, sequence) language, entity and relation of seen facts."""
        return self._seen[:, draw.integers(self._seen.shape[1], size=size)]

    @cached_property
    def _seen(self) -> np.ndarray:
        """(3, seen fact) language, entity and relation."""
        return np.stack(np.nonzero(self.world.seen))
