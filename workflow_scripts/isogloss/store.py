"""The store: artifacts named by the key of what they are, and manifests that list them.

A job that computes many languages writes one manifest. The artifacts themselves are no declared
outputs of the workflow, so that it never deletes them, and a changed setting names others: going
back finds the old ones.
"""

import json
from pathlib import Path
from typing import Any

from isogloss.artifacts import canonical_json, key_of, write_json
from isogloss.errors import InputError


def artifact_path(
    store: Path, stage: str, model: str, dataset: str, language: str, spec: Any, suffix: str
) -> Path:
    """Where an artifact lies: `<store>/<stage>/<model>/<dataset>/<language>/<key><suffix>`."""
    return store / stage / model / dataset / language / f"{key_of(spec)}{suffix}"


def write_manifest(path: Path, stage: str, spec: Any, artifacts: dict[str, Path]) -> None:
    """List the artifacts of a stage, by language, in the spec's order."""
    content = {
        "stage": stage,
        "spec": canonical_json(spec),
        "artifacts": [{"language": tag, "path": str(file)} for tag, file in artifacts.items()],
    }
    write_json(content, path)


def manifest_spec(path: Path) -> dict[str, Any]:
    """The settings behind a manifest's artifacts.

    Raises:
        InputError: no manifest, or a damaged one.
    """
    try:
        spec: dict[str, Any] = json.loads(json.loads(path.read_text(encoding="utf-8"))["spec"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a manifest ({error}): delete it and run again") from error
    return spec


def read_manifest(path: Path) -> dict[str, Path]:
    """The artifacts that a manifest lists, by language.

    Raises:
        InputError: no manifest, a damaged one, or an artifact that is gone.
    """
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["artifacts"]
        artifacts = {entry["language"]: Path(entry["path"]) for entry in listed}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a manifest ({error}): delete it and run again") from error
    gone = [str(file) for file in artifacts.values() if not file.exists()]
    if gone:
        raise InputError(
            f"{path}: lists {gone[0]}, which is gone ({len(gone)} in all): delete this manifest "
            "and run again"
        )
    return artifacts
