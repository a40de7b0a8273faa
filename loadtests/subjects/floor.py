"""Get and update, the same bytes on a raw socket, and PING there: the least that a server can be asked."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from kairos_core import RedisStateManager
from kairos_core.commands import Commands
from kairos_core.layout import Layout
from loadtests.states import sample_state
from loadtests.subjects.kairos import Get, Update
from loadtests.subjects.wire import Ping, SameBytes, Wire

if TYPE_CHECKING:
    from contextlib import ExitStack

    from kairos_core import Settings, SyncState
    from loadtests.interleave import Operation


class _Latest:
    """The state that the next update is derived from."""

    def __init__(self, commands: Commands, state: SyncState) -> None:
        self._commands, self._state = commands, state

    def build(self) -> Any:
        return self._commands.update(self._state, "updated")

    def finish(self, result: SyncState) -> None:
        if result.version != self._state.version + 1:
            raise AssertionError(f"floor: version {result.version} after {self._state.version}")
        self._state = result


def _is_there(result: SyncState | None) -> None:
    if result is None:
        raise AssertionError("floor: the session is gone")


def operations(settings: Settings, _: object, stack: ExitStack) -> dict[str, Operation]:
    """`get` and `update`, each with its floor, and `ping`; see `loadtests.turns`."""
    manager = stack.enter_context(RedisStateManager.connect(settings))
    commands = Commands(settings, Layout(settings.namespace, settings.lanes))
    wire = Wire(settings.redis_url)
    stack.callback(wire.close)
    latest = _Latest(commands, manager.create_session(sample_state("floor-update")))
    # The server knows the script once it was sent in full.
    latest.finish(manager.update_session(latest._state))  # noqa: SLF001 - of this file
    manager.create_session(sample_state("floor-get"))
    return {
        "ping": Ping(wire),
        "get": Get(manager, "get"),
        "get_floor": SameBytes(wire, partial(commands.get, "floor-get"), _is_there),
        "update": Update(manager, "update"),
        "update_floor": SameBytes(wire, latest.build, latest.finish),
    }
