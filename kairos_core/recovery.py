"""Recovery: sessions that Redis has lost are restored from the audit trail, each under a new incarnation (G12).

What is restored was neither ended nor is it there. For the sessions of a lane, in this order:

1. The lane's latest incarnation is read, which each creation raises.
2. The sessions that are there are left alone; only those that are not are looked at further.
3. The lane's outbox is read: a session of which anything waits there is left for later.
4. What is recorded of the others is read, once all who are recording that lane now are done.
5. Each is restored by one script, which refuses where the session is there, or where the lane's latest incarnation is
   not the one that was read first (or that the restoration before it has made).

A session that was not there at 2 and not created since has not been written at all since, so it is not there at 5,
either; and all that was ever written to it was in the outbox at 3 or had left it before, which an entry does once it is
recorded. So its last write was read at 4, be it a deletion. (One that went to the dead letters instead is looked for
there.) Writers, workers and other recoveries may do at any time what they do.

A session that is there is never touched. A stale writer holds an older incarnation, and is refused.

What was not recorded when Redis lost it, be it an acknowledged deletion, is lost: what is recorded is all that there
is. (A worker that had read it by then is waited for if it is recording it; not if it has not begun.) Durability is the
remedy.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from kairos_core import session
from kairos_core.audit.outbox import Entry, Outbox
from kairos_core.audit.recorded import Living, Records
from kairos_core.blocking import BlockingTransport
from kairos_core.commands import new_operation_id, recovery_limit
from kairos_core.errors import AuditBacklogFull, CorruptState, InvalidState, Stamp
from kairos_core.ground import info_command
from kairos_core.layout import Layout
from kairos_core.operations import Operations
from kairos_core.session import SyncState
from kairos_core.transport import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kairos_core.audit.recorded import Recorded
    from kairos_core.settings import Settings

# Rows that are read at once to find what is lost, and entries of an outbox.
_PAGE = 4_000
_SCAN = 1_000
# Sessions of one lane that are restored at once, and about how many bytes their states may take together.
_CHUNK = 250
_CHUNK_BYTES = 8 * 1024 * 1024
# Sessions that wait for the drain before it is waited for.
_DEFERRED = 10_000
# Seconds for which the drain is waited for once it has stopped.
PATIENCE_S = 5.0
_POLL_S = 0.05
# Attempts at one session, each of which another's creation in its lane may spoil.
_ATTEMPTS = 50
# Entries of which is known whose they are, before those that left the outbox are forgotten.
_REMEMBERED = 10_000
_SPREAD_US = 1_000_000
# No clock says such a time (2112), and what rises from there soon leaves the range of integers.
_LARGEST_INCARNATION = session.MAX_INTEGER // 2

# What restore.lua answers first.
_RESTORED, _EXISTS, _RIVAL, _FULL, _CORRUPT = range(5)

_decoder = msgspec.json.Decoder(SyncState)

WAITING = "writes to it wait in the outbox: is a worker running?"
CROWDED = "sessions of its lane are created all the time"
NO_SESSION = "what is stored under its key is not a session"


class Case(Enum):
    """What is the matter with a session."""

    RESTORED = "restored"  # it was lost; in a dry run: it would be restored
    LIVE = "live"  # it is there
    OLDER = "older"  # it is there, and the audit has a later version: the store was put back
    OVER = "over"  # it was lost, but would have expired by now
    ENDED = "ended"  # it was deleted, or expired
    UNKNOWN = "unknown"  # nothing is recorded of it
    SKIPPED = "skipped"  # it could not be told what is the matter, or not now
    INVALID = "invalid"  # what is recorded, or stored, is no state


# Sessions that are not, or not wholly, as they were.
_FAILURES = (Case.OLDER, Case.UNKNOWN, Case.SKIPPED, Case.INVALID)


class Verdict(NamedTuple):
    """What is to be done with a session that is not there.

    Attributes:
        case: RESTORED where it is to be restored.
        reason: why not, where it takes words.
        body: the state to restore.
        incarnation: the recorded one.
    """

    case: Case
    reason: str = ""
    body: bytes = b""
    incarnation: int = 0


class Report:
    """What came of a recovery, so far.

    Attributes:
        counts: how many sessions of each case.
        first: of each case, the first session and the reason.
    """

    def __init__(self) -> None:
        self.counts: Counter[Case] = Counter()
        self.first: dict[Case, tuple[str, str]] = {}

    def note(self, session_id: str, case: Case, reason: str = "") -> None:
        """Note what became of a session."""
        self.counts[case] += 1
        self.first.setdefault(case, (session_id, reason))

    @property
    def total(self) -> int:
        """How many sessions were looked at and are done with."""
        return self.counts.total()

    @property
    def restored(self) -> int:
        """How many were restored, or would be."""
        return self.counts[Case.RESTORED]

    @property
    def is_complete(self) -> bool:
        """Whether every session is as it was, or ended."""
        return not any(self.counts[case] for case in _FAILURES)


def judge(recorded: Recorded | None, now_us: int, ttl_us: int | None, limit_bytes: int) -> Verdict:
    """Tell what is to be done with a session that is not there, from what is recorded of it.

    Args:
        recorded: the last that is recorded.
        now_us: the store's time in microseconds since 1970.
        ttl_us: how long a session lives after its last write, in microseconds; None: also one that is over is restored.
        limit_bytes: bytes that a state may take as JSON.
    """
    if recorded is None:
        return Verdict(Case.UNKNOWN)
    if recorded.is_ended:
        return Verdict(Case.ENDED)
    if recorded.doubt:
        return Verdict(Case.SKIPPED, recorded.doubt)
    if ttl_us is not None and recorded.updated_us + ttl_us <= now_us:
        return Verdict(Case.OVER)
    try:
        return Verdict(Case.RESTORED, "", _body(recorded, limit_bytes), recorded.stamp.incarnation)
    except InvalidState as error:
        return Verdict(Case.INVALID, str(error))


def _body(recorded: Recorded, limit_bytes: int) -> bytes:
    """The JSON of a recorded state without the fields that the server assigns, validated like any that is written.

    Raises:
        InvalidState: it is none, or another's.
    """
    try:
        state = _decoder.decode(recorded.snapshot)
    except session.MALFORMED as error:
        raise InvalidState(session.explain(error)) from error
    if (state.session_id, state.stamp) != (recorded.session_id, recorded.stamp):
        raise InvalidState("the recorded state is another session's, or another version's")
    if state.incarnation > _LARGEST_INCARNATION:
        raise InvalidState("the recorded incarnation is none")
    return session.encode(state, limit_bytes)[0]


def parts(wanted: Iterable[Living], count: int, limit_bytes: int) -> Iterator[dict[str, Living]]:
    """Divide sessions into parts of so many, and of about so many bytes of state, at most."""
    part: dict[str, Living] = {}
    total = 0
    for living in wanted:
        if part and (len(part) >= count or total + living.size > limit_bytes):
            yield part
            part, total = {}, 0
        part[living.session_id] = living
        total += living.size
    if part:
        yield part


class Backlog:
    """Whose writes wait in a lane's outbox; what has been read of it once is not read again.

    That holds as long as it is the same server's: one that has taken its place may have lost entries and made others.
    So each look ends with the question which one it is.

    Attributes:
        own: operations of this recovery, whose entries tell nothing new; those of one look are forgotten with the next.
        oldest: the place of the oldest entry at the last look; None where there was none.
    """

    def __init__(self, outbox: Outbox, lane: int, identify: Callable[[], str]) -> None:
        self._outbox = outbox
        self._lane = lane
        self._identify = identify
        self._identity = ""
        self.own: set[str] = set()
        self._forget()

    def _forget(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}
        self._through: bytes | None = None
        self.oldest: tuple[int, int] | None = None
        self._prune_at = _REMEMBERED

    def look(self) -> None:
        """Read what has come since the last look."""
        self._identity = self._identity or self._identify()
        while True:
            self._read()
            identity = self._identify()
            if identity == self._identity:
                break
            self._forget()
            self._identity = identity

    def holds(self, session_id: str) -> bool:
        """Whether a write to this session waited at the last look."""
        last = self._last.get(session_id)
        return last is not None and self.oldest is not None and last >= self.oldest

    def _read(self) -> None:
        oldest = self._outbox.read(self._lane, 1)
        self.oldest = _place(oldest[0].entry_id) if oldest else None
        has_more = True
        while has_more:
            entries, has_more = self._outbox.read_batch(self._lane, _SCAN, self._through)
            if entries:
                self.oldest = self.oldest or _place(entries[0].entry_id)
                self._through = entries[-1].entry_id
            for entry in entries:
                # One that nobody can read will be buried: nobody knows whose it is.
                if isinstance(entry, Entry) and entry.message.operation_id not in self.own:
                    self._last[entry.message.session_id] = _place(entry.entry_id)
        self.own.clear()
        if len(self._last) > self._prune_at:
            self._last = {session_id: last for session_id, last in self._last.items() if self.holds(session_id)}
            self._prune_at = max(_REMEMBERED, 2 * len(self._last))


def _place(entry_id: bytes) -> tuple[int, int]:
    """An entry's place in its stream, from its id."""
    milliseconds, _, sequence = entry_id.partition(b"-")
    return int(milliseconds), int(sequence)


class Recovery:
    """Restores what is lost, over connections of its own; not to be shared between threads.

    Attributes:
        report: what came of it so far.

    Args:
        settings: where the store and the audit are.
        records: what is recorded.
        dry_run: change nothing, and wait for nothing.
        even_expired: restore sessions, too, that would have expired by now.
        patience_s: seconds for which the drain is waited for once it has stopped.
    """

    def __init__(
        self,
        settings: Settings,
        records: Records,
        *,
        dry_run: bool = False,
        even_expired: bool = False,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.report = Report()
        self._operations = Operations(settings, BlockingTransport)
        self._commands = self._operations.commands
        self._link = self._operations.link
        self._layout = Layout(settings.namespace, settings.lanes)
        self._records = records
        self._dry_run = dry_run
        self._ttl_us = None if even_expired else round(settings.session_ttl_s * 1e6)
        self._limit_bytes = settings.state_limit_bytes
        self._outbox_limit = recovery_limit(settings)
        self._patience_s = 0.0 if dry_run else patience_s
        outbox = Outbox(self._operations, self._layout)
        self._backlogs = [Backlog(outbox, lane, self._identifier(lane)) for lane in range(settings.lanes)]

    @classmethod
    def connect(cls, settings: Settings, *, dry_run: bool = False, even_expired: bool = False) -> Self:
        """Connect, and refuse ground that is unsafe (G14).

        Raises:
            ConfigurationError: names the setting and the cause in one line.
        """
        recovery = cls(settings, Records.connect(settings), dry_run=dry_run, even_expired=even_expired)
        try:
            run(recovery._operations.check("recover", lay_out=not dry_run))
        except BaseException:
            recovery.close()
            raise
        return recovery

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._link.close()
        self._records.close()

    def recover_all(self, progress: Callable[[Report], None] = lambda _: None) -> Report:
        """Restore all that is lost. Interrupted anywhere, it can be begun again.

        Raises:
            AuditBacklogFull: an outbox is full, and nobody drains it; what is restored is restored.
            StoreUnavailable: the store cannot be asked, or takes no writes.
            psycopg.Error: the audit cannot be read.
        """
        deferred: list[Living] = []
        for page in self._records.living(_PAGE):
            lost = self._absent({living.session_id: living for living in page})
            for lane, wanted in self._by_lane(lost.values()).items():
                for part in parts(wanted, _CHUNK, _CHUNK_BYTES):
                    deferred += self._settle(lane, part)
                    progress(self.report)
            if len(deferred) >= _DEFERRED:
                self._settle_deferred(deferred)
                deferred = []
            progress(self.report)
        self._settle_deferred(deferred)
        return self.report

    def recover_one(self, session_id: str) -> Report:
        """Restore one session, if it is lost; the report has its case.

        Raises:
            InvalidState: this is not a session's id.
            AuditBacklogFull, StoreUnavailable, psycopg.Error: as in `recover_all`.
        """
        lane = self._layout.lane_of(session.check_session_id(session_id))
        recorded = self._records.read(lane, [session_id]).get(session_id)
        stamp = Stamp(0, 0) if recorded is None or recorded.is_ended else recorded.stamp
        self._settle_deferred(self._settle(lane, {session_id: Living(session_id, stamp, 0)}))
        return self.report

    def _by_lane(self, wanted: Iterable[Living]) -> dict[int, list[Living]]:
        found: dict[int, list[Living]] = {}
        for living in wanted:
            found.setdefault(self._layout.lane_of(living.session_id), []).append(living)
        return found

    def _settle_deferred(self, deferred: Iterable[Living]) -> None:
        """Settle sessions of which writes wait in an outbox, as the drain moves on; skip them where it does not."""
        waiting = self._by_lane(deferred)
        before: object = None
        while waiting:
            # Their number, and how far the drain has come.
            now = [(len(wanted), self._backlogs[lane].oldest) for lane, wanted in waiting.items()]
            if now != before:
                before, until = now, time.monotonic() + self._patience_s
            elif time.monotonic() >= until:
                break
            time.sleep(_POLL_S)
            for lane, wanted in list(waiting.items()):
                waiting[lane] = [
                    living for part in parts(wanted, _CHUNK, _CHUNK_BYTES) for living in self._settle(lane, part)
                ]
                if not waiting[lane]:
                    del waiting[lane]
        for living in itertools.chain.from_iterable(waiting.values()):
            self.report.note(living.session_id, Case.SKIPPED, WAITING)

    def _settle(self, lane: int, wanted: dict[str, Living]) -> list[Living]:
        """Settle sessions of a lane; return those of which writes wait in its outbox."""
        todo = dict(wanted)
        deferred: list[Living] = []
        size, spoilt = len(todo), 0
        while todo:
            part = dict(itertools.islice(todo.items(), size))
            left, waiting = self._attempt(lane, part)
            deferred += waiting
            for session_id in part.keys() - left:
                del todo[session_id]
            if len(left) < len(part):
                spoilt, size = 0, min(2 * size, len(wanted))
                continue
            # Another's creation came in between. Fewer at once take less time, so that there is more chance of none.
            spoilt, size = spoilt + 1, max(1, size // 2)
            if spoilt == _ATTEMPTS:
                for session_id in part:
                    self.report.note(session_id, Case.SKIPPED, CROWDED)
                    del todo[session_id]
                spoilt = 0
        return deferred

    def _attempt(self, lane: int, part: dict[str, Living]) -> tuple[set[str], list[Living]]:
        """Take the five steps once; return those that are to be tried again, and those that wait for the drain."""
        life = run(self._link.call(self._commands.life(lane)))
        absent = self._absent(part)
        if not absent:
            return set(), []
        now_us = run(self._link.call(self._commands.clock(lane))) * 1000
        backlog = self._backlogs[lane]
        backlog.look()
        waiting = [living for living in absent.values() if backlog.holds(living.session_id)]
        asked = absent.keys() - {living.session_id for living in waiting}
        recorded = self._records.read(lane, asked) if asked else {}
        lost: dict[str, Verdict] = {}
        # In their order.
        for session_id in filter(asked.__contains__, absent):
            verdict = judge(recorded.get(session_id), now_us, self._ttl_us, self._limit_bytes)
            if verdict.case is Case.RESTORED and not self._dry_run:
                lost[session_id] = verdict
            else:
                self.report.note(session_id, verdict.case, verdict.reason)
        return self._restore(lane, life, now_us, lost, part) if lost else set(), waiting

    def _restore(
        self, lane: int, life: int | None, now_us: int, lost: dict[str, Verdict], known: dict[str, Living]
    ) -> set[str]:
        """Restore sessions, each if the lane's latest incarnation is the one before its own; return which were not."""
        commands = []
        # At random, so that no other recovery makes the same: what is expected next would then not be this one's alone.
        now_us = max(now_us, (life or 0) + 1) + secrets.randbelow(_SPREAD_US)
        for session_id, verdict in lost.items():
            incarnation = max(now_us, (life or 0) + 1, verdict.incarnation + 1 + secrets.randbelow(_SPREAD_US))
            operation_id = new_operation_id(lane)
            self._backlogs[lane].own.add(operation_id)
            commands.append(self._commands.restore(session_id, verdict.body, incarnation, life, operation_id))
            life = incarnation
        left: set[str] = set()
        is_full = False
        for session_id, (answer, *more) in zip(lost, run(self._link.call_many(commands)), strict=True):
            if answer == _RESTORED:
                self.report.note(session_id, Case.RESTORED)
            elif answer == _EXISTS:
                self._note_there(session_id, Stamp(*more), known[session_id].stamp)
            elif answer == _CORRUPT:
                self.report.note(session_id, Case.INVALID, NO_SESSION)
            else:
                left.add(session_id)
                is_full |= answer == _FULL
        if is_full:
            self._await_room(lane)
        return left

    def _await_room(self, lane: int) -> None:
        """Wait until there is room in a lane's outbox.

        Raises:
            AuditBacklogFull: it does not get emptier.
        """
        room = min(_CHUNK, self._outbox_limit)
        lowest: int | None = None
        while (depth := run(self._link.call(self._commands.depth(lane)))) > self._outbox_limit - room:
            if lowest is None or depth < lowest:
                lowest, until = depth, time.monotonic() + self._patience_s
            elif time.monotonic() >= until:
                raise AuditBacklogFull(lane, depth)
            time.sleep(_POLL_S)

    def _absent(self, wanted: dict[str, Living]) -> dict[str, Living]:
        """Of these sessions those that are not there; what the others are is noted."""
        absent: dict[str, Living] = {}
        for session_id, stored in self._stored(list(wanted)).items():
            if stored is None:
                absent[session_id] = wanted[session_id]
            elif isinstance(stored, CorruptState):
                self.report.note(session_id, Case.INVALID, NO_SESSION)
            else:
                self._note_there(session_id, stored, wanted[session_id].stamp)
        return absent

    def _stored(self, session_ids: list[str]) -> dict[str, Stamp | CorruptState | None]:
        """Which versions are there; what is there and is no session does not hide the others."""
        try:
            found = run(self._link.call_many([self._commands.stamp(session_id) for session_id in session_ids]))
        except CorruptState as error:
            if len(session_ids) == 1:
                return {session_ids[0]: error}
            middle = len(session_ids) // 2
            return self._stored(session_ids[:middle]) | self._stored(session_ids[middle:])
        return dict(zip(session_ids, found, strict=True))

    def _note_there(self, session_id: str, stored: Stamp, recorded: Stamp) -> None:
        if stored < recorded:
            self.report.note(session_id, Case.OLDER, f"it is {stored}, recorded is {recorded}")
        else:
            self.report.note(session_id, Case.LIVE)

    def _identifier(self, lane: int) -> Callable[[], str]:
        command = info_command(self._layout, lane)

        def identify() -> str:
            """Which server has the lane now, and whose data it goes on with."""
            info = run(self._link.call(command))
            return f"{info.get('run_id')} {info.get('master_replid')}"

        return identify
