"""Groups of items and of languages, by which results are broken down."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isogloss.questions.languages import language_family, resource_class, script_name

GROUPINGS = {
    "all": "all items and languages",
    "category": "category of the items",
    "script": "script of the languages",
    "family": "family of the languages (Glottolog)",
    "resource": "resources of the languages (classes of Joshi et al. 2020, 5: most)",
}
NOT_KNOWN = "not known"
# Intervals over fewer clusters cover too little, and one answer moves a share by 10 points.
MIN_CLUSTERS = 10


@dataclass(frozen=True)
class Group:
    """Some items in some languages.

    Attributes:
        grouping: of `GROUPINGS`.
        name: in its grouping.
        items: (item,) bool.
        languages: (language,) bool.
    """

    grouping: str
    name: str
    items: np.ndarray
    languages: np.ndarray

    @property
    def of_items(self) -> bool:
        """Whether it has all languages."""
        return bool(self.languages.all())


def groups_of(categories: Sequence[str], languages: Sequence[str]) -> list[Group]:
    """Every group: all, then by category, script, family and resources, in that order.

    Args:
        categories: (item,) empty where an item has none; no such groups where no item has one.
        languages: their tags, the pivot not among them: results are of others beside it.

    >>> [(g.grouping, g.name) for g in groups_of(["a", "b", "a"], ["de", "sw"])][:4]
    [('all', 'all'), ('category', 'a'), ('category', 'b'), ('script', 'Latin')]
    """
    items, tags = np.array(categories, dtype=object), list(languages)
    every_item, every_language = np.ones(len(items), bool), np.ones(len(tags), bool)
    made = [Group("all", "all", every_item, every_language)]
    if any(categories):
        for name in sorted(set(categories), key=lambda name: (name == "", name)):
            made.append(Group("category", name or NOT_KNOWN, items == name, every_language))
    for grouping, labels in (
        ("script", [script_name(tag) for tag in tags]),
        ("family", [language_family(tag) or NOT_KNOWN for tag in tags]),
        ("resource", [_resources(tag) for tag in tags]),
    ):
        for name in sorted(set(labels), reverse=grouping == "resource"):
            made.append(Group(grouping, name, every_item, np.array(labels) == name))
    return made


def _resources(language: str) -> str:
    number = resource_class(language)
    return NOT_KNOWN if number is None else f"class {number}"
