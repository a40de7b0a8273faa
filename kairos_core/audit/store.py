"""Looks at the store's sessions, at what waits in its outboxes and at what is recorded, to compare them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kairos_core.audit import chain
from kairos_core.audit.comparison import UNREADABLE, Look, Recorded, Waiting, compare
from kairos_core.audit.letters import read_letters
from kairos_core.audit.outbox import Entry, Outbox
from kairos_core.audit.reading import connect_to_read, statement
from kairos_core.blocking import BlockingTransport
from kairos_core.errors import ConfigurationError, CorruptState, KairosError, Stamp, StoreUnavailable
from kairos_core.ground import with_hint
from kairos_core.layout import Layout
from kairos_core.operations import Operations
from kairos_core.transport import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import psycopg

    from kairos_core.audit.findings import Finding
    from kairos_core.settings import Settings

_FIND_LATEST, _FIND_LIVING = statement("find_latest"), statement("find_living")
# Sessions that are asked for at once; suspects that are looked at together; entries that are read at once.
_AT_ONCE = 500
_TOGETHER = 20_000
_ENTRIES = 1_000
# What looks wrong is looked at again after each of these.
_PAUSES_S = (0.2, 0.5, 1.0)


class StoreView:
    """Compares the store with the trail, over connections of its own."""

    def __init__(self, settings: Settings) -> None:
        """Connect to both.

        Raises:
            ConfigurationError: one cannot be reached, or is laid out in another way.
        """
        self._settings = settings
        self._layout = Layout(settings.namespace, settings.lanes)
        self._operations = Operations(settings, BlockingTransport)
        self._outbox = Outbox(self._operations, self._layout)
        self._connection: psycopg.Connection | None = None
        try:
            self._check_layout()
            self._connection = connect_to_read(settings)
            self._connection.autocommit = True
        except BaseException:
            self.close()
            raise
        self.compared = 0

    def close(self) -> None:
        """Close the connections."""
        self._operations.link.close()
        if self._connection is not None:
            self._connection.close()

    def _check_layout(self) -> None:
        try:
            stored = run(self._operations.link.call(self._operations.commands.layout(), patient=False))
        except StoreUnavailable as error:
            raise ConfigurationError("KAIROS_REDIS_URL", with_hint(error.cause, self._settings)) from error
        except KairosError as error:
            raise ConfigurationError("KAIROS_REDIS_URL", str(error)) from error
        if stored not in (None, self._layout.layout_value):
            raise ConfigurationError(
                "KAIROS_LANES",
                f"the store was laid out with {stored!r}, this process has {self._layout.layout_value!r}",
            )

    def findings(self, session_id: str | None, progress: Callable[[int], None]) -> Iterator[Finding]:
        """What does not fit, of all sessions or of one.

        Args:
            session_id: only this session.
            progress: told now and then how many sessions have been compared.

        Raises:
            KairosError: the store could not be asked.
            psycopg.Error: PostgreSQL could not.
        """
        suspects: list[str] = []
        for some, are_indexed in self._ids() if session_id is None else [([session_id], False)]:
            suspects += self._suspects(some, are_indexed=are_indexed)
            progress(self.compared)
            if len(suspects) >= _TOGETHER:
                yield from self._settle(suspects)
                suspects = []
        yield from self._settle(suspects)

    def _ids(self) -> Iterator[tuple[list[str], bool]]:
        """The sessions of the store, by its indexes (True), then those that live as recorded (False)."""
        for lane in range(self._layout.lanes):
            ids = run(self._operations.link.call(self._operations.commands.living(lane)))
            for start in range(0, len(ids), _AT_ONCE):
                yield ids[start : start + _AT_ONCE], True
        after = ""
        while page := [session_id for session_id, *_ in self._rows(_FIND_LIVING, [after, _AT_ONCE])]:
            after = page[-1]
            yield page, False

    def _suspects(self, session_ids: list[str], *, are_indexed: bool) -> list[str]:
        """Those of which the store and PostgreSQL do not say the same, be it for the moment."""
        stored, recorded = self._stored(session_ids), self._recorded(session_ids)
        found = []
        for session_id in session_ids:
            has, says = stored[session_id], recorded.get(session_id)
            # What is in an index, and then only what is in none.
            self.compared += are_indexed or (has is None and says is not None)
            if has is None and (says.has_ended if says else not are_indexed):
                continue
            if says is None or says.has_ended or has != says.stamp:
                found.append(session_id)
        return found

    def _settle(self, suspects: list[str]) -> Iterator[Finding]:
        """Look again at those that do not fit, until they do or have been looked at often enough."""
        found = self._look(dict.fromkeys(suspects))
        for pause_s in _PAUSES_S:
            if not found:
                return
            time.sleep(pause_s)
            found = self._look(found)
        yield from found.values()

    def _look(self, suspects: Iterable[str]) -> dict[str, Finding]:
        """What does not fit; see `comparison.Look` for the order."""
        session_ids = list(suspects)
        if not session_ids:
            return {}
        clocks = self._clocks_us(session_ids)
        before = self._stored(session_ids)
        waiting = self._waiting(set(session_ids))
        recorded = self._recorded(session_ids)
        letters = read_letters(self._reading(), set(session_ids)).by_session
        after = self._stored(session_ids)
        ttl_us = round(self._settings.session_ttl_s * 1_000_000)
        found = {}
        for session_id in session_ids:
            looked_us = clocks[self._layout.lane_of(session_id)]
            look = Look(
                looked_us,
                before[session_id],
                waiting.get(session_id, {}),
                recorded.get(session_id),
                letters.get(session_id, {}),
                after[session_id],
            )
            finding = compare(session_id, look, looked_us - ttl_us)
            if finding is not None:
                found[session_id] = finding
        return found

    def _stored(self, session_ids: list[str]) -> dict[str, Stamp | None]:
        """The versions that the store has."""
        found: dict[str, Stamp | None] = {}
        commands = self._operations.commands
        for start in range(0, len(session_ids), _AT_ONCE):
            some = session_ids[start : start + _AT_ONCE]
            try:
                found |= zip(
                    some, run(self._operations.link.call_many([commands.stamp(one) for one in some])), strict=True
                )
            except CorruptState:
                # One of them: ask for each by itself.
                found |= {one: self._stamp(one) for one in some}
        return found

    def _stamp(self, session_id: str) -> Stamp | None:
        try:
            return run(self._operations.link.call(self._operations.commands.stamp(session_id)))
        except CorruptState:
            return UNREADABLE

    def _waiting(self, session_ids: set[str]) -> dict[str, dict[Stamp, Waiting]]:
        """The writes of these sessions that wait."""
        found: dict[str, dict[Stamp, Waiting]] = {}
        for lane in sorted({self._layout.lane_of(session_id) for session_id in session_ids}):
            after, has_more = None, True
            while has_more:
                entries, has_more = self._outbox.read_batch(lane, _ENTRIES, after)
                after = entries[-1].entry_id if entries else after
                for message in (entry.message for entry in entries if isinstance(entry, Entry)):
                    if message.session_id in session_ids:
                        stamp = Stamp(message.incarnation, message.version)
                        found.setdefault(message.session_id, {})[stamp] = Waiting(message.kind, message.updated_us)
        return found

    def _recorded(self, session_ids: list[str]) -> dict[str, Recorded]:
        """How far these sessions are recorded."""
        found = {}
        for start in range(0, len(session_ids), _AT_ONCE):
            for session_id, incarnation, version, has_ended, updated_at in self._rows(
                _FIND_LATEST, [session_ids[start : start + _AT_ONCE]]
            ):
                stamp = Stamp(incarnation, version)
                found[session_id] = Recorded(stamp, has_ended, chain.microseconds(updated_at))
        return found

    def _reading(self) -> psycopg.Connection:
        if self._connection is None:
            raise AssertionError("closed")
        return self._connection

    def _rows(self, query: bytes, values: list[Any]) -> list[tuple[Any, ...]]:
        return self._reading().execute(query, values).fetchall()

    def _clocks_us(self, session_ids: list[str]) -> dict[int, int]:
        """What time it is for the lanes of these sessions, by their servers' clocks, and no later."""
        lanes = sorted({self._layout.lane_of(session_id) for session_id in session_ids})
        clocks = run(self._operations.link.call_many([self._operations.commands.clock(lane) for lane in lanes]))
        return {lane: clock_ms * 1_000 for lane, clock_ms in zip(lanes, clocks, strict=True)}
