"""One model beside the tools that people use, and beside its own plain forward."""

import gc
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from verification.agreements import Agreement, compared, guarded
from verification.ours import Computed

from isogloss.model.fetching import fetch
from isogloss.model.sources import ModelSource
from isogloss.questions.prompts import Question

# They would look for updates, for repositories, or for an account.
os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "WANDB_MODE": "disabled"}

CHOICES, STATES, LENS, STEERED = 1e-3, 1e-4, 1e-3, 1e-3
LEAST = -60.0
"""Log-probabilities below this count as this: nnterp gives probabilities, in float32 [nat]."""


class Peers:
    """The model as other tools load it; nothing of it is Isogloss's."""

    def __init__(
        self, source: ModelSource, cache: Path, tokenizer: Any, start: tuple[int, ...], n: int
    ):
        """Args: n is the number of questions per language whose every layer is compared."""
        self.n = n
        self.folder, self.slug = str(fetch(source, cache)), source.slug
        self.tokenizer, self.start = tokenizer, start

    def plain(self) -> Any:
        """The model as transformers loads it."""
        from transformers import AutoModelForCausalLM

        model: Any = AutoModelForCausalLM.from_pretrained(
            self.folder, dtype=torch.float32, local_files_only=True
        )
        return model.eval().requires_grad_(False)


def choices(peers: Peers, materials: Sequence[Computed]) -> Iterator[Agreement]:
    """Every choice's log-likelihood from lm-evaluation-harness, where it makes the same ids."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(
        pretrained=peers.plain(),
        tokenizer=peers.tokenizer,
        batch_size=1,
        add_bos_token=bool(peers.start),
    )
    for computed in materials:
        for language, asked in computed.asked.items():
            texts = computed.material.texts(language)
            pairs = [(prompt, words) for prompt, every in texts for words in every]
            instances = [
                Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=i)
                for i, pair in enumerate(pairs)
            ]
            theirs = np.array([x for x, _ in model.loglikelihood(instances, disable_tqdm=True)])
            ids = [tuple(map(tuple, model._encode_pair(*pair))) for pair in pairs]
            yield from _choices(peers, computed, language, asked, theirs, ids)


def _choices(
    peers: Peers,
    computed: Computed,
    language: str,
    asked: Sequence[Question],
    theirs: np.ndarray,
    ids: Sequence[tuple],
) -> Iterator[Agreement]:
    """Agreement where ids are equal; the others by item and choice."""
    phrases = [(question, phrase) for question in asked for phrase in question.phrases]
    ours = np.array(
        [
            float(computed.scores["sum"].sel(language=language)[question.item, phrase.choice])
            for question, phrase in phrases
        ]
    )
    equal = np.array(
        [(q.prompt, p.tokens) == pair for (q, p), pair in zip(phrases, ids, strict=True)]
    )
    what = f"{peers.slug}, {computed.material.name}, {language}: {len(asked)} questions"
    against, bound = "lm-evaluation-harness", CHOICES
    if equal.any():
        yield compared("choices", what, against, ours[equal], theirs[equal], bound)
    if not equal.all():
        places = ", ".join(
            f"{computed.material.items.item_ids[q.item]}/{p.choice} {o - t:+.2f}"
            for (q, p), o, t, same in zip(phrases, ours, theirs, equal, strict=True)
            if not same
        )
        note = (
            f"{what}: other token ids in {int((~equal).sum())} choices, since the tokeniser merges "
            f"the end of the prompt with the choice (item/choice, ours less theirs): {places}"
        )
        what = f"{what}, other token ids"
        yield compared("choices", what, against, ours[~equal], theirs[~equal], None, note)


def states(peers: Peers, computed: Computed) -> Iterator[Agreement]:
    """The residual stream before and after every block from nnsight, prompt by prompt."""
    from nnsight import LanguageModel

    model = LanguageModel(
        peers.folder, device_map="cpu", dtype=torch.float32, dispatch=True, local_files_only=True
    )
    model._model.requires_grad_(False)
    blocks = model.model.layers
    for language, asked in computed.asked.items():
        theirs = []
        for question in asked[: peers.n]:
            kept: list[Any] = []
            with model.trace(torch.tensor([question.prompt])):
                kept.append(blocks[0].input.save())
                for block in blocks:
                    output = block.output
                    kept.append((output[0] if isinstance(output, tuple) else output).save())
            layers = [state.reshape(len(question.prompt), -1) for state in kept]
            theirs.append(torch.stack(layers).numpy())
        for pooling, pooled in (
            ("prompt_last", [x[:, -1] for x in theirs]),
            ("prompt_mean", [x[:, 1:].mean(axis=1) for x in theirs]),
        ):
            expected = np.stack(pooled)
            norm = np.linalg.norm(expected, axis=-1)
            ours = computed.states(language, pooling)[: len(theirs)]
            away = np.linalg.norm(ours - expected, axis=-1) / norm
            what = f"{peers.slug}, {computed.material.name}, {language}: {pooling}, every layer"
            yield compared("states", what, "nnsight", away, np.zeros_like(away), STATES)


def gold_phrases(
    peers: Peers, computed: Computed, language: str
) -> tuple[list[Question], list[int]]:
    """The first questions, and the first token of each right choice."""
    asked, answers = computed.asked[language][: peers.n], computed.material.items.answers
    return asked, [q.phrases[answers[q.item]].tokens[0] for q in asked]


def our_lens(peers: Peers, computed: Computed, language: str) -> np.ndarray:
    """(layer, prompt) log-probability of the right choice's first token, the embedding first."""
    lens = computed.lens[language]["first_token"].sel(latent="prompt").values
    answers = computed.material.items.answers[: peers.n]
    return lens[:, np.arange(len(answers)), answers]


def nnterp_lens(peers: Peers, computed: Computed) -> Iterator[Agreement]:
    """nnterp's logit lens at the end of each prompt, whole vocabulary."""
    from nnterp import StandardizedTransformer
    from nnterp.interventions import logit_lens

    model = StandardizedTransformer(
        peers.folder,
        device_map="cpu",
        dtype=torch.float32,
        tokenizer_kwargs={"padding_side": "left"},
        dispatch=True,
    )
    model._model.requires_grad_(False)
    for language in computed.asked:
        asked, tokens = gold_phrases(peers, computed, language)
        prompts = [computed.material.texts(language)[q.item][0] for q in asked]
        theirs = [
            logit_lens(model, [prompt])[0, :, token].log().numpy()
            for prompt, token in zip(prompts, tokens, strict=True)
        ]
        yield _lens(peers, computed, language, "nnterp", np.stack(theirs, axis=1))


def bridge_lens(peers: Peers, computed: Computed) -> Iterator[Agreement]:
    """TransformerLens's logit lens, a prompt at a time."""
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.tools.analysis.logit_lens import logit_lens

    model = TransformerBridge.boot_transformers(peers.folder, device="cpu", dtype=torch.float32)
    for language in computed.asked:
        asked, tokens = gold_phrases(peers, computed, language)
        theirs = []
        for question, token in zip(asked, tokens, strict=True):
            ids = torch.tensor([question.prompt])
            lens = logit_lens(model, ids, vocab=[token], return_type="log_probs")
            theirs.append(lens.values.reshape(-1).numpy())
        yield _lens(peers, computed, language, "TransformerLens", np.stack(theirs, axis=1))


def _lens(
    peers: Peers, computed: Computed, language: str, tool: str, theirs: np.ndarray
) -> Agreement:
    ours = our_lens(peers, computed, language)
    ours, theirs = (np.maximum(values, LEAST) for values in (ours[-len(theirs) :], theirs))
    what = f"{peers.slug}, {computed.material.name}, {language}: {len(theirs)} layers"
    return compared("lens", what, tool, ours, theirs, LENS)


def plain_lens(peers: Peers, model: Any, computed: Computed) -> Iterator[Agreement]:
    """The last layer's lens, and phrases' whole scores, from the plain model's own logits."""
    for language in computed.asked:
        asked, tokens = gold_phrases(peers, computed, language)
        theirs = []
        for question, token in zip(asked, tokens, strict=True):
            with torch.no_grad():
                logits = model(torch.tensor([question.prompt])).logits[0, -1]
            theirs.append(float(logits.float().log_softmax(-1)[token]))
        what = f"{peers.slug}, {computed.material.name}, {language}: last layer"
        ours = our_lens(peers, computed, language)[-1]
        yield compared("lens", what, "the model's own logits (transformers)", ours, theirs, LENS)


def steered(
    peers: Peers,
    model: Any,
    computed: Computed,
    language: str,
    changes: Sequence[tuple[int, str, Any]],
    ours: np.ndarray,
) -> Iterator[Agreement]:
    """Scores of the plain model with a forward hook that changes the states, a choice at a time."""
    asked = computed.asked[language][: peers.n]
    theirs = np.full_like(ours, np.nan)
    for i, (layer, positions, change) in enumerate(changes):
        for j, question in enumerate(asked):
            for phrase in question.phrases:
                theirs[i, j, phrase.choice] = hooked(
                    model, question, phrase, layer, positions, change
                )
    unsteered = computed.scores["sum"].sel(language=language).values[: len(asked)]
    moved = np.nanmax(np.abs(theirs - unsteered))
    what = (
        f"{peers.slug}, {computed.material.name}, {language}: {len(changes)} changes "
        f"(which move scores by up to {moved:.1f})"
    )
    yield compared("steered", what, "forward hooks on transformers", ours, theirs, STEERED)


def hooked(
    model: Any, question: Question, phrase: Any, layer: int, positions: str, change: Any
) -> float:
    """Score of one choice, the states that leave block `layer` changed at the prompt's places."""
    n = len(question.prompt)
    start = n - 1 if positions == "last" else 1

    def hook(module: Any, arguments: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        states = states.clone()
        for place in range(start, n):
            state = states[0, place].numpy().astype(np.float64)
            step = change.shift + (change.down.astype(float) @ (state - change.centre)) @ change.up
            states[0, place] = torch.from_numpy(state + step).float()
        return (states, *output[1:]) if isinstance(output, tuple) else states

    handle = model.model.layers[layer - 1].register_forward_hook(hook)
    try:
        ids = torch.tensor([[*question.prompt, *phrase.tokens]])
        with torch.no_grad():
            every = model(ids, use_cache=False).logits[0].float().log_softmax(-1)
    finally:
        handle.remove()
    place = torch.arange(n - 1, ids.shape[1] - 1)
    return float(every[place, list(phrase.tokens)].sum())


def of_model(
    peers: Peers,
    short: Computed,
    every: Sequence[Computed],
    changes: Sequence[tuple[int, str, Any]],
    scores: np.ndarray,
    language: str,
) -> Iterator[Agreement]:
    """All comparisons of one model, each tool's copy of it gone before the next."""
    parts = (
        ("choices", "lm-evaluation-harness", lambda: choices(peers, every)),
        ("states", "nnsight", lambda: states(peers, short)),
        ("lens", "nnterp", lambda: nnterp_lens(peers, short)),
        ("lens", "TransformerLens", lambda: bridge_lens(peers, short)),
    )
    model = peers.plain()
    yield from plain_lens(peers, model, short)
    yield from steered(peers, model, short, language, changes, scores)
    del model
    for part, against, compare in parts:
        gc.collect()
        yield from guarded(part, against, compare)
