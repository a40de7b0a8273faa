"""`kairos audit verify`: shows that the trail is complete and unaltered, and is what the store holds (G13)."""

from __future__ import annotations

import contextlib
from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import psycopg
from psycopg import IsolationLevel, sql

from kairos_core.audit.copied import lines, read_event, read_known
from kairos_core.audit.findings import Finding, Kind
from kairos_core.audit.letters import read_letters
from kairos_core.audit.reading import connect_to_read, statement
from kairos_core.audit.store import StoreView
from kairos_core.audit.trail import judge
from kairos_core.errors import ConfigurationError, KairosError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from kairos_core.audit.trail import Row, Verdict
    from kairos_core.settings import Settings

_ALL = statement("verify_events"), statement("verify_known")
_SOME = statement("verify_events_of"), statement("verify_known_of")

# Sessions that are looked at again before they are judged, and of which it is kept what is wrong with them.
_LOOKED_AT_AGAIN = 1_000
# Events between two words on how far it is.
_STEP = 1_000


class Report:
    """What a verification found.

    Attributes:
        sessions: how many sessions were verified.
        events: how many events were read.
        anchored: how many sessions begin behind an anchor: of what lies before it, nothing is shown.
        letters: dead letters that wait.
        found: how many of each kind.
        findings: what is wrong, by session: of the first sessions all, of the rest nothing but the numbers.
        fingerprint: SHA-256 over all sessions' ids and where their chains begin and end.
        compared: how many sessions were compared with the store; None where none was.
        not_compared: why not all were; None where they were, or were not to be.
    """

    def __init__(self) -> None:
        self.sessions = 0
        self.events = 0
        self.anchored = 0
        self.letters = 0
        self.found: Counter[Kind] = Counter()
        self.findings: dict[str, list[Finding]] = {}
        self.compared: int | None = None
        self.not_compared: str | None = None
        self._digest = sha256()

    @property
    def fingerprint(self) -> str:
        """SHA-256 in hexadecimal digits."""
        return self._digest.hexdigest()

    @property
    def violations(self) -> int:
        """How many of what breaks a guarantee."""
        return sum(number for kind, number in self.found.items() if kind.is_violation)

    @property
    def first(self) -> Finding | None:
        """The first violation, by session."""
        violations = (one for session_id in sorted(self.findings) for one in self.findings[session_id])
        return next((one for one in violations if one.kind.is_violation), None)

    def kinds_of(self, session_id: str) -> set[Kind]:
        """What kinds of wrong a session has."""
        return {finding.kind for finding in self.findings.get(session_id, ())}

    def take(self, verdict: Verdict) -> None:
        """Take what was found of the next session."""
        self.sessions += 1
        position, before = verdict.anchor
        self.anchored += verdict.anchor[0] > 0
        head = f"{verdict.session_id}\n{position}\n{before.hex()}\n{verdict.length}\n{verdict.chain_hash.hex()}\n"
        self._digest.update(head.encode())
        self.add(verdict.session_id, verdict.findings)

    def add(self, session_id: str, findings: Sequence[Finding]) -> None:
        """Add findings of a session."""
        for finding in findings:
            self.found[finding.kind] += finding.number
        if findings and (session_id in self.findings or len(self.findings) < _LOOKED_AT_AGAIN):
            self.findings.setdefault(session_id, []).extend(findings)

    def withdraw(self, session_id: str) -> None:
        """Take back what was found of a session."""
        for finding in self.findings.pop(session_id, ()):
            self.found[finding.kind] -= finding.number


def verify_trail(
    settings: Settings, session_id: str | None = None, progress: Callable[[int], None] = lambda _: None
) -> Report:
    """Verify what PostgreSQL has, of all sessions or of one; the store is not asked.

    All is read in one snapshot, so that what is recorded meanwhile confuses nothing. What looks wrong is looked at once
    more in another: a partition that is detached meanwhile goes out of the snapshot.

    Args:
        settings: where it is.
        session_id: only this session.
        progress: told now and then how many events have been read.

    Raises:
        ConfigurationError: it cannot be reached, or its schema is not of this version.
    """
    report = Report()
    try:
        with _snapshot(settings) as snapshot:
            session_ids = None if session_id is None else [session_id]
            with contextlib.closing(snapshot.verdicts(session_ids, report, progress)) as verdicts:
                for verdict in verdicts:
                    report.take(verdict)
        if suspects := list(report.findings):
            with _snapshot(settings) as snapshot:
                for suspect in suspects:
                    report.withdraw(suspect)
                with contextlib.closing(snapshot.verdicts(suspects, Report(), lambda _: None)) as verdicts:
                    for verdict in verdicts:
                        report.add(verdict.session_id, verdict.findings)
    except psycopg.Error as error:
        raise ConfigurationError("KAIROS_POSTGRES_URL", f"reading the trail: {one_line(error)}") from error
    return report


def verify(
    settings: Settings, session_id: str | None = None, progress: Callable[[str, int], None] = lambda *_: None
) -> Report:
    """Verify what PostgreSQL has, then compare it with the store.

    Args:
        settings: where they are.
        session_id: only this session.
        progress: told now and then how many of what have been looked at.

    Raises:
        ConfigurationError: one of them cannot be reached, or is not of this version. Where that comes later, the report
            tells of it, beside what was found: see `Report.not_compared`.
    """
    # Before the long part, so that what cannot be done is said at once.
    view = StoreView(settings)
    try:
        report = verify_trail(settings, session_id, lambda number: progress("events", number))
        try:
            for finding in view.findings(session_id, lambda number: progress("sessions", number)):
                if finding.kind is not Kind.BURIED or Kind.BURIED not in report.kinds_of(finding.session_id):
                    report.add(finding.session_id, [finding])
            report.compared = view.compared
        except psycopg.Error as error:
            report.not_compared = f"PostgreSQL: {one_line(error)}"
        except KairosError as error:
            report.not_compared = one_line(error)
    finally:
        view.close()
    return report


@contextlib.contextmanager
def _snapshot(settings: Settings) -> Iterator[_Snapshot]:
    """Two connections that see the trail as it is at the same moment: each reads a stream of its own."""
    with connect_to_read(settings) as first, connect_to_read(settings) as second:
        for connection in (first, second):
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
        ((name,),) = first.execute("SELECT pg_export_snapshot()").fetchall()
        second.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name)))
        yield _Snapshot(first, second)


class _Snapshot(NamedTuple):
    events: psycopg.Connection
    known: psycopg.Connection

    def verdicts(
        self, session_ids: list[str] | None, report: Report, progress: Callable[[int], None]
    ) -> Generator[Verdict, None, None]:
        """What these sessions are found to be, or all; to be closed before the connections are, which wait for it."""
        letters, report.letters = read_letters(self.known, session_ids)
        of_events, of_known = _ALL if session_ids is None else _SOME
        ids = None if session_ids is None else {"ids": session_ids}
        with (
            contextlib.closing(lines(self.events, of_events, session_ids)) as events,
            contextlib.closing(lines(self.known, of_known, ids)) as known,
        ):
            yield from judge(self._rows(events, report, progress), map(read_known, known), letters)

    @staticmethod
    def _rows(read: Iterator[bytes], report: Report, progress: Callable[[int], None]) -> Iterator[tuple[str, Row]]:
        number = 0
        for line in read:
            number += 1
            if number % _STEP == 0:
                report.events = number
                progress(number)
            yield read_event(line)
        report.events = number
        progress(number)
