"""A process that updates sessions of its own as often as it can: `python -m loadtests.throughput` takes orders.

It does so through Kairos, through bare redis-py with the same script and words, and with many commands on their way at
once over a raw connection.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import hiredis
import msgspec
import redis

from kairos_core import RedisStateManager, Settings
from kairos_core.commands import Commands, new_operation_id
from kairos_core.layout import Layout
from loadtests.at_once import wait_until_then
from loadtests.orders import serve
from loadtests.states import sample_state
from loadtests.subjects.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core import SyncState

# Commands on their way at once, each for another session.
PIPELINE = 100
_WARMUP = 20
_pack: Any = hiredis.pack_command  # its stub wants exactly one word


class Words:
    """The words of an update, of which only what must differ is made anew: operation id, receipt's key and version."""

    def __init__(self, settings: Settings, layout: Layout, state: SyncState) -> None:
        command = Commands(settings, layout).update(state, "updated")
        self._words: list[str | bytes] = [*command.words]
        keys = layout.keys_of(state.session_id)
        self._lane, self._prefix = keys.lane, layout.receipt(keys.lane, "")
        assert command.operation_id is not None  # noqa: S101 - of a write
        made = layout.receipt(keys.lane, command.operation_id), command.operation_id
        self._receipt, self._id = (self._words.index(word.encode()) for word in made)
        self.version = state.version

    def made(self) -> list[str | bytes]:
        """The words of the next update; the same list each time."""
        operation_id = new_operation_id(self._lane)
        words = self._words
        words[self._receipt], words[self._id], words[-1] = self._prefix + operation_id, operation_id, str(self.version)
        return words

    def check(self, reply: Any) -> None:
        """Go on from what was answered."""
        if reply[0] != 0 or reply[2] != self.version + 1:
            raise AssertionError(f"an update of version {self.version} was answered {reply}")
        self.version += 1


def _turn_passed(state: SyncState) -> SyncState:
    """The state once a turn has passed, as in a game: another participant's clock runs, and nothing else is new."""
    return state.replace(
        participants=tuple(
            msgspec.structs.replace(one, is_active=not one.is_active, cycle_count=one.cycle_count + 1)
            for one in state.participants
        )
    )


class _Actor:
    """What such a process can do; each public method is an order."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self._settings, self._stack = settings, stack
        self._layout = Layout(settings.namespace, settings.lanes)
        self._steps: dict[str, Callable[[], int]] = {}

    def connect(self, number: int, run: str) -> dict[str, Any]:
        """Connect to the store in each of the ways, and make the sessions; the names of both are in their ids."""
        manager = self._stack.enter_context(RedisStateManager.connect(self._settings))
        self._steps = {
            "kairos": self._through_kairos(manager, f"{run}-kairos-{number}", lambda state: state),
            "kairos_changed": self._through_kairos(manager, f"{run}-changed-{number}", _turn_passed),
            "bare": self._through_redis_py(manager, f"{run}-bare-{number}"),
            "ceiling": self._through_a_pipeline(manager, f"{run}-ceiling-{number}"),
        }
        for name, step in self._steps.items():
            for _ in range(_WARMUP if name != "ceiling" else 1):
                step()
        return {"connected": len(self._steps)}

    @staticmethod
    def _through_kairos(
        manager: RedisStateManager, session_id: str, changed: Callable[[SyncState], SyncState]
    ) -> Callable[[], int]:
        state = manager.create_session(sample_state(session_id))

        def step() -> int:
            nonlocal state
            version = state.version
            state = manager.update_session(changed(state))
            if state.version != version + 1:
                raise AssertionError(f"update_session: version {state.version} after {version}")
            return 1

        return step

    def _words(self, manager: RedisStateManager, session_id: str) -> Words:
        return Words(self._settings, self._layout, manager.create_session(sample_state(session_id)))

    def _through_redis_py(self, manager: RedisStateManager, session_id: str) -> Callable[[], int]:
        client = redis.Redis.from_url(self._settings.redis_url)
        self._stack.callback(client.close)
        words = self._words(manager, session_id)
        evalsha: Any = client.evalsha

        def step() -> int:
            words.check(evalsha(*words.made()[1:]))
            return 1

        return step

    def _through_a_pipeline(self, manager: RedisStateManager, prefix: str) -> Callable[[], int]:
        wire = Wire(self._settings.redis_url)
        self._stack.callback(wire.close)
        many = [self._words(manager, f"{prefix}-{number}") for number in range(PIPELINE)]

        def step() -> int:
            wire.send(b"".join([_pack(tuple(words.made())) for words in many]))
            replies: list[Any] = []
            while len(replies) < PIPELINE:
                replies += (wire.parse(wire.receive()), *wire.parse_rest())
            for words, reply in zip(many, replies, strict=True):
                words.check(reply)
            return PIPELINE

        return step

    def update(self, subject: str, start_at: float, seconds: float) -> dict[str, float]:
        """Update for so long from then on (`time.monotonic`); how often, and the seconds of processor time."""
        step = self._steps[subject]
        late_s = wait_until_then(start_at)
        end_at, spent_s, count = start_at + seconds, time.process_time(), 0
        while time.monotonic() < end_at:
            count += step()
        return {
            "count": count,
            "took_s": time.monotonic() - start_at,
            "cpu_s": time.process_time() - spent_s,
            "late_s": late_s,
        }


def main() -> None:
    """Serve orders until standard input closes."""
    with ExitStack() as stack:
        serve(_Actor(Settings.from_env(), stack))


if __name__ == "__main__":
    main()
