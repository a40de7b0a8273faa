"""The service: its addresses, its WebSocket, and what its errors are to a browser."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from kairos_core import (
    AsyncRedisStateManager,
    AuditBacklogFull,
    InvalidState,
    KairosError,
    OutcomeUnknown,
    SessionExists,
    SessionNotFound,
    Settings,
    StoreUnavailable,
    VersionConflict,
)

from . import rules, spoken
from .tables import Browser, Hall, Table
from .writes import Writes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

_PAGE = Path(__file__).with_name("page.html").read_text()
_TIME_S = 10.0
_MOST_BODY_BYTES = 1_000
# By type, the first that fits: HTTP status, and one word for a program. WebSockets are told the word.
_ERRORS: list[tuple[type[Exception], int, str]] = [
    (SessionNotFound, 404, "not_found"),
    (SessionExists, 409, "exists"),
    (VersionConflict, 409, "conflict"),
    (InvalidState, 422, "invalid"),
    (msgspec.MsgspecError, 400, "not_understood"),
    (OutcomeUnknown, 504, "unknown"),
    (AuditBacklogFull, 503, "busy"),
    (StoreUnavailable, 503, "unavailable"),
    (KairosError, 500, "failed"),
]
_NOT_FOUND, _NOT_UNDERSTOOD, _FOREIGN, _TRY_ANOTHER = 4404, 4400, 4403, 1013
_log = logging.getLogger("chess_clock")


def described(error: Exception) -> tuple[int, dict[str, Any]]:
    """An error as HTTP status and message; the message says whether nothing was written (`definite`)."""
    if isinstance(error, rules.RuleBroken):
        status = 422 if error.code == "out_of_bounds" else 409
        return status, {"type": "error", "code": error.code, "text": str(error), "definite": True}
    status, code = next((status, code) for kind, status, code in _ERRORS if isinstance(error, kind))
    definite = getattr(error, "definite", True)
    return status, {"type": "error", "code": code, "text": str(error), "definite": definite}


class Service:
    """One instance.

    Attributes:
        app: the ASGI application.
    """

    def __init__(self, settings: Settings, name: str, instances: dict[str, str]) -> None:
        """Prepare an instance, which connects when it starts.

        Args:
            settings: where the store is.
            name: this instance's, one of `instances`.
            instances: of all instances, name and address as a browser has it: `http://127.0.0.1:8001`.
        """
        self._settings, self._name, self._instances = settings, name, instances
        self.app = Starlette(
            routes=[
                Route("/", self._show_page),
                Route("/game/{game_id}", self._show_page),
                Route("/api/games", self._create, methods=["POST"]),
                Route("/api/games/{game_id}", self._read),
                Route("/ready", self._ready),
                WebSocketRoute("/game/{game_id}/live", self._live),
            ],
            exception_handlers=dict.fromkeys((KairosError, rules.RuleBroken, msgspec.MsgspecError), self._refuse),
            lifespan=self._running,
        )

    @contextlib.asynccontextmanager
    async def _running(self, _: Starlette) -> AsyncIterator[None]:
        async with (
            AsyncRedisStateManager.connect(self._settings) as self._manager,
            self._manager.watch_sessions() as updates,
        ):
            self._hall = Hall(self._manager, self._name)
            self._writes = Writes(self._manager, self._hall.clock)
            self._hall.clock.set_by(await self._manager.health())
            watching = asyncio.create_task(self._hall.watch(updates))
            keeping = asyncio.create_task(self._keep_time())
            # Whoever watches nothing must not look as if it did: what ends here ends the readiness.
            self._watching = watching
            try:
                yield
            finally:
                updates.close()
                keeping.cancel()
                await asyncio.gather(watching, keeping, return_exceptions=True)

    async def _keep_time(self) -> None:
        """Ask for the store's time again and again: clocks drift."""
        while True:
            await asyncio.sleep(_TIME_S)
            # It raises nothing of the store's: what cannot be asked is a problem in what it returns.
            self._hall.clock.set_by(await self._manager.health())

    async def _show_page(self, _: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        known = json.dumps({"here": self._name, "instances": self._instances}).replace("<", "\\u003c")
        sockets = " ".join(address.replace("http", "ws", 1) for address in self._instances.values())
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src data:; "
            f"connect-src 'self' {sockets}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        page = _PAGE.replace("NONCE", nonce).replace('"INSTANCES"', known)
        return HTMLResponse(page, headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"})

    async def _create(self, request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _MOST_BODY_BYTES:
                raise rules.RuleBroken("out_of_bounds", "that is too long")
        wanted = msgspec.json.decode(body, type=spoken.NewGame)
        state = rules.new_game(secrets.token_hex(4), wanted.time_ms, wanted.increment_ms)
        created = await self._writes.create(state)
        location = {"Location": f"/game/{created.session_id}"}
        return JSONResponse(rules.view(created, self._hall.clock.now()), 201, headers=location)

    async def _read(self, request: Request) -> Response:
        game_id = request.path_params["game_id"]
        state = await self._manager.get_session(game_id)
        if state is None:
            raise SessionNotFound(game_id)
        return JSONResponse(rules.view(state, self._hall.clock.now()))

    async def _ready(self, _: Request) -> Response:
        """Whether browsers may be sent here. A problem that a restart would not mend is told, and keeps nobody away."""
        health = await self._manager.health()
        self._hall.clock.set_by(health)
        is_ready = health.is_reachable and not self._watching.done()
        told = {"ready": is_ready, "instance": self._name, "problems": list(health.problems)}
        return JSONResponse(told, 200 if is_ready else 503)

    async def _refuse(self, _: Request | WebSocket, error: Exception) -> Response:
        status, told = described(error)
        return JSONResponse(told, status, headers={"Retry-After": "1"} if status == 503 else None)

    async def _live(self, socket: WebSocket) -> None:
        """A browser that looks at a game: what comes of the game goes out, what the player wishes comes in."""
        # Browsers let any page connect to any WebSocket, and say where the page is from.
        if socket.headers.get("origin") not in self._instances.values():
            await socket.close(_FOREIGN)
            return
        await socket.accept()
        game_id = socket.path_params["game_id"]
        browser = Browser(socket.send_text)
        try:
            table = await self._hall.enter(game_id, browser)
        except KairosError as error:
            gone = isinstance(error, (SessionNotFound, InvalidState))
            await socket.send_text(json.dumps(described(error)[1]))
            await socket.close(_NOT_FOUND if gone else _TRY_ANOTHER)
            return
        sending = asyncio.create_task(browser.send_all(self._hall.clock.now))
        hearing = asyncio.create_task(self._hear(socket, table, browser))
        try:
            await asyncio.wait({sending, hearing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            hearing.cancel()
            for ended in await asyncio.gather(sending, hearing, return_exceptions=True):
                if isinstance(ended, Exception) and not isinstance(ended, (WebSocketDisconnect, TimeoutError)):
                    _log.error("game %s: a browser's connection failed", game_id, exc_info=ended)
            await self._hall.leave(game_id, browser)
            # Where it was not the browser that went: a browser that took nothing for long, or said what is no sense.
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await socket.close(_TRY_ANOTHER)

    async def _hear(self, socket: WebSocket, table: Table, browser: Browser) -> None:
        async for text in socket.iter_text():
            try:
                await self._obey(spoken.understand(text), table, browser)
            except (KairosError, rules.RuleBroken, msgspec.MsgspecError) as error:
                browser.tell(described(error)[1])

    async def _obey(self, said: spoken.Said, table: Table, browser: Browser) -> None:
        if table.state is None:
            raise SessionNotFound("game")
        if isinstance(said, spoken.Sit):
            await self._writes.sit(table.state, said.seat, said.key)
            browser.seat = said.seat
            browser.tell({"type": "seated", "seat": said.seat})
            table.say_who_is_here()
        elif isinstance(said, spoken.Say):
            line = spoken.Line(browser.seat or "spectator", said.text)
            await self._manager.broadcast_to_session(table.state.session_id, msgspec.to_builtins(line))
        elif browser.seat is None:
            raise rules.RuleBroken("spectator", "spectators only look on")
        else:
            await self._writes.move(table.state, browser.seat, said)
