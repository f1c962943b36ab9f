"""The tools that Isogloss is compared with, used as their documentation shows."""

import gc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks import ours
from benchmarks.material import LONG, Setting
from benchmarks.measuring import Job
from benchmarks.ours import Loaded

from isogloss.model.fetching import fetch

# They would look for updates, for repositories, or for an account.
os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "WANDB_MODE": "disabled"}


def plain_model(setting: Setting) -> Any:
    """The model as transformers loads it; Isogloss changes how its own multiplies and attends."""
    import torch
    from transformers import AutoModelForCausalLM

    dtype = getattr(torch, setting.source.dtype)
    model: Any = AutoModelForCausalLM.from_pretrained(
        fetch(setting.source, setting.cache), dtype=dtype, local_files_only=True
    )
    return model.eval().requires_grad_(False)


def harness(tool: Loaded) -> Any:
    """lm-evaluation-harness's model, with the tokenizer that is loaded."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(
        pretrained=plain_model(tool.setting),
        tokenizer=tool.decoder.tokenizer,
        batch_size=1,
        add_bos_token=bool(tool.decoder.start),
    )


def requests(texts: Sequence[tuple[str, list[str]]]) -> list[Any]:
    """One request a choice."""
    from lm_eval.api.instance import Instance

    return [
        Instance(request_type="loglikelihood", doc={}, arguments=(prompt, words), idx=i)
        for i, (prompt, choices) in enumerate(texts)
        for words in choices
    ]


def loglikelihoods(model: Any, asked: list[Any], batch_size: int) -> list[float]:
    """Log-likelihood of every request's continuation, in their order [nat]."""
    model.batch_size_per_gpu = batch_size
    return [score for score, _ in model.loglikelihood(asked, disable_tqdm=True)]


def nnterp_model(setting: Setting) -> Any:
    """nnterp's model, which is nnsight's with standard names."""
    import torch
    from nnterp import StandardizedTransformer

    model = StandardizedTransformer(
        str(fetch(setting.source, setting.cache)),
        device_map="cpu",
        dtype=getattr(torch, setting.source.dtype),
        tokenizer_kwargs={"padding_side": "left"},
        dispatch=True,
    )
    model._model.requires_grad_(False)  # it traces in a thread, where torch.no_grad is not on
    ours.read_all(model._model)
    return model


def long_texts(setting: Setting, n: int) -> tuple[list[tuple[str, list[str]]], list[int]]:
    """The same long prompts and choices as ours, and the first token of each right choice."""
    tool, language = ours.loaded(setting), setting.languages(LONG)[0]
    items = tool.items(LONG, language, n)
    asked = ours.first_tokens(tool.ask(items, LONG, language), items)
    tokens = [question.phrases[0].tokens[0] for question in asked]
    return ours.texts(items, LONG, language), tokens


def nnterp_lens(setting: Setting, n: int) -> Job:
    """nnterp's own logit lens: probabilities of every token at every layer's last position."""
    from nnterp.interventions import logit_lens

    texts, tokens = long_texts(setting, n)
    gc.collect()
    model, prompts = nnterp_model(setting), [prompt for prompt, _ in texts]

    def job(batch_size: int) -> np.ndarray:
        states = []
        for start in range(0, n, batch_size):
            part = slice(start, start + batch_size)
            probabilities = logit_lens(model, prompts[part])
            row = np.arange(len(probabilities))
            states.append(probabilities[row, :, tokens[part]].log().numpy().T)
        return np.concatenate(states, axis=1)

    return job


def bridge_lens(setting: Setting, n: int) -> Job:
    """TransformerLens's own logit lens, a prompt at a time (it reads padding where it pads)."""
    import torch
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.tools.analysis.logit_lens import logit_lens

    texts, tokens = long_texts(setting, n)
    gc.collect()
    model = TransformerBridge.boot_transformers(
        str(fetch(setting.source, setting.cache)),
        device="cpu",
        dtype=getattr(torch, setting.source.dtype),
    )

    def job(batch_size: int) -> np.ndarray:
        assert batch_size == 1
        states = []
        for (prompt, _), token in zip(texts, tokens, strict=True):
            ids = model.tokenizer([prompt], return_tensors="pt").input_ids
            lens = logit_lens(model, ids, vocab=[token], return_type="log_probs")
            states.append(lens.values.reshape(-1).numpy())
        return np.stack(states, axis=1)

    return job


def nnterp_states(setting: Setting, n: int, file: Path) -> Job:
    """nnterp's own collection of the last token's states at every layer, then saved."""
    from nnterp.nnsight_utils import collect_token_activations_batched

    texts, _ = long_texts(setting, n)
    gc.collect()
    model, prompts = nnterp_model(setting), [prompt for prompt, _ in texts]

    def job(batch_size: int) -> np.ndarray:
        states = collect_token_activations_batched(model, prompts, batch_size)
        save({"last": states}, file)
        return states[:, 0].float().numpy()

    return job


def nnsight_states(setting: Setting, n: int, file: Path) -> Job:
    """nnsight collecting every layer of each prompt with each choice, then saving.

    Of each text it keeps what an activation file holds: the states that predict a token of the
    choice, the first of which is the prompt's end, and the mean over the prompt but its first.
    """
    import torch

    texts, _ = long_texts(setting, n)
    gc.collect()
    model = nnterp_model(setting)
    pairs = [(prompt, words) for prompt, choices in texts for words in choices]

    @torch.no_grad()
    def job(batch_size: int) -> np.ndarray:
        kept = []
        for start in range(0, len(pairs), batch_size):
            part = pairs[start : start + batch_size]
            whole = [prompt + words for prompt, words in part]
            layers: list[Any] = []
            with model.trace(whole) as tracer:
                for layer in range(model.num_layers):
                    layers.append(model.layers_output[layer].save())
                tracer.stop()
            states = torch.stack(layers, 1)
            for row, (prompt, _) in enumerate(part):
                n_prompt = len(model.tokenizer(prompt).input_ids)
                n_whole = len(model.tokenizer(whole[row]).input_ids)
                choice_states = states[row, :, -n_whole:]
                mean = choice_states[:, 1:n_prompt].float().mean(1)
                kept.append({"rows": choice_states[:, n_prompt - 1 : -1].clone(), "mean": mean})
        save(kept, file)
        return kept[0]["rows"][:, 0].float().numpy()

    return job


def save(what: Any, file: Path) -> None:
    """To the disk, not only to the page cache."""
    import torch

    with file.open("wb") as stream:
        torch.save(what, stream)
        stream.flush()
        os.fsync(stream.fileno())


class Steered:
    """lm-evaluation-harness's steered models, one a layer.

    Args:
        tool: the model.
        shifts: by layer of the residual stream, (feature,) what is added at every position.
        folder: for their files.
    """

    def __init__(self, tool: Loaded, shifts: dict[int, np.ndarray], folder: Path) -> None:
        plain = plain_model(tool.setting)
        self.models = {
            (layer, strength): self._model(plain, tool, layer, shift, strength, folder)
            for layer, shift in shifts.items()
            for strength in (0.0, 1.0)
        }

    @staticmethod
    def _model(
        plain: Any, tool: Loaded, layer: int, shift: np.ndarray, strength: float, folder: Path
    ) -> Any:
        import torch
        from lm_eval.models.hf_steered import SteeredModel

        file = folder / f"steer-{layer}-{strength}.pt"
        change = {
            "steering_vector": torch.from_numpy(shift),
            "steering_coefficient": strength,
            "action": "add",
            "bias": None,
            "head_index": None,
        }
        torch.save({f"layers.{layer - 1}": change}, file)
        return SteeredModel(
            pretrained=plain,
            steer_path=str(file),
            tokenizer=tool.decoder.tokenizer,
            batch_size=1,
            add_bos_token=bool(tool.decoder.start),
        )
