"""The example of a service, as its players have it: browsers at two instances, one of which is killed in mid-game."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import httpx

from kairos_core import AuditReader, AuditWriter, RedisStateManager, Settings
from kairos_core.audit.drain import drain_lane
from kairos_core.audit.outbox import Outbox
from kairos_core.audit.verify import verify_trail
from kairos_core.local import free_port
from kairos_core.settings import child_environment
from tests.browser.opened import DESK, PHONE, Look, Opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from kairos_core import AuditEvent, SessionWatch

_EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
_DEADLINE_S = 30.0
_POLL_S = 0.02
# Keeps each version that a page showed: after a lost connection the same once more, or one that is some writes on.
_KEEP_VERSIONS = """() => {
  window.versions = [Number(document.body.dataset.version)];
  new MutationObserver(() => window.versions.push(Number(document.body.dataset.version)))
    .observe(document.body, { attributeFilter: ["data-version"] });
}"""
_EVENTS = [
    "created",
    *["seat.taken"] * 2,
    "game.started",
    *["turn.ended"] * 3,
    "game.paused",
    "game.resumed",
    *["turn.ended"] * 2,
    "draw.offered",
    "draw.agreed",
]


class Instances(NamedTuple):
    """Two running instances, A and B: their processes, and their addresses."""

    processes: list[subprocess.Popen[bytes]]
    addresses: list[str]

    def wait_until_ready(self) -> None:
        """Wait until both say so."""
        deadline = time.monotonic() + _DEADLINE_S
        for address in self.addresses:
            while not _is_ready(address):
                assert time.monotonic() < deadline, f"{address} is not ready"
                time.sleep(_POLL_S)


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/ready", timeout=_DEADLINE_S).is_success
    except httpx.TransportError:
        return False


@contextmanager
def started(settings: Settings) -> Iterator[Instances]:
    """Both instances, as the example's README starts them, at ports that are free."""
    ports = [str(free_port()), str(free_port())]
    environment = child_environment(settings) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "chess_clock", "--port", port, "--instances", *ports],
            cwd=_EXAMPLES,
            env=environment,
        )
        for port in ports
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
            _open(browser, look, address) for look, address in zip(self._looks, (at_a, at_b, at_a), strict=True)
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


def _open(browser: Browser, look: Look, address: str) -> Page:
    context = browser.new_context(
        viewport={"width": look.width, "height": 844},
        color_scheme="dark" if look.colours == "dark" else "light",
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("body[data-version]")
    page.evaluate(_KEEP_VERSIONS)
    return page


def test_a_game_goes_on_over_two_instances_when_one_is_killed(
    settings: Settings, worker_settings: Settings, manager: RedisStateManager, writer: AuditWriter, browser: Browser
) -> None:
    """Both players see one clock, whichever instance they are at; a killed one costs no turn and makes none twice."""
    with started(settings) as instances:
        instances.wait_until_ready()
        game_id = created(instances.addresses[0])
        with manager.watch_session(game_id) as heard:
            players = Players(browser, instances, f"/game/{game_id}")
            play_until_a_pause(players)
            assert [] == players.violations()
            lose_an_instance(players, instances)
            end_with_a_draw(players)
            assert list(range(2, len(_EVENTS) + 1)) == versions(heard, len(_EVENTS) - 1)
        for page in players.pages:
            shown = page.evaluate("window.versions")
            assert sorted(shown) == shown
            assert len(_EVENTS) == shown[-1]
        refuses_with_a_reason(instances.addresses[1], game_id)
        goes_with_a_word(players, instances)
    events = drained(worker_settings, writer, game_id)
    assert list(enumerate(_EVENTS, 1)) == [(event.version, event.event_type) for event in events]
    assert {"winner": None, "reason": "draw"} == events[-1].state.metadata["result"]
    assert 0 == verify_trail(settings, game_id).violations


def created(address: str) -> str:
    """A new game of two minutes for each."""
    answer = httpx.post(f"{address}/api/games", json={"time_ms": 120_000, "increment_ms": 1_000})
    assert (201, "pending") == (answer.status_code, answer.json()["status"])
    game_id: str = answer.json()["game"]
    assert f"/game/{game_id}" == answer.headers["Location"]
    return game_id


def play_until_a_pause(players: Players) -> None:
    """Three turns by button and by space, a message, and a pause, in which all pages show the same times."""
    white, black, spectator = players.pages
    players.all_read("Waiting for white and black")
    white.click("#white .sit")
    players.all_read("Waiting for black")
    black.click("#black .sit")
    players.all_read("Both are here: start when ready")
    black.click("#start")
    spectator.wait_for_selector('h1:text-is("White\'s turn")')
    white.click("#end")
    spectator.wait_for_selector("#black.runs")
    black.click("#end:enabled")
    spectator.wait_for_selector("#white.runs")
    white.keyboard.press("Space")
    spectator.wait_for_selector("#black.runs")
    before = spectator.locator("#black .digits").inner_text()
    black.fill("#text", "Good game <b>so far</b>")
    black.keyboard.press("Enter")
    for page in players.pages:
        page.wait_for_selector("#log p:has-text('Black'):has-text('Good game <b>so far</b>')")
        page.wait_for_selector("#people li:has-text('Instance A'):has-text('White'):has-text('1 spectator')")
        page.wait_for_selector("#people li:has-text('Instance B'):has-text('Black')")
    # The clock runs down between messages, too.
    spectator.wait_for_function("before => document.querySelector('#black .digits').textContent !== before", arg=before)
    white.click("#pause")
    players.all_read("Paused: black is to move")
    first, *others = players.times()
    assert [first] * 2 == others
    assert first != ["2:00", "2:00"]


def lose_an_instance(players: Players, instances: Instances) -> None:
    """What a player did while the instance was dying is done by the other one, once."""
    players.black.click("#resume")
    players.black.click("#end:enabled")
    players.white.wait_for_selector("#end:enabled")
    a = instances.processes[0]
    a.send_signal(signal.SIGSTOP)
    players.white.click("#end")
    players.white.wait_for_selector("#end:disabled")
    a.kill()
    for page in players.pages:
        page.wait_for_selector("body[data-instance='B']")
        page.wait_for_selector("#connection:text-is('Connected to B')")
        page.wait_for_selector("#black.runs")


def end_with_a_draw(players: Players) -> None:
    """White offers, black takes it, at the instance that is left."""
    players.white.click("#draw")
    players.black.wait_for_selector("#offer-text:text-is('White offers a draw.')")
    players.black.click("#agree")
    players.all_read("A draw, as agreed")
    assert not any(page.locator("#acts").is_visible() for page in players.pages)


def versions(heard: SessionWatch, number: int) -> list[int]:
    """The versions of so many updates, as they came."""
    updates = [heard.receive(_DEADLINE_S) for _ in range(number)]
    return [update.version for update in updates if update is not None]


def refuses_with_a_reason(address: str, game_id: str) -> None:
    """What cannot be done has a status and a word."""
    with httpx.Client(base_url=address) as client:
        assert (200, "completed") == _said(client.get(f"/api/games/{game_id}"), "status")
        assert (404, "not_found") == _said(client.get("/api/games/none"), "code")
        assert (422, "invalid") == _said(client.get("/api/games/no%20id"), "code")
        assert (422, "out_of_bounds") == _said(client.post("/api/games", json={"time_ms": 1}), "code")
        assert (400, "not_understood") == _said(client.post("/api/games", json={"time_ms": "1"}), "code")
        assert (422, "out_of_bounds") == _said(client.post("/api/games", content=b" " * 2_000), "code")
        foreign = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        foreign |= {"Sec-WebSocket-Key": "a" * 22 + "==", "Origin": "http://example.org"}
        assert 403 == client.get(f"/game/{game_id}/live", headers=foreign).status_code


def _said(answer: httpx.Response, name: str) -> tuple[int, str]:
    return answer.status_code, answer.json()[name]


def goes_with_a_word(players: Players, instances: Instances) -> None:
    """An instance that is told to stop closes its connections and ends; its browsers say that they look for another."""
    b = instances.processes[1]
    b.terminate()
    b.wait(_DEADLINE_S)
    for page in players.pages:
        page.wait_for_selector("#connection.lost")


def drained(settings: Settings, writer: AuditWriter, game_id: str) -> list[AuditEvent]:
    """What the audit has of the game, once all that waited is recorded."""
    outbox = Outbox.connect(settings)
    for lane in range(settings.lanes):
        drain_lane(outbox, writer, lane)
    outbox.close()
    with AuditReader.connect(settings) as reader:
        return reader.events(game_id)
