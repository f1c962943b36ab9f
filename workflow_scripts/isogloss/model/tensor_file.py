"""Artifacts of tensors: safetensors with a header that says what they are, and a digest."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from isogloss.errors import Damaged
from isogloss.files.atomic import whole_file
from isogloss.files.canonical import canonical_json, key_of
from isogloss.versions import ORGANISM_VERSION, READOUT_VERSION

VERSIONS = {"readout": READOUT_VERSION, "organism": ORGANISM_VERSION}
"""By kind; a header without a kind is a readout's."""


def write_tensors(
    tensors: Mapping[str, torch.Tensor],
    path: Path,
    spec: Mapping[str, Any],
    about: Mapping[str, Any],
) -> None:
    """Write tensors whole or not at all.

    Args:
        tensors: by name.
        path: file to write, named by the key of the spec.
        spec: what the artifact is.
        about: the rest of its header; `kind` where it is no readout.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    settings = {
        "version": VERSIONS[about.get("kind", "readout")],
        "key": key_of(spec),
        "spec": canonical_json(spec),
        **about,
    }
    settings["content_digest"] = _digest(settings, tensors)
    # One metadata entry: safetensors writes several in no fixed order, and bytes would differ.
    metadata = {"isogloss": json.dumps(settings, sort_keys=True)}
    with whole_file(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)
        # It comes readable by its owner alone; others may read it where they may read its folder.
        temporary.chmod(path.parent.stat().st_mode & 0o664)


def read_tensors(
    path: Path, kind: str, device: torch.device | str = "cpu"
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors of an artifact of a kind, and its header, every bit as it was written.

    Raises:
        Damaged: as `verify_tensors`, or an artifact of another kind.
    """
    settings, tensors = _verified(path, kind)
    return {name: tensor.to(device) for name, tensor in tensors.items()}, settings


def verify_tensors(path: Path) -> None:
    """Compare an artifact with its name and with the digest taken when it was written.

    Raises:
        Damaged: another one than its name says, another version, not whole, or changed since.
    """
    _verified(path, kind=None)


def _verified(path: Path, kind: str | None) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Header and tensors of an artifact, once they are what they should be; None: of any kind."""
    try:
        with safe_open(path, framework="pt") as file:
            settings = json.loads((file.metadata() or {})["isogloss"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        expected, version = settings.pop("content_digest"), settings["version"]
        actual = _digest(settings, tensors)
        key, named = key_of(json.loads(settings["spec"])), settings["key"]
        found = settings.get("kind", "readout")
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        wanted = kind or "artifact of tensors"
        raise Damaged(path, f"not a whole {wanted} ({error})") from error
    if kind not in (None, found):
        raise Damaged(path, f"a {found}, not the {kind} that was asked for")
    if version != (reads := VERSIONS.get(found)):
        raise Damaged(path, f"{found} version is {version}, this program reads {reads}")
    if not path.stem == key == named:
        raise Damaged(path, f"key {key[:12]} does not match its name")
    if actual != expected:
        raise Damaged(path, "its content_digest is another than was written: it has changed since")
    return settings, tensors


def _digest(settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the settings, and the tensors' names, types, shapes and values."""
    digest = hashlib.sha256(canonical_json(settings).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(torch.uint8).numpy().data)
    return digest.hexdigest()
