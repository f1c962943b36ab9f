"""A synthetic world: the same facts in languages that have no word in common."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from isogloss.errors import InputError
from isogloss.questions.datasets import load_dataset
from isogloss.questions.world import N_CHOICES, SPECIAL, World, asked_facts, world_items

TAGS = ("qaa", "qab", "qac", "qad")


def small(**changes: Any) -> World:
    return replace(World(TAGS, entities=30, relations=3, objects=9), **changes)


@pytest.mark.parametrize("words", [1, 2])
def test_languages_have_no_word_in_common_and_every_name_is_unique(words: int) -> None:
    world = small(words=words)
    assert len(set(world.vocabulary)) == world.vocabulary_size
    for named, n in ((world.entity_concepts, 30), (world.object_concepts, 9)):
        names = named(np.arange(n))
        assert names.shape == (n, words) and len(np.unique(names, axis=0)) == n
    pools = [world.relation_concepts(np.arange(3)), world.entity_concepts(np.arange(30))]
    pools += [world.object_concepts(np.arange(9)), np.zeros((1, 1))]
    together = [set(np.unique(pool)) for pool in pools]
    assert sum(map(len, together)) == len(set.union(*together)) <= world.n_concepts


def test_every_fact_is_seen_in_a_language_and_coverage_is_as_asked() -> None:
    world = small(entities=500, coverage=0.3)
    assert world.seen.any(axis=0).all()
    # 0.3, and one language for each fact that none of the four would see.
    assert world.seen.mean() == pytest.approx(0.3 + 0.7**4 / 4, abs=0.02)


def test_items_ask_the_same_facts_in_every_language_with_the_worlds_own_words() -> None:
    world = small()
    items = world_items(world, TAGS, 40, seed=1)
    asked = asked_facts(world, 40, seed=1)
    right = asked.choices[np.arange(40), asked.answer]
    np.testing.assert_array_equal(right, world.facts[asked.entity, asked.relation])
    for place, tag in enumerate(TAGS):
        item = items.items[tag][33]
        ids = world.tokens(world.entity_concepts(asked.entity[33]), place)
        relation = world.tokens(world.relation_concepts(asked.relation[33]), place)
        words = [world.vocabulary[i] for i in (*ids, *relation)]
        assert item.question == " ".join(words) and item.answer == asked.answer[33]
        assert len(set(item.choices)) == N_CHOICES
    assert items.clusters.max() == 29  # 40 items about 30 entities


@pytest.mark.parametrize(("entities", "relations"), [(11, 4), (24, 5), (29, 3), (30, 3), (7, 5)])
def test_all_facts_are_asked_for_before_any_is_again(entities: int, relations: int) -> None:
    """With 59 entities and 4 relations, the second turn of the entities asked for the first's."""
    world = small(entities=entities, relations=relations)
    asked = asked_facts(world, world.facts.size, seed=0)
    assert len(set(zip(asked.entity, asked.relation, strict=True))) == world.facts.size
    assert len(set(asked.entity[:entities])) == entities


def test_a_dataset_has_the_items_of_its_world_in_some_languages() -> None:
    about = {"entities": 30, "relations": 3, "objects": 9, "words": 1, "coverage": 0.5, "seed": 0}
    spec = {"source": "world", "items": 20, "seed": 3, "world": about | {"languages": list(TAGS)}}
    items = load_dataset(spec, ["qad", "qab"], "facts")
    assert items.name == "facts" and items.languages == ("qad", "qab")
    whole = world_items(small(coverage=0.5), TAGS, 20, seed=3)
    assert items.items["qad"] == whole.items["qad"]


@pytest.mark.parametrize(
    ("languages", "n_items", "said"),
    [
        (["qaa", "qax"], 20, "qax is not one of its languages"),
        (["qaa"], 91, "91 items of 90 facts: ask for 1 to 90"),
    ],
)
def test_what_a_world_has_not_is_refused(languages: list[str], n_items: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        world_items(small(), languages, n_items, seed=0)
    with pytest.raises(InputError, match="en is no synthetic language"):
        World.from_spec({"languages": ["qaa", "en"]})


def test_special_tokens_come_first() -> None:
    assert small().vocabulary[: len(SPECIAL)] == SPECIAL
