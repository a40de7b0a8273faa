"""`python -m reports.sizing`: what so many sessions and so many writes a second take of each server.

From `sizes.json` beside this file, which `--measure` writes anew (a minute): what one session, and one write, took. All
else is multiplication, and stands in `plan`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

from kairos_core import Settings
from kairos_core.one_line import OneLineParser
from loadtests.ending import status_of, unwind_on_termination
from loadtests.sizes import Measured, Sizes, measure
from reports import tables

STORED = Path(__file__).with_name("sizes.json")
_WRITES = 20_000
_DAY_S = 86_400
# Of a server's memory limit, what is not for data: buffers of connections and replicas, and the 5 % at which
# `kairos health` calls it full.
_USABLE = 0.8


class Plan(NamedTuple):
    """What a load takes. Bytes, bytes a second, or cores, as the names say.

    Attributes:
        sessions_bytes, receipts_bytes: of the store's memory, always.
        outbox_bytes_per_s: of the store's memory, for every second that PostgreSQL is away.
        limit_s: seconds after which the outboxes are at their limit, and writes are refused.
        memory_s: seconds after which memory is full, with the limit that was asked about; None: it does not say.
        memory_for_limit_bytes: what `maxmemory` has to be for the outbox's limit to be met before the memory's.
        in_bytes_per_s, out_bytes_per_s: of the store's network: writes with their answers, and watchers.
        log_bytes_per_s: to the append-only file, and to each replica.
        store_cores, service_cores: processor time a second.
        events_bytes_per_day: of PostgreSQL's disk, with indexes.
        wal_bytes_per_s: of its log.
        latest_bytes: of its disk, for the latest rows.
        drain_share: the share of one worker's time.
    """

    sessions_bytes: float
    receipts_bytes: float
    outbox_bytes_per_s: float
    limit_s: float
    memory_s: float | None
    memory_for_limit_bytes: float
    in_bytes_per_s: float
    out_bytes_per_s: float
    log_bytes_per_s: float
    store_cores: float
    service_cores: float
    events_bytes_per_day: float
    wal_bytes_per_s: float
    latest_bytes: float
    drain_share: float


def at(measured: Measured, state_bytes: float) -> Sizes:
    """What states of this size take: on the line through the two sizes that were measured, and never less than nothing.

    The drain's rate is not on a line; the time of a row is.
    """
    small, large = msgspec.structs.asdict(measured.small), msgspec.structs.asdict(measured.large)
    share = (state_bytes - small["state_bytes"]) / (large["state_bytes"] - small["state_bytes"])
    small["drain_per_s"], large["drain_per_s"] = 1 / small["drain_per_s"], 1 / large["drain_per_s"]
    found = {name: max(0.0, small[name] + share * (large[name] - small[name])) for name in small}
    found["drain_per_s"] = 1 / max(found["drain_per_s"], 1e-9)
    return Sizes(**found)


def plan(  # noqa: PLR0913 - the load has so many numbers, each by its name
    sizes: Sizes,
    *,
    sessions: int,
    writes_per_s: float,
    watchers: float,
    memory_bytes: float | None,
    receipt_ttl_s: float,
    entries: int,
) -> Plan:
    """What a load takes.

    Args:
        sizes: of one session and one write.
        sessions: that live at a time.
        writes_per_s: creations, updates and deletions a second.
        watchers: how many hear of a write, on average.
        memory_bytes: the store's `maxmemory`; None: not said.
        receipt_ttl_s: `KAIROS_RECEIPT_TTL_S`.
        entries: that all outboxes take together: `KAIROS_OUTBOX_LIMIT` times `KAIROS_LANES`.
    """
    always = sessions * sizes.session_bytes + writes_per_s * receipt_ttl_s * sizes.receipt_bytes
    outbox_per_s = writes_per_s * sizes.outbox_bytes
    free = None if memory_bytes is None else max(0.0, memory_bytes * _USABLE - always)
    return Plan(
        sessions_bytes=sessions * sizes.session_bytes,
        receipts_bytes=writes_per_s * receipt_ttl_s * sizes.receipt_bytes,
        outbox_bytes_per_s=outbox_per_s,
        limit_s=entries / writes_per_s,
        memory_s=None if free is None else free / outbox_per_s,
        memory_for_limit_bytes=(always + entries * sizes.outbox_bytes) / _USABLE,
        in_bytes_per_s=writes_per_s * sizes.request_bytes,
        out_bytes_per_s=writes_per_s * (sizes.reply_bytes + watchers * sizes.watcher_bytes),
        log_bytes_per_s=writes_per_s * sizes.log_bytes,
        store_cores=writes_per_s * sizes.server_us / 1e6,
        service_cores=writes_per_s * sizes.client_us / 1e6,
        events_bytes_per_day=writes_per_s * _DAY_S * (sizes.event_bytes + sizes.event_index_bytes),
        wal_bytes_per_s=writes_per_s * sizes.wal_bytes,
        latest_bytes=sessions * sizes.latest_bytes,
        drain_share=writes_per_s / sizes.drain_per_s,
    )


def table(found: Plan, watchers: float) -> tables.Table:
    """The plan for people, in the order in which one orders machines."""
    rows: list[tuple[str, ...]] = [
        ("store", "memory of the sessions", _size(found.sessions_bytes)),
        ("store", "memory of receipts", _size(found.receipts_bytes)),
        ("store", "memory for each minute that PostgreSQL is away", _size(60 * found.outbox_bytes_per_s)),
        ("store", "an outage of PostgreSQL until the outbox is at its limit", _time(found.limit_s)),
        ("store", "maxmemory for which that comes first", _size(found.memory_for_limit_bytes)),
        ("store", "network in", f"{_size(found.in_bytes_per_s)}/s"),
        ("store", f"network out, with {watchers:g} watchers of each write", f"{_size(found.out_bytes_per_s)}/s"),
        ("store", "append-only file, and to each replica", f"{_size(found.log_bytes_per_s)}/s"),
        ("store", "processor", f"{found.store_cores:.2f} cores"),
        ("services", "processor, of all of them", f"{found.service_cores:.2f} cores"),
        ("workers", "busy with the drain", f"{found.drain_share:.2f} of one"),
        ("PostgreSQL", "disk of events and their indexes", f"{_size(found.events_bytes_per_day)} a day"),
        ("PostgreSQL", "log (WAL)", f"{_size(found.wal_bytes_per_s)}/s"),
        ("PostgreSQL", "disk of the latest rows", _size(found.latest_bytes)),
    ]
    if found.memory_s is not None:
        rows.insert(4, ("store", "an outage of PostgreSQL until this memory is full", _time(found.memory_s)))
    return tables.Table(("of", "what", "takes"), rows)


def sizes_table(measured: Measured) -> tables.Table:
    """What was measured of one session and one write, with states of both sizes."""
    small, large = msgspec.structs.asdict(measured.small), msgspec.structs.asdict(measured.large)
    return tables.Table(
        ("what", "small", "large"), [(name, f"{small[name]:,.0f}", f"{large[name]:,.0f}") for name in small]
    )


def _size(count: float) -> str:
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} bytes"


def _time(seconds: float) -> str:
    return f"{seconds / 60:,.0f} min" if seconds >= 60 else f"{seconds:.0f} s"


def main() -> int:
    """Run from the command line."""
    parser = OneLineParser(prog="python -m reports.sizing", description=__doc__)
    parser.add_argument("--sessions", type=_number, default=100_000, help="that live at a time (100000)")
    parser.add_argument("--writes-per-s", type=_number, default=1_000, help="creations, updates, deletions (1000)")
    parser.add_argument("--state-bytes", type=_number, help="of a state as JSON (as measured: 0.8 kB)")
    parser.add_argument("--watchers", type=_number, default=2, help="that hear of a write, on average (2)")
    parser.add_argument("--memory-gb", type=_number, help="the store's maxmemory")
    parser.add_argument("--measure", action="store_true", help="measure anew here, and store it, before")
    parser.add_argument("--sizes", action="store_true", help="also say what one session and one write take")
    options = parser.parse_args()
    unwind_on_termination()
    return status_of(lambda: _tell(options), interrupted=lambda: "interrupted; servers are removed")


def _tell(options: argparse.Namespace) -> int:
    if options.measure:
        STORED.write_bytes(
            msgspec.json.format(msgspec.json.encode(measure(_WRITES, lambda text: print(text, flush=True))))
        )
    measured = msgspec.json.decode(STORED.read_bytes(), type=Measured)
    if options.sizes:
        print(f"{sizes_table(measured).text()}\n")
    settings = Settings.from_env()
    sizes = at(measured, options.state_bytes or measured.small.state_bytes)
    found = plan(
        sizes,
        sessions=int(options.sessions),
        writes_per_s=options.writes_per_s,
        watchers=options.watchers,
        memory_bytes=options.memory_gb and options.memory_gb * 1e9,
        receipt_ttl_s=settings.receipt_ttl_s,
        entries=settings.outbox_limit * settings.lanes,
    )
    print(f"{options.sessions:,.0f} sessions of {sizes.state_bytes:,.0f} bytes, ", end="")
    print(f"{options.writes_per_s:,.0f} writes a second\n")
    print(table(found, options.watchers).text())
    print(f"\nmeasured with {measured.writes:,} writes: {measured.servers}; {measured.machine}")
    return 0


def _number(text: str) -> float:
    try:
        found = float(text.replace("_", "").replace(",", ""))
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError("a number above 0 is needed")
    return found


if __name__ == "__main__":
    sys.exit(main())
