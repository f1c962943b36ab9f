"""Extraction of one model and dataset: the model is loaded once, its languages follow each other.

One forward per question gives everything that later stages need. Questions are computed in shards
(`shards`); at the end of a language they are assembled into its activation file (`assembly`).
"""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import torch
import transformers

from isogloss.extraction.assembly import assemble
from isogloss.extraction.background import Background
from isogloss.extraction.language import LanguageExtraction
from isogloss.extraction.self_tests import check_lens, check_packing, precision
from isogloss.extraction.shards import compute_shards
from isogloss.measures.lens import lens_layers
from isogloss.model.decoder import Decoder
from isogloss.model.load import load
from isogloss.model.memory import memory_errors
from isogloss.program import progress
from isogloss.questions.items import ParallelItems
from isogloss.questions.prompts import Question, Tokens, prompt_clusters, questions
from isogloss.study.settings import check_weights, prompt_style, source_of


def extract_files(
    settings: Mapping[str, Any],
    items: ParallelItems,
    identities: Mapping[str, Mapping[str, Any]],
    paths: Mapping[str, Path],
    published: Callable[[str], None],
    *,
    cache: Path,
    device: str,
    batch_tokens: int,
    precision_items: int,
) -> None:
    """Load the model and make the activation files of some languages.

    Args:
        items: of the dataset, in all languages.
        identities: by language, what its file is (`activation_identity`).
        paths: by language to extract, where its file goes.
        published: called with each language whose file is there, while the next one is computed.
        cache: folder of models.
        device: to compute on; "auto" takes a GPU where there is one.
        batch_tokens: tokens of a batch.
        precision_items: items per language that are scored in float32 too.

    Raises:
        InputError: the model cannot be loaded, fails its self-tests or runs out of memory.
    """
    source = source_of(settings)
    decoder = load(source, cache, device)
    check_weights(settings, cache)
    extractions = {
        tag: language_extraction(decoder, items, identities[tag], path)
        for tag, path in paths.items()
    }
    load_exact = partial(
        load, replace(source, dtype="float32"), cache, device, tokenizer=decoder.tokenizer
    )
    about = {
        "slug": settings["slug"],
        "note": source.note,
        "licence": {"model": source.licence, "data": settings["dataset"]["licence"]},
    }
    extract_languages(
        decoder, extractions, batch_tokens, about, published, load_exact, precision_items
    )


def language_extraction(
    decoder: Decoder, items: ParallelItems, identity: Mapping[str, Any], path: Path
) -> LanguageExtraction:
    """What the activation file of an identity is made of.

    Args:
        items: with the identity's languages.
        identity: what the file is (`activation_identity`).
        path: where it goes.

    Raises:
        InputError: a choice without tokens, a prompt longer than the context.
    """
    prompt, scores = identity["prompt"], identity["scores"]
    style = prompt_style({**prompt, "templates": {"default": prompt["template"]}})
    asked = questions(
        items,
        identity["language"],
        Tokens(decoder.tokenizer, decoder.start),
        style,
        pivot=identity["pivot"],
        control=identity["control"],
        latents=identity.get("latents", True),
        pmi=scores["pmi"],
        letters=scores["letters"],
        context_length=decoder.context_length,
        vocabulary=decoder.vocabulary,
    )
    layers = lens_layers(decoder.n_layers, identity["lens_layers"])
    items = replace(items, clusters=prompt_clusters(items, style))
    return LanguageExtraction(path, identity, items, asked, layers, decoder.reach)


def extract_languages(
    decoder: Decoder,
    extractions: Mapping[str, LanguageExtraction],
    batch_tokens: int,
    about: Mapping[str, Any],
    published: Callable[[str], None],
    load_exact: Callable[[], Decoder],
    precision_items: int = 0,
) -> None:
    """Test the model, then make the activation files one after the other.

    A file is written and published while the model computes the next language.

    Args:
        extractions: by language, what its file is made of.
        batch_tokens: tokens of a batch.
        about: what the record of every file says.
        published: called with each language whose file is there.
        load_exact: loads the same model in float32.
        precision_items: items per language that are scored in float32 too.

    Raises:
        InputError: the model fails its self-tests or runs out of memory.
    """
    first = next(iter(extractions.values()))
    job = f"extract {decoder.slug} {first.items.name}"
    with memory_errors(f"{job}: self-tests"):
        tests = check_packing(decoder, first) | {"lens": check_lens(decoder, first.questions[0])}
        asked = {tag: extraction.questions for tag, extraction in extractions.items()}
        costs = precision(decoder, load_exact, asked, precision_items)
    about = {
        **about,
        "self_test": tests,
        "path": decoder.path,
        "device": str(decoder.input_device),
        "batch_tokens": batch_tokens,
        "versions": versions(),
    }

    def finish(extraction: LanguageExtraction, record: dict[str, Any], shards: list[Path]) -> None:
        assemble(extraction, record, shards)
        published(extraction.identity["language"])

    with Background(waiting=1) as finishing:
        for tag in progress(extractions, job, "language"):
            extraction = replace(extractions[tag])  # a copy, whose trees go when it is finished
            began, label = time.perf_counter(), f"{job} {tag}"
            with memory_errors(label):
                bar = partial(progress, label=label, unit="shard")
                shards = compute_shards(decoder, extraction, batch_tokens, bar)
            record = {
                "precision": costs.get(tag, {}),
                "seconds": round(time.perf_counter() - began, 3),
                "tokens": sum(len(tree) for tree in extraction.trees),
                "normalised_texts": extraction.items.normalised.get(tag, 0),
                "excluded_items": dict(extraction.items.excluded),
                **counts(extraction.questions),
            }
            finishing.call(finish, extraction, {**about, **record}, shards)


def counts(asked: Sequence[Question]) -> dict[str, int]:
    """What a record says of the questions as they were asked."""
    return {
        "merged_phrases": sum(phrase.merged for question in asked for phrase in question.phrases),
        "truncated_prompts": sum(question.truncated > 0 for question in asked),
    }


def versions() -> dict[str, str]:
    """Python and the libraries that the numbers come from."""
    libraries: Sequence[Any] = (torch, transformers, numpy)
    return {"python": platform.python_version()} | {
        library.__name__: str(library.__version__) for library in libraries
    }
