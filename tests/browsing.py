"""A real browser for tests of the page: the system's Chromium, away from any network."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class Visit:
    """A page in the browser, with all that it complained of and asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, path: Path, place: str = "") -> None:
        """Show a file and wait until its charts stand."""
        self.page.goto(path.as_uri() + place)
        # Not wait_for_function: asking twice it evaluates text, which the page forbids.
        self.page.wait_for_selector("html[data-ready=yes]", state="attached")

    def text(self, selector: str) -> str:
        return " ".join(self.page.inner_text(selector).split())


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium; the test is skipped, with the reason, where it or its driver cannot be had."""
    driver = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: make test-browser installs it"
    )
    if CHROMIUM is None:
        pytest.skip("no Chromium here: on Debian, apt-get install chromium")
    with driver.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@contextmanager
def visit(running: Any, width: int = 1400, height: int = 900, **options: Any) -> Iterator[Visit]:
    """A new window; it fails the test that its page complained of anything or asked any host."""
    context = running.new_context(viewport={"width": width, "height": height}, **options)
    seen = Visit(context.new_page())
    seen.page.on("console", lambda message: seen.complaints.append(message.text))
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.on("request", lambda request: seen.requests.append(request.url))
    yield seen
    context.close()
    assert not seen.complaints
    assert {url.partition(":")[0] for url in seen.requests} <= {"file", "data", "blob"}
