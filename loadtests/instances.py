"""Instances: processes with a manager of their own, which are told what to do.

`python -m loadtests.instances [MUTANT]` takes orders (see `orders.py`). Processes, not threads: what is checked is what
holds between the instances of a service.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import msgspec

from kairos_core import (
    KairosError,
    RedisStateManager,
    SessionNotFound,
    Settings,
    SyncState,
    VersionConflict,
)
from kairos_core.session import to_json
from kairos_core.settings import child_environment
from loadtests.orders import Helper, serve
from loadtests.states import sample_state

if TYPE_CHECKING:
    from kairos_core.watches import SessionWatch

ANSWER_TIMEOUT_S = 120.0
_END_TIMEOUT_S = 10.0


class Instance:
    """A handle to an instance in another process."""

    def __init__(self, settings: Settings, mutant: str | None = None) -> None:
        arguments = [mutant] if mutant else []
        self._helper = Helper("loadtests.instances", *arguments, environment=child_environment(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._helper.close(_END_TIMEOUT_S)

    def tell(self, do: str, **arguments: Any) -> None:
        """Send an order without waiting for its answer."""
        self._helper.tell(do, **arguments)

    def answer(self) -> dict[str, Any]:
        """The answer to the oldest order that has none yet; an instance that takes too long is killed.

        Raises:
            OrderError: it has ended.
        """
        watchdog = threading.Timer(ANSWER_TIMEOUT_S, self._helper.process.kill)
        watchdog.start()
        try:
            return self._helper.answer()
        finally:
            watchdog.cancel()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send an order and wait for its answer."""
        self.tell(do, **arguments)
        return self.answer()


class RemoteManager:
    """A part of RedisStateManager's methods, each performed by an instance in another process."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def _perform(self, name: str, session_id: str, state: SyncState | None = None) -> Any:
        text = None if state is None else to_json(state).decode()
        answer = self._instance.ask("perform", name=name, session_id=session_id, state=text)
        if "error" in answer:
            raise RemoteError(answer["error"])
        result = answer["result"]
        return msgspec.json.decode(result, type=SyncState) if isinstance(result, str) else result

    def create_session(self, state: SyncState) -> Any:
        """As `RedisStateManager.create_session`; errors are RemoteErrors."""
        return self._perform("create_session", state.session_id, state)

    def get_session(self, session_id: str) -> Any:
        """As `RedisStateManager.get_session`."""
        return self._perform("get_session", session_id)

    def update_session(self, state: SyncState) -> Any:
        """As `RedisStateManager.update_session`."""
        return self._perform("update_session", state.session_id, state)

    def delete_session(self, session_id: str, *, if_unchanged: SyncState | None = None) -> Any:
        """As `RedisStateManager.delete_session`."""
        return self._perform("delete_session", session_id, if_unchanged)

    def touch_session(self, session_id: str) -> Any:
        """As `RedisStateManager.touch_session`."""
        return self._perform("touch_session", session_id)


class RemoteError(Exception):
    """What another process's manager raised.

    Attributes:
        name: the name of its type.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)


class _Actor:
    """What an instance can do; each method is an order."""

    def __init__(self, manager: RedisStateManager) -> None:
        self._manager = manager
        self._watch: SessionWatch | None = None
        self._held: dict[str, SyncState] = {}

    def create(self, session_id: str) -> dict[str, Any]:
        return _facts(self._manager.create_session(sample_state(session_id)))

    def get(self, session_id: str) -> dict[str, Any]:
        """Read a session, and hold what was read."""
        state = self._manager.get_session(session_id)
        if state is None:
            return {"found": False}
        self._held[session_id] = state
        return _facts(state)

    def update(self, session_id: str, title: str) -> dict[str, Any]:
        """Write a title, derived from the state that is held."""
        held = self._held[session_id]
        try:
            state = self._manager.update_session(held.replace(metadata={**held.metadata, "title": title}))
        except VersionConflict as error:
            return {"conflict": True, "stored_version": error.current.version}
        self._held[session_id] = state
        return {"conflict": False, **_facts(state)}

    def perform(self, name: str, session_id: str, state: str | None = None) -> dict[str, Any]:
        """Call a method of the manager: with the state, given as its whole JSON, or else with the session's id."""
        given = None if state is None else msgspec.json.decode(state, type=SyncState)
        method = getattr(self._manager, name)
        try:
            if name == "delete_session":
                result = method(session_id, if_unchanged=given)
            else:
                result = method(session_id if given is None else given)
        except KairosError as error:
            return {"error": type(error).__name__}
        return {"result": to_json(result).decode() if isinstance(result, SyncState) else result}

    def watch(self) -> dict[str, Any]:
        self._watch = self._manager.watch_sessions().__enter__()
        return {"watching": True}

    def receive(self, timeout_s: float) -> dict[str, Any]:
        """Wait for an update that another instance made."""
        update = self._watch.receive(timeout_s) if self._watch else None
        if update is None:
            return {"received": False}
        facts = _facts(update.state) if update.state else {}
        return {"received": True, "event_type": update.event_type, **facts}

    def increment(self, session_id: str, times: int, start_at: float) -> dict[str, Any]:
        """Add one to the session's counter, `times` times, through get and update with a retry on conflict."""
        while time.monotonic() < start_at:
            time.sleep(0.001)
        acknowledged = conflicts = 0
        while acknowledged < times:
            state = self._manager.get_session(session_id)
            if state is None:
                raise SessionNotFound(session_id)
            turns = state.metadata["turns"] + 1
            try:
                self._manager.update_session(state.replace(metadata={**state.metadata, "turns": turns}))
            except VersionConflict:
                conflicts += 1
            else:
                acknowledged += 1
        return {"acknowledged": acknowledged, "conflicts": conflicts}


def _facts(state: SyncState) -> dict[str, Any]:
    return {"found": True, "version": state.version, "incarnation": state.incarnation, **state.metadata}


def main() -> None:
    """Serve orders until standard input closes."""
    if len(sys.argv) > 1:
        from loadtests import mutants  # noqa: PLC0415 - only a broken instance needs them

        mutants.apply(sys.argv[1])
    with RedisStateManager.connect(Settings.from_env()) as manager:
        serve(_Actor(manager))


if __name__ == "__main__":
    main()
