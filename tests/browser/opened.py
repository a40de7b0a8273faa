"""A page as a reader has it: of a width, light, dark or on paper, from a file, with the network off."""

from __future__ import annotations

import io
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from tests.browser import looking

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext, Locator, Page

PHONE, DESK = 390, 1440
_HEIGHT = {PHONE: 844, DESK: 900}
# What a file may load: itself and what is written in it.
_LOCAL = ("file:", "data:", "blob:", "about:")
_LOUD = ("error", "warning")
# A pixel is painted where it differs from the background by more than rounding and antialiasing do.
_PAINTED_LEVELS = 24
# Of a figure's pixels, of 1. Thin lines on a large ground are about 1 %.
FEWEST_PAINTED = 0.002


class Look(NamedTuple):
    """How a page is looked at."""

    width: int
    colours: Literal["light", "dark", "print"]

    def __str__(self) -> str:
        return f"{self.width}-{self.colours}"


LOOKS = [Look(width, colours) for width in (PHONE, DESK) for colours in ("light", "dark", "print")]
SCREENS = [look for look in LOOKS if look.colours != "print"]


class Opened:
    """A page that was opened.

    Attributes:
        page: Playwright's.
        look: how it is looked at.
        complaints: what it logged, threw, or asked the network for.
    """

    def __init__(self, page: Page, look: Look) -> None:
        self.page = page
        self.look = look
        self.complaints: list[str] = []
        page.on("console", lambda said: self._complain(said.type in _LOUD, f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: self._complain(True, f"thrown: {error}"))
        page.on("request", lambda asked: self._complain(not asked.url.startswith(_LOCAL), f"asked for {asked.url}"))
        page.on("requestfailed", lambda failed: self._complain(True, f"not loaded: {failed.url}"))

    def _complain(self, is_one: bool, what: str) -> None:
        if is_one:
            self.complaints.append(what)

    @property
    def first_line(self) -> str:
        """What a reader reads first: the first heading, which nothing that is shown stands before."""
        return str(self.page.evaluate(looking.FIRST_LINE))

    @property
    def wider_than_window_px(self) -> int:
        """By how much the page itself has to be moved sideways."""
        return int(self.page.evaluate(looking.WIDER))

    @cached_property
    def unseen(self) -> list[str]:
        """The verdict and the figures that cannot be seen, each with the reason."""
        return list(self.page.evaluate(looking.UNSEEN, looking.SEEN_AT_LEAST))

    @property
    def faint(self) -> list[str]:
        """Texts of figures that hardly differ from what is behind them."""
        return list(self.page.evaluate(looking.FAINT))

    @property
    def links(self) -> list[str]:
        """Where all links lead, as they are written."""
        return list(self.page.evaluate("[...document.querySelectorAll('[href]')].map(e => e.getAttribute('href'))"))

    @property
    def names(self) -> set[str]:
        """What `#…` can lead to."""
        return set(self.page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)"))

    @property
    def elements(self) -> int:
        """How many the page consists of."""
        return int(self.page.evaluate("document.querySelectorAll('*').length"))

    @property
    def opened_in_ms(self) -> float:
        """From the start of loading until all was there."""
        return float(self.page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))

    def blank(self) -> list[str]:
        """Figures within which nothing is painted."""
        found = []
        for svg in self.page.locator("figure svg:not(svg svg)").all():
            share = painted(svg)
            if share < FEWEST_PAINTED:
                found.append(f"{svg.evaluate(looking.NAME)}: {100 * share:.2f} % painted")
        return found

    def violations(self) -> list[str]:
        """What axe-core finds that is serious or critical, with the first place of each."""
        found: list[dict[str, Any]] = Axe().run(self.page).response["violations"]
        return [
            f"{one['impact']}: {one['id']}, {len(one['nodes'])} times, first: {one['nodes'][0]['html'][:200]} "
            f"{one['nodes'][0]['failureSummary']}"
            for one in found
            if one["impact"] in {"serious", "critical"}
        ]


def painted(svg: Locator) -> float:
    """The share of an element's pixels that differ from the background, of 1."""
    shot = np.asarray(Image.open(io.BytesIO(svg.screenshot(animations="disabled"))).convert("RGB"), dtype=np.int16)
    return float((np.abs(shot - shot[0, 0]).max(axis=2) > _PAINTED_LEVELS).mean())


class Window:
    """Opens pages, and keeps them open for whoever asks for them again."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: dict[Look, BrowserContext] = {}
        self._opened: dict[tuple[Path, Look], Opened] = {}

    def open(self, path: Path, look: Look) -> Opened:
        """A page from disk."""
        key = (path, look)
        if key not in self._opened:
            opened = Opened(self._context(look).new_page(), look)
            if look.colours == "print":
                opened.page.emulate_media(media="print", color_scheme="light")
            opened.page.goto(path.as_uri(), wait_until="load")
            self._opened[key] = opened
        return self._opened[key]

    def _context(self, look: Look) -> BrowserContext:
        if look not in self._contexts:
            self._contexts[look] = self._browser.new_context(
                offline=True,
                viewport={"width": look.width, "height": _HEIGHT[look.width]},
                color_scheme="dark" if look.colours == "dark" else "light",
                reduced_motion="reduce",
            )
        return self._contexts[look]

    def close(self) -> None:
        """All of them."""
        for context in self._contexts.values():
            context.close()
