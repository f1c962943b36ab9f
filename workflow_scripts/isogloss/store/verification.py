"""Whether an artifact of any kind is what its name says, whole and unchanged."""

from pathlib import Path

from isogloss.files.hdf5 import verify_hdf5


def verify_artifact(path: Path) -> None:
    """Read everything of an artifact and compare it with its key and its digest.

    Raises:
        Damaged: it is not what its name says, of another version, not whole, or changed since.
    """
    if path.suffix == ".safetensors":
        from isogloss.model.tensor_file import verify_tensors

        verify_tensors(path)
    else:
        verify_hdf5(path)
