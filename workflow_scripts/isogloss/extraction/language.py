"""One language's extraction: everything that its activation file is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from isogloss.model.packing import Tree, lay_out
from isogloss.model.rotary import Reach, ordinary
from isogloss.questions.items import ParallelItems
from isogloss.questions.prompts import Question


@dataclass(frozen=True)
class LanguageExtraction:
    """What one activation file is made of.

    Attributes:
        path: the file.
        identity: what it is; says its `language` and `pivot`.
        items: the same items in all languages.
        questions: what is asked in this language.
        lens_layers: layers whose states are kept for the lens, in order.
        reach: of the model, whose position embeddings may go by the length of a sequence.
    """

    path: Path
    identity: Mapping[str, Any]
    items: ParallelItems
    questions: Sequence[Question]
    lens_layers: Sequence[int]
    reach: Reach = ordinary

    @property
    def keeps_rows(self) -> bool:
        """Whether the states that the lens reads are kept; else what it reads in them."""
        return self.identity.get("rows") != "none"

    @cached_property
    def trees(self) -> list[Tree]:
        """The questions laid out, in their order."""
        return [lay_out(question, self.reach) for question in self.questions]
