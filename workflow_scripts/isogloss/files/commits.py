"""Commits of the Hugging Face hub: what a branch or tag stands for, which can move."""

import re
from pathlib import Path
from typing import Literal

from isogloss.errors import InputError, one_line
from isogloss.files.atomic import read_object, write_json
from isogloss.files.canonical import key_of
from isogloss.program import say

COMMIT = re.compile("[0-9a-f]{40}")
SECONDS = 5.0
"""How long the hub may take to answer."""


def commit_of(
    repo: str, revision: str | None, kind: Literal["model", "dataset"], memory: Path, where: str
) -> str:
    """The commit that a revision of a repository stands for.

    A branch is looked up once: what it stood for then is remembered, so that a study goes on with
    the same files when the branch moves. Else the hub's own cache is asked, then the hub.

    Args:
        repo: the repository.
        revision: commit, branch or tag; None for the default branch.
        kind: of the repository.
        memory: folder of what is known about fetched models.
        where: the study's key, for messages.

    Raises:
        InputError: nobody knows it here, or it cannot be remembered.
    """
    name = revision or "main"
    if COMMIT.fullmatch(name):
        return name
    record = marker(memory, repo if kind == "model" else f"datasets/{repo}", name)
    known = read_object(record)
    remembered = str(known.get("commit") or Path(str(known.get("folder", ""))).name)
    if COMMIT.fullmatch(remembered):
        return remembered
    commit = _cached(repo, name, kind) or _asked(repo, name, kind, where)
    try:
        write_json({"repo": repo, "revision": name, "commit": commit}, record)
    except OSError as error:
        raise InputError(
            f"{where}: {record}: {error.strerror}: correct its permissions, or the folder named"
            " by `cache`"
        ) from error
    say(f"{where}: {repo}@{name} is the commit {commit} from now on")
    return commit


def marker(memory: Path, repo: str, revision: str) -> Path:
    """The file that remembers what was learnt about a revision of a repository."""
    return memory / "hub" / f"{key_of(f'{repo}@{revision}')}.json"


def _cached(repo: str, revision: str, kind: str) -> str | None:
    """The commit in the hub's own cache, from when something was last fetched by this name."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo, repo_type=kind))
    try:
        commit = (folder / "refs" / revision).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return commit if COMMIT.fullmatch(commit) else None


def _asked(repo: str, revision: str, kind: str, where: str) -> str:
    """The commit by the hub's answer."""
    from huggingface_hub import HfApi, errors

    name = f"{repo}@{revision}"
    try:
        if _unreachable:
            raise ConnectionError(_unreachable[0])
        sha = HfApi().repo_info(repo, repo_type=kind, revision=revision, timeout=SECONDS).sha
    except (errors.HfHubHTTPError, errors.HFValidationError) as error:
        raise InputError(
            f"{where}: the hub has no {name} for you ({one_line(error)}): correct the name, or"
            " accept the repository's terms and set HF_TOKEN"
        ) from error
    except Exception as error:  # of many kinds, by transport and version: no network
        _unreachable[:] = [one_line(error)]
        raise InputError(
            f"{where}: which commit {name} stands for is not known here ({one_line(error)}): give"
            " the commit (40 hex digits), or run `snakemake --cores 1 download` with a network"
        ) from error
    return str(sha)


_unreachable: list[str] = []
"""Why the hub cannot be reached: it is not asked again, since each answer may take `SECONDS`."""
