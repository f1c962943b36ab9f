"""Extract hidden states and scores: one activation file per language, those that are missing."""

from functools import partial
from pathlib import Path

from isogloss.errors import InputError
from isogloss.extraction.parts import Part
from isogloss.extraction.work_folder import clear
from isogloss.program import artifact_parser, progress, run, say
from isogloss.questions.datasets import load_dataset
from isogloss.questions.items import check_enough, repeated_questions
from isogloss.questions.prompts import other_partners, prompt_clusters
from isogloss.store.checkpoints import unpack_organism
from isogloss.store.local import Store
from isogloss.store.manifests import write_manifest
from isogloss.study.keys import activation_identity, artifact_name
from isogloss.study.settings import prompt_style


def main() -> None:
    parser = artifact_parser(__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder of models")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--batch-tokens", type=int, default=2048, help="tokens of a batch")
    parser.add_argument(
        "--precision-items", type=int, default=6, help="items per language scored in float32 too"
    )
    parser.add_argument(
        "--folds", type=int, help="of later stages: too few items for them are refused here"
    )
    jobs = parser.add_mutually_exclusive_group()
    jobs.add_argument("--part", type=Part.parsed, help="1-of-4: this job's share of the languages")
    jobs.add_argument("--gather", action="store_true", help="list what the parts made, no more")
    parser.add_argument("--output", type=Path, required=True, help="manifest to write (JSON)")
    args = parser.parse_args()

    settings = args.settings
    items = load_dataset(settings["dataset"], settings["languages"], settings["name"])
    style = prompt_style(settings["prompt"])
    if args.folds is not None:
        clusters = prompt_clusters(items, style)
        check_enough(clusters, args.folds, settings["name"])
    for line in repeated_questions(items):
        say(f"warning: {line}")
    digests, repartnered = items.digests(), other_partners(items, style, settings["pivot"])
    identities = {tag: activation_identity(settings, digests, tag, repartnered) for tag in digests}
    names = {
        tag: artifact_name("activations", settings["slug"], settings["name"], tag, identities[tag])
        for tag in (args.part.languages(items.languages) if args.part else items.languages)
    }
    store = Store.of(args.store, args.sharing, say)
    missing = store.missing(names, partial(progress, label="fetch", unit="file"))
    there = f"{len(names) - len(missing)} of {len(names)} languages are in the store"
    extracting = f"; extracting {' '.join(missing)}" if missing else ""
    say(f"{settings['slug']}, {settings['name']}: {there}{extracting}")
    if missing and args.gather:
        raise InputError(
            f"{settings['slug']}, {settings['name']}: the jobs that share the languages left out "
            f"{' '.join(missing)}, or their files are gone: run again"
        )
    if missing:
        from isogloss.extraction.extract import extract_files  # torch takes seconds to import

        device = args.device
        if args.part and not settings["model"].get("device_map"):
            device = args.part.gpu(device)
        unpack_organism(settings, store, args.cache)
        extract_files(
            settings,
            items,
            identities,
            store.paths({tag: names[tag] for tag in missing}),
            published=lambda tag: store.keep(names[tag]),
            cache=args.cache,
            device=device,
            batch_tokens=args.batch_tokens,
            precision_items=args.precision_items,
        )
    write_manifest(args.output, "activations", settings, store.paths(names))
    for path in store.paths(names).values():
        clear(path)  # what a run killed after publishing left


if __name__ == "__main__":
    run(main)
