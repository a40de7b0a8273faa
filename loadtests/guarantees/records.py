"""Directed checks of what is recorded (G7, G13)."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
from psycopg import sql

from kairos_core import AuditWriter, RedisStateManager, messages
from kairos_core.audit import drain
from kairos_core.audit.dead_letters import DeadLetters
from kairos_core.audit.outbox import Outbox
from kairos_core.audit.postgres import connect_postgres
from kairos_core.audit.verify import verify_trail
from kairos_core.layout import Layout
from loadtests.environment import admin, as_worker
from loadtests.guarantees.finding import Facts, Finding, directed
from loadtests.states import sample_state
from loadtests.trail import read_trail, wrong_with

if TYPE_CHECKING:
    from kairos_core import Settings, SyncState
    from kairos_core.audit.dead_letters import DeadLetter

_SESSIONS = 5
_WRITES = 20


def _migrated(settings: Settings) -> Settings:
    """The settings with one lane, and a schema for them."""
    found = msgspec.structs.replace(settings, lanes=1)
    with AuditWriter.connect(found) as writer:
        writer.migrate()
    return found


def _waiting(settings: Settings) -> int:
    with closing(Outbox.connect(as_worker(settings))) as outbox:
        return sum(outbox.depths())


def _letters(settings: Settings) -> list[DeadLetter]:
    with DeadLetters.connect(settings) as letters:
        return list(letters.letters())


def _drained(settings: Settings, kill_at: str | None) -> bool:
    """Drain in a process of its own, which kills itself at a step; whether it ended as it was to."""
    child = os.fork()
    if child == 0:
        try:
            found = as_worker(settings)
            with AuditWriter.connect(found) as writer, closing(Outbox.connect(found)) as outbox:
                drain.drain_lane(outbox, writer, 0, reached=lambda now: _kill() if now == kill_at else None)
        except BaseException:  # noqa: BLE001 - this process must not become a second check
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == (-signal.SIGKILL if kill_at else 0)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@directed("G7", "Does a drain that is killed at any point, and repeated, record each write once, in one chain?")
def a_killed_drain(settings: Settings) -> Finding:
    """SIGKILL at each step, with new writes each time, and a drain that comes to its end behind it."""
    facts = Facts()
    settings = _migrated(settings)
    with RedisStateManager.connect(settings) as manager:
        states = [manager.create_session(sample_state(f"s{number}")) for number in range(_SESSIONS)]
        for step in drain.STEPS:
            for number in range(_WRITES):
                states[number % _SESSIONS] = manager.update_session(states[number % _SESSIONS])
            facts.note(_drained(settings, step), f"killed once it had {step}")
        facts.note(_drained(settings, None), "drained to its end")
    rows = read_trail(settings)
    writes = _SESSIONS + len(drain.STEPS) * _WRITES
    facts.note(len(rows) == writes, f"{len(rows)} rows of {writes} writes")
    wrong = wrong_with(rows, {state.session_id: state.version for state in states})
    facts.note(not wrong, wrong[0] if wrong else "each session's versions once, in order, in one chain")
    letters, waiting = len(_letters(settings)), _waiting(settings)
    facts.note((letters, waiting) == (0, 0), f"{letters} dead letters, {waiting} waiting")
    violations = verify_trail(settings).violations
    facts.note(violations == 0, f"verify finds {violations} violations")
    return facts.finding


@directed("G7", "Does what PostgreSQL refuses go to the dead letters with its reason, and the rest to its rows?")
def a_refused_row_is_a_dead_letter(settings: Settings) -> Finding:
    """An event type that no row may have, among good writes."""
    facts = Facts()
    settings = _migrated(settings)
    poison = messages.Message("poison", "create", "x" * 51, "0" * 12 + "7000" + "8" + "0" * 15, 1, 1, 1, 1, _body())
    with RedisStateManager.connect(settings) as manager, admin(settings) as client:
        manager.create_session(sample_state("a"))
        client.xadd(Layout(settings.namespace, 1).outboxes[0], {"m": messages.encode(poison)})
        manager.create_session(sample_state("b"))
    facts.note(_drained(settings, None), "drained to its end")
    found = sorted(row.session_id for row in read_trail(settings))
    facts.note(found == ["a", "b"], f"rows of {' and '.join(found) or 'nothing'}")
    letters = _letters(settings)
    reasons = [f"{letter.sqlstate}: {letter.reason}" for letter in letters]
    held = len(letters) == 1 and letters[0].sqlstate == "23514" and b"poison" in letters[0].payload
    facts.note(held, f"{len(letters)} dead letters of 1 refusal{''.join(f', {reason}' for reason in reasons)}")
    facts.note(_waiting(settings) == 0, f"{_waiting(settings)} waiting")
    return facts.finding


def _body() -> msgspec.Raw:
    return msgspec.Raw(b'{"sync_mode":"global","status":"pending","participants":[]}')


@directed("G7", "Does the latest row of a session stay the latest, in whatever order batches arrive?")
def a_session_row_never_goes_back(settings: Settings) -> Finding:
    """The second half of a session's writes recorded before the first one."""
    facts = Facts()
    settings = _migrated(settings)
    with RedisStateManager.connect(settings) as manager:
        state = manager.create_session(sample_state("a"))
        for turns in range(1, 4):
            state = manager.update_session(state.replace(metadata={"turns": turns}))
    found = as_worker(settings)
    with AuditWriter.connect(found) as writer, closing(Outbox.connect(found)) as outbox:
        entries = outbox.read(0, 10)
        for half in (entries[2:], entries[:2]):
            writer.write(0, half)
            version, turns = _latest(settings, state)
            facts.note((version, turns) == (4, 3), f"the row is at version {version}, turns {turns}")
    return facts.finding


def _latest(settings: Settings, state: SyncState) -> tuple[int, Any]:
    table = sql.Identifier(settings.namespace, "sync_sessions")
    query = sql.SQL("SELECT version, state_snapshot -> 'metadata' -> 'turns' FROM {} WHERE session_id = %s")
    with closing(connect_postgres(settings)) as connection:
        ((version, turns),) = connection.execute(query.format(table), [state.session_id]).fetchall()
    return version, turns
