"""The tools that Isogloss is compared with, used as their documentation shows."""

import os
from collections.abc import Sequence
from typing import Any

from benchmarks.ours import Loaded

# They would look for updates, for repositories, or for an account.
os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "WANDB_MODE": "disabled"}


def harness(tool: Loaded) -> Any:
    """lm-evaluation-harness's model, on the weights that are loaded."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(
        pretrained=tool.decoder.model,
        tokenizer=tool.decoder.tokenizer,
        batch_size=1,
        add_bos_token=tool.decoder.bos_id is not None,
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
