"""Steered evaluation: score questions again with the residual stream changed."""

import argparse
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from isogloss.files.activation_file import open_scores
from isogloss.files.netcdf import open_artifact, write_artifact
from isogloss.program import add_store, progress, run, say
from isogloss.questions.datasets import load_dataset
from isogloss.questions.items import FIT, SELECT, TEST, check_disjoint, evaluation_folds
from isogloss.steering.vectors import ALL_ITEMS
from isogloss.store.local import Store, read_manifest, write_manifest
from isogloss.study.keys import artifact_name
from isogloss.study.specs import check_weights, prompt_style, source_of, steered_spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("activations", type=Path, help="manifest of the evaluated dataset")
    parser.add_argument("--vectors", type=Path, required=True, help="manifest of the vectors")
    parser.add_argument("--spec", type=json.loads, required=True, help="settings as JSON")
    add_store(parser)
    parser.add_argument("--cache", type=Path, required=True, help="folder of models")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--batch-tokens", type=int, default=2048, help="tokens of a batch")
    parser.add_argument("--output", type=Path, required=True, help="manifest to write (JSON)")
    args = parser.parse_args()

    spec = args.spec
    sources = read_manifest(args.activations)
    vectors = read_manifest(args.vectors)["all"]
    pivot_key = sources[spec["pivot"]].stem
    specs = {
        tag: steered_spec(spec, vectors.stem, sources[tag].stem, pivot_key, tag)
        for tag in spec["languages"]
    }
    place = f"{spec['fitted']}.{spec['name']}"
    names = {
        tag: artifact_name("steered", spec["slug"], place, tag, specs[tag], ".nc")
        for tag in spec["languages"]
    }
    store = Store.of(args.store, args.sharing, say)
    missing = store.missing(names, partial(progress, label="fetch", unit="file"))
    say(f"{spec['slug']}, {place}: steering {len(missing)} of {len(names)} languages")
    if missing:
        for tag, found in steered_scores(args, sources, open_artifact(vectors), missing):
            write_artifact(found, store.path(names[tag]), specs[tag])
            store.keep(names[tag])
    write_manifest(args.output, "steered", spec, store.paths(names))


def steered_scores(
    args: Any, sources: dict, vectors: Any, missing: list[str]
) -> Iterator[tuple[str, Any]]:
    """Load the model once and evaluate the missing languages."""
    from isogloss.model.load import load
    from isogloss.model.memory import memory_errors
    from isogloss.model.packing import lay_out
    from isogloss.model.readout import readout_of
    from isogloss.questions.prompts import Tokens, questions
    from isogloss.steering.evaluate import check_unsteered, evaluate, unsteered_pivot

    spec = args.spec
    items = load_dataset(spec["dataset"], spec["all_languages"], spec["name"])
    how = spec["folds"]
    fold_of = evaluation_folds(items.clusters, how["folds"], how["seed"], how["split"])
    for fold in np.unique(fold_of):
        fit, held_out = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        check_disjoint(fit, held_out, items.clusters)
    if spec["fitted"] != spec["name"]:  # nothing was fitted on these items
        fold_of = np.where(fold_of == FIT, SELECT, fold_of)
    used = np.flatnonzero(fold_of != FIT)
    fold_of = fold_of[used]
    cross_fitted = spec["fitted"] == spec["name"] and how["split"] is None
    vector_folds = fold_of if cross_fitted else np.full_like(fold_of, ALL_ITEMS)
    scores = open_scores([sources[tag] for tag in dict.fromkeys([*missing, spec["pivot"]])])
    decoder = load(source_of(spec), args.cache, args.device)
    check_weights(spec["activations"], args.cache)
    readout = readout_of(decoder)
    tokens, style = Tokens(decoder.tokenizer, decoder.bos_id), prompt_style(spec["prompt"])

    def trees(tag: str) -> list:
        asked = questions(
            items,
            tag,
            tokens,
            style,
            pivot=spec["pivot"],
            control=None,
            latents=False,
            context_length=decoder.context_length,
        )
        return [lay_out(asked[i]) for i in used]

    plan = plan_of(spec, vectors)
    of_job = f"steer {spec['slug']} {spec['name']}"

    def how_to_run(label: str) -> dict:
        """How batches are run."""
        shown = partial(progress, label=label, unit="batch")
        return {"budget": args.batch_tokens, "progress": shown}

    label = f"{of_job} {spec['pivot']}"
    with memory_errors(label):
        pivot = unsteered_pivot(decoder, readout, plan, trees(spec["pivot"]), **how_to_run(label))
    for tag in missing:
        label = f"{of_job} {tag}"
        with memory_errors(label):
            found = evaluate(
                decoder,
                readout,
                vectors,
                plan,
                tag,
                trees(tag),
                pivot,
                scores.sel(language=tag).isel(item=used),
                fold_of,
                vector_folds,
                reported=None if how["split"] is None else [TEST],
                **how_to_run(label),
            )
        check_unsteered(found, scores.sel(language=tag), str(decoder.dtype))
        yield tag, found


def plan_of(spec: dict, vectors: Any) -> Any:
    """What is tried, in layer indices of this model."""
    from isogloss.steering.evaluate import Plan

    steering = spec["steering"]
    layers = [int(layer) for layer in vectors["layer"].values]
    return Plan(
        methods=tuple(steering["methods"]),
        layers=tuple(layers),
        depths=tuple(float(depth) for depth in vectors["relative_depth"].values),
        strengths=tuple(steering["strengths"]),
        controls=tuple(steering["controls"]),
        draws=steering["random_draws"],
        positions=steering["positions"],
        score=spec["score"],
    )


if __name__ == "__main__":
    run(main)
