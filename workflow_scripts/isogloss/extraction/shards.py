"""Questions in shards, computed and published one by one.

Each shard is published whole under a keyed name in a work folder, so that a killed run goes on at
the last whole shard.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from isogloss.errors import InputError
from isogloss.extraction.background import Background
from isogloss.extraction.capture import capture, packed, score
from isogloss.extraction.language import LanguageExtraction
from isogloss.extraction.work_folder import is_whole, unless_published, work_folder, write_shard
from isogloss.files.activation_file import decode_states
from isogloss.files.canonical import key_of
from isogloss.model.decoder import Decoder
from isogloss.model.logit_lens import lens_of_rows
from isogloss.model.packing import Batch, Tree, batches, collate
from isogloss.program import say
from isogloss.questions.prompts import Question

SHARD_QUESTIONS = 32
# Shards in memory that are computed and not written yet.
WRITTEN_BEHIND = 2


def compute_shards(
    decoder: Decoder,
    extraction: LanguageExtraction,
    budget: int,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[Path]:
    """Compute the shards of an activation file that its work folder does not hold whole yet.

    Two processes on the same file share its shards: each takes them in an order of its own, and
    both stop as soon as one of them has published the file. Shards are written while the next
    ones are computed.

    Args:
        extraction: what the file is made of.
        budget: tokens of a batch, padding counted.
        progress: wraps the iteration over the shards.

    Returns:
        The shards' files, in order.
    """
    target, folder = extraction.path, work_folder(extraction.path)
    key = f"{key_of(extraction.identity)}-{budget}"
    named = [(folder / name, members) for name, members in shards(extraction.questions, key)]
    left = [(file, members) for file, members in named if not is_whole(file)]
    damaged = {file for file, _ in left if file.exists()}
    for file in sorted(damaged):
        say(f"{file}: damaged: computing it again")
    if len(left) < len(named):
        say(f"{folder}: {len(named) - len(left)} of {len(named)} shards are there")
    with Background(WRITTEN_BEHIND) as writing:
        for file, members in progress(random.sample(left, len(left))):
            if target.exists():
                break
            if file.exists() and file not in damaged:
                continue
            shard = finite_shard(decoder, extraction, members, budget)
            if not extraction.keeps_rows:
                shard["lens"] = lens_of_shard(decoder, extraction, members, shard["lens"])
            writing.call(_publish, target, file, shard)
    return [file for file, _ in named]


def _publish(target: Path, file: Path, shard: dict[str, np.ndarray]) -> None:
    with unless_published(target):
        write_shard(file, shard)


def shards(questions: Sequence[Question], key: str) -> list[tuple[str, list[int]]]:
    """Consecutive questions and the name of their shard, which changes with what is in it."""
    named = []
    for start in range(0, len(questions), SHARD_QUESTIONS):
        members = list(range(start, min(start + SHARD_QUESTIONS, len(questions))))
        content = [key, members[0], [list(questions[m].prompt) for m in members]]
        named.append((f"{members[0]:07d}-{key_of(content)[:16]}.npz", members))
    return named


def finite_shard(
    decoder: Decoder, extraction: LanguageExtraction, members: Sequence[int], budget: int
) -> dict[str, np.ndarray]:
    """`compute_shard` of some questions, every number of which is finite.

    What is not finite spreads to all questions of a row: a weight of 0 times NaN is NaN. So
    before one is named, each is computed by itself.

    Raises:
        InputError: names the first item and layer where NaN or inf was found, which a narrow
            type's overflow leaves behind.
    """
    compute = partial(
        compute_shard, decoder, extraction.trees, members, extraction.lens_layers, budget
    )
    shard = compute()
    if place := first_not_finite(shard, extraction, members):
        member, what = first_not_finite(compute(alone=True), extraction, members) or place
        item = extraction.items.item_ids[extraction.questions[member].item]
        remedy = "set the model's dtype to bfloat16 or float32"
        if decoder.dtype == torch.float32:
            remedy = "the weights are damaged, or take no such text: fetch them again, or leave"
            remedy += " it out"
        raise InputError(f'item "{item}": {what} are not finite in {decoder.dtype}: {remedy}')
    return shard


def compute_shard(
    decoder: Decoder,
    trees: Sequence[Tree],
    members: Sequence[int],
    layers: Sequence[int],
    budget: int,
    alone: bool = False,
) -> dict[str, np.ndarray]:
    """Everything of some consecutive questions, in their order.

    Args:
        trees: of all questions.
        members: which of them.
        layers: those of the lens.
        budget: tokens of a batch, padding counted.
        alone: give each question a row of its own, however short.

    Returns:
        `last`, `mean` (member, layer, feature) float32, `lens` (state, lens_layer, feature) in
        the model's type (bfloat16 as raw bits), `log_probability` (target,).
    """
    pack = _alone if alone else partial(packed, decoder)
    parts: dict[int, tuple[np.ndarray, ...]] = {}
    for batch in pack(trees, members, budget):
        captured = capture(decoder, batch, trees, layers)
        scores = score(captured.final, batch.members, trees, decoder.readout)
        ends = np.cumsum([len(trees[m].predicting) for m in batch.members])[:-1]
        lens = np.split(as_bits(captured.lens), ends)
        for i, member in enumerate(batch.members):
            parts[member] = (captured.last[i].numpy(), captured.mean[i].numpy(), lens[i], scores[i])
    ordered = [parts[m] for m in members]
    return {
        "last": np.stack([p[0] for p in ordered]),
        "mean": np.stack([p[1] for p in ordered]),
        "lens": np.concatenate([p[2] for p in ordered]),
        "log_probability": np.concatenate([p[3] for p in ordered]),
    }


def lens_of_shard(
    decoder: Decoder, extraction: LanguageExtraction, members: Sequence[int], states: np.ndarray
) -> np.ndarray:
    """The logit lens on a shard's states, in place of these: (target, lens_layer) [nat] float32.

    As the stage `lens` computes it of stored states, at the last layer too.

    Args: states (state, lens_layer, feature) as they would be stored.
    """
    trees = [extraction.trees[m] for m in members]
    starts = np.cumsum([0, *(len(tree.predicting) for tree in trees)])
    rows = np.concatenate([t.target_row + n for t, n in zip(trees, starts, strict=False)])
    tokens = np.concatenate([tree.target_token for tree in trees])
    stored_as = "bfloat16" if states.dtype == np.uint16 else ""

    def layer_states(layer: int) -> np.ndarray:
        return decode_states(states[:, layer], stored_as)

    layers = range(states.shape[1])
    values = lens_of_rows(layer_states, layers, decoder.readout, rows, tokens)
    return np.stack(list(values), axis=1)


def _alone(trees: Sequence[Tree], members: Sequence[int], budget: int) -> Iterator[Batch]:
    """Members in batches, each in a row of its own."""
    for chosen in batches(trees, members, budget):
        yield collate(trees, chosen)


def as_bits(states: torch.Tensor) -> np.ndarray:
    """A tensor as an array; bfloat16, which NumPy lacks, as its raw bits."""
    if states.dtype == torch.bfloat16:
        return states.contiguous().view(torch.int16).numpy().view(np.uint16)
    return states.numpy()


def first_not_finite(
    shard: dict[str, np.ndarray], extraction: LanguageExtraction, members: Sequence[int]
) -> tuple[int, str] | None:
    """The first question of a shard with NaN or inf, and which numbers are; None without any."""
    trees = [extraction.trees[m] for m in members]
    stored_as = "bfloat16" if shard["lens"].dtype == np.uint16 else ""
    rows = ~np.isfinite(decode_states(shard["lens"], stored_as)).all(-1)
    prompts = ~(np.isfinite(shard["mean"]) & np.isfinite(shard["last"])).all(-1)
    of_row = np.repeat(np.arange(len(trees)), [len(tree.predicting) for tree in trees])
    places = [(member, layer) for member, layer in np.argwhere(prompts)]
    places += [(of_row[row], extraction.lens_layers[kept]) for row, kept in np.argwhere(rows)]
    if places:
        member, layer = min(places)
        return members[member], f"states of layer {layer}"
    of_score = np.repeat(np.arange(len(trees)), [len(tree.target_token) for tree in trees])
    bad = of_score[~np.isfinite(shard["log_probability"])]
    return (members[bad[0]], "scores") if len(bad) else None
