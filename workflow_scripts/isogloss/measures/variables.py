"""Named variables with their meaning, and intervals as three of them."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from isogloss.measures.statistics import Interval

PAPER = "Lim, Aji and Cohn (arXiv:2505.13141)"
"""Source of the measures that the paper states; a variable without a source is our choice."""
OVER_BOTH = "clusters of items and languages"


def variable(
    dims: Sequence[str], values: np.ndarray | float, long_name: str, units: str = "1"
) -> xr.Variable:
    """An array with named dimensions, what it is and its unit."""
    return xr.Variable(tuple(dims), values, {"long_name": long_name, "units": units})


def interval_variables(
    name: str,
    dims: Sequence[str],
    interval: Interval,
    long_name: str,
    units: str = "1",
    confidence: float = 0.95,
    over: str = "clusters of items",
) -> dict[str, xr.Variable]:
    """An estimate and its bounds: variables `name`, `name_low` and `name_high`.

    Args: over: what the interval is over.

    >>> half = Interval(np.array(0.5), np.array(0.4), np.array(0.6))
    >>> sorted(interval_variables("accuracy", (), half, "accuracy"))
    ['accuracy', 'accuracy_high', 'accuracy_low']
    >>> made = interval_variables("accuracy", (), half, "accuracy", confidence=0.975)
    >>> made["accuracy_low"].attrs["long_name"]
    'accuracy, lower bound, 97.5% interval over clusters of items'
    """
    level = f"{100 * confidence:g}% interval over {over}"
    return {
        name: variable(dims, interval.estimate, long_name, units),
        f"{name}_low": variable(dims, interval.low, f"{long_name}, lower bound, {level}", units),
        f"{name}_high": variable(dims, interval.high, f"{long_name}, upper bound, {level}", units),
    }


def crossed_bounds(
    name: str, dims: Sequence[str], interval: Interval, long_name: str, confidence: float
) -> dict[str, xr.Variable]:
    """Bounds for other items and other languages at once, beside the estimate that `name` holds.

    >>> half = Interval(np.array(0.5), np.array(0.4), np.array(0.6))
    >>> sorted(crossed_bounds("accuracy", (), half, "accuracy", 0.95))
    ['accuracy_crossed_high', 'accuracy_crossed_low']
    """
    crossed = f"{name}_crossed"
    made = interval_variables(crossed, dims, interval, long_name, "1", confidence, OVER_BOTH)
    del made[crossed]
    return made


def from_the_paper(dataset: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """The dataset, the paper named as the source of some of its variables.

    >>> table = xr.Dataset({"cka": ("layer", [0.5])})
    >>> from_the_paper(table, ["cka"])["cka"].attrs["source"]
    'Lim, Aji and Cohn (arXiv:2505.13141)'
    """
    for name in names:
        dataset[name].attrs["source"] = PAPER
    return dataset
