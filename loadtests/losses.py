"""A store, its audit, what befalls it, and what a recovery makes of it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self
from unittest.mock import patch

import psycopg
from psycopg import sql

from kairos_core.audit.drain import drain_lane
from kairos_core.audit.outbox import Outbox
from kairos_core.audit.recorded import Records
from kairos_core.cli import main
from kairos_core.layout import Layout
from kairos_core.recovery import Recovery, Report
from loadtests.environment import as_recovery, as_worker
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from kairos_core import AuditWriter, RedisStateManager, Settings, SyncState
    from kairos_core.audit.recorded import Recorded


class Store:
    """A store, its audit, and what befalls it."""

    def __init__(
        self, settings: Settings, client: redis.Redis, manager: RedisStateManager, writer: AuditWriter
    ) -> None:
        self.settings = settings
        self.client = client
        self.manager = manager
        self.writer = writer
        self.layout = Layout(settings.namespace, settings.lanes)
        self.outbox = Outbox.connect(as_worker(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.outbox.close()

    def drain(self) -> None:
        """Record all that waits."""
        for lane in range(self.settings.lanes):
            drain_lane(self.outbox, self.writer, lane)

    def create(self, *names: str) -> dict[str, SyncState]:
        """Create and update sessions, and record that."""
        found = {}
        for name in names:
            state = self.manager.create_session(sample_state(name))
            found[name] = self.manager.update_session(state.replace(metadata={"name": name, "float": 1e22}))
        self.drain()
        return found

    def lose(self, *names: str) -> None:
        """Lose these sessions; without names, all that the namespace has."""
        keys = [self.layout.keys_of(name).session for name in names]
        for key in keys or list(self.client.scan_iter(match=f"{self.settings.namespace}:*")):
            self.client.delete(key)

    def recover(self, name: str | None = None, *, patience_s: float = 0.2, **options: Any) -> Report:
        """Run a recovery under its account."""
        found = as_recovery(self.settings)
        with Recovery(found, Records.connect(found), patience_s=patience_s, **options) as connected:
            return connected.recover_all() if name is None else connected.recover_one(name)

    def rows(self, query: str, *arguments: object) -> list[Any]:
        """The rows of a query in the test's schema, if it has some."""
        with psycopg.connect(self.settings.postgres_url) as connection:
            connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(self.settings.namespace)))
            cursor = connection.execute(query.encode(), arguments)
            return cursor.fetchall() if cursor.description else []

    def events(self, name: str) -> list[Any]:
        """What is recorded of a session, in the order of recording."""
        return self.rows(
            "SELECT incarnation, version, kind, event_type FROM sync_events WHERE session_id = %s ORDER BY position",
            name,
        )


def counts(report: Report) -> dict[str, int]:
    """How many there were of each case."""
    return {case.value: count for case, count in report.counts.items() if count}


def names(count: int) -> list[str]:
    """Ids of sessions, in all lanes."""
    return [f"s{number}" for number in range(count)]


def same(expected: SyncState, found: SyncState | None) -> bool:
    """Whether a state is the same but for what the server assigns."""
    assigned = {"incarnation": 0, "version": 0, "created_at": None, "updated_at": None}
    return found is not None and expected.replace(**assigned) == found.replace(**assigned)


def main_in(settings: Settings, *arguments: str) -> int:
    """Run the command with these settings in this process."""
    with patch.dict(os.environ, settings.to_env()):
        return main(arguments)


@contextmanager
def between(action: Callable[[], object]) -> Iterator[list[int]]:
    """Do something each time between the reading of the audit and the restoration; how often, as a list's length."""
    read = Records.read
    done: list[int] = []

    def reading(self: Records, lane: int, session_ids: Any) -> dict[str, Recorded]:
        found = read(self, lane, session_ids)
        done.append(lane)
        action()
        return found

    with patch.object(Records, "read", reading):
        yield done


def once(action: Callable[[], object]) -> Callable[[], None]:
    """Something that is done only once."""
    left = [action]

    def act() -> None:
        if left:
            left.pop()()

    return act
