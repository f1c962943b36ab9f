"""Extraction: one forward a question, everything that later stages need, into one file.

Questions are computed in shards, each published whole under a keyed name in a work folder, so
that a killed run goes on at the last whole shard; at the end the shards are assembled into the
activation file in the order of the items (METHOD 2, 9; ARCHITECTURE, the activation file).
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isogloss.errors import InputError
from isogloss.extraction.background import Background
from isogloss.extraction.shards import (
    clear,
    is_whole,
    read_shard,
    unless_published,
    work_folder,
    write_shard,
)
from isogloss.files.activation_file import ActivationWriter, WholeChunks, decode_states
from isogloss.files.atomic import key_of, whole_file
from isogloss.model.forward import run
from isogloss.model.load import Decoder
from isogloss.model.logit_lens import token_log_probabilities
from isogloss.model.packing import Batch, Tree, batches, collate, collate_rows, lay_out, packed_rows
from isogloss.model.readout import Readout
from isogloss.program import say
from isogloss.questions.items import ParallelItems, identical_to
from isogloss.questions.prompts import LATENTS, Question

SHARD_QUESTIONS = 32
# Shards in memory that are computed and not written yet.
WRITTEN_BEHIND = 2


@dataclass(frozen=True)
class Captured:
    """What one batch's forward left behind, in the batch's order of members.

    Attributes:
        last: (member, layer, feature) float32 state at the prompt's end.
        mean: (member, layer, feature) float32 mean over the prompt without its first position.
        lens: (state, lens_layer, feature) states that predict a scored token.
        final: (state, feature) the same at the last layer.
    """

    last: torch.Tensor
    mean: torch.Tensor
    lens: torch.Tensor
    final: torch.Tensor


def capture(decoder: Decoder, batch: Batch, trees: Sequence[Tree], layers: list[int]) -> Captured:
    """Run one batch and keep the states that are wanted.

    The first position (BOS, or where a model has none the token that takes its place as an
    attention sink) is left out of the mean: on Gemma 3 270M its norm carries most of the mean's
    variance (METHOD 6).
    """
    device = decoder.input_device
    sizes = [len(trees[m].predicting) for m in batch.members]
    row = np.repeat(batch.row.numpy(), sizes)
    column = np.concatenate([trees[m].predicting for m in batch.members])
    column = column + np.repeat(batch.start.numpy(), sizes)
    row_at, column_at = torch.from_numpy(row).to(device), torch.from_numpy(column).to(device)
    of_row, slot, weights = (t.to(device) for t in _mean_weights(batch))
    ends = (batch.start + batch.n_prompt - 1).to(device)
    last, mean, lens, final = [], [], {}, []

    def at(layer: int, states: torch.Tensor) -> None:
        here = states.device
        last.append(states[of_row.to(here), ends.to(here)].float().cpu())
        means = torch.bmm(weights.to(here), states.float())
        mean.append(means[of_row.to(here), slot.to(here)].cpu())
        if layer in layers or layer == decoder.n_layers:
            wanted = states[row_at.to(here), column_at.to(here)]
            if layer in layers:
                lens[layer] = wanted.cpu()
            if layer == decoder.n_layers:
                final.append(wanted)

    run(decoder, batch, at)
    kept = [lens[layer] for layer in layers]
    stacked = torch.stack(kept, 1) if kept else torch.zeros(len(row), 0, decoder.width)
    return Captured(torch.stack(last, 1), torch.stack(mean, 1), stacked, final[0])


def _mean_weights(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What makes means over prompts of a batch's states, by one product a layer.

    Returns:
        Row and slot of each member among the trees of its row, (member,); weights (row, slot,
        place), zero but for the prompt without its first position.
    """
    slot = torch.arange(len(batch.row)) - torch.searchsorted(batch.row, batch.row)
    n_rows, length = batch.tokens.shape
    place = torch.arange(length)
    first, end = batch.start + 1, batch.start + batch.n_prompt
    inside = (place >= first[:, None]) & (place < end[:, None])
    weights = torch.zeros(n_rows, int(slot.max()) + 1, length)
    weights[batch.row, slot] = inside / inside.sum(1, keepdim=True).clamp(min=1)
    return batch.row, slot, weights


def score(
    captured: Captured, members: Sequence[int], trees: Sequence[Tree], readout: Readout
) -> list[np.ndarray]:
    """The model's log-probability of every target of each member, in the members' order."""
    offsets = np.cumsum([0, *(len(trees[m].predicting) for m in members)])
    rows = [trees[m].target_row + start for m, start in zip(members, offsets, strict=False)]
    tokens = np.concatenate([trees[m].target_token for m in members])
    found = token_log_probabilities(
        captured.final,
        readout,
        torch.from_numpy(np.concatenate(rows)),
        torch.from_numpy(tokens),
    )
    sizes = np.cumsum([len(r) for r in rows])[:-1]
    return np.split(found.cpu().numpy(), sizes)


def packed(
    decoder: Decoder, trees: Sequence[Tree], members: Sequence[int], budget: int
) -> Iterator[Batch]:
    """Members in batches of at most `budget` tokens, short ones together in a row or segment."""
    joined = decoder.by_segments
    for rows in packed_rows(trees, members, budget, joined):
        yield collate_rows(trees, rows, joined)


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
        scores = score(captured, chosen, trees, readout)
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


def assemble(
    target: Path,
    spec: dict[str, Any],
    record: dict[str, Any],
    items: ParallelItems,
    asked: Sequence[Question],
    trees: Sequence[Tree],
    files: Sequence[Path],
    layers: list[int],
) -> None:
    """The activation file from its shards; published whole, then the shards are removed."""
    if not target.exists():
        with unless_published(target), whole_file(target) as temporary:
            with ActivationWriter(temporary, spec, record) as writer:
                _describe_items(writer, items, spec, asked)
                _copy_states(writer, asked, trees, files, layers)
    clear(target)


def _describe_items(
    writer: ActivationWriter, items: ParallelItems, spec: dict[str, Any], asked: Sequence[Question]
) -> None:
    """What the items are, and the sizes of the root's dimensions."""
    own = items.items[spec["language"]]
    n_choices = max(1, int(items.n_choices.max()))
    writer.dimensions(item=len(own), choice=n_choices, latent=len(LATENTS))
    main = [q for q in asked if q.kind == "main"]
    item = ("item",)
    writer.write("item_id", item, np.array(items.item_ids, dtype=object), "item")
    writer.write("latent", ("latent",), np.array(LATENTS, dtype=object), "whose words are scored")
    for name, values, long_name in (
        ("cluster", items.clusters, "cluster of the item"),
        ("answer", items.answers, "index of the gold choice"),
        ("n_choices", items.n_choices, "choices of the item"),
        ("n_prompt_tokens", [len(q.prompt) for q in main], "tokens of the prompt, BOS included"),
        ("n_truncated_tokens", [q.truncated for q in main], "tokens dropped from the left"),
    ):
        writer.write(name, item, np.asarray(values, dtype=np.int32), long_name)
    characters, size = np.zeros((2, len(own), n_choices), dtype=np.int32)
    identical = np.zeros((len(own), n_choices), dtype=np.int8)
    if items.n_choices.max() > 0:
        found = identical_to(items, spec["language"], spec["pivot"])
        identical[:, : found.shape[1]] = found
    for i, one in enumerate(own):
        for c, words in enumerate(one.choices):
            characters[i, c], size[i, c] = len(words), len(words.encode())
    per_choice = ("item", "choice")
    writer.write("n_characters", per_choice, characters, "code points of the choice")
    writer.write("n_bytes", per_choice, size, "UTF-8 bytes of the choice")
    writer.write("identical_to_pivot", per_choice, identical, "choice spelled as in the pivot")


def _copy_states(
    writer: ActivationWriter,
    asked: Sequence[Question],
    trees: Sequence[Tree],
    files: Sequence[Path],
    layers: list[int],
) -> None:
    """States, rows and scores, shard by shard."""
    main = np.array([q.kind == "main" for q in asked])
    n_states = np.array([len(t.predicting) for t in trees])
    rows = _Places(np.where(main, n_states, 0))
    scores: list[np.ndarray] = []
    out: dict[str, WholeChunks] = {}
    where = 0
    for file in files:
        shard = read_shard(file)
        out = out or _create(writer, shard, int(rows.total), layers)
        own = slice(where, where + len(shard["last"]))
        keep = main[own]
        out["prompt_last"].append(shard["last"][keep])
        out["prompt_mean"].append(shard["mean"][keep])
        if layers:
            out["state"].append(shard["lens"][np.repeat(keep, n_states[own])])
        scores.append(shard["log_probability"])
        where = own.stop
    for variable in out.values():
        variable.finish()
    table, scored = _targets(asked, trees), np.concatenate(scores)
    _write_scores(writer, asked, table, scored)
    if layers:
        _write_targets(writer, table, scored, rows)


class _Places:
    """Where each question's states begin among all that are stored."""

    def __init__(self, sizes: np.ndarray) -> None:
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self.total = self._starts[-1]

    def start(self, question: int | np.ndarray) -> Any:
        return self._starts[question]


def _create(
    writer: ActivationWriter, shard: dict[str, np.ndarray], n_rows: int, layers: list[int]
) -> dict[str, WholeChunks]:
    """The large variables, empty; a layer of all rows is read in few, sequential pieces."""
    _, n_layers, width = shard["last"].shape
    writer.dimensions(layer=n_layers, feature=width)
    writer.write("layer", ("layer",), np.arange(n_layers), "layer; 0 is the embedding")
    depth = np.arange(n_layers) / (n_layers - 1)
    writer.write("relative_depth", ("layer",), depth, "relative depth")
    made = {
        name: writer.create(
            name, ("item", "layer", "feature"), np.float32, long_name=text, chunks=(64, 1, width)
        )
        for name, text in (
            ("prompt_last", "residual stream at the prompt's last token"),
            ("prompt_mean", "residual stream, mean over the prompt without its first token"),
        )
    }
    if layers:
        writer.dimensions("rows", row=n_rows, lens_layer=len(layers), feature=width)
        kept = np.array(layers)
        writer.write("rows/lens_layer", ("lens_layer",), kept, "layers kept for the lens")
        bits = shard["lens"].dtype == np.uint16
        made["state"] = writer.create(
            "rows/state",
            ("row", "lens_layer", "feature"),
            "bfloat16" if bits else shard["lens"].dtype,
            long_name="residual stream that predicts a scored token",
            chunks=(max(1, min(1024, n_rows)), 1, width),
        )
    return {name: WholeChunks(variable) for name, variable in made.items()}


def _targets(asked: Sequence[Question], trees: Sequence[Tree]) -> dict[str, np.ndarray]:
    """One row a predicted token: its question, phrase, place in the phrase, row and token."""
    sizes = [len(t.target_token) for t in trees]
    table = {
        "question": np.repeat(np.arange(len(trees)), sizes),
        "phrase": np.concatenate([t.target_phrase for t in trees]),
        "position": np.concatenate([t.target_position for t in trees]),
        "row": np.concatenate([t.target_row for t in trees]),
        "token": np.concatenate([t.target_token for t in trees]),
    }
    pairs = list(zip(table["question"], table["phrase"], strict=True))
    table["item"] = np.array([asked[q].item for q, _ in pairs], dtype=np.int64)
    table["latent"] = np.array([asked[q].phrases[p].latent for q, p in pairs], dtype=np.int64)
    table["choice"] = np.array([asked[q].phrases[p].choice for q, p in pairs], dtype=np.int64)
    return table


def _write_scores(
    writer: ActivationWriter,
    asked: Sequence[Question],
    table: dict[str, np.ndarray],
    scored: np.ndarray,
) -> None:
    """Log-likelihoods and token counts of the phrases, by kind of question."""
    n_items = max(q.item for q in asked) + 1
    n_choices = max((p.choice for q in asked for p in q.phrases), default=0) + 1
    kinds = np.array([q.kind for q in asked])[table["question"]]
    shape = (n_items, len(LATENTS), n_choices)
    for kind, name, text in (
        ("main", "log_probability", "log-likelihood of the phrase after the prompt"),
        ("unconditional", "unconditional", "log-likelihood after the prompt without a question"),
        ("letter", "letter", "log-likelihood of the choice's letter, mean over rotations"),
    ):
        if kind != "main" and not (kinds == kind).any():
            continue
        mine = kinds == kind
        place = (table["item"][mine], table["latent"][mine], table["choice"][mine])
        total, tokens = np.zeros(shape), np.zeros(shape, dtype=np.int32)
        np.add.at(total, place, scored[mine])
        np.add.at(tokens, place, 1)
        begins = np.zeros(shape, dtype=np.int32)
        np.add.at(begins, place, (table["position"][mine] == 0).astype(np.int32))
        values = np.where(begins > 0, total / np.maximum(begins, 1), np.nan).astype(np.float32)
        if kind == "main":
            dims = ("item", "latent", "choice")
            writer.write(name, dims, values, text, "nat")
            writer.write("phrase_tokens", dims, tokens, "tokens of the phrase")
        else:
            writer.write(name, ("item", "choice"), values[:, 0], text, "nat")


def _write_targets(
    writer: ActivationWriter,
    table: dict[str, np.ndarray],
    scored: np.ndarray,
    rows: _Places,
) -> None:
    """The table that says what each stored row predicts."""
    starts = rows.start(table["question"])
    stored = starts < rows.start(table["question"] + 1)  # unconditional and letter rows are not
    writer.dimensions("targets", target=int(stored.sum()))
    absolute = (starts + table["row"])[stored]
    for name, values, text in (
        ("row", absolute, "row whose state predicts the token"),
        ("token", table["token"][stored], "token predicted"),
        ("item", table["item"][stored], "item"),
        ("latent", table["latent"][stored], "index of the latent language"),
        ("choice", table["choice"][stored], "choice"),
        ("position", table["position"][stored], "place in the phrase"),
    ):
        writer.write(f"targets/{name}", ("target",), values.astype(np.int64), text)
    text = "the model's own log-probability"
    writer.write("targets/log_probability", ("target",), scored[stored], text, "nat")
