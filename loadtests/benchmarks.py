"""The benchmarks that there are, and what is timed beside each: the one list that the harness and the judge have.

A benchmark that raised is missing from pytest-benchmark's result without a word. So what has to be there is said here.
"""

from __future__ import annotations

from typing import NamedTuple

# What each is compared with:
#   floor           the same bytes over a raw socket
#   bare            the same command through redis-py (of the asynchronous ones: redis.asyncio)
#   again           the operation itself, once more
#   slowed          the operation with a known delay: what a regression of that size looks like
#   ping            PING over a raw socket
#   check_then_set, watch_multi, lock    what one would write without Kairos; where all do the same, the first of them
_RIVALS = ("check_then_set", "watch_multi", "lock")


class Benchmark(NamedTuple):
    """One benchmark.

    Attributes:
        file: in `tests/benchmarks`, without its ending.
        companions: what is timed beside it in the same rounds.
        in_report: whether `make report` measures it.
    """

    file: str
    companions: tuple[str, ...]
    in_report: bool = False

    @property
    def is_gated(self) -> bool:
        """Whether it is one of those that `make bench` measures and compares with its baseline."""
        return "again" in self.companions


DRAIN = "drain"
DURABILITY = "durability"
BENCHMARKS = {
    "get_session": Benchmark(
        "test_latency", ("floor", "bare", "again", "slowed", "ping", "check_then_set"), in_report=True
    ),
    "update_session": Benchmark("test_latency", ("floor", "bare", "again", "slowed", *_RIVALS), in_report=True),
    "create_session": Benchmark("test_latency", ("floor", "bare", "again", *_RIVALS), in_report=True),
    "delete_session": Benchmark("test_latency", ("floor", "bare", "again", *_RIVALS), in_report=True),
    "get_sessions": Benchmark("test_operations", ("floor", "bare", "again")),
    "mutate_session": Benchmark("test_operations", ("floor", "bare", "again", *_RIVALS)),
    "delete_if_unchanged": Benchmark("test_operations", ("floor", "bare", "again", *_RIVALS)),
    "touch_session": Benchmark("test_operations", ("floor", "bare", "again", "check_then_set")),
    "resolve": Benchmark("test_operations", ("floor", "bare", "again")),
    "broadcast": Benchmark("test_operations", ("floor", "bare", "again")),
    "watch_setup": Benchmark("test_operations", ("floor", "bare", "again")),
    "health": Benchmark("test_operations", ("bare", "again")),
    "delivery": Benchmark("test_delivery", ("floor", "bare", "again"), in_report=True),
    "message_delivery": Benchmark("test_delivery", ("floor", "bare", "again")),
    "async_get_session": Benchmark("test_async", ("floor", "bare", "again", "slowed"), in_report=True),
    "async_update_session": Benchmark("test_async", ("floor", "bare", "again", "slowed")),
    "async_create_session": Benchmark("test_async", ("floor", "bare", "again")),
    "async_delete_session": Benchmark("test_async", ("floor", "bare", "again")),
    "async_get_sessions": Benchmark("test_async", ("floor", "bare", "again")),
    "async_mutate_session": Benchmark("test_async", ("floor", "bare", "again")),
    "async_delete_if_unchanged": Benchmark("test_async", ("floor", "bare", "again")),
    "async_touch_session": Benchmark("test_async", ("floor", "bare", "again")),
    "async_resolve": Benchmark("test_async", ("floor", "bare", "again")),
    "async_broadcast": Benchmark("test_async", ("floor", "bare", "again")),
    "async_watch_setup": Benchmark("test_async", ("floor", "bare", "again")),
    "async_health": Benchmark("test_async", ("bare", "again")),
    "async_delivery": Benchmark("test_async_delivery", ("floor", "bare", "again")),
    "async_message_delivery": Benchmark("test_async_delivery", ("floor", "bare", "again")),
    DRAIN: Benchmark("test_drain", ("copy", "live", "live_copy"), in_report=True),
    DURABILITY: Benchmark("test_durability", ("fsync", "replicated"), in_report=True),
}
IN_REPORT = tuple(name for name, benchmark in BENCHMARKS.items() if benchmark.in_report)
GATED = tuple(name for name, benchmark in BENCHMARKS.items() if benchmark.is_gated)


def node_id(operation: str) -> str:
    """What pytest calls the benchmark of an operation."""
    return f"tests/benchmarks/{BENCHMARKS[operation].file}.py::test_{operation}"
