"""Broken variants of the core, one bug each: a check that none of them turns red has shown nothing.

Each replaces one piece of one script or one function, in a process of its own.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import hiredis
import msgspec

from kairos_core import commands, durability, link, recovery, state_manager
from kairos_core.audit import batch, drain, outbox, writer
from kairos_core.errors import SessionNotFound, VersionConflict

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core import RedisStateManager, Settings, SyncState
    from kairos_core.audit.batch import Batch


def _edit(name: str, old: str, new: str) -> None:
    script: commands.Script = getattr(commands, name)
    if old not in script.text:
        raise AssertionError(f"the mutant no longer fits {script.name}.lua")
    text = script.text.replace(old, new)
    setattr(commands, name, commands.Script(script.name, text, hashlib.sha1(text.encode()).hexdigest()))  # noqa: S324


def _version_not_compared() -> None:
    _edit("UPDATE", "if stored[1] ~= ARGV[11] or stored[2] ~= ARGV[12] then", "if false then")


def _publish_dropped() -> None:
    _edit("UPDATE", "call(ARGV[8], ARGV[10], message)", "")


def _outbox_dropped() -> None:
    start = commands.UPDATE.text.index("call('XADD'")
    end = commands.UPDATE.text.index("call('HSET'")
    _edit("UPDATE", commands.UPDATE.text[start:end], "")


def _state_not_written() -> None:
    _edit("UPDATE", ", 's', ARGV[4])\ncall('PEXPIRE'", ")\ncall('PEXPIRE'")


def _local_cache() -> None:
    """Reads are answered from what this instance saw last."""
    seen: dict[str, SyncState] = {}
    get = state_manager.RedisStateManager.get_session

    def cached(self: RedisStateManager, session_id: str) -> SyncState | None:
        if session_id not in seen:
            state = get(self, session_id)
            if state is None:
                return None
            seen[session_id] = state
        return seen[session_id]

    state_manager.RedisStateManager.get_session = cached  # type: ignore[method-assign]


def _check_then_set() -> None:
    """SyncKairos' published algorithm: read, compare, write, in three steps."""
    _version_not_compared()
    update = state_manager.RedisStateManager.update_session

    def compared_here(self: RedisStateManager, state: SyncState, **options: Any) -> SyncState:
        stored = self.get_session(state.session_id)
        if stored is None:
            raise SessionNotFound(state.session_id)
        if stored.stamp != state.stamp:
            raise VersionConflict(state.session_id, state.stamp, stored.stamp)
        return update(self, state, **options)

    state_manager.RedisStateManager.update_session = compared_here  # type: ignore[method-assign]


def _random_event_id() -> None:
    """A batch that is written again does not know its rows."""
    entry = outbox._entry  # noqa: SLF001 - a mutant reaches inside

    def renamed(entry_id: bytes, fields: dict[bytes, bytes]) -> outbox.Entry:
        known = entry(entry_id, fields)
        message = msgspec.structs.replace(known.message, operation_id=commands.new_operation_id(lane=0))
        return known._replace(message=message)

    outbox._entry = renamed  # noqa: SLF001


def _delete_before_commit() -> None:
    """Entries leave the outbox before their rows are safe."""
    drain_lane = drain.drain_lane

    def hasty(out: outbox.Outbox, audit: Any, lane: int, **options: Any) -> int:
        class Hasty:
            def record(self, lane: int, ready: Batch, reached: Callable[[str], None]) -> int:
                out.remove(lane, [one.entry.entry_id for one in ready.ready])
                written: int = audit.record(lane, ready, reached)
                return written

        return drain_lane(out, Hasty(), lane, **options)  # type: ignore[arg-type]

    drain.drain_lane = hasty  # type: ignore[assignment]


def _row_dropped() -> None:
    """Of each batch a row is left out, and nobody told."""
    plan = batch.plan

    def shorter(*arguments: Any) -> Any:
        found = plan(*arguments)
        return found._replace(record=found.record[:-1])

    setattr(writer, "plan", shorter)  # noqa: B010 - where it is used, not where it is from


def _chain_forgotten() -> None:
    """Each batch begins every session's chain anew."""
    lines = batch.lines

    def anew(record: Any, heads: Any, recorded_at: Any) -> Any:
        del heads
        return lines(record, {}, recorded_at)

    setattr(writer, "lines", anew)  # noqa: B010


def _recorded_not_looked_up() -> None:
    """A batch that is written again is taken for new."""
    writer.AuditWriter._operations = lambda *_: {}  # type: ignore[method-assign]  # noqa: SLF001
    writer.AuditWriter._versions = lambda *_: {}  # type: ignore[method-assign]  # noqa: SLF001


def _namespace_of_its_own() -> None:
    """Each process looks where no other does."""
    connect = state_manager.RedisStateManager.connect.__func__  # type: ignore[attr-defined]

    def elsewhere(cls: type[RedisStateManager], settings: Settings) -> RedisStateManager:
        own = msgspec.structs.replace(settings, namespace=f"{settings.namespace}_{os.getpid()}")
        connected: RedisStateManager = connect(cls, own)
        return connected

    state_manager.RedisStateManager.connect = classmethod(elsewhere)  # type: ignore[assignment, method-assign]


def _receipt_not_renewed() -> None:
    """A write that is sent again writes nothing, so that its connection has nothing to wait for."""
    for name in ("CREATE", "UPDATE", "DELETE"):
        _edit(name, "call('PEXPIRE', KEYS[2], ARGV[6])", "")


def _replicas_not_counted() -> None:
    """WAIT is asked, and its number is not looked at."""
    setattr(link, "achieved", lambda wanted, _: (wanted, ""))  # noqa: B010 - nobody is to take it for the real one


def _asked_before_the_write() -> None:
    """WAIT goes ahead of the write, so that it waits for what was written before."""

    async def hasty(channel: Any, words: commands.Words, wanted: Any, deadline: float, *, asking: bool) -> list[Any]:
        del asking
        answers = [
            await channel.exchange(hiredis.pack_command(more), deadline)  # type: ignore[arg-type]  # its stub wants one word
            for more in durability.questions(wanted, 0.1)
        ]
        return [await channel.exchange(hiredis.pack_command(words), deadline), *answers]  # type: ignore[arg-type]

    link._exchange_more = hasty  # noqa: SLF001


def _configuration_not_asked() -> None:
    """WAITAOF is believed, whatever `appendfsync` says."""
    setattr(durability, "fsync_lacks", lambda _: "")  # noqa: B010


def _backlog_not_looked_at() -> None:
    """A recovery does not ask what waits in the outbox."""
    recovery.Backlog.holds = lambda *_: False  # type: ignore[method-assign]


def _creations_not_noticed() -> None:
    """A recovery takes for true what the audit said, whatever has come and gone since."""
    _edit("RESTORE", "life ~= ARGV[12] or ", "")


def _restored_blindly() -> None:
    """And does not even look whether the session is there."""
    _creations_not_noticed()
    _edit("RESTORE", "if call('EXISTS', KEYS[1]) == 1 then", "if false then")


MUTANTS: dict[str, Callable[[], None]] = {
    "version_not_compared": _version_not_compared,
    "publish_dropped": _publish_dropped,
    "outbox_dropped": _outbox_dropped,
    "state_not_written": _state_not_written,
    "local_cache": _local_cache,
    "namespace_of_its_own": _namespace_of_its_own,
    "check_then_set": _check_then_set,
    "random_event_id": _random_event_id,
    "delete_before_commit": _delete_before_commit,
    "row_dropped": _row_dropped,
    "chain_forgotten": _chain_forgotten,
    "recorded_not_looked_up": _recorded_not_looked_up,
    "receipt_not_renewed": _receipt_not_renewed,
    "replicas_not_counted": _replicas_not_counted,
    "asked_before_the_write": _asked_before_the_write,
    "configuration_not_asked": _configuration_not_asked,
    "backlog_not_looked_at": _backlog_not_looked_at,
    "creations_not_noticed": _creations_not_noticed,
    "restored_blindly": _restored_blindly,
}


def apply(name: str) -> None:
    """Break this process's core in one way."""
    MUTANTS[name]()
