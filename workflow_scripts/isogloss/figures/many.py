"""Many languages in one figure: which of them have a row, a panel or a name.

Heat maps and thin lines show all languages. What needs room for each shows the highest and the
lowest; the numbers beside the figure are of all.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from isogloss.figures.style import MOST_NAMED, Subject, spoken

MOST_ROWS = 40
MOST_IN_TEXT = 8  # languages that a sentence names one by one
THIN = {"linewidth": 0.6, "alpha": 0.35, "marker": ""}


def shown_languages(
    order: Sequence[str], values: xr.DataArray, subject: Subject, most: int = MOST_ROWS
) -> list[str]:
    """All languages, or the highest and the lowest where they are more than there is room for.

    Args:
        order: languages.
        values: (language,) by which they are chosen, and then put in order, from the highest.
        most: of the languages beside the pivot, which stays.
    """
    others = [tag for tag in order if tag != subject.pivot]
    if len(others) <= most:
        return list(order)
    ranked = values.sel(language=others).to_series().sort_values(ascending=False, kind="stable")
    ends = [*ranked.index[: most // 2], *ranked.dropna().index[-(most // 2) :]]
    return [*(tag for tag in order if tag == subject.pivot), *dict.fromkeys(map(str, ends))]


def shown_note(order: Sequence[str], shown: Sequence[str], what: str) -> str:
    """Which languages have a row, where not all."""
    if len(shown) == len(order):
        return ""
    return f"{len(shown)} of {len(order)} languages: highest and lowest {what}; all are in the CSV"


def named_lines(values: xr.DataArray, most: int = MOST_NAMED) -> list[str]:
    """Languages whose lines are named: all, or the three highest and three lowest on average.

    Args: values (language, ...).
    """
    tags = [str(tag) for tag in values["language"].values]
    if len(tags) <= most:
        return tags
    mean = values.mean([d for d in values.dims if d != "language"]).to_series().dropna()
    ranked = [str(tag) for tag in mean.sort_values(kind="stable").index]
    return list(dict.fromkeys([*ranked[:3], *ranked[-3:]]))


def line_look(style: dict[str, Any], is_named: bool) -> dict[str, Any]:
    """The style of a language's line: thin and without marks where it is not named."""
    return style | ({"linewidth": 0.9} if is_named else THIN)


def outermost(where: np.ndarray, most: int) -> np.ndarray:
    """(point,) bool: the points (point, 2) that are farthest from the middle of all."""
    away = np.linalg.norm(where - np.nanmean(where, axis=0), axis=1)
    return np.argsort(np.argsort(-away, kind="stable")) < most


def spoken_languages(names: Sequence[str]) -> str:
    """Names as a phrase, their number where they are many.

    >>> spoken_languages(["Thai", "Sundanese"]), spoken_languages(["Thai"] * 30)
    ('Thai and Sundanese', '30 languages')
    """
    return spoken(names) if len(names) <= MOST_IN_TEXT else f"{len(names)} languages"
