"""What a session and a write take: memory, network, processor, disk. `python -m reports.sizing --measure` runs it.

Two servers of its own are filled by the ordinary calls of one process, and asked by their own counters before and
after: nothing is estimated here. What a figure adds to the rest is seen by taking one thing away at a time: receipts,
then the outbox. States of two sizes are measured, so that the cost of any other lies on a line through both.
"""

from __future__ import annotations

import platform
import secrets
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec

from kairos_core import AuditWriter, RedisStateManager, Settings, session
from kairos_core.audit.drain import drain_lane
from kairos_core.audit.outbox import Outbox
from kairos_core.audit.postgres import connect_postgres
from loadtests.environment import new_namespace
from loadtests.measure import machine_facts
from loadtests.servers.postgres import own_postgres
from loadtests.servers.valkeys import valkeys
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

# Receipts are to be there until they are counted.
_RECEIPT_TTL_S = 3_600.0
# Of metadata, in hexadecimal digits that nothing compresses to less than half.
_PADDING_BYTES = 4_000
_AT_ONCE = 500
_ANSWER_S = 10.0
# Of updates, these are made once more while somebody watches.
_WATCHED = 0.1
_DISK = """
SELECT
    coalesce(sum(pg_table_size(oid)) FILTER (WHERE relname LIKE 'sync_events%%'), 0)::bigint,
    coalesce(sum(pg_indexes_size(oid)) FILTER (WHERE relname LIKE 'sync_events%%'), 0)::bigint,
    coalesce(sum(pg_total_relation_size(oid)) FILTER (WHERE relname IN ('sync_sessions', 'sync_participants')), 0)
        ::bigint,
    pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint
FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r'
"""


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """What one session, or one write, takes, with states of one size.

    Attributes:
        state_bytes: of one state, as JSON.
        session_bytes: of the store's memory, for a session that lives, with its place among the deadlines.
        receipt_bytes: of the store's memory, for a write, until `KAIROS_RECEIPT_TTL_S` is over.
        outbox_bytes: of the store's memory, for a write that waits for the audit.
        request_bytes: that a write sends to the store.
        reply_bytes: that the store answers.
        watcher_bytes: that the store sends to each watcher for each write.
        log_bytes: that a write adds to the append-only file, and so to what each replica is sent.
        server_us: microseconds of one core that the store takes for a write.
        client_us: microseconds of one core that a process of the service takes for a write.
        event_bytes: of PostgreSQL's disk, for the row of a write.
        event_index_bytes: the same of its indexes.
        wal_bytes: that PostgreSQL writes to its log for it.
        latest_bytes: of PostgreSQL's disk, for the latest rows of a session and its participants.
        drain_per_s: rows a second that one worker wrote, with nothing else to do.
    """

    state_bytes: float
    session_bytes: float
    receipt_bytes: float
    outbox_bytes: float
    request_bytes: float
    reply_bytes: float
    watcher_bytes: float
    log_bytes: float
    server_us: float
    client_us: float
    event_bytes: float
    event_index_bytes: float
    wal_bytes: float
    latest_bytes: float
    drain_per_s: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Both sizes, and where they were measured.

    Attributes:
        small, large: with states of 0.8 kB, and with 4,000 bytes of metadata besides.
        writes: how many of each were counted.
        servers: their names and versions.
        machine: its processor, cores and Python.
    """

    small: Sizes
    large: Sizes
    writes: int
    servers: str
    machine: str


def measure(writes: int, say: Callable[[str], object]) -> Measured:
    """Start servers, and count what so many creations and updates take.

    Args:
        writes: sessions that are created, and updated once each. Fewer than 10,000 give more to what is there once.
        say: is told of progress.

    Raises:
        LaunchError, ConfigurationError: a server did not start.
        TimeoutError: a watcher did not hear of a write.
    """
    found = []
    with valkeys() as launcher, own_postgres() as postgres:
        # A server each, so that the second does not find the first's memory free.
        for padding in (0, _PADDING_BYTES):
            say(f"{writes:,} sessions with {padding:,} bytes of metadata besides, each written twice ...")
            # The append-only file's buffers are of the server's memory, so what is weighed has none.
            plain, logged = launcher.start(), launcher.start("appendonly yes", "appendfsync no")
            of_log = _log_bytes(_settings(logged.url, postgres.url), logged.client(), padding, min(writes, 2_000))
            found.append(_sizes(_settings(plain.url, postgres.url), plain.client(), padding, writes, of_log))
        with plain.client(decode_responses=True) as client:
            valkey = client.info("server")["valkey_version"]
        with closing(connect_postgres(_settings(plain.url, postgres.url))) as connection:
            version = connection.info.server_version
    where = machine_facts()
    return Measured(
        small=found[0],
        large=found[1],
        writes=writes,
        servers=f"Valkey {valkey}, PostgreSQL {version // 10_000}.{version % 10_000}",
        machine=f"{where['cores']} cores of an {where['cpu']}, Python {platform.python_version()}",
    )


def _settings(redis_url: str, postgres_url: str) -> Settings:
    namespace = new_namespace("sizes")
    return Settings(
        redis_url=redis_url, postgres_url=postgres_url, namespace=namespace, receipt_ttl_s=_RECEIPT_TTL_S, lanes=4
    )


def _state(number: int, padding: int) -> Any:
    state = sample_state(f"session-{number:09d}")
    return state.replace(metadata={**state.metadata, "padding": secrets.token_hex(padding // 2)}) if padding else state


def _log_bytes(settings: Settings, client: redis.Redis, padding: int, writes: int) -> float:
    with client, RedisStateManager.connect(settings) as manager:
        states = [manager.create_session(_state(number, padding)) for number in range(writes)]
        before = client.info("persistence")["aof_current_size"]
        for state in states:
            manager.update_session(state)
        return float(client.info("persistence")["aof_current_size"] - before) / writes


def _sizes(settings: Settings, client: redis.Redis, padding: int, writes: int, log_bytes: float) -> Sizes:
    with (
        client,
        RedisStateManager.connect(settings) as manager,
        AuditWriter.connect(settings) as writer,
        closing(Outbox.connect(settings)) as outbox,
    ):
        writer.migrate()
        bare, empty = _disk(settings), _counters(client)
        states = [manager.create_session(_state(number, padding)) for number in range(writes)]
        _drain(settings, outbox, writer)
        created, full = _disk(settings), _counters(client)
        _forget(client, f"{settings.namespace}:*:op:*")
        alone, began_s = _counters(client), time.process_time()
        states = [manager.update_session(state) for state in states]
        client_s, written = time.process_time() - began_s, _counters(client)
        some = states[: max(1, int(writes * _WATCHED))]
        with manager.watch_sessions() as updates:
            quiet = _counters(client)
            for state in some:
                manager.update_session(state)
                # What nobody reads is not sent.
                if updates.receive(_ANSWER_S) is None:
                    raise TimeoutError(f"no update of {state.session_id} came within {_ANSWER_S:g} s")
            watched = _counters(client)
        waiting, count = _counters(client), sum(outbox.depths())
        began_at = time.monotonic()
        _drain(settings, outbox, writer)
        drain_s, emptied, recorded = time.monotonic() - began_at, _counters(client), _disk(settings)
    body, _ = session.encode(states[0])
    reply_bytes = (written["sent"] - alone["sent"]) / writes
    return Sizes(
        state_bytes=len(body),
        session_bytes=(alone["memory"] - empty["memory"]) / writes,
        receipt_bytes=(full["memory"] - alone["memory"]) / writes,
        outbox_bytes=(waiting["memory"] - emptied["memory"]) / count,
        request_bytes=(written["received"] - alone["received"]) / writes,
        reply_bytes=reply_bytes,
        watcher_bytes=(watched["sent"] - quiet["sent"]) / len(some) - reply_bytes,
        log_bytes=log_bytes,
        server_us=(written["processor_s"] - alone["processor_s"]) / writes * 1e6,
        client_us=client_s / writes * 1e6,
        event_bytes=(recorded[0] - created[0]) / count,
        event_index_bytes=(recorded[1] - created[1]) / count,
        wal_bytes=(recorded[3] - created[3]) / count,
        latest_bytes=(created[2] - bare[2]) / writes,
        drain_per_s=count / drain_s,
    )


def _counters(client: redis.Redis) -> dict[str, float]:
    """What the server has counted of itself: bytes, and seconds of processor time."""
    found = client.info()
    return {
        "memory": found["used_memory"],
        "received": found["total_net_input_bytes"],
        "sent": found["total_net_output_bytes"],
        "processor_s": found["used_cpu_user"] + found["used_cpu_sys"],
    }


def _disk(settings: Settings) -> tuple[int, int, int, int]:
    """Bytes of the events, of their indexes, of the latest rows, and of all that was ever logged."""
    with closing(connect_postgres(settings)) as connection:
        events, indexes, latest, logged = connection.execute(_DISK, [settings.namespace]).fetchall()[0]
    return events, indexes, latest, logged


def _drain(settings: Settings, outbox: Outbox, writer: AuditWriter) -> None:
    for lane in range(settings.lanes):
        drain_lane(outbox, writer, lane)


def _forget(client: redis.Redis, pattern: str) -> None:
    keys = list(client.scan_iter(match=pattern, count=_AT_ONCE))
    for first in range(0, len(keys), _AT_ONCE):
        client.delete(*keys[first : first + _AT_ONCE])
