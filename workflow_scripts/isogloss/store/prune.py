"""Keeping a store in order: what is damaged, what is set aside, what nobody names any more.

Only names that `study.keys.parse_name` knows are moved or deleted, beside temporary files of a
stage and what was set aside.
"""

import json
import os
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from isogloss.errors import Damaged, InputError
from isogloss.store.names import artifacts, split
from isogloss.store.places import MARKER, Folder, Place, folder_place, is_temporary, place_of
from isogloss.store.verification import verify_artifact
from isogloss.study.keys import STAGES, parse_name
from isogloss.study.study import Study

SET_ASIDE = "set-aside"
FOLDERS = {stage.folder for stage in STAGES.values()}
_MOMENT = "%Y%m%dT%H%M%S"
ABANDONED = timedelta(days=1)
"""A temporary file that nobody has written to for so long has no writer any more."""


def verify(place: Place, name: str) -> None:
    """Read everything of an artifact; in a bucket, a copy that is fetched for it.

    Raises:
        Damaged: it is not what its name says.
        InputError: it cannot be read.
    """
    if isinstance(place, Folder):
        try:
            verify_artifact(Path(place.root) / name)
        except Damaged as error:
            raise Damaged(f"{place.url}/{name}", error.reason) from error
    else:
        with tempfile.TemporaryDirectory() as scratch:
            place.fetch(name, Path(scratch) / name.rpartition("/")[2])


def set_aside(place: Place, name: str, now: datetime) -> str:
    """Move an artifact where nothing looks for it; where to.

    Raises:
        InputError: it is not there, or may not be moved.
    """
    if name not in place.names(name.rpartition("/")[0]):
        raise InputError(f"{place.url}/{name}: no such artifact: `share.py list` names those there")
    to = f"{SET_ASIDE}/{name}.{now.astimezone(UTC).strftime(_MOMENT)}.{now.microsecond:06d}Z"
    place.move(name, to)
    return to


def forget(store: Path, names: Collection[str]) -> list[Path]:
    """Remove this machine's manifests that list any of these, so that the next run looks again."""
    removed = []
    for path in sorted((store / "manifests").rglob("*.json")):
        if any(parts and parts[1] in names for parts in map(split, _listed(path))):
            path.unlink()
            removed.append(path)
    return removed


def _listed(manifest: Path) -> Iterator[str]:
    """The paths in a manifest; none where it is no manifest, which the run refuses itself."""
    try:
        entries = json.loads(manifest.read_text(encoding="utf-8"))["artifacts"]
        yield from [str(entry["path"]) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError):
        return


@dataclass(frozen=True)
class Superfluous:
    """A file that may go, and why."""

    name: str
    size: int
    reason: str


def superfluous(
    place: Place, named: Collection[str], now: datetime, set_aside_days: float | None = None
) -> list[Superfluous]:
    """What of a store is of no use any more.

    Args:
        place: the store.
        named: artifacts of all studies that count.
        now: the time.
        set_aside_days: also what was set aside longer ago than this; None leaves all of it.
    """
    files = [
        Superfluous(name, size, "named by no study")
        for name, size in artifacts(place).items()
        if name not in named
    ]
    for name, size in sorted(place.files().items()):
        if is_temporary(name) and name.split("/")[0] in FOLDERS:
            if now - place.modified(name) > ABANDONED:
                files.append(Superfluous(name, size, "left by a writer that was killed"))
        elif set_aside_days is not None and (moment := moment_of(name)):
            if now - moment > timedelta(days=set_aside_days):
                files.append(Superfluous(name, size, f"set aside {moment:%Y-%m-%d}"))
    return files


def moment_of(name: str) -> datetime | None:
    """When something was set aside; None where the name is of nothing that was."""
    match = re.fullmatch(rf"{SET_ASIDE}/(.+)\.(\d{{8}}T\d{{6}})\.\d{{6}}Z", name)
    if match is None or parse_name(match[1]) is None:
        return None
    return datetime.strptime(match[2], _MOMENT).replace(tzinfo=UTC)


@dataclass(frozen=True)
class Located:
    """An artifact in one of the stores that are at hand.

    Attributes:
        place: the store, local or shared.
        name: of the artifact in it.
        store: folder of this machine's manifests, which may list it.
    """

    place: Place
    name: str
    store: Path


def locate(text: str, studies: Iterable[Study]) -> Located | None:
    """The artifact that a path or an address means, as an error message prints them.

    Args:
        text: a path from here, an absolute one, or the address of a place and a name in it.
        studies: whose stores and places are known. Another folder is a store too where a run
            has left its manifests, or the marker of a shared place.
    """
    for study in studies:
        for place in (folder_place(str(study.store), study.store), place_of(study.config)):
            if place is not None and (name := _name_in(place, text)):
                return Located(place, name, study.store)
    parts = split(os.path.abspath(text))
    if parts is None:
        return None
    root, name = Path(parts[0]), parts[1]
    if not any((root / mark).exists() for mark in ("manifests", MARKER)):
        return None
    return Located(folder_place(text.removesuffix(f"/{name}"), root), name, root)


def _name_in(place: Place, text: str) -> str | None:
    """The name of an artifact of this place; None where the text is of none."""
    for root, path in ((place.url, text), (place.root, os.path.abspath(text))):
        name = path.removeprefix(f"{root}/")
        if name != path and parse_name(name):
            return name
    return None
