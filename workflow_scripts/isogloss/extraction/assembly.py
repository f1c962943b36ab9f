"""The activation file of one language, from its shards, in the order of the items."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isogloss.extraction.work_folder import clear, read_shard, unless_published
from isogloss.files.activation_file import ActivationWriter, WholeChunks
from isogloss.files.atomic import whole_file
from isogloss.model.packing import Tree
from isogloss.questions.items import ParallelItems, identical_to
from isogloss.questions.prompts import LATENTS, Question


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
