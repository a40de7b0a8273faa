"""Broken drains and recoveries: one bug on the way to PostgreSQL, or back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kairos_core import commands, recovery
from kairos_core.audit import batch, drain, outbox, work, writer
from kairos_core.audit.reading import statement
from loadtests.mutants.mutant import MisfitError, Mutant, edit, replaced

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core.audit.batch import Batch

_NEWER = "WHERE (excluded.incarnation, excluded.version) > (stored.incarnation, stored.version)"
_GUARD = f"{_NEWER}\n                RETURNING 1"


def _random_event_id() -> None:
    entry = outbox._entry  # noqa: SLF001 - a mutant reaches inside

    def renamed(entry_id: bytes, fields: dict[bytes, bytes]) -> outbox.Entry:
        known = entry(entry_id, fields)
        message = msgspec.structs.replace(known.message, operation_id=commands.new_operation_id(lane=0))
        return known._replace(message=message)

    outbox._entry = renamed  # noqa: SLF001


def _delete_before_commit() -> None:
    drain_lane = drain.drain_lane

    def hasty(out: outbox.Outbox, audit: Any, lane: int, **options: Any) -> int:
        class Hasty:
            def record(self, lane: int, ready: Batch, reached: Callable[[str], None]) -> int:
                out.remove(lane, [one.entry.entry_id for one in ready.ready])
                written: int = audit.record(lane, ready, reached)
                return written

        return drain_lane(out, Hasty(), lane, **options)  # type: ignore[arg-type]

    # Where it is from, and where a worker uses it.
    for module in (drain, work):
        setattr(module, "drain_lane", hasty)  # noqa: B010


def _row_dropped() -> None:
    plan = batch.plan

    def shorter(*arguments: Any) -> Any:
        found = plan(*arguments)
        return found._replace(record=found.record[:-1])

    setattr(writer, "plan", shorter)  # noqa: B010 - where it is used, not where it is from


def _chain_forgotten() -> None:
    lines = batch.lines

    def anew(record: Any, heads: Any, recorded_at: Any) -> Any:
        del heads
        return lines(record, {}, recorded_at)

    setattr(writer, "lines", anew)  # noqa: B010


def _recorded_not_looked_up() -> None:
    writer.AuditWriter._operations = lambda *_: {}  # type: ignore[method-assign]  # noqa: SLF001
    writer.AuditWriter._versions = lambda *_: {}  # type: ignore[method-assign]  # noqa: SLF001


def _refused_row_swallowed() -> None:
    writer.AuditWriter._bury = lambda *_: None  # type: ignore[method-assign]  # noqa: SLF001


def _session_row_goes_back() -> None:
    migrate = writer.AuditWriter.migrate
    if _GUARD not in statement("schema").decode():
        raise MisfitError("the mutant no longer fits sync_events_keep_latest")

    def migrated(self: writer.AuditWriter) -> list[str]:
        applied = migrate(self)
        connection = self._connection
        with connection.transaction():
            query = "SELECT pg_get_functiondef('sync_events_keep_latest'::regproc)"
            ((definition,),) = connection.execute(query).fetchall()
            connection.execute(replaced(definition, _GUARD, "RETURNING 1", "sync_events_keep_latest").encode())
        return applied

    writer.AuditWriter.migrate = migrated  # type: ignore[method-assign]


def _backlog_not_looked_at() -> None:
    recovery.Backlog.holds = lambda *_: False  # type: ignore[method-assign]


def _creations_not_noticed() -> None:
    edit("RESTORE", ("life ~= ARGV[12] or ", ""))


def _restored_blindly() -> None:
    _creations_not_noticed()
    edit("RESTORE", ("if call('EXISTS', KEYS[1]) == 1 then", "if false then"))


MUTANTS = (
    Mutant(
        "random_event_id",
        "G7",
        "a batch that is written again does not know its rows",
        _random_event_id,
        "a_killed_drain",
    ),
    Mutant(
        "delete_before_commit",
        "G7",
        "entries leave the outbox before their rows are safe",
        _delete_before_commit,
        "a_killed_drain",
    ),
    Mutant("row_dropped", "G7", "of each batch a row is left out, and nobody told", _row_dropped, "drain"),
    Mutant(
        "recorded_not_looked_up",
        "G7",
        "a batch that is written again is taken for new",
        _recorded_not_looked_up,
        "a_killed_drain",
    ),
    Mutant(
        "refused_row_swallowed",
        "G7",
        "what PostgreSQL refuses is left out, and not among the dead letters",
        _refused_row_swallowed,
        "a_refused_row_is_a_dead_letter",
    ),
    Mutant(
        "session_row_goes_back",
        "G7",
        "the latest row of a session is replaced by whatever is recorded last",
        _session_row_goes_back,
        "a_session_row_never_goes_back",
    ),
    Mutant(
        "chain_forgotten", "G13", "each batch begins every session's chain anew", _chain_forgotten, "a_killed_drain"
    ),
    Mutant(
        "backlog_not_looked_at",
        "G12",
        "a recovery does not ask what waits in the outbox",
        _backlog_not_looked_at,
        "a_recovery_brings_back_what_was_lost",
    ),
    Mutant(
        "creations_not_noticed",
        "G12",
        "a recovery takes for true what the audit said, whatever has come and gone since",
        _creations_not_noticed,
        "a_recovery_brings_back_what_was_lost",
    ),
    Mutant(
        "restored_blindly",
        "G12",
        "a recovery does not even look whether the session is there",
        _restored_blindly,
        "a_recovery_brings_back_what_was_lost",
    ),
)
