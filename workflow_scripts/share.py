"""Look after the artifacts of a study: in the local store, and in the place collaborators share."""

import argparse
import dataclasses
import json
import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from isogloss.errors import Damaged, InputError
from isogloss.program import progress, run, say
from isogloss.store import handover, names
from isogloss.store import prune as pruning
from isogloss.store.places import Place, local_place, place_of
from isogloss.store.prune import Located
from isogloss.study.keys import parse_name
from isogloss.study.study import Study, usual_configs

DEFAULT = Path("config/config.yaml")


def main() -> None:
    args = parser().parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # questions are looked up, never downloaded
    args.command(args)


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(description=__doc__)
    commands = program.add_subparsers(title="commands", metavar="COMMAND", required=True)
    study = argparse.ArgumentParser(add_help=False)
    study.add_argument(
        "--configfile", type=Path, default=DEFAULT, help="the study (%(default)s)"
    )  # fmt: skip
    which = argparse.ArgumentParser(add_help=False, parents=[study])
    either = which.add_mutually_exclusive_group()
    either.add_argument("--local", action="store_true", help="this machine's store")
    either.add_argument(
        "--shared", action="store_true", help="the shared place; the default where there is one"
    )

    def add(name: str, command: Any, parent: Any, about: str) -> argparse.ArgumentParser:
        options: argparse.ArgumentParser = commands.add_parser(
            name, parents=[parent], help=about, description=about.capitalize() + "."
        )
        options.set_defaults(command=command)
        return options

    options = add("list", list_artifacts, which, "name every artifact and what it was made with")
    options.add_argument("--json", action="store_true", help="as JSON, sizes in bytes")
    options = add("verify", verify, which, "read everything and compare it with its digests")
    options.add_argument(
        "names", nargs="*", help="names, paths or addresses; everything by default"
    )
    options.add_argument("--set-aside", action="store_true", help="also set aside what is damaged")
    about = "move artifacts away, so that they are made again"
    options = add("set-aside", set_aside, which, about)
    options.add_argument(
        "names", nargs="+", help="names, paths or addresses, as in an error message"
    )
    options = add(
        "prune", prune, which, "name what no study needs any more, and delete it if asked to"
    )
    options.add_argument(
        "configs",
        nargs="*",
        type=Path,
        help="studies whose artifacts are kept, beside that of --configfile; by default "
        "config/config.yaml and config/studies/*.yaml",
    )
    options.add_argument("--delete", action="store_true", help="delete what is named, for good")
    options.add_argument(
        "--set-aside-days",
        type=float,
        metavar="DAYS",
        help="also what was set aside longer ago than this; all of that is kept by default",
    )
    add("publish", publish, study, "give the shared place what this machine has of the study")
    options = add("export", export, study, "make a bundle of the study's artifacts, to hand on")
    options.add_argument("bundle", type=Path, help="folder to make, or a file that ends in .zip")
    options = add("import", import_bundle, study, "check a bundle and copy its artifacts here")
    options.add_argument("bundle", type=Path, help="folder or zip file that `export` made")
    return program


def list_artifacts(args: Any) -> None:
    study = Study.of(args.configfile)
    place = chosen(study, args)
    sizes, named = names.artifacts(place), named_by(study)
    rows = [row(place, name, sizes[name], named) for name in progress(sizes, "headers", "file")]
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    words = {None: "?", True: "yes", False: "no"}
    table = ["stage model dataset language key size study".split() + ["made with"]]
    for entry in rows:
        cells = [entry[name] for name in ("stage", "model", "dataset", "language")]
        cells += [entry["key"][:12], names.size_text(entry["size"]), words[entry["named"]]]
        table.append([*cells, entry["made_with"]])
    print(*names.aligned(table), sep="\n")
    total = names.size_text(sum(sizes.values()))
    print(f"{len(rows)} artifacts, {total}, in {place.url}" + unnamed(rows))


def row(place: Place, name: str, size: int, named: set[str] | None) -> dict[str, Any]:
    """One artifact of a listing."""
    artifact = parse_name(name)
    assert artifact is not None
    return {
        **dataclasses.asdict(artifact),
        "size": size,
        "made_with": described(place, name),
        "named": None if named is None else name in named,
        "name": name,
    }


def unnamed(rows: list[dict[str, Any]]) -> str:
    """How much of a listing the study does not name."""
    other = [row for row in rows if row["named"] is False]
    size = names.size_text(sum(row["size"] for row in other))
    return f"; {len(other)} of them, {size}, not named by the study" if other else ""


def described(place: Place, name: str) -> str:
    """What an artifact was made with; a listing goes on behind one that cannot be read."""
    try:
        return names.made_with(names.header(place, name))
    except InputError as error:
        return f"header cannot be read: {error}"


def named_by(study: Study) -> set[str] | None:
    """The names of a study's artifacts; None, and why, where they cannot be known."""
    try:
        return {artifact.name for artifact in study.artifacts()}
    except InputError as error:
        say(f"which of them the study names is not known: {error}")
        return None


def verify(args: Any) -> None:
    artifacts = [located(text, args) for text in args.names] or everything(args)
    refused = 0
    for artifact in progress(artifacts, "verify", "file"):
        try:
            pruning.verify(artifact.place, artifact.name)
        except Damaged as error:
            refused += 1
            print(f"{artifact.place.url}/{artifact.name}: {error.reason}", flush=True)
            if args.set_aside:
                move_away(artifact)
    if refused:
        done = "set aside" if args.set_aside else "set them aside with --set-aside"
        raise InputError(f"{refused} of {len(artifacts)} artifacts are refused: {done}")
    print(f"{len(artifacts)} artifacts are whole and unchanged")


def everything(args: Any) -> list[Located]:
    """Every artifact of the store that is meant."""
    study = Study.of(args.configfile)
    place = chosen(study, args)
    return [Located(place, name, study.store) for name in names.artifacts(place)]


def set_aside(args: Any) -> None:
    for artifact in [located(text, args) for text in args.names]:
        move_away(artifact)
    print("run snakemake again: it makes what is missing")


def located(text: str, args: Any) -> Located:
    """The artifact that a name, a path or an address means."""
    if parse_name(text):
        study = Study.of(args.configfile)
        return Located(chosen(study, args), text, study.store)
    configs = usual_configs() if args.configfile == DEFAULT else [args.configfile]
    artifact = pruning.locate(text, map(Study.of, configs))
    if artifact is None:
        raise InputError(
            f"{text}: no artifact's name, nor the path or address of one in a store that is "
            "known here: correct it, or give the study's --configfile"
        )
    return artifact


def move_away(artifact: Located) -> None:
    """Set an artifact aside, forget this machine's manifests of it, and say so."""
    to = pruning.set_aside(artifact.place, artifact.name, datetime.now(UTC))
    print(f"set aside: {artifact.place.url}/{to}", flush=True)
    for manifest in pruning.forget(artifact.store, {artifact.name}):
        print(f"removed: {manifest}, which listed it")


def prune(args: Any) -> None:
    study = Study.of(args.configfile)
    if args.delete and place_of(study.config) is not None and not (args.local or args.shared):
        raise InputError("prune --delete: say which store: --local or --shared")
    place, named = chosen(study, args), set()
    models = {artifact.model for name in names.artifacts(place) if (artifact := parse_name(name))}
    asked = [args.configfile] if args.configfile != DEFAULT else []
    for path in [*(args.configs or usual_configs()), *asked]:
        try:
            other = Study.of(path)
            if models & other.config.models.keys():  # else there is nothing of it to keep
                named |= {artifact.name for artifact in other.artifacts()}
        except InputError as error:
            raise InputError(
                f"{error}; so nothing is pruned: mend that, or name the studies that count"
            ) from error
    now = datetime.now(UTC)
    files = pruning.superfluous(place, named, now, args.set_aside_days)
    rows = [[file.name, names.size_text(file.size), file.reason] for file in files]
    if not files:
        print(f"nothing to prune in {place.url}")
        return
    print(*names.aligned(rows), sep="\n")
    total = names.size_text(sum(file.size for file in files))
    if not args.delete:
        print(f"{len(files)} files, {total}, in {place.url}: --delete deletes them")
        return
    for file in progress(files, "delete", "file"):
        place.remove(file.name)
    if args.local or not place_of(study.config):
        pruning.forget(study.store, {file.name for file in files})
    print(f"deleted: {len(files)} files, {total}, in {place.url}")


def publish(args: Any) -> None:
    study = Study.of(args.configfile)
    place = place_of(study.config)
    if place is None:
        raise InputError(f"{study.path}: sharing.kind is none: say there where to publish")
    if not study.config.sharing.publish:
        raise InputError(f"{study.path}: sharing.publish is false: set it to true to publish")
    done = handover.publish(study, place, partial(progress, label="publish", unit="file"))
    for name in done.given:
        print(f"published: {place.url}/{name}")
    print(
        f"{len(done.given)} published, {len(done.there)} were there, "
        f"{len(done.absent)} not computed yet"
    )


def export(args: Any) -> None:
    study = Study.of(args.configfile)
    bar = partial(progress, label="export", unit="file")
    count = handover.export(study, place_of(study.config), args.bundle, bar)
    print(f"{args.bundle}: {count} artifacts of {study.config.study}")


def import_bundle(args: Any) -> None:
    study = Study.of(args.configfile)
    place = place_of(study.config) if study.config.sharing.publish else None
    bar = partial(progress, label="verify", unit="file")
    done = handover.import_bundle(args.bundle, study.store, place, bar)
    there = len(done.names) - len(done.new)
    print(f"{len(done.new)} artifacts imported into {study.store}, {there} were there")
    if place is not None:
        print(f"{len(done.given)} published to {place.url}")


def chosen(study: Study, args: Any) -> Place:
    """The store that a command is about: the shared place, where there is one, else this one's."""
    place = None if args.local else place_of(study.config)
    if place is None and args.shared:
        raise InputError(f"{study.path}: sharing.kind is none: nothing is shared")
    return place or local_place(study.store)


if __name__ == "__main__":
    run(main)
