"""Where a call's time goes.

The operation is done again and again, for half of the time as it is and for half under pyinstrument, which looks at the
stack whenever a tenth of a millisecond is over and a function is called or returns, compiled ones included. It needs no
permission that an ordinary user in a container does not have. The profiler takes time of its own, so what is said of
waiting and of the kernel is from the first half, by the system's account of this process.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import resource
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import psycopg.waiting
from pyinstrument import Profiler

from kairos_core import AsyncRedisStateManager, AuditWriter, RedisStateManager
from kairos_core.audit.drain import drain_lane
from kairos_core.audit.outbox import Outbox
from kairos_core.one_line import OneLineParser
from kairos_core.settings import child_environment
from loadtests import ROOT
from loadtests.ending import status_of, unwind_on_termination
from loadtests.environment import harness, new_namespace
from loadtests.flames import Frame, flame_graph
from loadtests.orders import Helper
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kairos_core import Settings, SyncState

FOLDER = ROOT / "reports" / "runs" / "profiles"
OPERATIONS = ("get", "update", "mutate", "delivery", "drain")
INTERVAL_S = 0.0001
WAITING, KERNEL, OURS, HIREDIS, MSGSPEC, LIBRARIES, HARNESS = (
    "waiting for the server",
    "the kernel",
    "our Python",
    "hiredis",
    "msgspec",
    "other libraries",
    "the loop that calls",
)
# On the picture, a system call is one whether it waits or works: no profiler can tell within one.
SYSTEM = "system calls"
COLOURS = {
    SYSTEM: "#9ecae1",
    OURS: "#fdae6b",
    HIREDIS: "#a1d99b",
    MSGSPEC: "#bcbddc",
    LIBRARIES: "#d9d9d9",
    HARNESS: "#f0f0f0",
}
_SYSTEM_CALLS = (
    "socket.send", "socket.sendall", "socket.recv", "socket.recv_into", "poll.poll", "epoll.poll", "select.epoll.poll",
    "select", "lock.acquire", "sleep", "read", "write",
)  # fmt: skip
_HIREDIS = ("Reader.gets", "Reader.feed", "Reader.has_data", "pack_command")
_MSGSPEC = (
    "Encoder.encode", "Encoder.encode_into", "Decoder.decode", "encode", "decode", "convert", "to_builtins", "replace",
)  # fmt: skip
_BUILT_IN = "<built-in>"
# A drain's; each is filled before it.
_ROWS = 1_000
_FEWEST_S = 0.1
_TOP = 12


class Work(NamedTuple):
    """What is profiled.

    Attributes:
        call: does it once; what it returns is awaited where it can be.
        prepare: is called before each of `chunk` calls, and not profiled.
        chunk: how many calls follow each other; 0: as many as there is time for.
    """

    call: Callable[[], Any]
    prepare: Callable[[], object] = lambda: None
    chunk: int = 0


class Profile(NamedTuple):
    """Where the time of an operation goes.

    Attributes:
        name: of the operation, with `-async` where that is its colour.
        calls: how many were made without the profiler.
        call_us: how long one took then, in microseconds, on the average.
        profiled_us: how long one took under the profiler.
        split: the share of what the time was spent on, without the profiler; of Python and its libraries, that of
            their processor time is divided as the profiler saw it.
        top: the functions in which most time was spent themselves, with their share, under the profiler.
        root: all of it, to be drawn.
    """

    name: str
    calls: int
    call_us: float
    profiled_us: float
    split: dict[str, float]
    top: list[tuple[str, float]]
    root: Frame


class _Loop:
    """Does work again and again, and adds up what that took."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.calls = 0
        self.wall_s = self.user_s = self.system_s = 0.0

    def run(self, seconds: float, profiler: Profiler | None = None) -> None:
        """As often as there is time for; under the profiler, where one is given."""
        while self.wall_s < seconds:
            self._work.prepare()
            before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            if profiler is not None:
                profiler.start()
            self.calls += self._calls(start + seconds - self.wall_s)
            if profiler is not None:
                profiler.stop()
            after = resource.getrusage(resource.RUSAGE_SELF)
            self.wall_s += time.perf_counter() - start
            self.user_s += after.ru_utime - before.ru_utime
            self.system_s += after.ru_stime - before.ru_stime

    def _calls(self, deadline: float) -> int:
        call, calls = self._work.call, 0
        while calls < (self._work.chunk or sys.maxsize) and time.perf_counter() < deadline:
            call()
            calls += 1
        return calls


class _AsyncLoop(_Loop):
    """The same on an event loop."""

    def __init__(self, work: Work, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(work)
        self._loop = loop

    def _calls(self, deadline: float) -> int:
        return self._loop.run_until_complete(self._awaited(deadline))

    async def _awaited(self, deadline: float) -> int:
        call, calls = self._work.call, 0
        while calls < (self._work.chunk or sys.maxsize) and time.perf_counter() < deadline:
            await call()
            calls += 1
        return calls


def profile(settings: Settings, operation: str, seconds: float, *, is_async: bool = False) -> Profile:
    """Profile an operation.

    Args:
        settings: where to do it; everything is in a namespace beside theirs.
        operation: one of `OPERATIONS`.
        seconds: how long, half of it without the profiler.
        is_async: through AsyncRedisStateManager; a drain has one colour only.
    """
    name = f"{operation}-async" if is_async else operation
    own = msgspec.structs.replace(settings, namespace=f"{settings.namespace}_{name.replace('-', '_')}", lanes=1)
    with ExitStack() as stack:
        if is_async:
            loop = asyncio.new_event_loop()
            stack.callback(loop.close)
            work = _awaited_work(own, operation, seconds, loop, stack)
            make: Callable[[], _Loop] = partial(_AsyncLoop, work, loop)
        else:
            work = _drain(own, stack) if operation == "drain" else _work(own, operation, seconds, stack)
            make = partial(_Loop, work)
        make().run(min(0.2, seconds / 10))
        plain, profiled = make(), make()
        plain.run(seconds / 2)
        profiler = Profiler(interval=INTERVAL_S, async_mode="disabled")
        profiled.run(seconds / 2, profiler)
    session = profiler.last_session
    if session is None or not plain.calls or not profiled.calls:
        raise RuntimeError(f"{name}: nothing was profiled")
    root, alone, kinds = _told(session.frame_records)
    total_s = sum(alone.values())
    most = sorted(alone.items(), key=lambda found: found[1], reverse=True)[:_TOP]
    return Profile(
        name,
        plain.calls,
        plain.wall_s / plain.calls * 1e6,
        profiled.wall_s / profiled.calls * 1e6,
        _split(plain, kinds),
        [(frame, spent_s / total_s) for frame, spent_s in most],
        root,
    )


def _work(settings: Settings, operation: str, seconds: float, stack: ExitStack) -> Work:
    manager = stack.enter_context(RedisStateManager.connect(settings))
    state = [manager.create_session(sample_state("profiled"))]

    def update() -> None:
        state[0] = manager.update_session(state[0])

    if operation == "get":
        return Work(partial(manager.get_session, "profiled"))
    if operation == "update":
        return Work(update)
    if operation == "mutate":
        return Work(partial(manager.mutate_session, "profiled", _turned))
    watch = stack.enter_context(manager.watch_session("written"))
    _write_beside(settings, seconds, stack)
    return Work(partial(watch.receive, 1.0))


def _awaited_work(
    settings: Settings, operation: str, seconds: float, loop: asyncio.AbstractEventLoop, stack: ExitStack
) -> Work:
    async def connect() -> tuple[AsyncRedisStateManager, SyncState]:
        manager = await AsyncRedisStateManager.connect(settings)
        return manager, await manager.create_session(sample_state("profiled"))

    async def close() -> None:
        manager.close()

    manager, state = loop.run_until_complete(connect())
    stack.callback(lambda: loop.run_until_complete(close()))

    async def update() -> None:
        nonlocal state
        state = await manager.update_session(state)

    if operation == "get":
        return Work(partial(manager.get_session, "profiled"))
    if operation == "update":
        return Work(update)
    if operation == "mutate":
        return Work(partial(manager.mutate_session, "profiled", _turned))
    watch = manager.watch_session("written")
    loop.run_until_complete(watch.__aenter__())
    stack.callback(lambda: loop.run_until_complete(watch.__aexit__()))
    _write_beside(settings, seconds, stack)
    return Work(partial(watch.receive, 1.0))


def _turned(state: SyncState) -> SyncState:
    return state.replace(increment_ms=((state.increment_ms or 0) + 1) % 60_000)


def _write_beside(settings: Settings, seconds: float, stack: ExitStack) -> None:
    """Another process updates a session as fast as it can, for longer than it is looked at."""
    helper = Helper("loadtests.updating", environment=child_environment(settings))
    # It writes for longer, and does not listen while it does.
    stack.callback(helper.close, 0.0)
    helper.ask("connect", stores={settings.durability: settings.redis_url}, session_id="written")
    helper.tell("update", store=settings.durability, start_at=time.monotonic(), seconds=2 * seconds + 5)


def _drain(settings: Settings, stack: ExitStack) -> Work:
    # psycopg's own wait is compiled, and would be taken for work; this one waits in a system call that can be seen.
    stack.callback(setattr, psycopg.waiting, "wait", psycopg.waiting.wait)
    psycopg.waiting.wait = psycopg.waiting.wait_poll
    manager = stack.enter_context(RedisStateManager.connect(settings))
    writer = stack.enter_context(AuditWriter.connect(settings))
    writer.migrate()
    outbox = Outbox.connect(settings)
    stack.callback(outbox.close)
    states = [manager.create_session(sample_state(f"s{number}")) for number in range(100)]

    def fill() -> None:
        for number in range(_ROWS):
            states[number % len(states)] = manager.update_session(states[number % len(states)])

    return Work(lambda: drain_lane(outbox, writer, 0), fill, 1)


def _told(records: Sequence[tuple[list[str], float]]) -> tuple[Frame, dict[str, float], dict[str, float]]:
    """What a profiler saw: as a tree; how long each function took itself; how long each kind took."""
    root = Frame("all", HARNESS)
    alone: dict[str, float] = defaultdict(float)
    kinds: dict[str, float] = defaultdict(float)
    for stack, seconds in records:
        frames = [*_frames(stack)]
        if not frames:
            continue
        root.add(frames, seconds)
        name, kind = frames[-1]
        alone[name] += seconds
        kinds[kind] += seconds
    return root, alone, kinds


def _frames(stack: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Name and kind of each function from the loop on, the outermost first."""
    parts = [identifier.partition("\x01")[0].split("\x00") for identifier in stack]
    first = max((place for place, (name, file, _) in enumerate(parts) if (name, file) in _LOOPS), default=-1)
    kind = HARNESS
    for name, file, line in parts[first + 1 :] if first >= 0 else ():
        kind = _kind(name, file, kind)
        where = "" if file == _BUILT_IN else f" ({'/'.join(Path(file).parts[-2:])}:{line})"
        yield f"{name}{where}", kind


_LOOPS = {("_calls", __file__), ("_awaited", __file__)}


def _kind(name: str, file: str, caller: str) -> str:
    """What a function counts as; a compiled one that is not known is part of what called it."""
    if file == _BUILT_IN:
        known = {SYSTEM: _SYSTEM_CALLS, HIREDIS: _HIREDIS, MSGSPEC: _MSGSPEC}
        return next((kind for kind, names in known.items() if name in names), caller)
    if "/kairos_core/" in file:
        return OURS
    return HARNESS if "/loadtests/" in file else LIBRARIES


def _split(plain: _Loop, kinds: Mapping[str, float]) -> dict[str, float]:
    """The shares of waiting and kernel by the system's account; the rest as the profiler divides it."""
    waiting_s = max(0.0, plain.wall_s - plain.user_s - plain.system_s)
    total_s = waiting_s + plain.user_s + plain.system_s
    worked_s = sum(seconds for kind, seconds in kinds.items() if kind != SYSTEM)
    split = {WAITING: waiting_s / total_s, KERNEL: plain.system_s / total_s}
    for kind in (OURS, HIREDIS, MSGSPEC, LIBRARIES, HARNESS):
        split[kind] = plain.user_s / total_s * (kinds.get(kind, 0.0) / worked_s if worked_s else 0.0)
    return split


def written(found: Profile, folder: Path) -> Path:
    """Write the picture, and beside it what is said of it; the picture's file."""
    folder.mkdir(parents=True, exist_ok=True)
    notes = [
        f"A call takes {found.call_us:,.0f} µs, and {found.profiled_us:,.0f} µs under the profiler, which saw this.",
        "Without it: " + ", ".join(f"{what} {share:.0%}" for what, share in found.split.items()),
    ]
    file = folder / f"{found.name}.svg"
    file.write_text(flame_graph(found.root, f"Kairos: {found.name}", COLOURS, notes), encoding="utf-8")
    file.with_suffix(".txt").write_text(f"{described(found)}\n", encoding="utf-8")
    return file


def described(found: Profile) -> str:
    """Where the time goes, in lines."""
    lines = [
        f"{found.name}: {found.call_us:,.0f} µs a call ({found.profiled_us:,.0f} µs under the profiler)",
        "  what a call's time is spent on without the profiler; waiting and the kernel by the system's account",
        *(f"  {share:7.1%}  {what}" for what, share in found.split.items()),
        "  the functions that take most themselves, under the profiler; a system call may wait or work",
        *(f"  {share:7.1%}  {name}" for name, share in found.top),
    ]
    return "\n".join(lines)


def main() -> int:
    """Run from the command line; status 2 where it could not be done."""
    parser = OneLineParser(prog="python -m loadtests.profiling", description=f"`make profile`: {__doc__}")
    parser.add_argument("--operation", choices=[*OPERATIONS, "all"], default="all", help="what is done (all)")
    parser.add_argument(
        "--seconds", type=_seconds, metavar="S", default=5.0, help="how long each is looked at, in seconds (5)"
    )
    parser.add_argument(
        "--colour", choices=["blocking", "asyncio", "both"], default="both", help="of the manager (both)"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the pictures go")
    options = parser.parse_args()
    unwind_on_termination()
    return status_of(
        lambda: _profile(options),
        interrupted=lambda: "interrupted; servers are removed, and the pictures that were done are there",
    )


def _profile(options: argparse.Namespace) -> int:
    with harness(new_namespace("profile")) as settings:
        for operation in OPERATIONS if options.operation == "all" else [options.operation]:
            for is_async in (False, True):
                if options.colour == ("blocking" if is_async else "asyncio") or (is_async and operation == "drain"):
                    continue
                found = profile(settings, operation, options.seconds, is_async=is_async)
                file = written(found, options.folder)
                print(f"\n{described(found)}\n  {os.path.relpath(file)}", flush=True)
    return 0


def _seconds(text: str) -> float:
    """So long that something can be seen."""
    found = float(text)
    if not _FEWEST_S <= found < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: {_FEWEST_S:g} or more are needed")
    return found


if __name__ == "__main__":
    sys.exit(main())
