"""How fast the audit trail is verified: `python -m loadtests.verification [EVENTS]`.

Fills a schema of its own with events of 770-byte states, 100 a session, and verifies them, several times. Says the
events a second, what of the time this process worked itself (the rest is PostgreSQL's, on another core), and the most
memory that it ever had.
"""

from __future__ import annotations

import itertools
import resource
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from kairos_core import AuditWriter, session
from kairos_core.audit.outbox import Entry
from kairos_core.audit.verify import verify_trail
from kairos_core.messages import Message
from loadtests.ending import unwind_on_termination
from loadtests.environment import harness, new_namespace
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kairos_core import Settings

_PER_SESSION = 100
_BATCH = 1_000
_TIMES = 5


def entries(events: int) -> Iterator[Entry]:
    """Writes as an outbox would have them: those of all sessions mixed, as they are when they are recorded."""
    sessions = max(1, events // _PER_SESSION)
    bodies = [msgspec.Raw(session.encode(sample_state(f"session-{number}"))[0]) for number in range(sessions)]
    began_us = time.time_ns() // 1_000
    for number in range(events):
        version, place = divmod(number, sessions)
        kind = "update" if version else "create"
        yield Entry(
            b"1-%d" % number,
            Message(
                session_id=f"session-{place}",
                kind=kind,
                event_type=f"{kind}d",
                operation_id=f"{number:032x}",
                incarnation=began_us,
                version=version + 1,
                created_us=began_us,
                updated_us=began_us + number,
                body=bodies[place],
            ),
        )


def fill(settings: Settings, events: int) -> None:
    """Record events."""
    with AuditWriter.connect(settings) as writer:
        writer.migrate()
        waiting = entries(events)
        for _ in range(0, events, _BATCH):
            writer.write(0, list(itertools.islice(waiting, _BATCH)))


def main(events: int) -> int:
    """Fill, verify, and say how fast."""
    with harness(new_namespace("verification")) as settings:
        fill(settings, events)
        for _ in range(_TIMES):
            started, worked = time.perf_counter(), time.process_time()
            found = verify_trail(settings)
            took_s = time.perf_counter() - started
            share = (time.process_time() - worked) / took_s
            if found.events != events or found.violations:
                raise RuntimeError(f"verified {found.events} of {events} events, {found.violations} violations")
            resident_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            rate = found.events / took_s
            print(f"{found.events:,} events in {took_s:.2f} s: {rate:,.0f}/s; {share:.0%} of it here, {resident_mb} MB")
    return 0


if __name__ == "__main__":
    unwind_on_termination()
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
