"""The example of a service, as its players have it: browsers at two instances, one of which is killed in mid-game."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import httpx
import pytest

from kairos_core import AuditReader, AuditWriter, RedisStateManager, Settings
from kairos_core.audit.drain import drain_lane
from kairos_core.audit.outbox import Outbox
from kairos_core.audit.verify import verify_trail
from tests.browser.chess_clock import DEADLINE_S, Instances, Players, started

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from kairos_core import AuditEvent, SessionWatch

# Pages and processes come late, on a busy machine.
pytestmark = pytest.mark.timeout(180)
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


def test_a_game_goes_on_over_two_instances_when_one_is_killed(
    settings: Settings, worker_settings: Settings, manager: RedisStateManager, writer: AuditWriter, browser: Browser
) -> None:
    """Both players see one clock, whichever instance they are at; a killed one costs no turn and makes none twice."""
    with started(settings) as instances:
        instances.wait_until_ready()
        players = Players(browser, instances)
        game_id = players.game_id
        with manager.watch_session(game_id) as heard:
            play_until_a_pause(players)
            players.look()
            assert [] == players.violations
            lose_an_instance(players, instances)
            end_with_a_draw(players)
            assert list(range(2, len(_EVENTS) + 1)) == versions(heard, len(_EVENTS) - 1)
        for page in players.pages:
            shown = page.evaluate("window.versions")
            assert sorted(shown) == shown
            assert len(_EVENTS) == shown[-1]
        refuses_with_a_reason(instances.addresses[1], game_id)
        players.spectator.goto(f"{instances.addresses[1]}/game/none")
        players.spectator.wait_for_selector("h1:text-is('There is no such game')")
        players.spectator.wait_for_selector("#forgotten a")
        goes_with_a_word(players, instances)
    events = drained(worker_settings, writer, game_id)
    assert list(enumerate(_EVENTS, 1)) == [(event.version, event.event_type) for event in events]
    assert {"winner": None, "reason": "draw"} == events[-1].state.metadata["result"]
    assert 0 == verify_trail(settings, game_id).violations


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
    assert first != ["5:00", "5:00"]


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
    updates = [heard.receive(DEADLINE_S) for _ in range(number)]
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
    b.wait(DEADLINE_S)
    for page in (players.white, players.black):
        page.wait_for_selector("#connection.lost")


def drained(settings: Settings, writer: AuditWriter, game_id: str) -> list[AuditEvent]:
    """What the audit has of the game, once all that waited is recorded."""
    outbox = Outbox.connect(settings)
    for lane in range(settings.lanes):
        drain_lane(outbox, writer, lane)
    outbox.close()
    with AuditReader.connect(settings) as reader:
        return reader.events(game_id)
