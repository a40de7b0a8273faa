"""Create, get and update of states of one size: through Kairos, by redis-py with the same words, on a raw socket."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import redis

from kairos_core import RedisStateManager
from kairos_core.commands import Commands
from kairos_core.layout import Layout
from loadtests.states import sample_state
from loadtests.subjects.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from kairos_core import Settings, SyncState
    from kairos_core.commands import Command
    from loadtests.interleave import Operation

SUBJECTS = ("kairos", "redis_py", "wire")
OPERATIONS = ("create", "get", "update")


class _Way:
    """The ways to the server: each takes a command, which Kairos' own has no use for, and returns the call to time."""

    def __init__(self, settings: Settings, manager: RedisStateManager, stack: ExitStack) -> None:
        self._manager = manager
        self._client = stack.enter_context(redis.Redis.from_url(settings.redis_url))
        self._wire = Wire(settings.redis_url)
        stack.callback(self._wire.close)
        self._get_size = 0

    def kairos(self, what: str, state: SyncState, _: Command[Any]) -> Callable[[], Any]:
        """The public method, encoding and decoding included."""
        if what == "get":
            return partial(self._manager.get_session, state.session_id)
        return partial(self._manager.create_session if what == "create" else self._manager.update_session, state)

    def redis_py(self, what: str, _: SyncState, command: Command[Any]) -> Callable[[], Any]:
        """The command method of redis-py: nothing is encoded before, nor decoded after."""
        words = command.words[1:]
        return partial(self._client.hmget, *words) if what == "get" else partial(self._client.evalsha, *words)

    def wire(self, what: str, _: SyncState, command: Command[Any]) -> Callable[[], Any]:
        """The same bytes."""
        packed = command.packed
        if what != "get":
            return partial(self._wire.exchange, packed)
        # It is always the same state, so its reply has always the same size.
        self._get_size = self._get_size or self._wire.size_of_reply(packed)
        return partial(self._wire.exchange_whole, packed, self._get_size)

    def read(self, subject: str, command: Command[Any], result: Any) -> SyncState | None:
        """What Kairos would have returned, outside of the time measured."""
        if subject == "kairos":
            found: SyncState | None = result
            return found
        # What came of a reply only later would not have been in the time.
        if subject == "wire" and command.operation_id is None and len(result) != self._get_size:
            raise AssertionError(f"wire: {len(result)} bytes of a reply of {self._get_size}")
        reply = self._wire.parse(result) if subject == "wire" else result
        state: SyncState | None = command.read(reply)
        return state


class _One:
    """One operation of one subject."""

    def __init__(self, way: _Way, commands: Commands, subject: str, what: str, participants: int) -> None:
        self._way, self._commands, self._subject, self._what = way, commands, subject, what
        self._state = sample_state(f"{subject}-{what}", participants)
        self._participants = participants
        self._count = 0
        self._command: Command[Any] = self._build()

    def _build(self) -> Command[Any]:
        if self._what == "get":
            return self._commands.get(self._state.session_id)
        build = self._commands.create if self._what == "create" else self._commands.update
        return build(self._state, "measured")

    def start(self, manager: RedisStateManager, session_id: str) -> None:
        """Make the session that is read or updated."""
        self._state = manager.create_session(self._state.replace(session_id=session_id))

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        if self._what == "create":
            self._count += 1
            self._state = sample_state(f"{self._subject}-created-{self._count:06d}", self._participants)
        self._command = self._build()
        call: Callable[[], Any] = getattr(self._way, self._subject)(self._what, self._state, self._command)
        return call

    def finish(self, result: Any) -> None:
        """Check the answer, and go on from there."""
        found = self._way.read(self._subject, self._command, result)
        expected = {"create": 1, "get": self._state.version, "update": self._state.version + 1}[self._what]
        if found is None or (found.version, len(found.participants)) != (expected, self._participants):
            raise AssertionError(f"{self._subject}: {self._what}: {found and found.version}, not version {expected}")
        self._state = found


class _Tidying:
    """Removes what an operation left, so that the server's memory does not grow with what was measured."""

    def __init__(self, operation: _One, remove: Callable[[], object]) -> None:
        self._operation, self._remove = operation, remove

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        return self._operation.prepare()

    def finish(self, result: Any) -> None:
        """Let it check, then remove."""
        self._operation.finish(result)
        self._remove()


def operations(settings: Settings, _: object, stack: ExitStack, participants: str) -> dict[str, Operation]:
    """`SUBJECT/OPERATION` of states with so many participants; see `loadtests.turns`."""
    manager = stack.enter_context(RedisStateManager.connect(settings))
    layout = Layout(settings.namespace, settings.lanes)
    commands = Commands(settings, layout)
    way = _Way(settings, manager, stack)
    client = stack.enter_context(redis.Redis.from_url(settings.redis_url))
    found: dict[str, Operation] = {}
    for subject in SUBJECTS:
        for what in OPERATIONS:
            one = _One(way, commands, subject, what, int(participants))
            if what != "create":
                one.start(manager, f"{subject}-{what}")
            if what == "get":
                found[f"{subject}/{what}"] = one
            else:
                found[f"{subject}/{what}"] = _Tidying(one, partial(_remove, client, layout, one))
    # The server knows a script once it was sent in full.
    manager.update_session(manager.create_session(sample_state("first", int(participants))))
    return found


def _remove(client: redis.Redis, layout: Layout, one: _One) -> None:
    """What was created, and the copy of what was written that waits in the outbox."""
    state = one._state  # noqa: SLF001 - of this file
    keys = layout.keys_of(state.session_id)
    client.xtrim(keys.outbox, maxlen=0, approximate=False)
    if one._what == "create":  # noqa: SLF001
        client.unlink(keys.session)
        client.zrem(layout.deadlines[keys.lane], state.session_id)
