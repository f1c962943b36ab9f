"""What all tests share: where the real data is, if it is here at all."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = Path(os.environ.get("ISOGLOSS_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Path of a published dataset; skips where ISOGLOSS_TEST_DATA does not hold it."""

    def find(name: str) -> Path:
        folder = REAL_DATA / name
        if not folder.exists():
            pytest.skip(f"{name} is not in {REAL_DATA}: set ISOGLOSS_TEST_DATA to test on it")
        return folder

    return find
