"""What memory a worker takes to drain a long backlog. Run `python -m loadtests.backlog --entries 1000000`.

The outbox of one lane is filled with copies of one record that differ in session, version and operation id. Takes about
1.1 kB of the store's memory for each, and as much of the disk, in servers of its own that go with it.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import closing
from pathlib import Path

import msgspec

from kairos_core import AuditWriter, RedisStateManager, Settings, messages
from kairos_core.audit.outbox import Entry, Outbox
from kairos_core.layout import Layout
from loadtests.ending import unwind_on_termination
from loadtests.environment import admin, new_namespace, row_counts
from loadtests.servers.postgres import own_postgres
from loadtests.servers.valkeys import valkeys
from loadtests.servers.worker import members, worker_pool
from loadtests.states import sample_state

LIMIT_MB = 200
SESSIONS = 1_000
_AT_ONCE = 5_000


def fill(settings: Settings, entries: int) -> None:
    """Fill the outbox of lane 0; the sessions themselves are not made."""
    with RedisStateManager.connect(settings) as manager, closing(Outbox.connect(settings)) as outbox:
        manager.create_session(sample_state("s"))
        (entry,) = outbox.read(0, 1)
        outbox.remove(0, [entry.entry_id])
    assert isinstance(entry, Entry)  # noqa: S101 - it was written above
    stream = Layout(settings.namespace, settings.lanes).outboxes[0]
    with admin(settings) as client:
        for start in range(0, entries, _AT_ONCE):
            with client.pipeline(transaction=False) as pipeline:
                for number in range(start, min(start + _AT_ONCE, entries)):
                    message = msgspec.structs.replace(
                        entry.message,
                        session_id=f"s{number % SESSIONS}",
                        version=number // SESSIONS + 1,
                        operation_id=f"{number:032x}",
                    )
                    pipeline.xadd(stream, {"m": messages.encode(message)})
                pipeline.execute()


def peak_mb(pid: int) -> float:
    """The most memory that a process had resident, in megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError("VmHWM")


def main() -> int:
    """Fill, drain, and say what it took; 1 where a worker took too much."""
    parser = argparse.ArgumentParser(description="What memory a worker takes to drain a long backlog.")
    parser.add_argument("--entries", type=int, default=1_000_000, help="how many (1000000)")
    entries: int = parser.parse_args().entries
    with own_postgres() as postgres, valkeys() as launcher:
        url = launcher.start().url
        settings = Settings(redis_url=url, postgres_url=postgres.url, namespace=new_namespace("backlog"), lanes=1)
        with AuditWriter.connect(settings) as writer:
            writer.migrate()
        fill(settings, entries)
        start = time.monotonic()
        with worker_pool(settings) as pool, closing(Outbox.connect(settings)) as outbox:
            while any(outbox.depths()):
                time.sleep(0.05)
            seconds = time.monotonic() - start
            most = max(map(peak_mb, members(pool)))
        rows = row_counts(settings, "sync_events")
    print(f"{rows} rows of {entries} entries in {seconds:.1f} s ({rows / seconds:.0f}/s): {most:.0f} MB at most")
    return 0 if rows == entries and most < LIMIT_MB else 1


if __name__ == "__main__":
    unwind_on_termination()
    sys.exit(main())
