"""The pages as a real server gives them and a real browser shows them."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

TOKEN = "a-token-of-the-tests"
WIDE, NARROW = 1280, 390
HEIGHT = 900
# As root and without a network beyond this machine; nothing is fetched in the background.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
ADDRESS = re.compile(r"http://\S+")
INSTALL = "apt-get install --no-install-recommends chromium"


@dataclass(frozen=True)
class Served:
    """A server on a finished run."""

    address: str
    directory: Path


@dataclass
class Visit:
    """A page in the browser, and all that went wrong while it was open."""

    page: Page
    complaints: list[str] = field(default_factory=list)


Open = Callable[..., Visit]


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    """`selfreward serve` on a free port; its address."""
    command = [sys.executable, "-m", "selfreward", "serve", "--port", "0", "--dir", str(directory)]
    process = subprocess.Popen(
        [*command, "--token", TOKEN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        found = ADDRESS.search(process.stdout.readline())
        assert found, "serve did not say where it listens"
        yield found[0].rstrip("/")
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture(scope="session")
def served(done_run: Path) -> Iterator[Served]:
    """One server for all tests that only look."""
    with serving(done_run) as address:
        yield Served(address, done_run)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium of the system; nothing is downloaded."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip(f"no Chromium is installed: {INSTALL}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, served: Served) -> Iterator[Open]:
    """Opens an address of the server; in the end nothing may have gone wrong in any page."""
    with ExitStack() as contexts:
        visits: list[Visit] = []

        def visit(
            path: str,
            *,
            width: int = WIDE,
            theme: Any = "light",
            expect: int = 200,
            address: str = served.address,
            **how: Any,
        ) -> Visit:
            context: BrowserContext = browser.new_context(
                viewport={"width": width, "height": HEIGHT}, color_scheme=theme, **how
            )
            contexts.callback(context.close)
            context.set_default_timeout(15_000)
            visits.append(_watched(context.new_page()))
            reply = visits[-1].page.goto(address + path, wait_until="load")
            assert reply is not None and reply.status == expect, (path, reply and reply.status)
            return visits[-1]

        yield visit
        assert [complaint for visit in visits for complaint in visit.complaints] == []


def _watched(page: Page) -> Visit:
    """Errors of scripts, of what is loaded and of the content security policy, and dialogs."""
    visit = Visit(page)

    def said(message: Any) -> None:
        # Chromium tells of every page that is not 200; tests that expect such a page look at its status.
        if message.type == "error" and "status of 4" not in message.text:
            visit.complaints.append(message.text)

    def asked(dialog: Any) -> None:
        visit.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    page.on("console", said)
    page.on("dialog", asked)
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    page.on("requestfailed", lambda request: visit.complaints.extend(_failed(request)))
    return visit


def _failed(request: Any) -> list[str]:
    """What could not be loaded. Leaving a page and downloading end requests that are under way."""
    return [] if "ERR_ABORTED" in request.failure else [f"{request.url}: {request.failure}"]
