"""Manifests: a job that makes artifacts of many languages writes one list of them.

The artifacts are no declared outputs of the workflow, so that it never deletes them. A changed
setting names other artifacts: going back finds the old ones.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isogloss.errors import InputError
from isogloss.files.atomic import write_json
from isogloss.files.canonical import canonical_json


def write_manifest(
    path: Path, stage: str, settings: Mapping[str, Any], artifacts: Mapping[str, Path]
) -> None:
    """List the artifacts of a stage, by language, with the settings that name the manifest."""
    content = {
        "stage": stage,
        "spec": canonical_json(settings),
        "artifacts": [{"language": tag, "path": str(file)} for tag, file in artifacts.items()],
    }
    write_json(content, path)


def manifest_settings(path: Path) -> dict[str, Any]:
    """The settings behind a manifest's artifacts.

    Raises:
        InputError: no manifest, or a damaged one.
    """
    try:
        settings: dict[str, Any] = json.loads(json.loads(path.read_text(encoding="utf-8"))["spec"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a manifest ({error}): delete it and run again") from error
    return settings


def read_manifest(path: Path, root: Path = Path()) -> dict[str, Path]:
    """The artifacts that a manifest lists, by language.

    Args:
        root: where Snakemake ran; relative paths in the manifest start there.

    Raises:
        InputError: no manifest, a damaged one, or an artifact that is gone.
    """
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["artifacts"]
        artifacts = {entry["language"]: root / entry["path"] for entry in listed}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a manifest ({error}): delete it and run again") from error
    gone = [str(file) for file in artifacts.values() if not file.exists()]
    if gone:
        raise InputError(
            f"{path}: lists {gone[0]}, which is gone ({len(gone)} in all): delete this manifest "
            "and run again"
        )
    return artifacts
