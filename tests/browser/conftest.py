"""Pages in the system's Chromium, with the network off.

Without a Chromium this folder is left out, and the summary says so in one line; where `REQUIRE_BROWSER` is set,
as in CI, that ends the run instead.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from tests.browser.opened import TOLD, Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium")
REQUIRED = "REQUIRE_BROWSER"
_MISSING = "there is no chromium (on Debian: apt-get install chromium)"

# Not collected rather than skipped: a skip would take a line for each file.
collect_ignore_glob = [] if CHROMIUM else ["test_*.py"]


def pytest_configure() -> None:
    """Where a browser must be there, it is an error that there is none."""
    if CHROMIUM is None and os.environ.get(REQUIRED):
        raise pytest.UsageError(f"tests/browser: {_MISSING}, and {REQUIRED} is set")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line what was left out, or how soon the page opened."""
    for report in terminalreporter.getreports("passed"):
        for name, told in report.user_properties:
            if name == TOLD:
                terminalreporter.write_line(f"tests/browser: {told}")
    if CHROMIUM is None:
        terminalreporter.write_line(f"tests/browser was left out: {_MISSING}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. For a file and no longer: while it is open, this thread has a running event loop."""
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=CHROMIUM) as launched:
        yield launched


@pytest.fixture(scope="module")
def window(browser: Browser) -> Iterator[Window]:
    """What opens pages; those that were opened stay so for the tests of a file."""
    opened = Window(browser)
    yield opened
    opened.close()
