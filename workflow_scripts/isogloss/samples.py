"""Results item by item in the form of the samples of lm-evaluation-harness, to compare them.

Source: `samples_<task>_<date>.jsonl` of the harness (0.4) with `--log_samples`.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from isogloss.errors import InputError
from isogloss.questions.languages import separator
from isogloss.questions.prompts import prompt_text
from isogloss.results import StudyResults
from isogloss.study.settings import prompt_style


def samples(
    study: StudyResults, model: str, dataset: str, language: str
) -> Iterator[dict[str, Any]]:
    """A record per item: what was asked, the log-likelihood of every choice, and the answer.

    Whether a choice is what the model would have written by itself is not known here: null. The
    prompt is that before any chat template.

    Args:
        study: opened results.
        model, dataset, language: of them.

    Raises:
        InputError: the study has no such thing, it is not computed, or the questions are others
            by now.
    """
    stored = study.activations(model, dataset, language)
    scores = np.asarray(stored.log_probability.sel(latent="prompt"), dtype=float)
    items = study.questions(dataset)
    if json.loads(stored.attrs["spec"])["items"][language] != items.digest(language):
        raise InputError(
            f"datasets.{dataset}: its questions ({language}) have changed since extraction: run"
            " again"
        )
    style = prompt_style(study.config.prompt_of(dataset).model_dump(mode="json"))
    for index, item in enumerate(items.items[language]):
        likelihoods = scores[index, : len(item.choices)].tolist()
        per_character = np.divide(likelihoods, [len(choice) for choice in item.choices])
        prompt = prompt_text(items, language, index, style)
        yield {
            "doc_id": index,
            "doc": {"item_id": item.item_id, "context": item.context, "question": item.question,
                    "choices": list(item.choices), "answer": item.answer},
            "target": item.answer,
            "arguments": [[prompt, separator(language) + choice] for choice in item.choices],
            "resps": [[[value, None]] for value in likelihoods],
            "filtered_resps": [[value, None] for value in likelihoods],
            "acc": float(int(np.argmax(likelihoods)) == item.answer),
            "acc_norm": float(int(np.argmax(per_character)) == item.answer),
        }  # fmt: skip
