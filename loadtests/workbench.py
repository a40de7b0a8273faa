"""What the benchmarks time: each operation of the managers, and its companions.

Written once for both managers: on `AsyncWorkbench` what is timed is awaited, and timed from inside its event loop.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

import redis
import redis.asyncio

from kairos_core import AsyncRedisStateManager, RedisStateManager, Settings, SyncState
from kairos_core.commands import Command, Commands
from kairos_core.layout import Layout
from loadtests.inside import Inside
from loadtests.interleave import Operation, Slowed, SlowedAwaited, interleave
from loadtests.states import sample_state
from loadtests.subjects import bare, kairos, rivals, wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtests.inside import NotedClock
    from loadtests.interleave import Fixture, Much
    from loadtests.subjects.stored import Rival

# Sessions of one `get_sessions`.
MANY = 10


class Compared(NamedTuple):
    """An operation and what is timed beside it.

    Attributes:
        operation: of Kairos.
        companions: by name, as `loadtests.benchmarks` has them.
    """

    operation: Operation
    companions: dict[str, Operation]


# How a command of Kairos is made, and who hears what Kairos would have returned.
Recipe: TypeAlias = "tuple[Callable[[], Command[Any]], Callable[[Any], None]]"


class Workbench:
    """A manager, a raw connection, redis-py and the rivals, on one store and in one namespace.

    Attributes:
        settings: of the namespace.
        manager: prepares what is not timed.
        timed: the manager whose calls are timed.
        client: the redis-py client whose calls are timed.

    Args:
        settings: of the namespace.
        clock: what pytest-benchmark reads.
    """

    timed: Any
    client: Any

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.perf_counter) -> None:
        self.settings = settings
        self._clock = clock
        self.manager = RedisStateManager.connect(settings)
        self.layout = Layout(settings.namespace, settings.lanes)
        self.commands = Commands(settings, self.layout)
        self.wire = wire.Wire(settings.redis_url)
        self._blocking = redis.Redis.from_url(settings.redis_url)
        self._rivals: dict[str, Rival] = {}
        self._connect()
        # The server must know the scripts before their SHAs are sent raw.
        state = self.manager.create_session(sample_state("warm"))
        self.manager.update_session(state)
        self.manager.delete_session("warm")
        self.manager.resolve(self._applied("warm"))

    def _connect(self) -> None:
        self.timed, self.client = self.manager, self._blocking

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        for rival in self._rivals.values():
            rival.close()
        self._blocking.close()
        self.wire.close()
        self.manager.close()

    def interleave(self, benchmark: Fixture, compared: Compared, much: Much) -> None:
        """Time an operation and its companions."""
        interleave(benchmark, compared.operation, compared.companions, clock=self._clock, **much._asdict())

    def inside(self, operation: Operation) -> Operation:
        """An operation of `timed` or `client`, so that it can be called."""
        return operation

    def slowed(self, operation: Operation) -> Operation:
        """The same, with a known delay."""
        return Slowed(operation)

    def get_session(self) -> Compared:
        """`get_session`, the same HMGET, and a PING."""
        found = self._compared("get", kairos.Get, self._get)
        found.companions["slowed"] = self.slowed(kairos.Get(self.manager, "get-slowed", self.timed))
        return self._with_rivals(found, lambda rival: rivals.Get(rival, "get"), "check_then_set")

    def ping(self) -> Operation:
        """PING over the raw connection."""
        return wire.Ping(self.wire)

    def update_session(self) -> Compared:
        """`update_session`, and the same EVALSHA."""
        found = self._compared("update", kairos.Update, self._update)
        found.companions["slowed"] = self.slowed(kairos.Update(self.manager, "update-slowed", self.timed))
        return self._with_rivals(found, lambda rival: rivals.Update(rival, "update"))

    def create_session(self) -> Compared:
        """`create_session`, and the same EVALSHA."""
        found = self._compared("create", kairos.Create, self._create)
        return self._with_rivals(found, lambda rival: rivals.Create(rival, "create"))

    def delete_session(self) -> Compared:
        """`delete_session`, and the same EVALSHA."""
        found = self._compared("delete", kairos.Delete, self._delete)
        return self._with_rivals(found, lambda rival: rivals.Delete(rival, "delete"))

    def delete_if_unchanged(self) -> Compared:
        """`delete_session` of one version, and the same EVALSHA."""

        def delete(manager: RedisStateManager, prefix: str, timed: Any) -> kairos.Delete:
            return kairos.Delete(manager, prefix, timed, if_unchanged=True)

        found = self._compared("delete-if", delete, self._delete_if_unchanged)
        return self._with_rivals(found, lambda rival: rivals.Delete(rival, "delete-if", if_unchanged=True))

    def get_sessions(self) -> Compared:
        """`get_sessions` of ten, and the same HMGETs in a pipeline."""

        def ids(name: str) -> list[str]:
            return [f"many-{name}-{number}" for number in range(MANY)]

        def commands(name: str) -> list[Command[Any]]:
            for session_id in ids(name):
                self.manager.create_session(sample_state(session_id))
            return [self.commands.get(session_id) for session_id in ids(name)]

        return Compared(
            self.inside(kairos.GetMany(self.manager, ids("own"), self.timed)),
            {
                "floor": wire.SameBytesOfMany(self.wire, commands("floor")),
                "bare": self.inside(bare.SameMany(self.client, commands("bare"))),
                "again": self.inside(kairos.GetMany(self.manager, ids("again"), self.timed)),
            },
        )

    def mutate_session(self) -> Compared:
        """`mutate_session` that nobody else disturbs; the same HMGET and EVALSHA."""

        def parts(name: str) -> tuple[Command[Any], Callable[[Any], Command[Any]], SyncState]:
            state = self.manager.create_session(sample_state(name))
            return (
                self.commands.get(name),
                lambda latest: self.commands.update(kairos.one_turn_on(latest), "updated"),
                state,
            )

        found = Compared(
            self.inside(kairos.Mutate(self.manager, "mutate", self.timed)),
            {
                "floor": wire.SameBytesOfMutate(self.wire, *parts("mutate-floor")),
                "bare": self.inside(self._bare_mutate(self.client, *parts("mutate-bare"))),
                "again": self.inside(kairos.Mutate(self.manager, "mutate-again", self.timed)),
            },
        )
        return self._with_rivals(found, lambda rival: rivals.Update(rival, "mutate", compares=False))

    _bare_mutate: type[bare.Mutate] = bare.Mutate

    def touch_session(self) -> Compared:
        """`touch_session`, and the same PEXPIRE."""
        found = self._compared("touch", kairos.Touch, self._touch)
        return self._with_rivals(found, lambda rival: rivals.Touch(rival, "touch"), "check_then_set")

    def resolve(self) -> Compared:
        """`resolve` of a write that was applied, and the same EVALSHA."""

        def resolve(_: RedisStateManager, name: str, timed: Any) -> kairos.Resolve:
            return kairos.Resolve(timed, self._applied(name))

        return self._compared("resolve", resolve, self._resolve)

    def broadcast(self) -> Compared:
        """`broadcast_to_session` that nobody hears, and the same PUBLISH."""

        def broadcast(_: RedisStateManager, name: str, timed: Any) -> kairos.Broadcast:
            return kairos.Broadcast(timed, name)

        def recipe(name: str) -> Recipe:
            return lambda: self.commands.broadcast(name, kairos.MESSAGE), _expect(0)

        return self._compared("broadcast", broadcast, recipe)

    def watch_setup(self) -> Compared:
        """Entering `watch_session`; a connection and a SUBSCRIBE."""
        channel = self.layout.keys_of("watch-bare").session_channel
        return Compared(
            self.inside(self._watch("watch")),
            {
                "floor": wire.Subscribe(self.settings.redis_url, channel),
                "bare": self.inside(self._bare_subscribe(channel)),
                "again": self.inside(self._watch("watch-again")),
            },
        )

    def _watch(self, session_id: str) -> Operation:
        return kairos.WatchSetUp(self.manager, session_id)

    def _bare_subscribe(self, channel: str) -> Operation:
        return bare.Subscribe(redis.Redis.from_url(self.settings.redis_url), channel)

    def health(self) -> Compared:
        """`health`, and the same questions."""
        return Compared(
            self.inside(kairos.HealthAsked(self.timed)),
            {
                "bare": self.inside(self._bare_health(self.client, self.layout)),
                "again": self.inside(kairos.HealthAsked(self.timed)),
            },
        )

    _bare_health: type[bare.Health] = bare.Health

    def same_update(self, session_id: str) -> wire.SameBytes:
        """An update's bytes over the raw connection."""
        return wire.SameBytes(self.wire, *self._update(session_id))

    def same_message(self, session_id: str) -> wire.SameBytes:
        """A numbered message's bytes over the raw connection, the first of which is sent at once."""
        found = wire.SameBytes(self.wire, *self._message(session_id))
        found.finish(found.prepare()())
        return found

    def bare_message(self, session_id: str) -> bare.Same:
        """A numbered message through redis-py, the first of which is sent at once."""
        build, finish = self._message(session_id)
        finish(self._blocking.publish(*build().words[1:]))
        return bare.Same(self.client, build, finish)

    def bare_update(self, session_id: str) -> bare.PublishUpdate:
        """PUBLISH of an update's bytes through redis-py, the first of which is sent at once."""
        return bare.PublishUpdate(self._blocking, self.client, self.layout, session_id)

    def _compared(
        self, name: str, make: Callable[[RedisStateManager, str, Any], Operation], recipe: Callable[[str], Recipe]
    ) -> Compared:
        """An operation that is one command: itself twice, its bytes, and its command through redis-py."""
        return Compared(
            self.inside(make(self.manager, name, self.timed)),
            {
                "floor": wire.SameBytes(self.wire, *recipe(f"{name}-floor")),
                "bare": self.inside(bare.Same(self.client, *recipe(f"{name}-bare"))),
                "again": self.inside(make(self.manager, f"{name}-again", self.timed)),
            },
        )

    def _with_rivals(self, found: Compared, make: Callable[[Rival], Operation], *names: str) -> Compared:
        for name in names or rivals.RIVALS:
            if name not in self._rivals:
                own = Settings(redis_url=self.settings.redis_url, namespace=f"{self.settings.namespace}_{name}")
                self._rivals[name] = rivals.RIVALS[name](own)
            found.companions[name] = make(self._rivals[name])
        return found

    def _get(self, session_id: str) -> Recipe:
        self.manager.create_session(sample_state(session_id))
        return lambda: self.commands.get(session_id), _expect_state

    def _update(self, session_id: str) -> Recipe:
        latest = [self.manager.create_session(sample_state(session_id))]

        def keep(state: SyncState) -> None:
            latest[0] = state

        return lambda: self.commands.update(latest[0], "updated"), keep

    def _create(self, prefix: str) -> Recipe:
        numbers = iter(range(10**9))
        return lambda: self.commands.create(sample_state(f"{prefix}-{next(numbers)}"), "created"), _expect_state

    def _delete(self, prefix: str) -> Recipe:
        create = kairos.Create(self.manager, prefix)
        return lambda: self.commands.delete(create.prepare()().session_id, None, "deleted"), _expect(True)

    def _delete_if_unchanged(self, prefix: str) -> Recipe:
        create = kairos.Create(self.manager, prefix)

        def build() -> Command[bool]:
            state: SyncState = create.prepare()()
            return self.commands.delete(state.session_id, state.stamp, "deleted")

        return build, _expect(True)

    def _touch(self, session_id: str) -> Recipe:
        self.manager.create_session(sample_state(session_id))
        return lambda: self.commands.touch(session_id), _expect(True)

    def _resolve(self, session_id: str) -> Recipe:
        operation_id = self._applied(session_id)
        return lambda: self.commands.resolve(operation_id), _expect(True)

    def _message(self, session_id: str) -> Recipe:
        numbers = iter(range(1, 10**9))

        def build() -> Command[int]:
            return self.commands.broadcast(session_id, {**kairos.MESSAGE, "number": next(numbers)})

        return build, _expect(1)

    def _applied(self, session_id: str) -> str:
        """The operation id of a write that was applied."""
        command = self.commands.create(sample_state(f"{session_id}-applied"), "created")
        command.read(self._blocking.execute_command(*command.words))
        return command.operation_id or ""


class AsyncWorkbench(Workbench):
    """The same of AsyncRedisStateManager and redis.asyncio, on an event loop that runs only while they are called.

    Attributes:
        loop: the loop.
    """

    def __init__(self, settings: Settings, clock: NotedClock) -> None:
        self._noted = clock
        super().__init__(settings, clock)

    def _connect(self) -> None:
        self.loop = asyncio.new_event_loop()

        async def connected() -> tuple[Any, Any]:
            timed = await AsyncRedisStateManager.connect(self.settings)
            return timed, redis.asyncio.Redis.from_url(self.settings.redis_url)

        self.timed, self.client = self.loop.run_until_complete(connected())

    def close(self) -> None:
        """Close the connections, and the loop."""

        async def closed() -> None:
            self.timed.close()
            await self.client.aclose()

        self.loop.run_until_complete(closed())
        self.loop.close()
        super().close()

    def inside(self, operation: Operation) -> Operation:
        """See `Workbench`."""
        return Inside(self.loop, self._noted, operation)

    def slowed(self, operation: Operation) -> Operation:
        """See `Workbench`."""
        return self.inside(SlowedAwaited(operation))

    def _watch(self, session_id: str) -> Operation:
        return kairos.AwaitedWatchSetUp(self.manager, session_id, self.timed)

    def _bare_subscribe(self, channel: str) -> Operation:
        return bare.AwaitedSubscribe(
            redis.asyncio.Redis.from_url(self.settings.redis_url), channel, self.loop.run_until_complete
        )

    # The rivals are blocking ones.
    def _with_rivals(self, found: Compared, make: Callable[[Rival], Operation], *names: str) -> Compared:
        del make, names
        return found

    _bare_health = bare.AwaitedHealth
    _bare_mutate = bare.AwaitedMutate


def _expect_state(state: object) -> None:
    if state is None:
        raise AssertionError("a state was expected, and there is none")


def _expect(wanted: object) -> Callable[[object], None]:
    def check(found: object) -> None:
        if found != wanted:
            raise AssertionError(f"{wanted!r} was expected, and there is {found!r}")

    return check
