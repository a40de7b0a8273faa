"""What TLS costs: get, update and new connections, with it and without, to the same server.

The embedded server has no TLS, so another process ends it before the server, as is done where a server is not to be
bothered with it. The same process forwards connections without TLS: what these take more than direct ones is the
detour, and what those with TLS take more than these is TLS, at both of its ends.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from kairos_core import Settings
from kairos_core.errors import ConfigurationError
from kairos_core.settings import LocalSettings
from loadtests.at_once import helpers_of
from loadtests.environment import new_namespace
from loadtests.servers.terminator import terminator
from loadtests.servers.valkey_helper import LaunchError
from loadtests.servers.valkeys import valkeys
from loadtests.studies.study import Bench, Point, Study, percentiles_ms
from loadtests.temporary import temporary_folder
from loadtests.updating import UPDATING

if TYPE_CHECKING:
    from pathlib import Path

SUBJECTS = ("direct", "plain", "tls")
CALLS = ("get", "update")
CONNECTIONS = ("connect", "connection")
# Of connections, which are all made anew.
_WARMUP = 2


class Extent(NamedTuple):
    """How much is measured.

    Attributes:
        repetitions: with fresh processes.
        rounds: timed calls of each on each way.
        connections: that are made of each on each way.
    """

    repetitions: int
    rounds: int
    connections: int


def measure(bench: Bench) -> list[Point]:
    """Time calls and connections on each way to the server."""
    extent = Extent(3, 400, 60) if bench.is_quick else Extent(10, 5_000, 300)
    bench.note(
        "The embedded server speaks no TLS: it ends in a process of the harness before it. plain goes through that"
        " process, too, and direct does not: compare tls with plain. The process is written in Python: what it takes of"
        " the time of TLS is more than a server that speaks it would."
    )
    bench.note(
        "connection is one of redis-py: the handshakes of TCP and TLS, and the login. connect is"
        " RedisStateManager.connect, which besides asks the server whether it is fit. For each connection with TLS,"
        " redis-py makes a context anew, and reads all authorities that the system trusts: that is in both."
    )
    local = LocalSettings.from_env().folder
    try:
        with valkeys(local) as launcher, temporary_folder("tls", local) as folder:
            return points(bench, launcher.start().url, folder, extent)
    except LaunchError as error:
        raise ConfigurationError("KAIROS_LOCAL_FOLDER", f"the server for TLS: {error}") from error


def points(bench: Bench, url: str, folder: Path, extent: Extent) -> list[Point]:
    """Time so many calls of each on each way in turn, and so many connections, in each repetition anew.

    Raises:
        OrderError: a process has ended before it was done.
    """
    found = []
    for repetition in range(1, extent.repetitions + 1):
        settings = Settings(namespace=new_namespace("tls"))
        with ExitStack() as stack:
            stores = {"direct": url} | stack.enter_context(terminator(url, folder))
            (helper,) = helpers_of(UPDATING, 1, settings, stack)
            for name, address in stores.items():
                # Each has sessions of its own: all are on the same server.
                helper.ask("connect", stores={name: address}, session_id=name, durability="memory")
            samples: dict[str, list[int]] = helper.ask("take", what=CALLS, rounds=extent.rounds, seed=repetition)
            samples |= helper.ask(
                "take", what=CONNECTIONS, rounds=extent.connections, seed=repetition, warmup_rounds=_WARMUP
            )
        for key, samples_ns in samples.items():
            subject, _, what = key.partition("/")
            bench.keep(f"{subject}/{what}/{repetition}/call", samples_ns)
            found.append(Point(subject=subject, x=what, repetition=repetition, values=percentiles_ms(samples_ns)))
        p50 = {(point.subject, point.x): point.values["p50_ms"] for point in found[-len(samples) :]}
        for what in (*CALLS, *CONNECTIONS):
            bench.say(
                f"tls       {what}: p50 {p50['direct', what]:.3f} ms direct, {p50['plain', what]:.3f} through the"
                f" process, {p50['tls', what]:.3f} with TLS"
            )
    return found


TLS = Study(
    name="tls",
    question="What does TLS cost: a get, an update, and a connection?",
    axis="what is done",
    measure=measure,
)
