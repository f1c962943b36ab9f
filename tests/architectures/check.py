"""One architecture through extraction, lens and steering, beside its own plain forwards."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from architectures.families import VOCABULARY, build

from isogloss.extraction.shards import compute_shard
from isogloss.files.activation_file import decode_states
from isogloss.files.canonical import key_of
from isogloss.model.adapt import adapt
from isogloss.model.packing import lay_out
from isogloss.model.readout import read_readout, write_readout
from isogloss.model.tiny_models import tiny_tokenizer
from isogloss.model.token_scores import token_log_probabilities
from isogloss.questions.prompts import Phrase, Question
from isogloss.steering.interventions import constant_shift
from isogloss.steering.sweep import Condition, steered_scores

STRENGTH = 0.7
EAGER_IS_WRONG = ("Falcon, ALiBi",)
"""In transformers 5.23 it counts ALiBi twice."""


@dataclass(frozen=True)
class Found:
    """What an architecture gave.

    Attributes:
        path: taken, and why.
        scores, lens: (target,) differences from plain forwards [nat].
        steered: (question, phrase) likewise.
        states: (question, layer) differences of states at prompts' ends, as shares of their norms.
        moved: the median change of a phrase's score by steering [nat].
    """

    path: dict[str, str]
    scores: np.ndarray
    lens: np.ndarray
    steered: np.ndarray
    states: np.ndarray
    moved: float

    @property
    def differences(self) -> tuple[np.ndarray, ...]:
        return self.scores, self.lens, self.steered, self.states


def asked() -> list[Question]:
    """Short and long questions of random tokens; phrases of a question begin alike."""
    rng = np.random.default_rng(0)

    def tokens(n: int) -> list[int]:
        return rng.integers(2, VOCABULARY, n).tolist()

    made = []
    for n in (5, 33, 12, 70):
        first = tokens(1)
        phrases = [first, first + tokens(1), first + tokens(2), tokens(3)]
        listed = [Phrase(0, i, tuple(phrase), False) for i, phrase in enumerate(phrases)]
        made.append(Question(0, "main", tuple([0, *tokens(n - 1)]), tuple(listed)))
    return made


def check(family: str, dtype: torch.dtype, folder: Path) -> Found:
    """Run an architecture, and compare.

    Raises:
        InputError: it is refused.
    """
    try:
        model = build(family, dtype, "sdpa")  # as a study has it
    except ValueError:  # the class has none
        model = build(family, dtype)
    decoder = adapt(model, tiny_tokenizer(True), family)
    reference = "sdpa" if family in EAGER_IS_WRONG else "eager"
    built, blocks = (
        build(family, dtype, reference),
        [_name_of(decoder.model, block) for block in decoder.layers],
    )
    questions, layers = asked(), range(decoder.n_layers + 1)
    trees = [lay_out(question, decoder.reach) for question in questions]
    shard = compute_shard(decoder, trees, range(len(trees)), layers, 256)
    expected = [_plain(built, blocks, q, p, None) for q in questions for p in q.phrases]
    plain = np.concatenate([scores for scores, _ in expected])
    at_ends = np.stack([expected[i][1] for i in np.cumsum([0] + [4] * (len(questions) - 1))])
    states = np.linalg.norm(shard["last"] - at_ends, axis=-1) / np.linalg.norm(at_ends, axis=-1)

    readout = folder / f"{key_of({})}.safetensors"
    write_readout(decoder, readout, {})
    kept = decode_states(shard["lens"], "bfloat16" if shard["lens"].dtype == np.uint16 else "")
    starts = np.cumsum([0] + [len(tree.predicting) for tree in trees])
    row = np.concatenate([t.target_row + s for t, s in zip(trees, starts, strict=False)])
    token = np.concatenate([tree.target_token for tree in trees])
    lens = token_log_probabilities(
        torch.from_numpy(np.ascontiguousarray(kept[:, -1])),
        read_readout(readout),
        torch.from_numpy(row),
        torch.from_numpy(token),
    ).numpy()

    shift, layer = np.random.default_rng(1).normal(size=decoder.width), decoder.n_layers // 2
    condition = Condition(layer, constant_shift(shift.astype(np.float32)), STRENGTH)
    ours = steered_scores(
        decoder, decoder.readout, trees, [[condition]] * len(trees)
    ).log_probability[0]
    added = (layer, torch.from_numpy(STRENGTH * shift).float())
    steered = np.array(
        [[_plain(built, blocks, q, p, added)[0].sum() for p in q.phrases] for q in questions]
    )
    sums = np.array([scores.sum() for scores, _ in expected]).reshape(steered.shape)
    return Found(
        decoder.path,
        np.abs(shard["log_probability"] - plain),
        np.abs(lens - plain),
        np.abs(ours - steered),
        states,
        float(np.median(np.abs(steered - sums))),
    )


def _name_of(model: Any, module: Any) -> str:
    return next(name for name, other in model.named_modules() if other is module)


@torch.inference_mode()
def _plain(
    model: Any,
    blocks: list[str],
    question: Question,
    phrase: Phrase,
    added: tuple[int, torch.Tensor] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a phrase's tokens and states at the prompt's end, (layer, feature), of one forward.

    Args:
        blocks: their names.
        added: layer, and what its block's output is shifted by at the prompt but its first token.
    """
    n, ends = len(question.prompt), []

    def entering(_: Any, args: tuple, kwargs: dict) -> None:
        states = args[0] if args else kwargs["hidden_states"]
        ends.append(_seen(model, states, n - 1))

    def leaving(_: Any, __: Any, output: Any) -> Any:
        alone = isinstance(output, torch.Tensor)
        states = output if alone else output[0]
        if added is not None and len(ends) == added[0]:
            states = _moved(model, states, n, added[1])
        ends.append(_seen(model, states, n - 1))
        return states if alone else (states, *output[1:])

    layers = [model.get_submodule(name) for name in blocks]
    hooks = [layers[0].register_forward_pre_hook(entering, with_kwargs=True)]
    hooks += [block.register_forward_hook(leaving) for block in layers]
    ids = torch.tensor([[*question.prompt, *phrase.tokens]])
    try:
        logits = model(input_ids=ids, use_cache=False).logits[0].float()
    finally:
        for hook in hooks:
            hook.remove()
    place = torch.arange(n - 1, ids.shape[1] - 1)
    scores = logits.log_softmax(-1)[place, list(phrase.tokens)]
    return scores.numpy(), np.stack(ends)


def _moved(model: Any, states: torch.Tensor, n: int, shift: torch.Tensor) -> torch.Tensor:
    """States with the prompt but its first token shifted: of Gemma 3n's streams the first one, of
    DeepSeek-V4's all, so that their weighted sum moves by the shift."""
    states = states.clone()
    if states.ndim == 4 and hasattr(model.model, "hc_head"):
        weights = _stream_weights(model.model.hc_head, states[:, 1:n]).sum(-1, keepdim=True)
        by = (shift / weights)[..., None, :]
        states[:, 1:n] = (states[:, 1:n].float() + by).to(states.dtype)
        return states
    first = states.flatten(0, -3)[0]  # of streams side by side the first one
    first[1:n] = (first[1:n].float() + shift).to(states.dtype)
    return states


def _stream_weights(head: Any, streams: torch.Tensor) -> torch.Tensor:
    """(row, place, stream) as DeepSeek-V4 and HY-V4 have them."""
    flat = streams.flatten(2).float()
    if type(head).__name__.startswith("Deepseek"):
        mixed = torch.nn.functional.linear(head.input_norm(flat), head.hc_fn.float())
    else:
        mixed = torch.nn.functional.linear(flat, head.hc_fn.float()) * head.input_norm(flat)
    return torch.sigmoid(mixed * head.hc_scale.float() + head.hc_base.float()) + head.eps


def _seen(model: Any, states: torch.Tensor, place: int) -> np.ndarray:
    """(feature,) what the model's readout would see at a place; of Gemma 3n's streams their mean,
    each but the first projected and as long as the first; of DeepSeek-V4's a weighted sum."""
    if states.ndim == 3:
        return states[0, place].float().numpy()
    if hasattr(model.model, "hc_head"):
        return model.model.hc_head(states)[0, place].float().numpy()
    first, *others = states[:, 0, place].float()
    text = getattr(model.model, "language_model", model.model)
    weights = [projection.weight.float() for projection in text.altup_unembed_projections]
    projected = [weight @ other for weight, other in zip(weights, others, strict=True)]
    same = [other * first.norm() / other.norm() for other in projected]
    return torch.stack([first, *same]).mean(0).numpy()
