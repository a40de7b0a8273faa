"""The page of a sound run, as readers have it: on a phone, on a desk, light, dark and on paper."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.browser.opened import DESK, LOOKS, SCREENS, TOLD, Look, Opened, Window, dead
from tests.browser.written import Written, written
from tests.made_run import made_run

if TYPE_CHECKING:
    from collections.abc import Callable

# A page of more is slow to open, to search and to print.
MOST_BYTES = 3_000_000
MOST_ELEMENTS = 40_000
_NUMBER = re.compile(r"\d[\d,]*\.?\d*")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The page of a run that nobody measured, with all pictures."""
    # Within another folder, since the page that is always the newest one links into its run's folder from there.
    return written(made_run(tmp_path_factory.mktemp("reports") / "runs" / "made"))


@pytest.fixture(params=LOOKS, ids=str)
def opened(request: pytest.FixtureRequest, window: Window, page: Written) -> Opened:
    """The page in each way of looking at it."""
    return window.open(page.path, request.param)


@pytest.fixture(params=SCREENS, ids=str)
def on_screen(request: pytest.FixtureRequest, window: Window, page: Written) -> Opened:
    """The page on each screen."""
    return window.open(page.path, request.param)


def test_the_page_needs_nothing_but_itself(opened: Opened) -> None:
    """It opens from disk with the network off: it asks for nothing and complains of nothing."""
    assert [] == opened.complaints


def test_verdict_and_figures_are_seen(opened: Opened) -> None:
    """The verdict and every figure have a place within the page's width, and nothing lies over them."""
    assert [] == opened.unseen
    assert "✔ PASS" in opened.first_line


def test_figures_are_painted(opened: Opened) -> None:
    """Every figure differs from its background: none is white on white or black on black."""
    assert [] == opened.blank()


def test_texts_of_figures_can_be_read(opened: Opened) -> None:
    """Every text in a figure has a contrast of 4.5 to 1 with what is behind it."""
    assert [] == opened.faint


def test_every_section_has_its_figures(opened: Opened, page: Written) -> None:
    """Each picture that was drawn is on the page."""
    assert page.pictures
    assert page.pictures == opened.page.locator("figure svg:not(svg svg)").count()


def test_the_page_is_as_wide_as_the_window(opened: Opened) -> None:
    """No page has to be moved sideways; what is wider, such as a table, moves within itself."""
    assert 0 >= opened.wider_than_window_px


def test_nothing_keeps_anybody_out(on_screen: Opened) -> None:
    """axe-core finds nothing serious: contrast, names, headings, tables, order."""
    assert [] == on_screen.violations()


def test_links_lead_somewhere(window: Window, page: Written) -> None:
    """Each link leads to a file that is there, or to a place of the page."""
    for path in (page.path, page.newest):
        opened = window.open(path, SCREENS[-1])
        assert len(opened.links) > 20
        assert [] == dead(opened, path)


def test_the_page_opens_at_once(window: Window, page: Written, record_property: Callable[[str, object], None]) -> None:
    """It is small, by bytes and by elements, which is what its opening takes."""
    opened = window.open(page.path, Look(DESK, "light"))
    size = page.path.stat().st_size
    # The time is shown and not judged, since the machine may be busy.
    record_property(
        TOLD, f"the page opened in {opened.opened_in_ms:.0f} ms: {size:,} bytes, {opened.elements:,} elements"
    )
    assert size < MOST_BYTES
    assert opened.elements < MOST_ELEMENTS


def test_numbers_are_those_of_the_report(window: Window, page: Written) -> None:
    """Each target's value and limit stand in its row, each guarantee's operations in its own."""
    opened = window.open(page.path, Look(DESK, "light"))
    rows: dict[str, tuple[float, ...]] = {
        f"target-{place}": (target.value, target.limit)
        for place, target in enumerate(page.report.targets, 1)
        if target.value is not None
    }
    rows |= {
        f"guarantee-{guarantee.number}": (guarantee.operations,)
        for guarantee in page.report.guarantees
        if guarantee.operations
    }
    assert len(rows) > 10
    missing = []
    for name, values in rows.items():
        told = numbers(opened.page.locator(f"#{name}").first.inner_text())
        missing += [
            (name, value) for value in values if not any(one == pytest.approx(value, rel=0.006) for one in told)
        ]
    assert [] == missing


def numbers(text: str) -> list[float]:
    """All numbers within a text."""
    return [float(found.replace(",", "")) for found in _NUMBER.findall(text)]
