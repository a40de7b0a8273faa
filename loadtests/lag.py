"""How far the audit is behind: steadily, and after PostgreSQL was away. Run `python -m loadtests.lag`.

Writes go on at a steady rate from a process of their own. Lag is from when the store made a write to when its row was
recorded, as the rows say; both clocks are this machine's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import msgspec
from psycopg import sql

from kairos_core import AuditWriter, RedisStateManager, Settings
from kairos_core.audit.outbox import Outbox
from kairos_core.audit.postgres import connect_postgres
from kairos_core.lifeline import end_with_parent
from kairos_core.settings import child_environment
from loadtests import ROOT
from loadtests.ending import unwind_on_termination
from loadtests.environment import new_namespace
from loadtests.servers.postgres import own_postgres
from loadtests.servers.valkeys import valkeys
from loadtests.servers.worker import worker_pool
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loadtests.servers.postgres import Postgres

SESSIONS = 100
_LAGS = """
SELECT count(*), percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY lag), max(lag)
FROM (SELECT extract(epoch FROM recorded_at - occurred_at) AS lag FROM {}) AS lags
"""


def write_steadily(settings: Settings, per_s: int, seconds: float) -> None:
    """Update sessions in turn, each write at its time; say at the end how many were made."""
    with RedisStateManager.connect(settings) as manager:
        states = [manager.create_session(sample_state(f"s{number}")) for number in range(SESSIONS)]
        start, made = time.monotonic(), 0
        while (passed := time.monotonic() - start) < seconds:
            if made >= passed * per_s:
                time.sleep(0.0005)
                continue
            states[made % SESSIONS] = manager.update_session(states[made % SESSIONS])
            made += 1
    print(made, flush=True)


def steady(settings: Settings, per_s: int, seconds: float) -> str:
    """The lag at a steady rate."""
    with _writer(settings, per_s, seconds) as writer:
        assert writer.stdout is not None  # noqa: S101 - a pipe was asked for
        # Not `communicate`, which closes its standard input first: that would end it.
        made = writer.stdout.read().strip()
    wait_for_lag(settings, 0.0)
    table = sql.Identifier(settings.namespace, "sync_events")
    with closing(connect_postgres(settings)) as connection:
        ((count, (p50, p99), most),) = connection.execute(sql.SQL(_LAGS).format(table)).fetchall()
    return f"{made} writes at {per_s}/s: lag p50 {p50:.3f} s, p99 {p99:.3f} s, max {most:.3f} s ({count} rows)"


def outage(settings: Settings, postgres: Postgres, per_s: int, seconds: float) -> str:
    """How long after PostgreSQL's return the lag is under 1 s again, while writes go on."""
    with _writer(settings, per_s, seconds + 30):
        time.sleep(3)
        postgres.kill()
        time.sleep(seconds)
        postgres.start()
        back = time.monotonic()
        with closing(Outbox.connect(settings)) as outbox:
            waiting, oldest_s = outbox.waiting(range(settings.lanes))
        wait_for_lag(settings, 1.0)
        passed = time.monotonic() - back
    return (
        f"{seconds:.0f} s away, {waiting} waiting, the oldest {oldest_s or 0:.1f} s: lag under 1 s after {passed:.2f} s"
    )


def wait_for_lag(settings: Settings, most_s: float) -> None:
    """Wait until the oldest entry is no older; 0: until there is none."""
    with closing(Outbox.connect(settings)) as outbox:
        while (outbox.waiting(range(settings.lanes))[1] or 0.0) > most_s or (not most_s and any(outbox.depths())):
            time.sleep(0.01)


@contextmanager
def _writer(settings: Settings, per_s: int, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """A process that writes, until its time is over or the context is left."""
    command = [sys.executable, "-m", "loadtests.lag", "--write", str(per_s), "--seconds", str(seconds)]
    environment = child_environment(settings)
    # It ends when the pipe closes, so it does not outlive this process, not even one that was killed.
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def main() -> None:
    """Measure both, or write, where another process of this module asked for it."""
    parser = argparse.ArgumentParser(description="How far the audit is behind.")
    parser.add_argument("--write", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=int, default=1_000, help="writes per second (1000)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each takes (20)")
    parser.add_argument("--workers", type=int, default=10, help="of the pool (10)")
    options = parser.parse_args()
    if options.write:
        end_with_parent()
        write_steadily(Settings.from_env(), options.write, options.seconds)
        return
    with own_postgres() as postgres, valkeys() as launcher:
        node = launcher.start()
        found = Settings(redis_url=node.url, postgres_url=postgres.url, namespace=new_namespace("lag"))
        for measure in ("steady", "outage"):
            settings = msgspec.structs.replace(found, namespace=f"{found.namespace}_{measure}")
            with AuditWriter.connect(settings) as writer:
                writer.migrate()
            with worker_pool(settings, options.workers):
                # Until all members are there, they take the machine's time.
                time.sleep(5)
                if measure == "steady":
                    print(steady(settings, options.rate, options.seconds), flush=True)
                else:
                    print(outage(settings, postgres, options.rate, options.seconds), flush=True)


if __name__ == "__main__":
    unwind_on_termination()
    main()
