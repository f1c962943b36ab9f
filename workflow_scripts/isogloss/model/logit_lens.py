"""The logit lens over an activation file: what the states at each layer say about the next token.

Source: Lim, Aji and Cohn (2025), with the model's own final norm and unembedding.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from isogloss.errors import InputError
from isogloss.files.activation_file import open_activations
from isogloss.measures.lens import distinct_rows, phrase_means
from isogloss.model.load import device_named
from isogloss.model.memory import memory_errors
from isogloss.model.readout import Readout, read_readout
from isogloss.model.token_scores import token_log_probabilities
from isogloss.program import progress

# Targets at the last layer whose log-probability is computed again and compared with the model's.
CHECKED = 64


def lens_of_files(
    paths: Mapping[str, Path], readout_path: Path, device: str, job: str
) -> Iterator[tuple[str, xr.Dataset]]:
    """The logit lens of several languages, one after the other.

    Args:
        paths: activation file of each language.
        readout_path: the model's readout.
        device: to compute on; "auto" takes a GPU where there is one.
        job: what progress and errors call the work.

    Yields:
        Language, and its `lens_of_file`.

    Raises:
        InputError: as `lens_of_file`, or memory runs out.
    """
    with memory_errors(f"{job}: readout"):
        readout = read_readout(readout_path, device_named(device))
    for language in progress(paths, job, "language"):
        label = f"{job} {language}"
        with memory_errors(label):
            lens = lens_of_file(
                paths[language], readout, partial(progress, label=label, unit="layer")
            )
        yield language, lens


def lens_of_file(path: Path, readout: Readout, progress: Any = iter) -> xr.Dataset:
    """The logit lens over one language's activation file.

    Args:
        progress: wraps the iteration over layers (a progress bar).

    Returns:
        `lens_dataset` with the attributes language, pivot and control ('' without one).

    Raises:
        InputError: the file keeps no rows for the lens.
        Damaged: it cannot be read whole.
    """
    activations = open_activations(path)
    if "rows_state" not in activations and "targets_lens" not in activations:
        raise InputError(f"{path}: keeps no rows for the lens: set extraction.lens_layers")
    spec = json.loads(activations.attrs["spec"])
    return lens_dataset(activations, readout, progress).assign_attrs(
        language=spec["language"], pivot=spec["pivot"], control=spec.get("control") or ""
    )


def lens_dataset(activations: xr.Dataset, readout: Readout, progress: Any = iter) -> xr.Dataset:
    """The logit lens over everything that an activation file stored.

    Where the extraction has computed it (`extraction.rows: none`), its values are taken.

    Args:
        activations: an opened activation file with rows.
        progress: wraps the iteration over layers (a progress bar).

    Returns:
        `log_probability`, `first_token` (layer, item, latent, choice) [nat] and what describes
        the items. At the last layer the lens is the model, whose own log-probabilities the file
        holds: they are taken, and compared with the lens at `CHECKED` targets. Attribute
        `last_layer_difference`: the largest difference [nat], NaN where that layer was not kept
        or nothing was scored.
    """
    columns = ("row", "token", "item", "latent", "choice", "position", "log_probability")
    targets = {name: activations[f"targets_{name}"].values for name in columns}
    layers = activations.lens_layer.values
    shape = activations.log_probability.shape
    of_model, last_kept = targets["log_probability"], layers[-1] == activations.layer.values[-1]

    def states(index: int) -> np.ndarray:
        return activations.rows_state[:, index].values

    computed = range(len(layers) - 1 if last_kept else len(layers))
    lens: Iterator[np.ndarray]
    if "targets_lens" in activations:
        known = activations.targets_lens.values
        lens = iter(known[: len(computed)])
    else:
        known = None
        lens = lens_of_rows(states, computed, readout, targets["row"], targets["token"])
    sums, firsts = [], []
    lens = chain(lens, [of_model] if last_kept else [])
    for _, values in zip(progress(range(len(layers))), lens, strict=True):
        total, first = phrase_means(values, targets, shape)
        sums.append(total.astype(np.float32))
        firsts.append(first.astype(np.float32))
    last = np.nan
    if last_kept and len(of_model):
        if known is not None:
            last = float(np.abs(known[-1] - of_model).max())
        else:
            last = _last_layer_difference(states(len(layers) - 1), readout, targets)
    described = _described(activations, np.stack(sums), np.stack(firsts))
    return described.assign_attrs(last_layer_difference=last)


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
        lens = token_log_probabilities(torch.from_numpy(states), readout, row, token)
        yield lens.cpu().numpy()


def _last_layer_difference(
    states: np.ndarray, readout: Readout, targets: Mapping[str, np.ndarray]
) -> float:
    """The largest difference of the lens from the model's own values, at `CHECKED` targets,
    evenly spread."""
    of_model = targets["log_probability"]
    chosen = np.unique(np.linspace(0, len(of_model) - 1, CHECKED).round().astype(int))
    rows, place = np.unique(targets["row"][chosen], return_inverse=True)
    token = torch.from_numpy(targets["token"][chosen])
    lens = token_log_probabilities(
        torch.from_numpy(states[rows]), readout, torch.from_numpy(place), token
    )
    return float(np.abs(lens.cpu().numpy() - of_model[chosen]).max())


def _described(activations: xr.Dataset, sums: np.ndarray, firsts: np.ndarray) -> xr.Dataset:
    """The lens (layer, item, latent, choice) with what the file says of its items."""
    layers, per_phrase = activations.lens_layer.values, ("layer", "item", "latent", "choice")
    of_phrase = {"long_name": "latent log-probability of the phrase, all its tokens"}
    of_token = {"long_name": "latent log-probability of the phrase's first token"}
    about_items = ["answer", "n_choices", "cluster", "identical_to_pivot"]
    about_items += [name for name in ["mismatched_item"] if name in activations]
    return xr.Dataset(
        {
            "log_probability": (per_phrase, sums, of_phrase | {"units": "nat"}),
            "first_token": (per_phrase, firsts, of_token | {"units": "nat"}),
            "n_tokens": activations.phrase_tokens.variable,
            **{name: activations[name].variable for name in about_items},
        },
        coords={
            "layer": layers,
            "relative_depth": ("layer", activations.relative_depth.values[layers]),
            "item": activations.item_id.values,
            "latent": activations.latent.values,
        },
    )
