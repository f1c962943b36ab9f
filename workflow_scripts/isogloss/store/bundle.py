"""A study's artifacts as one bundle to hand on: a BagIt bag (RFC 8493), a folder or a zip file.

What comes in is trusted in nothing: names must be those of artifacts, checksums and each
artifact's own digest must hold, and only then is anything copied.
"""

import logging
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import bagit

from isogloss.errors import Damaged, InputError
from isogloss.files.atomic import temporary_name
from isogloss.store.verification import verify_artifact
from isogloss.study.keys import parse_name

logging.getLogger("bagit").setLevel(logging.CRITICAL)  # its faults are raised, and said once

STORE = "store"
"""Folder of the artifacts in a bundle's payload."""

Steps = Callable[[Iterable[str]], Iterable[str]]


def write_bundle(
    target: Path,
    names: Iterable[str],
    copy: Callable[[str, Path], None],
    texts: Mapping[str, str],
    about: Mapping[str, str],
) -> None:
    """Make a bundle, whole or not at all.

    Args:
        target: folder to make, or zip file where it ends in `.zip`.
        names: of the artifacts.
        copy: puts an artifact, verified, at a path.
        texts: other files of the payload, by name: all of `TEXTS`.
        about: entries of bag-info.txt.

    Raises:
        InputError: the target exists already or cannot be written; whatever `copy` raises.
    """
    if target.exists():
        raise InputError(f"{target}: exists already: name another bundle, or move it away")
    with _scratch(target.absolute().parent, target.name) as scratch, _writing(target):
        bag = scratch / target.stem if _is_zip(target) else scratch / target.name
        for name in names:
            path = bag / STORE / name
            path.parent.mkdir(parents=True, exist_ok=True)
            copy(name, path)
        for name, text in texts.items():
            (bag / name).write_text(text, encoding="utf-8")
        agent = f"{about['Bag-Software-Agent']}, bagit.py {bagit.VERSION}"
        info = {**about, "Bag-Software-Agent": agent}
        bagit.make_bag(str(bag), info, checksums=["sha256"])
        if _is_zip(target):
            _zip(bag, scratch / "bundle.zip")
            os.replace(scratch / "bundle.zip", target)
        else:
            os.replace(bag, target)


@contextmanager
def opened_bundle(bundle: Path, scratch: Path, progress: Steps = iter) -> Iterator[dict[str, Path]]:
    """The artifacts of a bundle, all of them verified, by their names in a store.

    Args:
        bundle: a bag's folder, or a zip file that holds one.
        scratch: folder to unpack a zip file in; nothing is left there.
        progress: wraps the artifacts that are verified.

    Raises:
        InputError: not a bundle, or any file of it is damaged, unsafe or not ours: by its name.
    """
    if not bundle.exists():
        raise InputError(f"{bundle}: no such bundle: correct the path")
    with _unpacked(bundle, scratch) as folder:
        _check_kinds(bundle, folder)
        _check_bag(bundle, folder)
        yield _verified(bundle, folder / "data", progress)


def _verified(bundle: Path, payload: Path, progress: Steps) -> dict[str, Path]:
    """Artifacts of a payload by name, each compared with its key and its digest."""
    names = _payload_names(bundle, payload)
    paths = {name: payload / STORE / name for name in names}
    for name in progress(names):
        try:
            verify_artifact(paths[name])
        except Damaged as error:
            raise _refused(bundle, name, error.reason) from error
    return paths


def _payload_names(bundle: Path, payload: Path) -> list[str]:
    names = []
    for path in sorted(p for p in payload.rglob("*") if p.is_file()):
        name = path.relative_to(payload).as_posix()
        inner = name.removeprefix(f"{STORE}/")
        if inner != name and parse_name(inner):
            names.append(inner)
        elif name not in TEXTS:
            raise _refused(bundle, name, "not a file of Isogloss")
    return names


TEXTS = ("config.yaml", "README.md", "LICENCES.md")
"""What a bundle holds beside artifacts."""


def _refused(bundle: Path, name: str, reason: str) -> InputError:
    return InputError(f"{bundle}: {name}: {reason}: nothing was imported, get the bundle again")


def _check_kinds(bundle: Path, folder: Path) -> None:
    """Refuse links and devices: what they lead to is not in the bundle."""
    for path in sorted(folder.rglob("*")):
        kind = path.lstat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise _refused(bundle, path.relative_to(folder).as_posix(), "a link or a device")


def _check_bag(bundle: Path, folder: Path) -> None:
    try:
        bag = bagit.Bag(str(folder))
        bag.info.pop("Payload-Oxum", None)  # says that files are missing, not which
        bag.validate()
    except bagit.BagValidationError as error:
        fault = error.details[0] if error.details else None
        name = str(fault.path) if fault is not None else "the bag"
        reason = _KINDS.get(type(fault), str(error).splitlines()[0])
        raise _refused(bundle, name.removeprefix("data/").removeprefix("store/"), reason) from error
    except (bagit.BagError, OSError, ValueError, KeyError) as error:
        raise _refused(bundle, "not a whole BagIt bag", str(error).splitlines()[0]) from error


_KINDS = {
    bagit.ChecksumMismatch: "its SHA-256 is another than the bag's manifest says",
    bagit.FileMissing: "is missing",
    bagit.UnexpectedFile: "is not in the bag's manifest",
}


@contextmanager
def _unpacked(bundle: Path, beside: Path) -> Iterator[Path]:
    """The bag's folder: the bundle itself, or what a zip file holds."""
    if bundle.is_dir():
        yield bundle
        return
    with _scratch(beside, "import") as scratch:
        try:
            with zipfile.ZipFile(bundle) as archive:
                tops = {_top(bundle, member) for member in archive.infolist()}
                if len(tops) != 1:
                    raise _refused(bundle, "the zip file", "holds more than one folder")
                archive.extractall(scratch)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
            raise _refused(bundle, "cannot be unpacked", str(error)) from error
        yield scratch / tops.pop()


def _top(bundle: Path, member: zipfile.ZipInfo) -> str:
    """The folder that a member of a zip file lies in; refused where it leads out of it."""
    path = PurePosixPath(member.filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    plain = (
        not path.is_absolute() and ".." not in path.parts and len(path.parts) > 1 - member.is_dir()
    )
    if not plain or "\\" in member.filename or ":" in path.parts[0]:
        raise _refused(bundle, member.filename, "a name that leads out of the bundle")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refused(bundle, member.filename, "a link or a device")
    return path.parts[0]


def _zip(bag: Path, target: Path) -> None:
    """One zip file with the bag's folder in it; numbers hardly compress, so nothing is."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for path in sorted(p for p in bag.rglob("*") if p.is_file()):
            archive.write(path, f"{bag.name}/{path.relative_to(bag).as_posix()}")


def _is_zip(path: Path) -> bool:
    return path.suffix == ".zip"


@contextmanager
def _scratch(parent: Path, name: str) -> Iterator[Path]:
    """A folder that goes away, on the disk where the files are wanted: they may not fit in /tmp."""
    scratch = temporary_name(parent / name)
    try:
        scratch.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{parent}: cannot be written to ({error.strerror})") from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{target}: cannot be written ({error.strerror}): nothing is left"
        ) from error


def today() -> str:
    """The date for bag-info.txt."""
    return datetime.now(UTC).date().isoformat()
