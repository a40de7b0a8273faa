"""What one process sends and another one receives: Kairos' two ways, bare redis-py, and python-socketio's manager.

`python -m loadtests.subjects.broadcasts HOW` is the other process. All send the same content, and all end where the
other process has it decoded: Kairos where `receive_messages` or the watch returns it, redis-py where `get_message` did
and its JSON is read, python-socketio where its server hands the packet to the connection of a client in the room.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
import redis
import socketio

from kairos_core import RedisStateManager, Settings
from kairos_core.lifeline import end_with_parent
from kairos_core.session import to_json
from kairos_core.settings import child_environment
from loadtests.delivery import Delivered, Subscriber
from loadtests.orders import Helper
from loadtests.states import sample_state
from loadtests.subjects.kairos import Update

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from loadtests.inside import NotedClock
    from loadtests.interleave import Operation

_ROOM = "session"
_EVENT = "state"
_CLIENT = "client"
_READY_TIMEOUT_S = 10.0
_POLL_S = 0.01


def _channel(settings: Settings) -> str:
    return f"{settings.namespace}:broadcast"


def _is_heard(settings: Settings, channel: str) -> bool:
    with redis.Redis.from_url(settings.redis_url) as client:
        return bool(client.pubsub_numsub(channel)[0][1])


class Receiver(Subscriber):
    """A process that notes when it was given each message: the number in it, and the time."""

    def __init__(self, settings: Settings, how: str) -> None:
        self._helper = Helper("loadtests.subjects.broadcasts", how, environment=child_environment(settings))
        try:
            # That it is ready.
            self._helper.line()
        except BaseException:
            self._helper.close()
            raise


class Broadcast:
    """A message that is over when the other process has it."""

    def __init__(self, send: Callable[[dict[str, Any]], object], receiver: Subscriber, clock: NotedClock) -> None:
        self._send, self._receiver, self._clock = send, receiver, clock
        self._message = {"n": 0, "state": msgspec.json.decode(to_json(sample_state("broadcast")))}

    def prepare(self) -> Callable[[], object]:
        """The call to time, with the wait for its arrival."""
        self._message["n"] += 1
        return self._call

    def _call(self) -> None:
        self._send(self._message)
        number, arrival_s = self._receiver.arrival()
        if number != self._message["n"]:
            raise AssertionError(f"message {number} arrived in place of {self._message['n']}")
        self._clock.note(arrival_s)

    def finish(self, result: object) -> None:
        """Nothing is left to check."""


def operations(settings: Settings, clock: NotedClock, stack: ExitStack) -> dict[str, Operation]:
    """The ways from one process to another, by "delivery/subject"; see `loadtests.turns`."""
    manager = stack.enter_context(RedisStateManager.connect(settings))
    client = stack.enter_context(redis.Redis.from_url(settings.redis_url))
    emitter = socketio.RedisManager(settings.redis_url, channel=f"{_channel(settings)}:sio", write_only=True)

    def publish(message: dict[str, Any]) -> None:
        client.publish(_channel(settings), msgspec.json.encode(message))

    def emit(message: dict[str, Any]) -> None:
        emitter.emit(_EVENT, message, room=_ROOM)

    def broadcast(message: dict[str, Any]) -> None:
        manager.broadcast_to_session("messages", message)

    receivers = {how: stack.enter_context(Receiver(settings, how)) for how in _RECEIVERS}
    # It hears of this namespace's sessions, of which only one is written while it listens.
    watcher = stack.enter_context(Subscriber(settings, "kairos"))
    return {
        "delivery/kairos_broadcast": Broadcast(broadcast, receivers["messages"], clock),
        "delivery/kairos_update": Delivered(Update(manager, "delivered"), watcher, clock),
        "delivery/redis_py_publish": Broadcast(publish, receivers["pubsub"], clock),
        "delivery/socketio_emit": Broadcast(emit, receivers["socketio"], clock),
    }


def _note(number: int) -> None:
    os.write(1, b"%d %.9f\n" % (number, time.monotonic()))


def _receive_messages(settings: Settings) -> None:
    with RedisStateManager.connect(settings) as manager, manager.receive_messages("messages") as messages:
        os.write(1, b"ready\n")
        for message in messages:
            _note(message["n"])


def _receive_published(settings: Settings) -> None:
    with redis.Redis.from_url(settings.redis_url) as client, client.pubsub() as subscription:
        subscription.subscribe(_channel(settings))
        for message in subscription.listen():
            if message["type"] == "subscribe":
                os.write(1, b"ready\n")
            else:
                _note(msgspec.json.decode(message["data"])["n"])


class _Server(socketio.Server):  # type: ignore[misc]  # it ships no types
    """A Socket.IO server whose clients are no connections: it notes what it would give to one."""

    def _send_eio_packet(self, eio_sid: str, eio_pkt: Any) -> None:
        arrival_s = time.monotonic()
        _, message = msgspec.json.decode(eio_pkt.data.lstrip("0123456789"))
        if eio_sid == _CLIENT:
            os.write(1, b"%d %.9f\n" % (message["n"], arrival_s))


def _receive_emitted(settings: Settings) -> None:
    channel = f"{_channel(settings)}:sio"
    manager = socketio.RedisManager(settings.redis_url, channel=channel)
    server = _Server(client_manager=manager, async_mode="threading")
    # It begins to listen when its first client comes.
    manager.enter_room(manager.connect(_CLIENT, "/"), "/", _ROOM)
    if not server.manager_initialized:
        server.manager_initialized = True
        manager.initialize()
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while not _is_heard(settings, channel):
        if time.monotonic() > deadline:
            raise TimeoutError("the Socket.IO server does not listen")
        time.sleep(_POLL_S)
    os.write(1, b"ready\n")
    manager.thread.join()


_RECEIVERS = {"messages": _receive_messages, "pubsub": _receive_published, "socketio": _receive_emitted}


def main() -> None:
    """Print `ready`, then a line per message: its number and the time of its arrival."""
    settings = Settings.from_env()
    end_with_parent()
    _RECEIVERS[sys.argv[1]](settings)


if __name__ == "__main__":
    main()
