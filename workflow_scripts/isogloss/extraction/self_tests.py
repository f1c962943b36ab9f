"""What every extraction checks of itself before it begins.

The lens at the last layer must be the model; packing must not change a score; and what a
narrower type costs is measured against float32 and reported.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from isogloss.errors import InputError, OutOfMemory
from isogloss.extraction.capture import capture, packed, score
from isogloss.extraction.language import LanguageExtraction
from isogloss.extraction.shards import finite_shard
from isogloss.model.decoder import Decoder
from isogloss.model.memory import memory_errors
from isogloss.model.packing import Tree, lay_out
from isogloss.model.residual import residual_stream
from isogloss.model.token_scores import token_log_probabilities
from isogloss.questions.prompts import Phrase, Question

TOLERANCE = 1e-4
# Tokens of a batch: of the packing self-test, and of scores in both types.
CHECKED_TOKENS = 4096
PRECISION_TOKENS = 2048


def check_lens(decoder: Decoder, question: Question) -> dict[str, float]:
    """Compare the lens at the last layer with the model's own head, on the states of one forward.

    Returns:
        The largest difference of log-probabilities [nat] and what was allowed: 1e-4 in float32,
        2 units in the last place of the largest logit in narrower types.

    Raises:
        InputError: they differ by more.
    """
    final: list[torch.Tensor] = []

    def at(layer: int, states: torch.Tensor) -> None:
        if layer == decoder.n_layers:
            final.append(states[0])

    tokens = torch.tensor([question.prompt], device=decoder.input_device)
    with torch.inference_mode(), residual_stream(decoder, at):
        logits = decoder.model(input_ids=tokens, use_cache=False).logits[0].float()
    expected = torch.log_softmax(logits, dim=-1)
    best = expected.argmax(-1)
    row = torch.arange(len(best))
    lens = token_log_probabilities(final[0], decoder.readout, row, best.cpu())
    at_best = expected[row.to(expected.device), best].to(lens.device)
    difference = float((lens - at_best).abs().max())
    allowed = TOLERANCE
    if decoder.dtype != torch.float32:
        largest = float(logits.abs().max())
        allowed = 2 * torch.finfo(decoder.dtype).eps * 2 ** np.floor(np.log2(largest))
    if not difference <= allowed:
        raise InputError(
            f"{decoder.slug}: lens self-test: the lens at the last layer differs from the "
            f"model by {difference:.2g} nat, {allowed:.2g} is allowed: this architecture is not "
            "supported as it is loaded"
        )
    return {"difference": difference, "allowed": float(allowed)}


def check_packing(decoder: Decoder, extraction: LanguageExtraction) -> dict[str, float]:
    """Compare packed scores with the model's own, one plain row per phrase.

    Returns:
        The largest difference over the phrases of the shortest and the longest question
        [nat per token]; empty where nothing is scored.

    Raises:
        InputError: more than 1e-4 in float32, or more than a tenth of the scores' spread plus
            1 nat in narrower types, where kernels of different shapes round differently; or
            states or scores that are not finite.
    """
    asked = extraction.questions
    lengths = sorted([q for q in asked if q.phrases] or asked, key=lambda q: len(q.prompt))
    chosen = [lengths[0], lengths[-1]]
    layers = range(decoder.n_layers + 1)
    few = replace(extraction, questions=chosen, lens_layers=layers)
    shard = finite_shard(decoder, few, range(len(chosen)), CHECKED_TOKENS)
    if not chosen[0].phrases:
        return {}
    packed = shard["log_probability"]
    plain = np.concatenate([_plain(decoder, question) for question in chosen])
    difference = float(np.abs(packed - plain).max())
    allowed = TOLERANCE if decoder.dtype == torch.float32 else 0.1 * float(plain.std() + 1)
    if not difference <= allowed:
        raise InputError(
            f"{decoder.slug}: packing self-test: packed scores differ from unpacked ones by "
            f"{difference:.2g} nat, {allowed:.2g} is allowed: attention in this architecture "
            "depends on a token's place in the row"
        )
    return {"packing_difference": difference, "packing_allowed": allowed}


def _plain(decoder: Decoder, question: Question) -> np.ndarray:
    """Log-probabilities of every phrase's tokens, each phrase in a row of its own.

    The model's own causal attention is used; padding is at the right, where no token looks. Rows
    end before the last token, which predicts nothing. On the plain path each row is a forward, and
    the scores are those of the model's own logits.
    """
    if not decoder.fast:
        return np.concatenate([_of_logits(decoder, question.prompt, p) for p in question.phrases])
    rows = [torch.tensor([*question.prompt, *p.tokens[:-1]]) for p in question.phrases]
    scaled = decoder.length_scaled
    if scaled is None:
        final = list(_final_states(decoder, pad_sequence(rows, batch_first=True)))
    else:  # the longest row of a forward changes the others
        final = []
        for row in rows:
            with scaled.each_by_itself(torch.full((1, len(row)), decoder.reach(len(row)))):
                final += _final_states(decoder, row[None])
    first = len(question.prompt) - 1
    states = [
        row[first : first + len(phrase.tokens)]
        for row, phrase in zip(final, question.phrases, strict=True)
    ]
    target = torch.tensor([token for phrase in question.phrases for token in phrase.tokens])
    place = torch.arange(len(target))
    scores = token_log_probabilities(torch.cat(states), decoder.readout, place, target)
    return scores.cpu().numpy()


@torch.inference_mode()
def _of_logits(decoder: Decoder, prompt: Sequence[int], phrase: Phrase) -> np.ndarray:
    """(token,) log-probabilities of a phrase, by the model's own logits in float32."""
    ids = torch.tensor([[*prompt, *phrase.tokens[:-1]]], device=decoder.input_device)
    scaled, length = decoder.length_scaled, ids.shape[1]
    reach = torch.full(ids.shape, decoder.reach(length))
    with nullcontext() if scaled is None else scaled.each_by_itself(reach):
        logits = decoder.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :]
    log_probability = torch.log_softmax(logits.float(), -1).cpu()
    return log_probability[range(len(phrase.tokens)), list(phrase.tokens)].numpy()


def _final_states(decoder: Decoder, ids: torch.Tensor) -> torch.Tensor:
    """(row, place, feature) states before the final norm, of the model's own forward."""
    final: list[torch.Tensor] = []

    def keep(_: Any, args: tuple) -> None:
        final.append(args[0])

    with decoder.final_norm.register_forward_pre_hook(keep), torch.inference_mode():
        decoder.backbone(input_ids=ids.to(decoder.input_device), use_cache=False)
    return final[0]


def precision(
    decoder: Decoder,
    load_exact: Callable[[], Decoder],
    asked: Mapping[str, Sequence[Question]],
    n_items: int,
) -> dict[str, dict[str, Any]]:
    """What the model's type costs: the scores of some items beside those in float32.

    Args:
        load_exact: loads it in float32.
        asked: questions by language.
        n_items: items of each language.

    Returns:
        By language: number of phrases, largest and mean absolute difference of their
        log-likelihoods [nat]; empty in float32, or where none are asked for. Where there is no
        memory for the model in float32, `not_compared` says so in every language.
    """
    if n_items == 0 or decoder.dtype == torch.float32:
        return {}
    trees = {
        language: [
            lay_out(q, decoder.reach)
            for q in islice((q for q in questions if q.kind == "main" and q.phrases), n_items)
        ]
        for language, questions in asked.items()
    }
    try:
        with memory_errors("scores in float32"):
            narrow, exact = _sums(decoder, trees), _sums(load_exact(), trees)
    except OutOfMemory:
        return {language: {"not_compared": "out of memory"} for language in asked}
    differences = {tag: np.abs(narrow[tag] - exact[tag]) for tag in trees if len(narrow[tag])}
    return {
        language: {
            "phrases": len(difference),
            "largest": float(difference.max()),
            "mean": float(difference.mean()),
        }
        for language, difference in differences.items()
    }


def _sums(decoder: Decoder, by_language: Mapping[str, list[Tree]]) -> dict[str, np.ndarray]:
    """Log-likelihood of every phrase of every question, in order, by language [nat].

    Batches are formed across languages, since some questions of one would not fill any.
    """
    trees = [tree for several in by_language.values() for tree in several]
    sums: list[np.ndarray] = [np.empty(0)] * len(trees)
    for batch in packed(decoder, trees, range(len(trees)), PRECISION_TOKENS):
        captured = capture(decoder, batch, trees, [])
        scores = score(captured.final, batch.members, trees, decoder.readout)
        for member, values in zip(batch.members, scores, strict=True):
            sums[member] = np.bincount(trees[member].target_phrase, values)
    ordered = iter(sums)
    return {
        language: np.concatenate([np.empty(0), *islice(ordered, len(several))])
        for language, several in by_language.items()
    }
