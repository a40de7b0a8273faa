"""Directed checks of how sessions end (G9)."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import msgspec

from kairos_core import RedisStateManager
from kairos_core.audit.outbox import Entry, Outbox
from kairos_core.commands import GRACE_MS
from kairos_core.expiry import Expiry
from kairos_core.layout import Layout
from loadtests.environment import admin, as_worker
from loadtests.guarantees.finding import Facts, Finding, directed
from loadtests.guarantees.on_the_way import PATIENCE_S
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from kairos_core import Settings, StateUpdate
    from kairos_core.watches import SessionWatch

# What is taken off a session's time, to see it given back; and what a slow machine may take of it meanwhile.
_TAKEN_MS = 1_000_000
_SLACK_MS = 100_000
# How long a session may live in this check, and how long one that was written again.
_SHORT_S = 0.3
_LONG_S = 1.2
# For so long a session that is due may wait for sweeps that run all the time.
_OVERDUE_S = 1.0
_PAUSE_S = 0.01
# The server counts in milliseconds.
_ROUNDED_S = 0.005
# What PTTL answers of a key that is not there.
_GONE = -2


@directed("G9", "Does every write, and a touch, let a session live for its full time, and no read?")
def writes_put_the_end_off(settings: Settings) -> Finding:
    """A session's time after part of it was taken away."""
    facts = Facts()
    full_ms = round(settings.session_ttl_s * 1000) + GRACE_MS
    with RedisStateManager.connect(settings) as manager, admin(settings) as client:
        key = Layout(settings.namespace, settings.lanes).keys_of("a").session

        def after(what: str, call: Callable[[], object], *, is_full: bool) -> None:
            client.pexpire(key, full_ms - _TAKEN_MS)
            call()
            left_ms = client.pttl(key)
            lowest = full_ms - (_SLACK_MS if is_full else _TAKEN_MS + _SLACK_MS)
            highest = full_ms if is_full else full_ms - _TAKEN_MS
            facts.note(lowest <= left_ms <= highest, f"{what}: {(left_ms - GRACE_MS) / 1000:.0f} s left")

        state = manager.create_session(sample_state("a"))
        facts.note(client.pttl(key) > full_ms - _SLACK_MS, f"create: {(client.pttl(key) - GRACE_MS) / 1000:.0f} s left")
        after("update", lambda: manager.update_session(state), is_full=True)
        after("get", lambda: manager.get_session("a"), is_full=False)
        after("get_sessions", lambda: manager.get_sessions(["a"]), is_full=False)
        after("touch", lambda: manager.touch_session("a"), is_full=True)
    return facts.finding


@directed("G9", "Is the end of a session announced and recorded, once its time is over and not before?")
def an_end_is_an_event(settings: Settings) -> Finding:
    """One session that runs out, and one that was written again by a process with a longer time."""
    settings = msgspec.structs.replace(settings, lanes=1, session_ttl_s=_SHORT_S)
    patient = msgspec.structs.replace(settings, session_ttl_s=_LONG_S)
    facts = Facts()
    with ExitStack() as stack:
        manager = stack.enter_context(RedisStateManager.connect(settings))
        other = stack.enter_context(RedisStateManager.connect(patient))
        updates = stack.enter_context(manager.watch_sessions())
        sweep = stack.enter_context(closing(Expiry.connect(as_worker(settings)))).sweep
        outbox = stack.enter_context(closing(Outbox.connect(as_worker(settings))))
        client = stack.enter_context(admin(settings))
        state = manager.create_session(sample_state("long"))
        short = manager.create_session(sample_state("short"))
        state = other.update_session(state)
        layout = Layout(settings.namespace, settings.lanes)
        for name in ("short", "long"):
            facts.note(*_swept(client, layout.keys_of(name).session, sweep, name))
        told = _told(updates, manager)
        ends = {
            entry.message.session_id: entry.message
            for entry in outbox.read(0, 100)
            if isinstance(entry, Entry) and entry.message.kind == "expire"
        }
        for name, version, written, lives_s in (("short", 2, short, _SHORT_S), ("long", 3, state, _LONG_S)):
            update, end = told.get(name), ends.get(name)
            is_told = update is not None and (update.version, update.state) == (version, None)
            facts.note(is_told, f"{name}: {'announced' if is_told else 'not announced'}")
            is_recorded = end is not None and end.version == version and b"participants" in bytes(end.body)
            facts.note(is_recorded, f"{name}: {'recorded with its state' if is_recorded else 'not recorded'}")
            if is_told and update and update.occurred_at is not None and written.updated_at is not None:
                lived_s = (update.occurred_at - written.updated_at).total_seconds()
                facts.note(lived_s >= lives_s - _ROUNDED_S, f"{name}: lived for {lived_s:.3f} s of {lives_s:g}")
    return facts.finding


def _swept(client: redis.Redis, key: str, sweep: Callable[[], int], name: str) -> tuple[bool, str]:
    """Sweep until the session is ended, or was due for a while; whether it was ended, and what was seen."""
    due_since: float | None = None
    deadline = time.monotonic() + PATIENCE_S
    while (left_ms := client.pttl(key)) != _GONE:
        now = time.monotonic()
        if left_ms <= GRACE_MS:
            due_since = due_since or now
        if (due_since is not None and now - due_since > _OVERDUE_S) or now > deadline:
            return False, f"{name}: not ended, with {(left_ms - GRACE_MS) / 1000:.1f} s left"
        sweep()
        time.sleep(_PAUSE_S)
    return True, f"{name}: ended"


def _told(updates: SessionWatch, manager: RedisStateManager) -> dict[str, StateUpdate]:
    """The last update of each session, of all that came before one that is made now."""
    manager.create_session(sample_state("mark"))
    told: dict[str, StateUpdate] = {}
    deadline = time.monotonic() + PATIENCE_S
    while "mark" not in told and time.monotonic() < deadline:
        update = updates.receive(1.0)
        if update is not None:
            told[update.session_id] = update
    return told
