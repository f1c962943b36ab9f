"""One SLURM for all tests here; without the means to start it they skip, and say why."""

from collections.abc import Iterator

import pytest
from tests.cluster.slurm import Slurm, running, why_not


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if reason := why_not():
        pytest.skip(f"no SLURM here: {reason}")
    with running(tmp_path_factory.mktemp("slurm") / "node") as node:
        yield node
