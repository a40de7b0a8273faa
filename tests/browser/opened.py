"""A page as a reader has it: of a width, light, dark or on paper, from a file, with the network off."""

from __future__ import annotations

import base64
import io
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from playwright.sync_api import Browser, BrowserContext, Page

    # Red, green and blue of each pixel of each line.
    Levels = NDArray[np.uint8]

# What a test records under this name is shown behind all tests.
TOLD = "told"
PHONE, DESK = 390, 1440
_HEIGHT = {PHONE: 844, DESK: 900}
# Of pictures of the page: half as large tells as much of large figures, and takes a quarter of the time.
_SCALES = {PHONE: 1.0, DESK: 0.5}
# What a file may load: itself and what is written in it.
_LOCAL = ("file:", "data:", "blob:", "about:")
_LOUD = ("error", "warning")
# A pixel is painted where it differs from the background by more than rounding and antialiasing do.
_PAINTED_LEVELS = 24
# Make one number of red, green and blue.
_WEIGHTS = np.array([65_536, 256, 1])
# Of a figure's pixels, of 1. Thin lines on a large ground are about 1 %.
FEWEST_PAINTED = 0.002
_LOOKING = Path(__file__).with_name("looking.js")
# The rules of axe-core that the colours decide.
_OF_COLOURS = ["color-contrast", "link-in-text-block"]


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
        return str(self.page.evaluate("looking.firstLine()"))

    @property
    def wider_than_window_px(self) -> int:
        """By how much the page itself has to be moved sideways."""
        return int(self.page.evaluate("looking.wider()"))

    @cached_property
    def unseen(self) -> list[str]:
        """The verdict and the figures that cannot be seen, each with the reason."""
        return list(self.page.evaluate("looking.unseen(7)"))

    @property
    def faint(self) -> list[str]:
        """Texts of figures that hardly differ from what is behind them."""
        return list(self.page.evaluate("looking.faint()"))

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
        boxes = self.page.evaluate("looking.boxes()")
        width, height = self.page.evaluate("[innerWidth, document.scrollingElement.scrollHeight]")
        shot = self._shot(width, height)
        shares = {}
        for name, *edges in boxes:
            left, top, right, bottom = (max(int(edge * _SCALES[self.look.width]), 0) for edge in edges)
            shares[name] = painted(shot[top:bottom, left:right])
        return [f"{name}: {100 * share:.2f} % painted" for name, share in shares.items() if share < FEWEST_PAINTED]

    def _shot(self, width: int, height: int) -> Levels:
        """The whole page: one picture takes less time than one of each figure."""
        session = self.page.context.new_cdp_session(self.page)
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": _SCALES[self.look.width]}
        wanted = {"format": "png", "optimizeForSpeed": True, "captureBeyondViewport": True, "clip": clip}
        png = base64.b64decode(session.send("Page.captureScreenshot", wanted)["data"])
        session.detach()
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))

    def violations(self) -> list[str]:
        """What axe-core finds that is serious or critical, with the first place of each.

        All that does not depend on colours is as it is in the light, and is looked for there alone.
        """
        options: dict[str, Any] = {"resultTypes": ["violations"]}
        if self.look.colours == "dark":
            options["runOnly"] = {"type": "rule", "values": _OF_COLOURS}
        found: list[dict[str, Any]] = Axe().run(self.page, options=options).response["violations"]
        return [
            f"{one['impact']}: {one['id']}, {len(one['nodes'])} times, first: {one['nodes'][0]['html'][:200]} "
            f"{one['nodes'][0]['failureSummary']}"
            for one in found
            if one["impact"] in {"serious", "critical"}
        ]


def painted(shot: Levels) -> float:
    """The share of a picture's pixels that differ from its commonest colour, of 1; 0 of a picture without any."""
    if not shot.size:
        return 0.0
    levels = shot.astype(np.int32)
    _, places, counts = np.unique(levels @ _WEIGHTS, return_index=True, return_counts=True)
    commonest = levels.reshape(-1, 3)[places[counts.argmax()]]
    return float((np.abs(levels - commonest).max(axis=2) > _PAINTED_LEVELS).mean())


def dead(opened: Opened, path: Path) -> list[str]:
    """The links of a page that lead nowhere, or to the network."""
    names = opened.names
    found = []
    for link in opened.links:
        parts = urlsplit(link)
        if parts.scheme == "data":
            continue
        if parts.scheme or parts.netloc:
            found.append(f"{link} is elsewhere")
        elif parts.path and not (path.parent / unquote(parts.path)).exists():
            found.append(f"{link} is not there")
        elif not parts.path and unquote(parts.fragment) not in names:
            found.append(f"{link} is no place of the page")
    return found


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
            self._contexts[look].add_init_script(path=_LOOKING)
        return self._contexts[look]

    def close(self) -> None:
        """All of them."""
        for context in self._contexts.values():
            context.close()
