"""The logit lens over an activation file: what the states at each layer say about the next token.

Source: Lim, Aji and Cohn (2025), with the model's own final norm and unembedding.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import h5netcdf
import h5py
import numpy as np
import torch
import xarray as xr

from isogloss.files.activation_file import decode_states
from isogloss.measures.lens import distinct_rows, phrase_sums
from isogloss.model.readout import Readout
from isogloss.model.token_scores import token_log_probabilities
from isogloss.questions.prompts import LATENTS

# Targets at the last layer whose log-probability is computed again and compared with the model's.
CHECKED = 64


def lens_of_rows(
    layer_states: Callable[[int], np.ndarray],
    layers: Iterable[int],
    readout: Readout,
    target_row: np.ndarray,
    target_token: np.ndarray,
) -> Iterator[np.ndarray]:
    """The targets' log-probabilities at each stored layer, one layer in memory at a time.

    Yields:
        (target,) float32, for each of the layers in order.
    """
    token = torch.from_numpy(target_token)
    for layer in layers:
        states, place = distinct_rows(layer_states(layer))
        row = torch.from_numpy(place[target_row])
        found = token_log_probabilities(torch.from_numpy(states), readout, row, token)
        yield found.cpu().numpy()


def lens_dataset(file: h5netcdf.File, readout: Readout, progress: Any = iter) -> xr.Dataset:
    """The logit lens over everything that an activation file stored.

    Args:
        file: an open activation file with rows.
        readout: of the same model.
        progress: wraps the iteration over layers (a progress bar).

    Returns:
        `log_probability`, `first_token` (layer, item, latent, choice) [nat] and what describes
        the items. At the last layer the lens is the model, whose own log-probabilities the file
        holds: they are taken, and compared with the lens at `CHECKED` targets. Attribute
        `last_layer_difference`: the largest difference [nat], NaN where that layer was not kept
        or nothing was scored.
    """
    rows, groups = file.groups["rows"], file.groups["targets"]
    targets = {name: groups[name][...] for name in ("row", "token", "item", "latent", "choice")}
    targets["position"] = groups["position"][...]
    layers = rows["lens_layer"][...]
    shape = file["log_probability"].shape
    own, ends = groups["log_probability"][...], layers[-1] == file["layer"][-1]
    sums, firsts = [], []

    def states(layer: int) -> np.ndarray:
        with h5py.File(file.filename) as raw:
            stored = raw["rows/state"]
            return decode_states(stored[:, layer, :], stored.attrs.get("stored_as", ""))

    computed = range(len(layers) - 1 if ends else len(layers))
    found = lens_of_rows(states, computed, readout, targets["row"], targets["token"])
    for values in progress(chain(found, [own] if ends else [])):
        total, first = phrase_sums(values, targets, shape)
        sums.append(total)
        firsts.append(first)
    last = np.nan
    if ends and len(own):
        last = _last_layer_difference(states(len(layers) - 1), readout, targets, own)
    return _labelled(file, np.stack(sums), np.stack(firsts), layers, last)


def _last_layer_difference(
    states: np.ndarray, readout: Readout, targets: Mapping[str, np.ndarray], own: np.ndarray
) -> float:
    """The largest difference of the lens from the model's own values `own` (target,), at `CHECKED`
    targets, evenly spread."""
    chosen = np.unique(np.linspace(0, len(own) - 1, CHECKED).round().astype(int))
    rows, place = np.unique(targets["row"][chosen], return_inverse=True)
    token = torch.from_numpy(targets["token"][chosen])
    found = token_log_probabilities(
        torch.from_numpy(states[rows]), readout, torch.from_numpy(place), token
    )
    return float(np.abs(found.cpu().numpy() - own[chosen]).max())


def _labelled(
    file: h5netcdf.File, sums: np.ndarray, firsts: np.ndarray, layers: np.ndarray, last: float
) -> xr.Dataset:
    per_phrase = ("layer", "item", "latent", "choice")
    data = xr.Dataset(
        {
            "log_probability": (per_phrase, sums.astype(np.float32)),
            "first_token": (per_phrase, firsts.astype(np.float32)),
            "n_tokens": (per_phrase[1:], file["phrase_tokens"][...]),
            "answer": ("item", file["answer"][...]),
            "n_choices": ("item", file["n_choices"][...]),
            "cluster": ("item", file["cluster"][...]),
            "identical_to_pivot": (("item", "choice"), file["identical_to_pivot"][...]),
        },
        coords={
            "layer": layers,
            "relative_depth": ("layer", file["relative_depth"][...][layers]),
            "item": file["item_id"][...],
            "latent": list(LATENTS),
        },
    )
    described = {
        "log_probability": ("latent log-probability of the phrase, all its tokens", "nat"),
        "first_token": ("latent log-probability of the phrase's first token", "nat"),
        "n_tokens": ("tokens of the phrase", "1"),
        "answer": ("index of the gold choice", "1"),
        "n_choices": ("choices of the item", "1"),
        "cluster": ("cluster of the item", "1"),
        "identical_to_pivot": ("choice spelled as in the pivot", "1"),
    }
    for name, (long_name, units) in described.items():
        data[name].attrs = {"long_name": long_name, "units": units}
    return data.assign_attrs(last_layer_difference=last)
