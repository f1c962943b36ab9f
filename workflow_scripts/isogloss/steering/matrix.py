"""Across datasets: steering with the vectors of each dataset, evaluated on each."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from isogloss.measures.statistics import Interval, holm
from isogloss.measures.variables import interval_variables, variable

EFFECTS = {
    "effect": ("pooled_effect", "pooled_p", "accuracy change"),
    "consistency_change": (
        "pooled_consistency_change",
        "pooled_consistency_change_p",
        "change of consistency with the pivot",
    ),
    "transfer_to_change": (
        "pooled_transfer_to_change",
        "pooled_transfer_to_change_p",
        "change of transfer from the pivot",
    ),
}


def steering_matrix(effects: Mapping[tuple[str, str, str], xr.Dataset]) -> xr.Dataset:
    """The changes by the study's first method, pooled over languages, by both datasets.

    Args:
        effects: of `steering_effects` by model, dataset of the vectors and evaluated dataset;
            every combination.

    Returns:
        `EFFECTS` (model, fitted, dataset) with intervals (`_low`, `_high`) and p; `_p_holm` is
        adjusted over the cells of a model. On the diagonal vectors are fitted on other folds, off
        it on all items of the other dataset.
    """
    axes = [list(dict.fromkeys(key[i] for key in effects)) for i in range(3)]
    dims = ("model", "fitted", "dataset")
    first = next(iter(effects.values()))
    method = str(first.attrs["default_method"])
    variables: dict[str, xr.Variable] = {}
    for name, (source, p_name, text) in EFFECTS.items():
        read = [source, f"{source}_low", f"{source}_high", p_name]
        values = np.full((4, *map(len, axes)), np.nan)
        for key, table in effects.items():
            m, f, d = (axis.index(part) for axis, part in zip(axes, key, strict=True))
            chosen = table.sel({"method": method})
            values[:, m, f, d] = [float(chosen[n]) for n in read]
        text = f"{text}, {method.replace('_', ' ')}, mean over languages"
        confidence = float(first.attrs["confidence"])
        interval = Interval(*values[:3])
        variables |= interval_variables(name, dims, interval, text, "1", confidence)
        variables[f"{name}_p"] = variable(dims, values[3], f"{text}: two-sided sign-flip p")
        adjusted = np.stack([holm(of_model) for of_model in values[3]])
        variables[f"{name}_p_holm"] = variable(dims, adjusted, f"{text}: p, Holm over a model")
    about = {"confidence": confidence, "default_method": method, "pivot": first.attrs["pivot"]}
    about["separate_sets"] = int(first.attrs.get("separate_sets", 0))
    coordinates = dict(zip(dims, axes, strict=True))
    return xr.Dataset(variables, coordinates, about)
