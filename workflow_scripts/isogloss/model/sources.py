"""Where a model comes from, what identifies it, and its folder where it is here already.

Nothing here imports torch or transformers: keys and folders are looked up while the DAG is built.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from isogloss.errors import InputError
from isogloss.files.atomic import read_object, write_json
from isogloss.files.canonical import file_digest, key_of
from isogloss.files.commits import commit_of, marker
from isogloss.versions import ORGANISM_VERSION, WORLD_VERSION

CONVERSION_VERSION = 1
"""Part of a converted model's identity: raise it when `convert_gguf` gives other weights or ids."""

NEEDED = {
    "hub": ("repo",),
    "path": ("path",),
    "package": ("packages", "file", "sha256"),
    "organism": ("organism", "world"),
}
MODEL_FILES = (
    "*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken",
    "additional_chat_templates/*.jinja",
)  # fmt: skip
VOCABULARIES = re.compile(r"tekken\.json|tiktoken\.model|tokenizer\.model")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


@dataclass(frozen=True)
class ModelSource:
    """One entry of the model registry.

    `packages` are pinned as `name==version`; `file` is the GGUF inside them, whole or as
    `<file>.part00`, `<file>.part01`, ...; `organism` says how a model is trained on the synthetic
    `world`; `parameters` is the count to report (0: count the loaded weights); `attention` and
    `device_map` None leave the choice to transformers and to `load`.
    """

    slug: str
    source: str
    repo: str = ""
    revision: str = "main"
    path: Path | None = None
    packages: tuple[str, ...] = ()
    file: str = ""
    sha256: str = ""
    organism: Mapping[str, Any] | None = None
    world: Mapping[str, Any] | None = None
    licence: str = ""
    family: str = ""
    parameters: int = 0
    seed: int | None = None
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
        if self.source == "organism":
            return "trained on a synthetic world"
        quantised = re.search(r"[-._](I?Q(\d)\w*)\.gguf$", self.file, re.IGNORECASE)
        if quantised:
            return f"converted from {quantised[2]}-bit GGUF ({quantised[1].upper()})"
        return "converted from GGUF" if self.source == "package" else ""


def model_digest(source: ModelSource, cache: Path) -> str:
    """What identifies a model's weights and tokenizer in the keys of artifacts.

    Known without the files where the source is pinned (a local folder: by `sha256`).

    Args:
        cache: folder where digests of local files are remembered by size and modification time.

    Raises:
        InputError: the folder of a `path` source is missing or holds no usable model; or nobody
            knows here which commit a branch of the hub stands for.
    """
    if source.source == "hub":
        return f"{source.repo}@{pinned(source, cache).revision}"
    if source.source == "package":
        return package_key(source)
    if source.source == "organism":
        return key_of(organism_identity(source))
    return source.sha256.lower() or folder_digest(source, cache)


def pinned(source: ModelSource, cache: Path) -> ModelSource:
    """The same source with a commit in place of a branch or tag of the hub, which can move.

    Raises:
        InputError: as `commit_of`.
    """
    if source.source != "hub":
        return source
    where = f"models.{source.slug}.revision"
    return replace(source, revision=commit_of(source.repo, source.revision, "model", cache, where))


def package_key(source: ModelSource) -> str:
    return key_of(
        {
            "packages": source.packages,
            "file": source.file,
            "sha256": source.sha256.lower(),
            "conversion": CONVERSION_VERSION,
        }
    )


def organism_identity(source: ModelSource) -> dict[str, Any]:
    """What the checkpoint of an organism is.

    Other versions of torch give other weights: trained twice, rounding grows.
    """
    return {
        "organism": source.organism,
        "world": source.world,
        "torch": metadata.version("torch").partition("+")[0],
        "organism_version": ORGANISM_VERSION,
        "world_version": WORLD_VERSION,
    }


def package_folder(source: ModelSource, cache: Path) -> Path:
    """Where a converted model lies: by what its weights are, whatever a study calls it."""
    return cache / "models" / f"{Path(source.file).stem}-{package_key(source)[:16]}"


def cache_folder(setting: str | None) -> Path:
    """The folder of fetched models: as configured, else ISOGLOSS_CACHE, else in the home folder."""
    chosen = setting or os.environ.get("ISOGLOSS_CACHE") or "~/.cache/isogloss"
    return Path(chosen).expanduser()


def folder_here(source: ModelSource, cache: Path) -> Path | None:
    """The folder of a model that is here already; None where it would have to be fetched."""
    if source.source == "hub":
        known = _fetched(source, cache)
        folder = Path(known) if known else None
    elif source.source == "package":
        folder = package_folder(source, cache)
    elif source.source == "organism":
        folder = organism_folder(source, cache)
    else:
        folder = source.path
    return folder if folder is not None and (folder / "config.json").is_file() else None


def _fetched(source: ModelSource, cache: Path) -> str | None:
    """The folder of a hub source's snapshot; None where it is not here."""
    try:
        commit = pinned(source, cache).revision
    except InputError:
        return None
    return read_object(marker(cache, source.repo, commit)).get("folder")


def organism_folder(source: ModelSource, cache: Path) -> Path:
    """Where the checkpoint of an organism is unpacked."""
    return cache / "models" / f"{source.slug}-{key_of(organism_identity(source))[:16]}"


def local_folder(source: ModelSource) -> Path:
    assert source.path is not None
    if not os.path.isdir(source.path):  # whatever the path: too long, a loop of links
        raise InputError(f"models.{source.slug}.path: {source.path} is not a folder: correct it")
    return source.path


def check_usable(folder: Path, source: ModelSource) -> Path:
    """`folder`, if it holds a configuration, safetensors and a tokenizer."""
    where = f"models.{source.slug}: {folder}"
    if not (folder / "config.json").is_file():
        raise InputError(f"{where}: no config.json: give a folder in transformers' layout")
    if not any(file.is_file() for file in folder.glob("*.safetensors")):
        raise InputError(
            f"{where}: no *.safetensors: save the weights as safetensors (pickled weights are "
            "not opened)"
        )
    if (folder / "adapter_config.json").exists():
        raise InputError(
            f"{where}: adapter_config.json: its adapter would count only where peft is installed: "
            "merge it into the weights, or remove that file"
        )
    listed = read_object(folder / "model.safetensors.index.json").get("weight_map", {})
    parts = listed.values() if isinstance(listed, dict) else [listed]
    for part in parts:  # transformers opens what is listed, pickled or elsewhere
        if not isinstance(part, str) or not re.fullmatch(r"[^/\\]+\.safetensors", part):
            raise InputError(
                f"{where}: model.safetensors.index.json lists {part!r}, which is no *.safetensors"
                " of the folder: fetch the model again"
            )
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise InputError(f"{where}: no tokenizer ({', '.join(TOKENIZER_FILES)}): save it there")
    several = sorted(file.name for file in folder.iterdir() if VOCABULARIES.match(file.name))
    if len(several) > 1 and not (folder / "tokenizer.json").is_file():
        raise InputError(
            f"{where}: {' and '.join(several[:2])}: transformers takes what the file system lists "
            "first: keep one, or save the tokenizer as tokenizer.json"
        )
    return folder


def folder_digest(source: ModelSource, cache: Path) -> str:
    """SHA-256 over the names and digests of a model's files; unchanged files are not read again.

    Code of its own may open any file: with `trust_remote_code` all count but documents.
    """
    folder = check_usable(local_folder(source), source)
    matching = {file for pattern in MODEL_FILES for file in folder.glob(pattern)}
    if source.trust_remote_code:
        matching |= {f for f in folder.iterdir() if not re.match(r"\.|.*\.md$|LICEN[CS]E", f.name)}
    files = sorted(file for file in matching if file.is_file())
    record = cache / "digests" / f"{key_of(str(folder.resolve()))}.json"
    remembered = read_object(record)
    try:
        names = {file: file.relative_to(folder).as_posix() for file in files}
        seen = {name: _digest_of(file, remembered.get(name)) for file, name in names.items()}
        if seen != remembered:
            write_json(seen, record)
    except OSError as error:
        raise InputError(
            f"models.{source.slug}: {error.filename}: {error.strerror}: correct its permissions,"
            " or the folder named by `cache`"
        ) from error
    return key_of({name: entry[-1] for name, entry in seen.items()})


def _digest_of(file: Path, remembered: Any) -> list[Any]:
    """Size, times of modification and of change, SHA-256; read where one of the first differs.

    Copies that keep times, of two fine-tuned models of one size, differ in the time of change.
    """
    about = file.stat()
    known = [about.st_size, about.st_mtime_ns, about.st_ctime_ns]
    if isinstance(remembered, list) and len(remembered) == 4 and remembered[:3] == known:
        return remembered
    return [*known, file_digest(file)]
