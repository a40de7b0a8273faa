"""The checks between instances: each asks one question of several processes and answers with numbers.

The first four are SyncKairos' own. The fifth it never had: increments from four processes, none of which may be lost.
The sixth looks for the same writes in the audit trail.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Protocol

import msgspec
from psycopg import sql

from kairos_core.audit.outbox import Outbox
from kairos_core.audit.postgres import connect_postgres
from loadtests.instances import Instance
from loadtests.waiting import wait_until

if TYPE_CHECKING:
    from kairos_core import Settings

PROCESSES = 4
INCREMENTS = 500
_DELIVERY_TIMEOUT_S = 5.0
_AUDIT_TIMEOUT_S = 30.0


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one question.

    Attributes:
        name: the check.
        guarantee: the number of the guarantee it bears on.
        question: what was asked.
        passed: whether it held.
        evidence: what was seen, in a sentence with numbers.
        duration_s: how long it took.
    """

    name: str
    guarantee: str
    question: str
    passed: bool
    evidence: str
    duration_s: float = 0.0


def created_is_read(settings: Settings, mutant: str | None = None) -> CheckResult:
    """One instance creates a session, another reads it."""
    with Instance(settings, mutant) as one, Instance(settings, mutant) as other:
        created = one.ask("create", session_id="created-is-read")
        read = other.ask("get", session_id="created-is-read")
    return CheckResult(
        name="created_is_read",
        guarantee="G2",
        question="One instance creates a session: does another read it?",
        passed=created == read and read["found"],
        evidence=f"created version {created['version']}, the other read {_version(read)}",
    )


def updated_is_seen(settings: Settings, mutant: str | None = None) -> CheckResult:
    """One instance updates a session that the other has read before; the other sees the update."""
    with Instance(settings, mutant) as one, Instance(settings, mutant) as other:
        one.ask("create", session_id="updated-is-seen")
        other.ask("get", session_id="updated-is-seen")
        one.ask("get", session_id="updated-is-seen")
        updated = one.ask("update", session_id="updated-is-seen", title="changed")
        read = other.ask("get", session_id="updated-is-seen")
    return CheckResult(
        name="updated_is_seen",
        guarantee="G2",
        question="One instance updates a session: does another see it at once?",
        passed=(read.get("version"), read.get("title")) == (2, "changed") and not updated["conflict"],
        evidence=f"updated to version {_version(updated)}, the other then read {_version(read)}, "
        f"title {read.get('title')!r}",
    )


def update_is_delivered(settings: Settings, mutant: str | None = None) -> CheckResult:
    """An update by one instance reaches a watcher in another."""
    with Instance(settings, mutant) as one, Instance(settings, mutant) as other:
        one.ask("create", session_id="update-is-delivered")
        other.ask("watch")
        one.ask("get", session_id="update-is-delivered")
        one.ask("update", session_id="update-is-delivered", title="delivered")
        received = other.ask("receive", timeout_s=_DELIVERY_TIMEOUT_S)
    return CheckResult(
        name="update_is_delivered",
        guarantee="G8",
        question="One instance updates a session: does a watcher in another receive it?",
        passed=received.get("title") == "delivered" and received.get("version") == 2,
        evidence=f"received version {_version(received)}, title {received.get('title')!r}"
        if received["received"]
        else f"nothing received within {_DELIVERY_TIMEOUT_S:g} s",
    )


def stale_is_refused(settings: Settings, mutant: str | None = None) -> CheckResult:
    """A write derived from an old version is refused, and leaves the newer state."""
    with Instance(settings, mutant) as one, Instance(settings, mutant) as other:
        one.ask("create", session_id="stale-is-refused")
        one.ask("get", session_id="stale-is-refused")
        other.ask("get", session_id="stale-is-refused")
        one.ask("update", session_id="stale-is-refused", title="first")
        refused = other.ask("update", session_id="stale-is-refused", title="second")
        read = one.ask("get", session_id="stale-is-refused")
    return CheckResult(
        name="stale_is_refused",
        guarantee="G1",
        question="Two instances write from the same version: is the second refused?",
        passed=refused["conflict"] and refused.get("stored_version") == 2 and read.get("title") == "first",
        evidence=f"the second writer was {'refused' if refused['conflict'] else 'accepted'}; "
        f"stored is version {_version(read)}, title {read.get('title')!r}",
    )


def nothing_is_lost(
    settings: Settings, mutant: str | None = None, *, session_id: str = "nothing-is-lost"
) -> CheckResult:
    """Four processes add one to a counter 500 times each; it ends at 2,000 exactly."""
    with ExitStack() as stack:
        instances = [stack.enter_context(Instance(settings, mutant)) for _ in range(PROCESSES)]
        instances[0].ask("create", session_id=session_id)
        for instance in instances:
            instance.ask("get", session_id=session_id)
        # Together, once all have connected: a head start would be a run without rivals.
        start_at = time.monotonic() + 0.05
        for instance in instances:
            instance.tell("increment", session_id=session_id, times=INCREMENTS, start_at=start_at)
        answers = [instance.answer() for instance in instances]
        final = stack.enter_context(Instance(settings)).ask("get", session_id=session_id)
    acknowledged = sum(answer["acknowledged"] for answer in answers)
    conflicts = sum(answer["conflicts"] for answer in answers)
    return CheckResult(
        name="nothing_is_lost",
        guarantee="G1",
        question=f"{PROCESSES} processes increment one session {INCREMENTS} times each: is any acknowledged "
        "increment lost?",
        # Without a conflict the processes never met, and nothing was shown.
        passed=final["turns"] == acknowledged == PROCESSES * INCREMENTS
        and final["version"] == acknowledged + 1
        and conflicts > 0,
        evidence=f"{final['turns']:,} of {acknowledged:,} acknowledged increments counted, "
        f"{conflicts:,} conflicts retried, version {final['version']:,}",
    )


def everything_is_recorded(
    settings: Settings, mutant: str | None = None, *, session_id: str = "nothing-is-lost"
) -> CheckResult:
    """Every acknowledged write of the fifth check becomes exactly one row, in order. Needs a running worker."""
    if mutant is not None:
        raise ValueError("this check looks at what the fifth one wrote: give the mutant to that")
    expected = PROCESSES * INCREMENTS + 1
    with closing(Outbox.connect(settings)) as outbox:
        wait_until(lambda: not any(outbox.depths()), _AUDIT_TIMEOUT_S)
        left = sum(outbox.depths())
    with connect_postgres(settings) as connection:
        row = connection.execute(
            sql.SQL(
                "SELECT count(*), count(DISTINCT version), coalesce(max(version), 0),"
                " count(*) FILTER (WHERE (state_snapshot -> 'metadata' ->> 'turns')::int = version - 1)"
                " FROM {} WHERE session_id = %s"
            ).format(sql.Identifier(settings.namespace, "sync_events")),
            [session_id],
        ).fetchone()
    rows, versions, highest, in_step = row or (0, 0, 0, 0)
    return CheckResult(
        name="everything_is_recorded",
        guarantee="G7",
        question="Is every acknowledged write exactly one row of the audit trail, with its state?",
        passed=(left, rows, versions, highest, in_step) == (0, expected, expected, expected, expected),
        evidence=f"{rows:,} rows for {expected:,} writes, versions 1 to {highest:,}, {in_step:,} with the state "
        f"written, {left:,} left in the outbox",
    )


class Check(Protocol):
    """A question to several processes."""

    __name__: str

    def __call__(self, settings: Settings, mutant: str | None = None) -> CheckResult:
        """Ask it, of processes that are broken in one way if `mutant` names it."""


CHECKS: tuple[Check, ...] = (
    created_is_read,
    updated_is_seen,
    update_is_delivered,
    stale_is_refused,
    nothing_is_lost,
    everything_is_recorded,
)


def run(check: Check, settings: Settings) -> CheckResult:
    """Run one check and note how long it took."""
    start = time.monotonic()
    result = check(settings)
    return msgspec.structs.replace(result, duration_s=round(time.monotonic() - start, 3))


def _version(answer: dict[str, object]) -> str:
    return f"{answer['version']}" if "version" in answer else "nothing"
