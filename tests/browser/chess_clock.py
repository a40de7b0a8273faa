"""Two instances of the example's service, and the browsers that look at a game of theirs.

`python -m tests.browser.chess_clock` makes the picture of it anew (takes the system's Chromium).
"""

from __future__ import annotations

import io
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import httpx
from PIL import Image
from playwright.sync_api import sync_playwright

from kairos_core.local import free_port, local_servers
from kairos_core.settings import Settings, child_environment
from tests.browser.opened import DESK, PHONE, Look, Opened
from tests.docs.markdown import ROOT, block
from tests.docs.shell import commands_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

README = "docs/examples/chess_clock/README.md"
PICTURE = ROOT / "docs" / "pictures" / "chess_clock.png"
DEADLINE_S = 30.0
_POLL_S = 0.02
_HEIGHT = 844
_LEVELS = 64
_WHITE, _BLACK, _SPECTATOR = Look(DESK, "light"), Look(PHONE, "dark"), Look(DESK, "dark")
# Keeps each version that a page showed: after a lost connection the same once more, or one that is some writes on.
_KEEP_VERSIONS = """() => {
  window.versions = [Number(document.body.dataset.version)];
  new MutationObserver(() => window.versions.push(Number(document.body.dataset.version)))
    .observe(document.body, { attributeFilter: ["data-version"] });
}"""


class Instances(NamedTuple):
    """Two running instances, A and B: their processes, and their addresses."""

    processes: list[subprocess.Popen[bytes]]
    addresses: list[str]

    def wait_until_ready(self) -> None:
        """Wait until both say so."""
        deadline = time.monotonic() + DEADLINE_S
        for address in self.addresses:
            while not _is_ready(address):
                assert time.monotonic() < deadline, f"{address} is not ready"
                time.sleep(_POLL_S)


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/ready", timeout=DEADLINE_S).is_success
    except httpx.TransportError:
        return False


@contextmanager
def started(settings: Settings) -> Iterator[Instances]:
    """Both instances, started at once by what README says, but for the ports: those that it names may be taken."""
    ports = [str(free_port()), str(free_port())]
    block_of_readme = block("--port 8001", kind="console", file=README)
    commands = [one.command.replace("8001", ports[0]).replace("8002", ports[1]) for one in commands_of(block_of_readme)]
    # In place of the shell, so that the process is the instance.
    processes = [
        subprocess.Popen(["/bin/sh", "-c", f"exec env {command}"], cwd=ROOT, env=child_environment(settings))
        for command in commands
    ]
    try:
        yield Instances(processes, [f"http://127.0.0.1:{port}" for port in ports])
    finally:
        for process in processes:
            process.kill()
            process.wait()


class Players:
    """Three pages of one game: white's at A, where it is created; black's at B, on a phone; and a spectator's at A.

    Attributes:
        game_id: the game's.
        violations: what is wrong with the page that creates it, and with those of the game when they were looked at.
    """

    def __init__(self, browser: Browser, instances: Instances) -> None:
        self.violations: list[str] = []
        at_a, at_b = instances.addresses
        self.white = _open(browser, _WHITE, at_a)
        self._look_at(self.white, _WHITE)
        self.white.click("#new [type=submit]")
        self.white.wait_for_url("**/game/*")
        self.game_id = self.white.url.rpartition("/")[2]
        self.black = _open(browser, _BLACK, f"{at_b}/game/{self.game_id}")
        self.spectator = _open(browser, _SPECTATOR, self.white.url)
        self.pages = [self.white, self.black, self.spectator]
        for page in self.pages:
            page.wait_for_selector("body[data-version]")
            page.evaluate(_KEEP_VERSIONS)

    def all_read(self, text: str) -> None:
        """Wait until each page's headline says this."""
        for page in self.pages:
            page.wait_for_selector(f"h1:text-is('{text}')")

    def times(self) -> list[list[str]]:
        """What each page shows of both clocks."""
        return [page.locator("#game .digits").all_inner_texts() for page in self.pages]

    def look(self) -> None:
        """Look for violations on the players' pages: the spectator's is white's with less on it."""
        self._look_at(self.white, _WHITE)
        self._look_at(self.black, _BLACK)

    def _look_at(self, page: Page, look: Look) -> None:
        self.violations += Opened(page, look).violations()
        # Not than `innerWidth`: on a phone, that grows with the page.
        if page.evaluate("document.scrollingElement.scrollWidth") > look.width:
            self.violations.append(f"{look} is wider than its window")


def _open(browser: Browser, look: Look, address: str) -> Page:
    context = browser.new_context(
        viewport={"width": look.width, "height": _HEIGHT},
        color_scheme="dark" if look.colours == "dark" else "light",
        reduced_motion="reduce",
        is_mobile=look.width == PHONE,
        has_touch=look.width == PHONE,
    )
    page = context.new_page()
    page.goto(address)
    return page


def begin(players: Players) -> None:
    """Both sit down, and white's clock runs."""
    players.white.click("#white .sit")
    players.black.click("#black .sit")
    players.black.click("#start:enabled")
    players.spectator.wait_for_selector("#white.runs")


def main() -> None:
    """Take the picture: white's page, and black's on a phone in the dark."""
    with (
        local_servers() as servers,
        started(Settings(redis_url=servers.redis_url, postgres_url=servers.postgres_url)) as instances,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=shutil.which("chromium")) as browser,
    ):
        instances.wait_until_ready()
        players = Players(browser, instances)
        begin(players)
        players.white.click("#end:enabled")
        for page, text in ((players.white, "Have a good game!"), (players.black, "And you!")):
            page.fill("#text", text)
            page.click("#say button")
            players.spectator.wait_for_selector(f"#log p:has-text('{text}')")
        players.spectator.wait_for_selector("#people li:has-text('Instance B')")
        for page in (players.white, players.black):
            page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        shots = [Image.open(io.BytesIO(page.screenshot())) for page in (players.white, players.black)]
    # Beside each other, on nothing.
    picture = Image.new("RGB", (sum(shot.width for shot in shots) + 24, _HEIGHT), "#808080")
    picture.paste(shots[0], (0, 0))
    picture.paste(shots[1], (shots[0].width + 24, 0))
    picture = picture.resize((picture.width * 2 // 3, picture.height * 2 // 3), Image.Resampling.LANCZOS)
    picture.quantize(_LEVELS, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
