"""What one model gave on one dataset, for setting models side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import xarray as xr

from isogloss.errors import InputError


@dataclass(frozen=True)
class ModelResult:
    """What one model gave on one dataset.

    Attributes:
        slug: name of the model.
        family: models of one family are compared along their size.
        parameters: number of parameters; models of one family and size count as drawn.
        similarity: of `similarity.similarity`.
        behaviour: of `behaviour.behaviour`.
        scores: of `activations.open_scores`, for the tokens that a character costs.
        seed: of models of one family and size that differ in nothing else; None where not given.
    """

    slug: str
    family: str
    parameters: float
    similarity: xr.Dataset
    behaviour: xr.Dataset
    scores: xr.Dataset
    seed: int | None = None


def check(models: Sequence[ModelResult]) -> None:
    """Refuse models that cannot stand side by side.

    Raises:
        InputError: no model, a slug twice, or models with different pivots, languages or items.
    """
    if not models:
        raise InputError("scale: no models: give at least one")
    slugs = [m.slug for m in models]
    if len(set(slugs)) < len(slugs):
        raise InputError(f"scale: a model is given twice among {', '.join(slugs)}: give it once")
    first = models[0]
    for m in models:
        if m.similarity.attrs["pivot"] != first.similarity.attrs["pivot"] or not _same(
            m.similarity, first.similarity, "language"
        ):
            raise InputError(
                f"scale: {m.slug} has another pivot or other languages than {slugs[0]}: "
                "compare models on the same dataset"
            )
        results = (m.similarity, m.behaviour)
        if not all(_same(result, first.behaviour, "cluster") for result in results):
            raise InputError(
                f"scale: {m.slug} has other clusters of items than {slugs[0]}: "
                "compare models on the same items"
            )


def _same(first: xr.Dataset, second: xr.Dataset, name: str) -> bool:
    """Whether two datasets have the same coordinates."""
    return list(first[name].values) == list(second[name].values)
