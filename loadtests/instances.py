"""Instances: processes with a manager of their own, told over a pipe what to do.

`python -m loadtests.instances [MUTANT]` reads a JSON object per line (`do`, and the arguments) and answers each with
one. Processes, not threads: what is checked is what holds between the instances of a service.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from kairos_core import RedisStateManager, SessionNotFound, Settings, VersionConflict
from kairos_core.settings import child_environment
from loadtests.states import sample_state

if TYPE_CHECKING:
    from kairos_core import SyncState
    from kairos_core.watches import SessionWatch


ANSWER_TIMEOUT_S = 120.0


class Instance:
    """A handle to an instance in another process."""

    def __init__(self, settings: Settings, mutant: str | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtests.instances", *([mutant] if mutant else [])],
            env=child_environment(settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def tell(self, do: str, **arguments: Any) -> None:
        """Send an order without waiting for its answer."""
        if self._process.stdin is None:
            raise AssertionError("the instance has no standard input")
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The answer to the oldest order that has none yet; an instance that takes too long is killed."""
        if self._process.stdout is None:
            raise AssertionError("the instance has no standard output")
        watchdog = threading.Timer(ANSWER_TIMEOUT_S, self._process.kill)
        watchdog.start()
        line = self._process.stdout.readline()
        watchdog.cancel()
        if not line:
            raise RuntimeError(f"an instance ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send an order and wait for its answer."""
        self.tell(do, **arguments)
        return self.answer()


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
        actor = _Actor(manager)
        for line in sys.stdin:
            order = json.loads(line)
            print(json.dumps(getattr(actor, order.pop("do"))(**order)), flush=True)


if __name__ == "__main__":
    main()
