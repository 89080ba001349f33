"""Fixtures of the search page: runs to serve, a free port, and a Chromium that notes every request."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from semcore.data.dataset import load_dataset, write_jsonl
from semcore.data.run_folder import RunFolder
from semcore.models.lineage import made_from, write_lineage
from semcore.runtime.files import read_jsonl
from tests.run_fixtures import SearchableRun, write_identifiers

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
HOSTILE = (
    "<script>window.hacked = 1</script>",
    '<img src="x" onerror="window.hacked = 1">',
    "${window.hacked = 1} {{constructor.constructor('window.hacked = 1')()}}",
    '"><svg onload="window.hacked = 1">',
    "</code></li><h1>a headline</h1>&amp;<b>bold</b>",
)
"""Sentences that a page must show as they are."""
GRADIOS_OWN = "Method not implemented."
"""Told by gradio's console at every upload, and of no consequence."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def hostile_run(finished_training: SearchableRun, tmp_path_factory: pytest.TempPathFactory) -> SearchableRun:
    """A run whose sentences, keywords and name are markup and scripts."""
    folder = tmp_path_factory.mktemp("hostile")
    data = shutil.copytree(finished_training.data, folder / "data")
    run = shutil.copytree(finished_training.run, folder / '<img src="x" onerror="window.hacked = 1">')
    rows = list(read_jsonl(data / "metadata.jsonl"))
    for number, row in enumerate(rows):
        for place, sentence in enumerate(row["sentences"]):
            sentence["text"] = f"{HOSTILE[(number + place) % len(HOSTILE)]} {number} {place}"
    write_jsonl(data / "metadata.jsonl", rows)
    write_identifiers(RunFolder(run), data)
    for model in ("identifier_model", "verifier_model"):
        write_lineage(run / model, made_from(RunFolder(run), load_dataset(data)))
    return SearchableRun(data, run, finished_training.base)


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[..., str]]:
    """Serve a run for the rest of the tests and return the page's address."""
    pytest.importorskip("gradio")
    from semcore.demo.serving import served_page

    with ExitStack() as pages:

        def start(run: SearchableRun, **options: Any) -> str:
            return pages.enter_context(served_page(run.run, "127.0.0.1", free_port(), data=run.data, **options))

        yield start


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium of this machine; without one, or without Playwright, the tests are skipped."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip(f"there is no browser: none of {', '.join(CHROMIUM)} is installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, headless=True, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A user's tab.

    Attributes:
        page: Playwright's page.
        requests: addresses that the page has asked for.
        problems: errors of its console, and of its scripts.
    """

    page: Any
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def hits(self) -> list[str]:
        return [hit.get_attribute("data-item") for hit in self.page.locator(".sc-hit").all()]

    def message(self) -> str:
        self.page.wait_for_selector("#sc-out .sc-message[role=alert]")
        return str(self.page.inner_text("#sc-out .sc-message"))

    def link(self) -> str:
        return str(self.page.url.partition("?")[2])

    def search(self, text: str) -> None:
        """Type a sentence and wait for its answer."""
        self.page.get_by_role("tab", name="By sentence").click()
        self.page.fill("#sc-text textarea", text)
        self.asked(lambda: self.page.click("#sc-find-images"))

    def drop(self, path: Path) -> None:
        """Give a picture and wait for its answer."""
        self.page.get_by_role("tab", name="By picture").click()
        self.asked(lambda: self.page.set_input_files("#sc-picture input[type=file]", path))

    def asked(self, act: Callable[[], Any]) -> None:
        """Do something that is answered, and wait until the answer is there."""
        self.page.evaluate(
            "document.querySelectorAll('#sc-out section, #sc-out .sc-message').forEach(old => old.dataset.old = 1)"
        )
        act()
        self.page.wait_for_selector(
            "#sc-out section:not([data-old]), #sc-out .sc-message:not([data-old])", state="attached"
        )


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Visit]]:
    """Open an address as a new user; options are those of Playwright's contexts."""
    contexts = []

    def start(address: str, **options: Any) -> Visit:
        context = chromium.new_context(**options)
        contexts.append(context)
        user = Visit(context.new_page())
        user.page.on("request", lambda request: user.requests.append(request.url))
        user.page.on("pageerror", lambda error: user.problems.append(str(error)))
        user.page.on(
            "console",
            lambda told: (
                user.problems.append(told.text)
                if told.type in ("error", "warning") and told.text != GRADIOS_OWN
                else None
            ),
        )
        user.page.goto(address)
        user.page.wait_for_selector("#sc-text textarea:visible, #sc-picture:visible")
        answer = "#sc-out .sc-results, #sc-out .sc-message[role=alert]"
        user.page.wait_for_selector(answer if "?" in address else "#sc-out .sc-message")
        return user

    yield start
    for context in contexts:
        context.close()
