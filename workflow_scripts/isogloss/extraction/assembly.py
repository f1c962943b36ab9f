"""The activation file of one language, from its shards, in the order of the items."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isogloss.extraction.language import LanguageExtraction
from isogloss.extraction.work_folder import clear, read_shard, unless_published
from isogloss.files.activation_file import ActivationWriter, WholeChunks
from isogloss.files.atomic import whole_file
from isogloss.measures.lens import phrase_means
from isogloss.model.packing import Tree
from isogloss.questions.items import ParallelItems, identical_to
from isogloss.questions.prompts import LATENTS, Question, mismatched, partners


def assemble(
    extraction: LanguageExtraction, record: Mapping[str, Any], shards: Sequence[Path]
) -> None:
    """Write and publish the activation file, then remove its shards.

    Args:
        extraction: what the file is made of.
        record: how it was made, for the file.
        shards: of `compute_shards`, in order.
    """
    if not extraction.path.exists():
        with unless_published(extraction.path), whole_file(extraction.path) as temporary:
            with ActivationWriter(temporary, extraction.identity, record) as writer:
                _write(writer, extraction, shards)
    clear(extraction.path)


def _write(
    writer: ActivationWriter, extraction: LanguageExtraction, shards: Sequence[Path]
) -> None:
    """What the items are, their states, and the scores of the phrases."""
    items, identity, asked = extraction.items, extraction.identity, extraction.questions
    main = [question for question in asked if question.kind == "main"]
    writer.write(
        item_id=items.item_ids,
        cluster=items.clusters,
        answer=items.answers,
        n_choices=items.n_choices,
        n_prompt_tokens=[len(question.prompt) for question in main],
        n_truncated_tokens=[question.truncated for question in main],
        latent=LATENTS,
        **describe_choices(items, identity["language"], identity["pivot"]),
    )
    partner = partners(items, items.clusters, identity["language"], identity["pivot"])
    if not np.array_equal(partner, mismatched(items.clusters)):  # by which the lens finds them
        writer.write(mismatched_item=partner)
    log_probability, lens = _copy_states(writer, extraction, shards)
    targets = target_table(asked, extraction.trees)
    n_choices = max(1, int(items.n_choices.max()))
    shape = (len(items.item_ids), len(LATENTS), n_choices)
    kinds = np.array([question.kind for question in asked])[targets["question"]]
    writer.write(**phrase_scores(kinds, targets, log_probability, shape))
    if extraction.lens_layers:
        kept = kinds == "main"
        columns = {name: targets[name][kept] for name in ("token", "item", "latent", "choice")}
        rows = (_first_rows(extraction)[targets["question"]] + targets["row"])[kept]
        writer.write(
            "targets",
            row=rows,
            position=targets["position"][kept],
            log_probability=log_probability[kept],
            **columns,
            **({} if lens is None else {"lens": lens[kept].T}),
        )


def describe_choices(items: ParallelItems, language: str, pivot: str) -> dict[str, np.ndarray]:
    """Sizes of the choices, and which are the pivot's: (item, choice), 0 where there is none."""
    choices = [item.choices for item in items.items[language]]
    shape = (len(choices), max(1, int(items.n_choices.max())))
    characters, size, identical = (np.zeros(shape, dtype=np.int32) for _ in range(3))
    if items.n_choices.max() > 0:
        equal = identical_to(items, language, pivot)
        identical[:, : equal.shape[1]] = equal
    for i, words in enumerate(choices):
        characters[i, : len(words)] = [len(word) for word in words]
        size[i, : len(words)] = [len(word.encode()) for word in words]
    return {"n_characters": characters, "n_bytes": size, "identical_to_pivot": identical}


def _first_rows(extraction: LanguageExtraction) -> np.ndarray:
    """(question + 1,) where each question's states begin among the rows kept for the lens.

    Rows of unconditional and letter questions are not kept.
    """
    sizes = [
        len(tree.predicting) if question.kind == "main" else 0
        for question, tree in zip(extraction.questions, extraction.trees, strict=True)
    ]
    return np.cumsum([0, *sizes])


def _copy_states(
    writer: ActivationWriter, extraction: LanguageExtraction, shards: Sequence[Path]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Copy states and rows shard by shard.

    Returns: (target,) log-probabilities of all questions; where no rows are kept, what the lens
    reads in them (target, lens_layer).
    """
    main = np.array([question.kind == "main" for question in extraction.questions])
    n_states = np.array([len(tree.predicting) for tree in extraction.trees])
    log_probability: list[np.ndarray] = []
    lens: list[np.ndarray] = []
    copies: dict[str, WholeChunks] = {}
    start = 0
    for file in shards:
        shard = read_shard(file)
        copies = copies or _large_variables(writer, extraction, shard)
        part = slice(start, start + len(shard["last"]))
        kept = main[part]
        copies["last"].append(shard["last"][kept])
        copies["mean"].append(shard["mean"][kept])
        if "lens" in copies:
            copies["lens"].append(shard["lens"][np.repeat(kept, n_states[part])])
        elif extraction.lens_layers:
            lens.append(shard["lens"])
        log_probability.append(shard["log_probability"])
        start = part.stop
    for variable in copies.values():
        variable.finish()
    return np.concatenate(log_probability), np.concatenate(lens) if lens else None


def _large_variables(
    writer: ActivationWriter, extraction: LanguageExtraction, shard: dict[str, np.ndarray]
) -> dict[str, WholeChunks]:
    """The variables of states, empty, by the part of a shard that fills them."""
    _, n_layers, width = shard["last"].shape
    shape = (len(extraction.items.item_ids), n_layers, width)
    writer.write(layer=np.arange(n_layers), relative_depth=np.arange(n_layers) / (n_layers - 1))
    copies = {part: writer.states(f"prompt_{part}", shape, np.float32) for part in ("last", "mean")}
    if layers := extraction.lens_layers:
        writer.write("rows", lens_layer=layers)
        if not extraction.keeps_rows:
            return copies
        shape = (int(_first_rows(extraction)[-1]), len(layers), width)
        copies["lens"] = writer.states("state", shape, shard["lens"].dtype, "rows")
    return copies


def target_table(asked: Sequence[Question], trees: Sequence[Tree]) -> dict[str, np.ndarray]:
    """One row a predicted token.

    Returns:
        (target,) each: question, place in the phrase (`position`), row among the question's states,
        token, item, latent and choice.
    """
    question = np.repeat(np.arange(len(trees)), [len(tree.target_token) for tree in trees])
    phrases = [asked[q].phrases[p] for q, tree in enumerate(trees) for p in tree.target_phrase]
    return {
        "question": question,
        "position": np.concatenate([tree.target_position for tree in trees]),
        "row": np.concatenate([tree.target_row for tree in trees]),
        "token": np.concatenate([tree.target_token for tree in trees]),
        "item": np.array([q.item for q in asked], dtype=np.int64)[question],
        "latent": np.array([phrase.latent for phrase in phrases], dtype=np.int64),
        "choice": np.array([phrase.choice for phrase in phrases], dtype=np.int64),
    }


def phrase_scores(
    kinds: np.ndarray,
    targets: Mapping[str, np.ndarray],
    log_probability: np.ndarray,
    shape: tuple[int, int, int],
) -> dict[str, np.ndarray]:
    """Log-likelihoods of the phrases of each kind of question that was asked, and their tokens.

    Args:
        kinds: (target,) kind of each target's question.
        targets: of `target_table`.
        log_probability: (target,) [nat].
        shape: (item, latent, choice).

    Returns:
        `log_probability`, `phrase_tokens` (item, latent, choice); `unconditional`, `letter`
        (item, choice). NaN where nothing was scored.
    """
    scores: dict[str, np.ndarray] = {}
    for kind, name in (
        ("main", "log_probability"),
        ("unconditional", "unconditional"),
        ("letter", "letter"),
    ):
        chosen = kinds == kind
        if kind == "main" or chosen.any():
            of_kind = {column: values[chosen] for column, values in targets.items()}
            values, _ = phrase_means(log_probability[chosen], of_kind, shape)
            scores[name] = values if kind == "main" else values[:, 0]
    tokens = np.zeros(shape, dtype=np.int32)
    main = kinds == "main"
    np.add.at(tokens, tuple(targets[name][main] for name in ("item", "latent", "choice")), 1)
    return scores | {"phrase_tokens": tokens}
