"""The logit lens: what a state at any layer says about the next token.

p(w) = softmax(softcap(U norm(h)))[w], with the model's own final norm and unembedding (METHOD 4;
Lim, Aji and Cohn, 2025). The cost is the product with the unembedding, rows x width x vocabulary;
it runs in blocks of rows and vocabulary with a running log-sum-exp, so that rows x vocabulary
logits never exist at once. A block of logits is small enough for the processor's cache: what is
done to it after the product then costs a tenth of the product.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import h5netcdf
import h5py
import numpy as np
import torch
import xarray as xr

from isogloss.files.activation_file import decode_states
from isogloss.model.readout import Readout
from isogloss.questions.prompts import LATENTS

# Logits of a row that are computed exactly where the readout is in a narrow type.
EXACT = 4
# Rows and tokens of a block of logits: on a CPU it stays in the cache, elsewhere it is large.
ROW_BLOCK = 512
CPU_BLOCK, DEVICE_BLOCK = 1024, 16384
# Blocks of the vocabulary that few rows take at a time, for whom a block is more calls than work.
AT_ONCE = 4
# Targets at the last layer whose log-probability is computed again and compared with the model's.
CHECKED = 64
LOG2_E = 1 / math.log(2)


@torch.inference_mode()
def token_log_probabilities(
    states: torch.Tensor,
    readout: Readout,
    target_row: torch.Tensor,
    target_token: torch.Tensor,
    *,
    row_block: int = ROW_BLOCK,
    vocabulary_block: int | None = None,
) -> torch.Tensor:
    """Log-probability of given next tokens after given states.

    The normaliser is the log-sum-exp over the whole vocabulary of logits in the readout's type;
    the logits that are asked for, the few that dominate the normaliser, and all sums are in
    float32, so that rounding in a narrow type neither favours a token nor gives more than 1.

    Args:
        states: (row, feature) residual stream, before the final norm.
        readout: the model's final norm and unembedding.
        target_row: (target,) index into the rows.
        target_token: (target,) token id.
        row_block, vocabulary_block: size of a block of logits, by default what suits the device.
            In narrow types the few logits that dominate are sought one a vocabulary block.

    Returns:
        (target,) float32 log-probabilities [nat].
    """
    device = readout.weight.device
    vocabulary_block = vocabulary_block or (CPU_BLOCK if device.type == "cpu" else DEVICE_BLOCK)
    states, target_row, target_token = (t.to(device) for t in (states, target_row, target_token))
    normed = torch.empty_like(states, dtype=readout.weight.dtype)
    normaliser = torch.empty(len(states), dtype=torch.float32, device=device)
    for start in range(0, len(states), row_block):
        block = readout.norm(states[start : start + row_block].to(readout.weight.dtype))
        normed[start : start + row_block] = block
        at_once = max(1, min(AT_ONCE, row_block // len(block)))
        found = _log_sum_exp(block, readout, vocabulary_block, at_once)
        normaliser[start : start + row_block] = found
    found = torch.empty(len(target_row), dtype=torch.float32, device=device)
    for start in range(0, len(target_row), 4096):
        part = slice(start, start + 4096)
        logits = _exact_logits(normed[target_row[part]], target_token[part], readout)
        found[part] = logits - normaliser[target_row[part]]
    return found


def _exact_logits(normed: torch.Tensor, tokens: torch.Tensor, readout: Readout) -> torch.Tensor:
    """(row,) capped logits of one token a row, in float32."""
    logits = (normed.float() * readout.weight[tokens].float()).sum(-1)
    if readout.bias is not None:
        logits += readout.bias[tokens].float()
    return readout.cap(logits)


def _log_sum_exp(
    normed: torch.Tensor, readout: Readout, vocabulary_block: int, at_once: int
) -> torch.Tensor:
    """(row,) log-sum-exp of the logits over the vocabulary, some blocks at a time."""
    reference = torch.full((len(normed), 1), -torch.inf, device=normed.device)
    total = torch.zeros_like(reference)
    narrow, highest, tokens = readout.weight.dtype != torch.float32, [], []
    for start, logits in readout.logit_blocks(normed, at_once * vocabulary_block):
        if narrow:
            value, place = _highest(logits, vocabulary_block, readout.bits_below_bfloat16)
            highest.append(value)
            tokens.append(place + start)
        else:
            value = logits
        before, reference = reference, torch.maximum(reference, value.amax(-1, keepdim=True))
        total *= torch.exp(before - reference)
        # As powers of 2 and in place: on a CPU exp takes three times as long as exp2.
        torch.add(reference * -LOG2_E, logits, alpha=LOG2_E, out=logits)
        total += logits.exp2_().sum(-1, keepdim=True)
    found = (reference + total.log())[:, 0]
    if not narrow:
        return found
    return _exactly(found, torch.cat(highest, 1), torch.cat(tokens, 1), normed, readout)


def _highest(
    logits: torch.Tensor, block: int, bits_below: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """A highest logit of each row and block, to the precision of bfloat16, and its place.

    The place rides in the 16 bits that bfloat16 lacks: one plain maximum then finds both, in half
    the time of one with indices.

    Args:
        logits: (row, token) float32, at most 65,536 tokens.
        block: tokens of a block.
        bits_below: whether they may hold more bits than a bfloat16 has.

    Returns:
        Two tensors (row, block).
    """
    bits = logits.view(torch.int32)
    bits = bits.bitwise_and(-0x10000) if bits_below else bits
    packed = bits | torch.arange(logits.shape[1], dtype=torch.int32, device=logits.device)
    of_blocks = packed.view(torch.float32).split(block, dim=1)
    best = torch.stack([part.amax(dim=-1) for part in of_blocks], dim=1)
    place = best.view(torch.int32).bitwise_and(0xFFFF).long()
    return logits.gather(1, place), place


def _exactly(
    total: torch.Tensor,
    highest: torch.Tensor,
    tokens: torch.Tensor,
    normed: torch.Tensor,
    readout: Readout,
) -> torch.Tensor:
    """The normaliser with its dominant logits exact in place of rounded.

    Args:
        total: (row,) log-sum-exp of rounded logits.
        highest, tokens: (row, block) highest rounded logit of each block, and its token.
        normed: (row, feature) states after the final norm.
    """
    rounded, place = highest.topk(min(EXACT, highest.shape[1]), dim=-1)
    chosen = tokens.gather(1, place)
    exact = torch.stack(
        [_exact_logits(normed, chosen[:, i], readout) for i in range(chosen.shape[1])], dim=1
    )
    rest = 1 - torch.exp(rounded - total[:, None]).sum(-1)
    share = torch.exp(exact - total[:, None]).sum(-1)
    return total + torch.log(rest.clamp(min=0) + share)


def lens_layers(n_layers: int, wanted: int | str | list[float]) -> list[int]:
    """Layers of the lens: "all", a number of them evenly spread, or relative depths.

    Args:
        n_layers: blocks of the model; layers run from 0 (embedding) to n_layers.
        wanted: as in the configuration's `extraction.lens_layers`; 0 keeps no rows.

    >>> lens_layers(18, 4)
    [0, 6, 12, 18]
    >>> lens_layers(18, [0.5, 1.0])
    [9, 18]
    """
    if wanted == "all":
        return list(range(n_layers + 1))
    if isinstance(wanted, int):
        if wanted == 0:
            return []
        depths = np.linspace(0, 1, wanted) if wanted > 1 else np.ones(1)
    else:
        depths = np.asarray(wanted, dtype=float)
    return sorted({round(float(d) * n_layers) for d in depths})


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


def distinct_rows(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The states without repetition: at the embedding there are as many as different tokens.

    Args:
        states: (row, feature).

    Returns:
        (distinct, feature), and (row,) where each row is among them.

    >>> found, place = distinct_rows(np.array([[1.0, 2.0], [0.0, 3.0], [1.0, 2.0]]))
    >>> found[place].tolist()
    [[1.0, 2.0], [0.0, 3.0], [1.0, 2.0]]
    >>> len(found)
    2
    """
    start = np.ascontiguousarray(states[:, :4])  # above the embedding rows differ there already
    if len(np.unique(start.view(f"V{start.strides[0]}"))) == len(states):
        return states, np.arange(len(states))
    seen: dict[bytes, int] = {}
    numbers = (seen.setdefault(row.tobytes(), len(seen)) for row in states)
    place = np.fromiter(numbers, dtype=np.int64, count=len(states))
    _, first = np.unique(place, return_index=True)
    return states[first], place


def phrase_sums(
    log_probability: np.ndarray, targets: Mapping[str, np.ndarray], shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of phrases and of their first tokens, from those of their tokens.

    Args:
        log_probability: (target,).
        targets: item, latent, choice and position of each target.
        shape: (item, latent, choice).

    Returns:
        Two arrays of that shape, NaN where there is no such phrase.
    """
    place = (targets["item"], targets["latent"], targets["choice"])
    total, first = np.zeros(shape), np.full(shape, np.nan)
    np.add.at(total, place, log_probability)
    begins = targets["position"] == 0
    first[tuple(p[begins] for p in place)] = log_probability[begins]
    return np.where(np.isnan(first), np.nan, total), first


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
