"""Directed checks of single writes: what is refused, what is left behind, what is sent again (G1 to G5, G10)."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from kairos_core import (
    AuditBacklogFull,
    InvalidState,
    KairosError,
    RedisStateManager,
    SessionExists,
    SessionNotFound,
    SyncState,
    VersionConflict,
)
from kairos_core.layout import Layout
from loadtests.environment import admin
from loadtests.guarantees.finding import Facts, Finding, directed
from loadtests.guarantees.on_the_way import Ear, drop_replies, pass_all, through
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from kairos_core import Settings


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returned, or the error that it raised."""
    try:
        return call()
    except KairosError as error:
        return error


def said(answer: Any) -> str:
    """An outcome in a word or two."""
    if isinstance(answer, KairosError):
        return type(answer).__name__
    return f"version {answer.version}" if hasattr(answer, "version") else repr(answer)


def titled(state: SyncState, title: str) -> SyncState:
    """The state with another title."""
    return state.replace(metadata={"title": title})


@directed("G1", "Is a writer refused who derived from an older version, or from a life that is over?")
def a_stale_writer_is_refused(settings: Settings) -> Finding:
    """Updates and conditional deletions of an older version and of an older incarnation."""
    facts = Facts()
    with RedisStateManager.connect(settings) as manager:

        def refused(what: str, call: Callable[[], Any], current: SyncState) -> None:
            answer = outcome(call)
            held = isinstance(answer, VersionConflict) and answer.current == current.stamp
            facts.note(held and manager.get_session("a") == current, f"{what}: {said(answer)}")

        first = manager.create_session(sample_state("a"))
        second = manager.update_session(titled(first, "second"))
        refused("an update of version 1 where 2 is stored", lambda: manager.update_session(titled(first, "x")), second)
        refused(
            "a deletion of version 1 where 2 is stored", lambda: manager.delete_session("a", if_unchanged=first), second
        )
        manager.delete_session("a")
        # Whatever version the caller's state says: the server assigns it.
        again = manager.create_session(titled(second, "again"))
        facts.note(
            again.version == 1 and again.incarnation > first.incarnation, f"created again from it: {said(again)}"
        )
        refused("an update of version 1 of the former life", lambda: manager.update_session(titled(first, "x")), again)
        refused(
            "a deletion of version 1 of the former life",
            lambda: manager.delete_session("a", if_unchanged=first),
            again,
        )
    return facts.finding


def _touchy(known: SyncState) -> Callable[[SyncState], SyncState]:
    """A change that raises an error of a state that is known, and of no other."""

    def change(state: SyncState) -> SyncState:
        if state == known:
            raise InvalidState("not of this one")
        return titled(state, f"{state.metadata['title']}, changed")

    return change


@directed("G2", "Does a mutation that is tried on a known state go by what is stored?")
def what_is_known_is_no_answer(settings: Settings) -> Finding:
    """Known states of an older version, of a former life, and of what is gone, to changes that raise or do not."""
    facts = Facts()
    with RedisStateManager.connect(settings) as manager:

        def asked(what: str, known: SyncState) -> None:
            changes = {
                "": lambda state: titled(state, f"{state.metadata['title']}, changed"),
                " and raises": _touchy(known),
            }
            for way, change in changes.items():
                before = manager.get_session("a")
                answer = outcome(partial(manager.mutate_session, "a", change, known=known))
                if before is None:
                    facts.note(isinstance(answer, SessionNotFound), f"{what}{way}: {said(answer)}")
                    continue
                expected = (before.version + 1, f"{before.metadata['title']}, changed")
                held = isinstance(answer, SyncState) and (answer.version, answer.metadata["title"]) == expected
                facts.note(held and answer == manager.get_session("a"), f"{what}{way}: {said(answer)}")

        first = manager.create_session(sample_state("a"))
        manager.update_session(titled(first, "second"))
        asked("of version 1 where a later one is stored", first)
        manager.delete_session("a")
        manager.create_session(titled(first, "again"))
        asked("of a former life", first)
        manager.delete_session("a")
        asked("of what is gone", first)
    return facts.finding


@directed("G3", "Does each operation take one round trip?")
def one_round_trip(settings: Settings) -> Finding:
    """Requests that pass a proxy, counted."""
    facts = Facts()
    with through(settings, 5.0) as (proxy, manager):
        passed: list[bytes] = []

        def on_request(data: bytes) -> bytes:
            passed.append(data)
            return data

        proxy.on_request = on_request
        state = manager.create_session(sample_state("a"))
        calls: dict[str, Callable[[], object]] = {
            "get": lambda: manager.get_session("a"),
            "update": lambda: manager.update_session(state),
            "touch": lambda: manager.touch_session("a"),
            "delete": lambda: manager.delete_session("a"),
        }
        facts.note(len(passed) == 1, f"create: {len(passed)} requests")
        passed.clear()
        state = manager.mutate_session("a", lambda state: state, known=state)
        facts.note(len(passed) == 1, f"mutate of what is known: {len(passed)} requests")
        for name, call in calls.items():
            passed.clear()
            call()
            facts.note(len(passed) == 1, f"{name}: {len(passed)} requests")
    return facts.finding


def _stored(client: redis.Redis, namespace: str) -> dict[bytes, Any]:
    return {key: client.dump(key) for key in sorted(client.scan_iter(f"{namespace}:*", count=1_000))}


@directed("G4", "Does a write that is refused change nothing, record nothing and announce nothing?")
def a_refused_write_leaves_no_trace(settings: Settings) -> Finding:
    """Every key and every channel, before and after refusals of each kind."""
    facts = Facts()
    settings = msgspec.structs.replace(settings, lanes=1)
    # For whom every outbox is full that is not empty.
    limited = msgspec.structs.replace(settings, outbox_limit=1)
    with (
        RedisStateManager.connect(settings) as manager,
        RedisStateManager.connect(limited) as full,
        Ear(settings) as ear,
        admin(settings) as client,
    ):
        gone = manager.create_session(sample_state("gone"))
        manager.delete_session("gone")
        first = manager.create_session(sample_state("a"))

        def refused(what: str, expected: type[KairosError], call: Callable[[], Any]) -> None:
            ear.heard()
            before = _stored(client, settings.namespace)
            answer = outcome(call)
            after, messages = _stored(client, settings.namespace), ear.heard()
            changed = sorted(key.decode() for key in before.keys() | after.keys() if before.get(key) != after.get(key))
            fact = f"{what}: {said(answer)}, {len(changed)} keys changed, {len(messages)} messages"
            facts.note(isinstance(answer, expected) and not changed and not messages, fact)

        # A version that nobody has: none of what the update would have said may be taken for old.
        ahead = first.replace(version=7)
        refused("an update of version 7 where 1 is stored", VersionConflict, lambda: manager.update_session(ahead))
        refused("an update of what is gone", SessionNotFound, lambda: manager.update_session(gone))
        refused("a creation of what is there", SessionExists, lambda: manager.create_session(sample_state("a")))
        refused("a stale deletion", VersionConflict, lambda: manager.delete_session("a", if_unchanged=ahead))
        refused("an update at the outbox' limit", AuditBacklogFull, lambda: full.update_session(first))
        refused("a creation there", AuditBacklogFull, lambda: full.create_session(sample_state("b")))
        refused("a deletion there", AuditBacklogFull, lambda: full.delete_session("a"))
    return facts.finding


@directed("G4", "Does a write leave one record, one receipt and one message on each of its channels?")
def a_write_leaves_one_of_each(settings: Settings) -> Finding:
    """What each kind of write adds."""
    facts = Facts()
    settings = msgspec.structs.replace(settings, lanes=1)
    layout = Layout(settings.namespace, settings.lanes)
    with RedisStateManager.connect(settings) as manager, Ear(settings) as ear, admin(settings) as client:

        def one_of_each(what: str, call: Callable[[], Any]) -> Any:
            ear.heard()
            counts = client.xlen(layout.outboxes[0]), _receipts(client, layout)
            answer = call()
            entries, receipts = client.xlen(layout.outboxes[0]) - counts[0], _receipts(client, layout) - counts[1]
            channels = sorted(channel for channel, _ in ear.heard())
            keys = layout.keys_of("a")
            fact = f"{what}: {entries} records, {len(receipts)} receipts, {len(channels)} messages"
            held = (entries, len(receipts)) == (1, 1) and channels == sorted([keys.session_channel, keys.lane_channel])
            facts.note(held, fact)
            return answer

        state = one_of_each("create", lambda: manager.create_session(sample_state("a")))
        one_of_each("update", lambda: manager.update_session(state))
        one_of_each("delete", lambda: manager.delete_session("a"))
    return facts.finding


def _receipts(client: redis.Redis, layout: Layout) -> set[bytes]:
    return set(client.scan_iter(layout.receipt(0, "*").replace("{", "\\{").replace("}", "\\}"), count=1_000))


@directed("G5", "Does a write whose reply was lost take effect once, and answer as it did at first?")
def a_write_sent_again(settings: Settings) -> Finding:
    """Replies that are dropped after the write was applied, while another instance writes on."""
    facts = Facts()
    settings = msgspec.structs.replace(settings, lanes=1)
    outbox = Layout(settings.namespace, settings.lanes).outboxes[0]
    with (
        through(settings, 5.0) as (proxy, manager),
        RedisStateManager.connect(settings) as other,
        admin(settings) as client,
    ):
        entries = client.xlen(outbox)
        drop_replies(proxy, 1)
        created = outcome(lambda: manager.create_session(sample_state("a")))
        facts.note(getattr(created, "version", 0) == 1, f"create: {said(created)}")
        pass_all(proxy)
        state = manager.get_session("a")
        if state is None:
            return Finding(False, "what was created is not there")
        drop_replies(proxy, 1, lambda: other.mutate_session("a", lambda now: titled(now, "another's")))
        updated = outcome(lambda: manager.update_session(titled(state, "mine")))
        facts.note(
            getattr(updated, "version", 0) == 2, f"update of version 1, with another's behind it: {said(updated)}"
        )
        stored = other.get_session("a")
        fact = f"stored is {said(stored)}, title {stored and stored.metadata['title']!r}"
        facts.note(stored and (stored.version, stored.metadata["title"]) == (3, "another's"), fact)
        drop_replies(proxy, 1)
        deleted = outcome(lambda: manager.delete_session("a"))
        facts.note(deleted is True, f"delete: {said(deleted)}")
        added = client.xlen(outbox) - entries
        facts.note(added == 4, f"{added} records of 4 writes")
    return facts.finding


@directed("G5", "Does each receipt run out?")
def receipts_run_out(settings: Settings) -> Finding:
    """The time to live of the receipt of each kind of write."""
    facts = Facts()
    settings = msgspec.structs.replace(settings, lanes=1)
    layout = Layout(settings.namespace, settings.lanes)
    with RedisStateManager.connect(settings) as manager, admin(settings) as client:
        known: set[bytes] = set()

        def runs_out(what: str, answer: Any) -> Any:
            new = _receipts(client, layout) - known
            known.update(new)
            left_ms = [client.pttl(key) for key in new]
            fact = f"{what}: {', '.join('for ever' if left == -1 else f'{left / 1000:.0f} s' for left in left_ms)}"
            facts.note(len(new) == 1 and all(0 < left <= settings.receipt_ttl_s * 1000 for left in left_ms), fact)
            return answer

        state = runs_out("create", manager.create_session(sample_state("a")))
        runs_out("update", manager.update_session(state))
        runs_out("delete", manager.delete_session("a"))
    return facts.finding


@directed("G10", "Is a write refused where the outbox is full, and nothing dropped to make room?")
def a_full_outbox_refuses(settings: Settings) -> Finding:
    """Each kind of write at the limit."""
    facts = Facts()
    settings = msgspec.structs.replace(settings, lanes=1, outbox_limit=3)
    outbox = Layout(settings.namespace, settings.lanes).outboxes[0]
    with closing(RedisStateManager.connect(settings)) as manager, admin(settings) as client:
        state = manager.create_session(sample_state("a"))
        for _ in range(2):
            state = manager.update_session(state)
        calls: dict[str, Callable[[], Any]] = {
            "update": lambda: manager.update_session(state),
            "create": lambda: manager.create_session(sample_state("b")),
            "delete": lambda: manager.delete_session("a"),
        }
        for name, call in calls.items():
            answer = outcome(call)
            facts.note(isinstance(answer, AuditBacklogFull), f"{name} at the limit: {said(answer)}")
        facts.note(client.xlen(outbox) == 3, f"{client.xlen(outbox)} records of 3 writes")
    return facts.finding
