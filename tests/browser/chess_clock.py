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
# Keeps each version that a page showed: after a lost connection the same once more, or one that is some writes on.
_KEEP_VERSIONS = """() => {
  window.versions = [Number(document.body.dataset.version)];
  new MutationObserver(() => window.versions.push(Number(document.body.dataset.version)))
    .observe(document.body, { attributeFilter: ["data-version"] });
}"""


def created(address: str, time_ms: int = 120_000) -> str:
    """The id of a new game."""
    answer = httpx.post(f"{address}/api/games", json={"time_ms": time_ms, "increment_ms": 1_000})
    assert (201, "pending") == (answer.status_code, answer.json()["status"])
    game_id: str = answer.json()["game"]
    assert f"/game/{game_id}" == answer.headers["Location"]
    return game_id


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
    """Three pages of one game: white at A, black at B, and a spectator at A."""

    def __init__(self, browser: Browser, instances: Instances, path: str) -> None:
        at_a, at_b = (f"{address}{path}" for address in instances.addresses)
        self._looks = (Look(DESK, "light"), Look(PHONE, "dark"), Look(DESK, "dark"))
        self.pages = [
            open_page(browser, look, address) for look, address in zip(self._looks, (at_a, at_b, at_a), strict=True)
        ]
        self.white, self.black, self.spectator = self.pages

    def all_read(self, text: str) -> None:
        """Wait until each page's headline says this."""
        for page in self.pages:
            page.wait_for_selector(f"h1:text-is('{text}')")

    def times(self) -> list[list[str]]:
        """What each page shows of both clocks."""
        return [page.locator("#game .digits").all_inner_texts() for page in self.pages]

    def violations(self) -> list[str]:
        """What axe finds of them that is serious, and which is wider than its window."""
        found = []
        for look, page in zip(self._looks, self.pages, strict=True):
            found += Opened(page, look).violations()
            if page.evaluate("document.scrollingElement.scrollWidth > innerWidth"):
                found.append(f"{look} is wider than its window")
        return found


def open_page(browser: Browser, look: Look, address: str) -> Page:
    """A page of a game, once it shows it; it keeps which versions it shows."""
    context = browser.new_context(
        viewport={"width": look.width, "height": _HEIGHT},
        color_scheme="dark" if look.colours == "dark" else "light",
        reduced_motion="reduce",
        is_mobile=look.width == PHONE,
        has_touch=look.width == PHONE,
    )
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("body[data-version]")
    page.evaluate(_KEEP_VERSIONS)
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
        game_id = created(instances.addresses[0], 300_000)
        players = Players(browser, instances, f"/game/{game_id}")
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
