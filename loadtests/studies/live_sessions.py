"""What other sessions cost one: get and update with a hundred live sessions up to a million, and a session's memory.

As `loadtests.scale`, which compares two numbers of sessions, this has a plain server for each number, and all are
called in the same rounds. A second server with the least sessions shows how fair the comparison is.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from loadtests.scale import OPERATIONS, Store, compare, filled
from loadtests.studies.study import Bench, Point, Study, percentiles_ms

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

AGAIN = "again"


def measure(bench: Bench) -> list[Point]:
    """Fill the servers, and time the calls on each."""
    counts, repetitions, rounds = (
        ((100, 1_000, 10_000, 100_000), 3, 200)
        if bench.is_quick
        else ((100, 1_000, 10_000, 100_000, 1_000_000), 10, 1_000)
    )
    bench.note(
        f"Each number of sessions has a server of its own. {AGAIN} is one more with {counts[0]}: what it differs by"
        " from kairos is the measurement's own. An update is of a session that was drawn at random and not read before."
    )
    bench.note(
        "memory_bytes_per_session is all that the server's memory grew by, over the sessions: where these are few, most"
        " of it is what all of them share, such as scripts, the lanes' own keys and the client's buffers."
    )
    with stores_of(counts, bench) as stores:
        return points(bench, stores, repetitions, rounds)


@contextmanager
def stores_of(counts: Sequence[int], bench: Bench) -> Iterator[dict[str, Store]]:
    """A store for each number of sessions, by that number, and one more for the first.

    Raises:
        ConfigurationError: they could not be started, or certainly do not fit into memory.
    """
    by_name = {str(count): count for count in counts} | {AGAIN: counts[0]}
    with filled(by_name, bench.say, "--profile") as stores:
        yield stores


def points(bench: Bench, stores: Mapping[str, Store], repetitions: int, rounds: int) -> list[Point]:
    """Time so many rounds of both operations on all stores, in each repetition in a fresh process.

    Raises:
        CalledProcessError: a process has ended before it was done.
    """
    found = []
    for repetition, samples in enumerate(compare(dict(stores), repetitions, rounds, bench.say), start=1):
        for name, store in stores.items():
            subject = AGAIN if name == AGAIN else "kairos"
            values = {"memory_bytes_per_session": store.bytes_each}
            for operation in OPERATIONS:
                what = operation.removesuffix("_session")
                samples_ns = samples[operation][name]
                bench.keep(f"{subject}/{store.sessions}/{repetition}/{what}", samples_ns)
                seen = percentiles_ms(samples_ns)
                values["count"] = seen.pop("count")
                values |= {f"{what}_{part}": value for part, value in seen.items()}
            found.append(Point(subject=subject, x=store.sessions, repetition=repetition, values=values))
            bench.say(
                f"live_sessions {store.sessions:,} {subject}: get p50 {values['get_p50_ms']:.3f} ms, update"
                f" {values['update_p50_ms']:.3f}, {store.bytes_each:,.0f} bytes a session"
            )
    return found


LIVE_SESSIONS = Study(
    name="live_sessions",
    question="Do get and update take longer the more sessions there are, and what memory does a session take?",
    axis="live sessions",
    measure=measure,
)
