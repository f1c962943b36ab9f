"""Questions in shards, computed and published one by one.

Each shard is published whole under a keyed name in a work folder, so that a killed run goes on at
the last whole shard.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from isogloss.errors import InputError
from isogloss.extraction.background import Background
from isogloss.extraction.capture import capture, packed, score
from isogloss.extraction.work_folder import is_whole, unless_published, work_folder, write_shard
from isogloss.files.activation_file import decode_states
from isogloss.files.canonical import key_of
from isogloss.model.decoder import Decoder
from isogloss.model.packing import Tree, batches, collate, lay_out
from isogloss.model.readout import Readout
from isogloss.program import say
from isogloss.questions.items import ParallelItems
from isogloss.questions.prompts import Question

SHARD_QUESTIONS = 32
# Shards in memory that are computed and not written yet.
WRITTEN_BEHIND = 2


def compute_shard(
    decoder: Decoder,
    readout: Readout,
    trees: Sequence[Tree],
    members: Sequence[int],
    layers: list[int],
    budget: int,
    alone: bool = False,
) -> dict[str, np.ndarray]:
    """Everything of some consecutive questions, in their order.

    Args:
        decoder, readout: the model.
        trees: of all questions.
        members: which of them.
        layers: those of the lens.
        budget: tokens of a batch, padding counted.
        alone: give each question a row of its own, however short.

    Returns:
        `last`, `mean` (member, layer, feature) float32, `lens` (state, lens_layer, feature) in
        the model's type (bfloat16 as raw bits), `log_probability` (target,).
    """
    parts: dict[int, tuple[np.ndarray, ...]] = {}
    made = (
        (collate(trees, chosen) for chosen in batches(trees, members, budget))
        if alone
        else packed(decoder, trees, members, budget)
    )
    for batch in made:
        chosen = batch.members
        captured = capture(decoder, batch, trees, layers)
        scores = score(captured.final, chosen, trees, readout)
        ends = np.cumsum([len(trees[m].predicting) for m in chosen])[:-1]
        lens = np.split(as_bits(captured.lens), ends)
        for i, member in enumerate(chosen):
            parts[member] = (captured.last[i].numpy(), captured.mean[i].numpy(), lens[i], scores[i])
    ordered = [parts[m] for m in members]
    return {
        "last": np.stack([p[0] for p in ordered]),
        "mean": np.stack([p[1] for p in ordered]),
        "lens": np.concatenate([p[2] for p in ordered]),
        "log_probability": np.concatenate([p[3] for p in ordered]),
    }


def as_bits(states: torch.Tensor) -> np.ndarray:
    """A tensor as an array; bfloat16, which NumPy lacks, as its raw bits."""
    if states.dtype == torch.bfloat16:
        return states.contiguous().view(torch.int16).numpy().view(np.uint16)
    return states.numpy()


def finite_shard(
    compute: Callable[..., dict[str, np.ndarray]],
    check: Callable[[dict[str, np.ndarray]], None],
) -> dict[str, np.ndarray]:
    """A shard of finite numbers.

    What is not finite spreads to all questions of a row: a weight of 0 times NaN is NaN. So
    before one is named, each is computed by itself.

    Args:
        compute: `compute_shard` of some members; takes `alone`.
        check: `check_finite` of the same members.

    Raises:
        InputError: as `check_finite`.
    """
    shard = compute()
    try:
        check(shard)
    except InputError:
        check(compute(alone=True))
        raise
    return shard


def check_finite(
    shard: dict[str, np.ndarray],
    names: Sequence[str],
    trees: Sequence[Tree],
    layers: Sequence[int],
    dtype: torch.dtype,
) -> None:
    """Refuse NaN and inf, which a narrow type's overflow leaves behind.

    Args:
        shard: of `compute_shard`.
        names: ids of its members' items.
        trees: of its members.
        layers: those of the lens.
        dtype: the model's.

    Raises:
        InputError: names the first item and layer where it happened.
    """
    stored_as = "bfloat16" if dtype == torch.bfloat16 else ""
    rows = ~np.isfinite(decode_states(shard["lens"], stored_as)).all(-1)
    of_row = np.repeat(np.arange(len(trees)), [len(tree.predicting) for tree in trees])
    prompts = ~np.isfinite(shard["mean"]).all(-1) | ~np.isfinite(shard["last"]).all(-1)
    found = [(member, layer) for member, layer in np.argwhere(prompts)]
    found += [(of_row[row], layers[kept]) for row, kept in np.argwhere(rows)]
    remedy = "set the model's dtype to bfloat16 or float32"
    if dtype == torch.float32:
        remedy = "the weights are damaged, or take no such text: fetch them again, or leave it out"
    if found:
        member, layer = min(found)
        raise InputError(
            f'item "{names[member]}": states of layer {layer} are not finite in {dtype}: {remedy}'
        )
    of_score = np.repeat(np.arange(len(trees)), [len(tree.target_token) for tree in trees])
    bad = of_score[~np.isfinite(shard["log_probability"])]
    if len(bad):
        raise InputError(f'item "{names[bad[0]]}": scores are not finite in {dtype}: {remedy}')


def shard_members(n_questions: int) -> list[list[int]]:
    """The questions of each shard, consecutive ones."""
    starts = range(0, n_questions, SHARD_QUESTIONS)
    return [list(range(start, min(start + SHARD_QUESTIONS, n_questions))) for start in starts]


def shards(questions: Sequence[Question], key: str) -> list[tuple[str, list[int]]]:
    """Consecutive questions and the name of their shard, which changes with what is in it."""
    made = []
    for members in shard_members(len(questions)):
        content = [key, members[0], [list(questions[m].prompt) for m in members]]
        made.append((f"{members[0]:07d}-{key_of(content)[:16]}.npz", members))
    return made


def compute_shards(
    decoder: Decoder,
    readout: Readout,
    items: ParallelItems,
    asked: Sequence[Question],
    layers: list[int],
    target: Path,
    key: str,
    budget: int,
    progress: Callable[[Iterable], Iterable],
) -> tuple[list[Tree], list[Path]]:
    """Compute the shards of an activation file that its work folder does not hold whole yet.

    Two processes on the same file share its shards: each takes them in an order of its own, and
    both stop as soon as one of them has published the file. Shards are written while the next
    ones are computed.

    Returns:
        The questions' trees, and the shards' files in order.
    """
    trees, dtype = [lay_out(question) for question in asked], decoder.dtype
    folder = work_folder(target)
    made = [(folder / name, members) for name, members in shards(asked, f"{key}-{budget}")]
    left = [(file, members) for file, members in made if not is_whole(file)]
    damaged = {file for file, _ in left if file.exists()}
    for file in sorted(damaged):
        say(f"{file}: damaged: computing it again")
    if len(left) < len(made):
        say(f"{folder}: {len(made) - len(left)} of {len(made)} shards are there")
    with Background(WRITTEN_BEHIND) as writing:
        for file, members in progress(random.sample(left, len(left))):
            if target.exists():
                break
            if file.exists() and file not in damaged:
                continue
            compute = partial(compute_shard, decoder, readout, trees, members, layers, budget)
            own = [trees[m] for m in members]
            names = [items.item_ids[asked[m].item] for m in members]
            check = partial(check_finite, names=names, trees=own, layers=layers, dtype=dtype)
            writing.call(_publish, target, file, finite_shard(compute, check))
    return trees, [file for file, _ in made]


def _publish(target: Path, file: Path, shard: dict[str, np.ndarray]) -> None:
    with unless_published(target):
        write_shard(file, shard)
