"""What a cluster costs and gives: a single server beside three primaries, on the same machine."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from kairos_core import Settings
from kairos_core.errors import ConfigurationError
from kairos_core.settings import LocalSettings
from loadtests.at_once import helpers_of
from loadtests.environment import new_namespace
from loadtests.servers.valkey_helper import LaunchError
from loadtests.servers.valkeys import valkeys
from loadtests.studies.study import OUTBOX_LIMIT, Bench, Point, Study, percentiles_ms
from loadtests.updating import UPDATING, updates_ns

if TYPE_CHECKING:
    from loadtests.servers.valkeys import Cluster, Node

PROCESSES = 4
# Of each process, so that all primaries have some of each: their lanes are spread over the slots.
SESSIONS = 16
OPERATIONS = ("get", "update")
CONCURRENT = "concurrent_update"


class Extent(NamedTuple):
    """How much is measured.

    Attributes:
        repetitions: with fresh processes.
        rounds: timed calls of one process to each store.
        seconds: for which all processes write to each.
        processes: how many these are.
    """

    repetitions: int
    rounds: int
    seconds: float
    processes: int = PROCESSES


class UnevenError(RuntimeError):
    """A primary of the cluster has none of the sessions."""


def measure(bench: Bench) -> list[Point]:
    """Time both on both, and count the updates of several processes."""
    extent = Extent(3, 500, 1.0) if bench.is_quick else Extent(10, 5_000, 5.0)
    bench.note(
        f"The single server and the three primaries (without replicas) are on this machine, and so are the {PROCESSES}"
        " processes: where the cores are all in use, more servers add no updates. What a cluster gives beyond that is"
        " only told by a machine for each."
    )
    bench.note(
        f"Each process reads and updates {SESSIONS} sessions in turn, of which every primary has some. get and update"
        f" are one process's, which calls both stores in turn; {CONCURRENT} is that of {PROCESSES} processes at once."
    )
    try:
        with valkeys(LocalSettings.from_env().folder) as launcher:
            node, cluster = launcher.start(), launcher.cluster(replicas=False)
            return points(bench, node, cluster, extent)
    except (LaunchError, TimeoutError) as error:
        raise ConfigurationError("KAIROS_LOCAL_FOLDER", f"the servers of a cluster: {error}") from error


def points(bench: Bench, node: Node, cluster: Cluster, extent: Extent) -> list[Point]:
    """Time so many calls of each on both stores in turn, then let all processes write to one and to the other.

    Raises:
        OrderError: a process has ended before it was done.
        StartedLateError: the processes did not write at the same time.
        UnevenError: not every primary took part.
    """
    found = []
    stores = {"standalone": node.url, "cluster": cluster.url}
    for repetition in range(1, extent.repetitions + 1):
        settings = Settings(namespace=new_namespace("cluster"), outbox_limit=OUTBOX_LIMIT)
        with ExitStack() as stack:
            # When the processes are gone, so are their traces.
            stack.callback(_remove, (node, *cluster.primaries), settings)
            helpers = helpers_of(UPDATING, extent.processes, settings, stack)
            for number, helper in enumerate(helpers):
                helper.tell("connect", stores=stores, session_id=f"p{number}", durability="memory", sessions=SESSIONS)
            for helper in helpers:
                helper.answer()
            _check_spread(cluster, settings)
            samples: dict[str, list[int]] = helpers[0].ask(
                "take", what=OPERATIONS, rounds=extent.rounds, seed=repetition
            )
            written = {
                name: updates_ns(helpers, name, extent.seconds) for name in list(stores)[:: 1 if repetition % 2 else -1]
            }
        samples |= {f"{name}/{CONCURRENT}": samples_ns for name, samples_ns in written.items()}
        for key, samples_ns in samples.items():
            name, _, what = key.partition("/")
            bench.keep(f"{name}/{what}/{repetition}/call", samples_ns)
            values = percentiles_ms(samples_ns)
            if what == CONCURRENT:
                values |= {"updates_per_s": len(samples_ns) / extent.seconds, "processes": float(extent.processes)}
            found.append(Point(subject=name, x=what, repetition=repetition, values=values))
        by = {(point.subject, point.x): point.values for point in found[-len(samples) :]}
        for name in stores:
            bench.say(
                f"cluster   {name}: get p50 {by[name, 'get']['p50_ms']:.3f} ms, update"
                f" {by[name, 'update']['p50_ms']:.3f}; {extent.processes} processes"
                f" {by[name, CONCURRENT]['updates_per_s']:,.0f} updates/s"
            )
    return found


def _check_spread(cluster: Cluster, settings: Settings) -> None:
    """Raise UnevenError where a primary has no session: then it would only look on."""
    for primary in cluster.primaries:
        with primary.client() as client:
            if not any(client.scan_iter(match=f"{settings.namespace}:*:s:*", count=1_000)):
                raise UnevenError(f"the primary at port {primary.port} has no session")


def _remove(nodes: tuple[Node, ...], settings: Settings) -> None:
    """Remove what waits in the outboxes, which is a copy of every state that was written; the sessions are few."""
    for node in nodes:
        with node.client() as client:
            for outbox in [*client.scan_iter(match=f"{settings.namespace}:*:outbox", count=1_000)]:
                client.unlink(outbox)


CLUSTER = Study(
    name="cluster",
    question="What do get and update take on a cluster of three primaries, beside a single server?",
    axis="what is done",
    measure=measure,
)
