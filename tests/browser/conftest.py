"""The page of the small study in a real browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.browsing import browser, visit
from tests.workflow import conftest as small
from tests.workflow.conftest import Study

from isogloss.results import StudyResults, open_study

finished = small.finished  # a fixture of theirs: run once for their tests and these


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    with browser() as running:
        yield running


@pytest.fixture
def seen(chromium: Any) -> Iterator[Any]:
    with visit(chromium) as shown:
        yield shown


@pytest.fixture(scope="session")
def page(finished: Study) -> Path:
    return finished.folder / "results/report.html"


@pytest.fixture(scope="session")
def study(finished: Study) -> StudyResults:
    return open_study(finished.folder / "results")
