"""Extract hidden states and scores: one activation file a language, those that are missing."""

import argparse
import json
import platform
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from isogloss.extraction.background import Background
from isogloss.extraction.work_folder import clear
from isogloss.files.canonical import key_of
from isogloss.program import add_store, progress, run, say
from isogloss.questions.datasets import load_dataset
from isogloss.questions.items import check_enough
from isogloss.questions.prompts import Question, Tokens, questions
from isogloss.store.local import Store
from isogloss.store.manifests import write_manifest
from isogloss.study.keys import activation_identity, artifact_name
from isogloss.study.settings import check_weights, prompt_style, source_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", type=json.loads, required=True, help="settings as JSON")
    add_store(parser)
    parser.add_argument("--cache", type=Path, required=True, help="folder of models")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--batch-tokens", type=int, default=2048, help="tokens of a batch")
    parser.add_argument(
        "--precision-items", type=int, default=6, help="items a language scored in float32 too"
    )
    parser.add_argument(
        "--folds", type=int, help="of later stages: too few items for them are refused here"
    )
    parser.add_argument("--output", type=Path, required=True, help="manifest to write (JSON)")
    args = parser.parse_args()

    spec = args.spec
    items = load_dataset(spec["dataset"], spec["languages"], spec["name"])
    if args.folds is not None:
        check_enough(items.clusters, args.folds, spec["name"])
    digests = items.digests()
    specs = {tag: activation_identity(spec, digests, tag) for tag in digests}
    names = {
        tag: artifact_name("activations", spec["slug"], spec["name"], tag, specs[tag])
        for tag in items.languages
    }
    store = Store.of(args.store, args.sharing, say)
    missing = store.missing(names, partial(progress, label="fetch", unit="file"))
    say(f"{spec['slug']}, {spec['name']}: {len(names) - len(missing)} of {len(names)} languages "
        f"are in the store" + (f"; extracting {' '.join(missing)}" if missing else ""))  # fmt: skip
    if missing:
        extract(args, items, specs, store, names, missing)
    write_manifest(args.output, "activations", spec, store.paths(names))
    for path in store.paths(names).values():
        clear(path)  # what a run killed after publishing left


def extract(
    args: Any, items: Any, specs: dict, store: Store, names: dict, missing: list[str]
) -> None:
    """Load the model once and compute the missing languages."""
    from isogloss.extraction.assembly import assemble
    from isogloss.extraction.self_tests import check_lens, check_packing, precision
    from isogloss.extraction.shards import compute_shards
    from isogloss.measures.lens import lens_layers
    from isogloss.model.load import load
    from isogloss.model.memory import memory_errors
    from isogloss.model.readout import readout_of

    spec, source, paths = args.spec, source_of(args.spec), store.paths(names)
    style = prompt_style(spec["prompt"])
    decoder = load(source, args.cache, args.device)
    check_weights(spec, args.cache)
    readout = readout_of(decoder)
    tokens = Tokens(decoder.tokenizer, decoder.bos_id)
    layers = lens_layers(decoder.n_layers, spec["extraction"]["lens_layers"])
    asked = {
        tag: questions(
            items,
            tag,
            tokens,
            style,
            pivot=spec["pivot"],
            control=specs[tag]["control"],
            pmi=spec["extraction"]["pmi"],
            letters=spec["extraction"]["letters"],
            context_length=decoder.context_length,
            vocabulary=decoder.vocabulary,
        )
        for tag in missing
    }
    with memory_errors(f"extract {spec['slug']} {spec['name']}: self-tests"):
        tests = check_packing(decoder, readout, asked[missing[0]], items.item_ids)
        tests |= {"lens": check_lens(decoder, readout, asked[missing[0]])}
        n_exact = args.precision_items
        exact = precision(source, args.cache, args.device, decoder, readout, asked, n_exact)
    about = {
        "slug": spec["slug"],
        "note": source.note,
        "licence": {"model": source.licence, "data": spec["dataset"]["licence"]},
        "self_test": tests,
        "device": str(decoder.input_device),
        "batch_tokens": args.batch_tokens,
        "versions": versions(),
    }

    def finish(tag: str, record: dict[str, Any], trees: list, files: list[Path]) -> None:
        assemble(paths[tag], specs[tag], record, items, asked[tag], trees, files, layers)
        store.keep(names[tag])

    # A language's file is written and published while the model computes the next one.
    with Background(waiting=1) as finishing:
        for tag in missing:
            began, key = time.perf_counter(), key_of(specs[tag])
            label = f"extract {spec['slug']} {spec['name']} {tag}"
            with memory_errors(label):
                trees, files = compute_shards(
                    decoder,
                    readout,
                    items,
                    asked[tag],
                    layers,
                    paths[tag],
                    key,
                    args.batch_tokens,
                    partial(progress, label=label, unit="shard"),
                )
            record = about | {
                "precision": exact.get(tag, {}),
                "seconds": round(time.perf_counter() - began, 3),
                "tokens": sum(len(tree) for tree in trees),
                "normalised_texts": items.normalised.get(tag, 0),
                "excluded_items": dict(items.excluded),
            }
            finishing.call(finish, tag, record | counts(asked[tag]), trees, files)


def counts(asked: Sequence[Question]) -> dict[str, int]:
    """What a record says of the questions as they were asked."""
    return {
        "merged_phrases": sum(phrase.merged for one in asked for phrase in one.phrases),
        "truncated_prompts": sum(one.truncated > 0 for one in asked),
    }


def versions() -> dict[str, str]:
    """The libraries that the numbers come from."""
    import numpy
    import torch
    import transformers

    found: Iterable[Any] = (torch, transformers, numpy)
    return {"python": platform.python_version()} | {m.__name__: str(m.__version__) for m in found}


if __name__ == "__main__":
    run(main)
