"""Broken managers: one bug in what an instance does around the scripts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import hiredis
import msgspec

from kairos_core import attempts, commands, durability, link, operations, state_manager
from kairos_core.errors import OutcomeUnknown, SessionNotFound, Stamp, VersionConflict
from loadtests.mutants.mutant import Mutant
from loadtests.mutants.scripts import version_not_compared

if TYPE_CHECKING:
    from kairos_core import RedisStateManager, Settings, SyncState
    from kairos_core.commands import Command

_Manager = state_manager.RedisStateManager


def _local_cache() -> None:
    seen: dict[str, SyncState] = {}
    get = _Manager.get_session

    def cached(self: RedisStateManager, session_id: str) -> SyncState | None:
        if session_id not in seen:
            state = get(self, session_id)
            if state is None:
                return None
            seen[session_id] = state
        return seen[session_id]

    _Manager.get_session = cached  # type: ignore[method-assign]


def _absence_remembered() -> None:
    absent: set[str] = set()
    get = _Manager.get_session

    def remembering(self: RedisStateManager, session_id: str) -> SyncState | None:
        state = None if session_id in absent else get(self, session_id)
        if state is None:
            absent.add(session_id)
        return state

    _Manager.get_session = remembering  # type: ignore[method-assign]


def _check_then_set() -> None:
    version_not_compared()
    update = _Manager.update_session

    def compared_here(self: RedisStateManager, state: SyncState, **options: Any) -> SyncState:
        stored = self.get_session(state.session_id)
        if stored is None:
            raise SessionNotFound(state.session_id)
        if stored.stamp != state.stamp:
            raise VersionConflict(state.session_id, state.stamp, stored.stamp)
        return update(self, state, **options)

    _Manager.update_session = compared_here  # type: ignore[method-assign]


def _stale_read_compared() -> None:
    version_not_compared()
    get, update = _Manager.get_session, _Manager.update_session
    seen: dict[str, Stamp] = {}

    def noting(self: RedisStateManager, session_id: str) -> SyncState | None:
        state = get(self, session_id)
        if state is not None:
            seen[session_id] = state.stamp
        return state

    def compared_here(self: RedisStateManager, state: SyncState, **options: Any) -> SyncState:
        stored = seen.get(state.session_id, state.stamp)
        if stored != state.stamp:
            raise VersionConflict(state.session_id, state.stamp, stored)
        found = update(self, state, **options)
        seen[state.session_id] = found.stamp
        return found

    _Manager.get_session = noting  # type: ignore[method-assign]
    _Manager.update_session = compared_here  # type: ignore[method-assign]


def _conflict_with_a_former_state() -> None:
    conflict = commands._conflict  # noqa: SLF001
    seen: dict[str, SyncState] = {}

    def paired(*arguments: Any, told: bool) -> VersionConflict:
        error = conflict(*arguments, told=told)
        if error.stored is not None:
            former = seen.get(error.session_id, error.stored)
            seen[error.session_id] = error.stored
            error.stored = former.replace(incarnation=error.current.incarnation, version=error.current.version)
        return error

    setattr(commands, "_conflict", paired)  # noqa: B010


def _read_before_write() -> None:
    update = _Manager.update_session

    def reading(self: RedisStateManager, state: SyncState, **options: Any) -> SyncState:
        self.get_session(state.session_id)
        return update(self, state, **options)

    _Manager.update_session = reading  # type: ignore[method-assign]


def _known_believed() -> None:
    async def believing(self: operations.Operations, known: SyncState, error: Exception) -> SyncState:
        del self, known
        raise error

    operations.Operations._stored_instead = believing  # type: ignore[method-assign]  # noqa: SLF001


def _known_written_over() -> None:
    mutate = operations.Operations.mutate

    async def once(
        self: operations.Operations, session_id: str, change: Any, *how: Any, known: SyncState | None
    ) -> SyncState:
        made: list[SyncState] = []

        def changed(state: SyncState) -> SyncState:
            if known is None or not made:
                made[:] = [change(state)]
            return made[0].replace(incarnation=state.incarnation, version=state.version)

        return await mutate(self, session_id, changed, *how, known=known)

    operations.Operations.mutate = once  # type: ignore[assignment, method-assign]


def _known_read_all_the_same() -> None:
    mutate = operations.Operations.mutate

    async def reading(self: operations.Operations, session_id: str, *how: Any, known: SyncState | None) -> SyncState:
        if known is not None:
            known = await self.link.call(self.commands.get(session_id))
        return await mutate(self, session_id, *how, known=known)

    operations.Operations.mutate = reading  # type: ignore[assignment, method-assign]


def _namespace_of_its_own() -> None:
    connect = _Manager.connect.__func__  # type: ignore[attr-defined]

    def elsewhere(cls: type[RedisStateManager], settings: Settings) -> RedisStateManager:
        own = msgspec.structs.replace(settings, namespace=f"{settings.namespace}_{os.getpid()}")
        connected: RedisStateManager = connect(cls, own)
        return connected

    _Manager.connect = classmethod(elsewhere)  # type: ignore[assignment, method-assign]


def _retry_without_operation_id() -> None:
    after = attempts.Attempts.after

    def renamed(self: attempts.Attempts, error: Any, *, sent: bool) -> float:
        pause_s = after(self, error, sent=sent)
        operation_id = self._command.operation_id
        if operation_id and sent and not isinstance(error, attempts.Refused):
            other = commands.new_operation_id(int(operation_id[-3:], 16))
            # In the receipt's key and by itself.
            self.packed = self.packed.replace(operation_id.encode(), other.encode())
        return pause_s

    attempts.Attempts.after = renamed  # type: ignore[method-assign]


def _unknown_reported_as_conflict() -> None:
    ended = attempts.Attempts._ended  # noqa: SLF001

    def mistaken(self: attempts.Attempts, cause: Exception) -> Any:
        error = ended(self, cause)
        if isinstance(error, OutcomeUnknown):
            return VersionConflict(error.session_id, Stamp(1, 1), Stamp(1, 2))
        return error

    attempts.Attempts._ended = mistaken  # type: ignore[method-assign]  # noqa: SLF001


def _deadline_passed_over() -> None:
    prepare = attempts.Attempts.__init__

    def endless(self: attempts.Attempts, command: Command[Any], deadline: float, *, patient: bool = True) -> None:
        prepare(self, command, deadline + 3600, patient=patient)

    attempts.Attempts.__init__ = endless  # type: ignore[method-assign]


def _ttl_set_on_read() -> None:
    get = commands.Commands.get
    script = "redis.call('PEXPIRE', KEYS[1], ARGV[1]) return redis.call('HMGET', KEYS[1], 'n', 'v', 'c', 'u', 's')"

    def refreshing(self: commands.Commands, session_id: str) -> Command[Any]:
        command = get(self, session_id)
        words = ("EVAL", script, "1", command.key, self._key_ttl_ms)
        return msgspec.structs.replace(command, packed=commands.pack(words))

    commands.Commands.get = refreshing  # type: ignore[method-assign]


def _ground_not_looked_at() -> None:
    async def unchecked(self: operations.Operations, role: str = "core", *, lay_out: bool = True) -> None:
        del self, role, lay_out

    operations.Operations.check = unchecked  # type: ignore[method-assign]


def _replicas_not_counted() -> None:
    setattr(link, "achieved", lambda wanted, _: (wanted, ""))  # noqa: B010 - nobody is to take it for the real one


def _asked_before_the_write() -> None:
    async def hasty(channel: Any, packed: bytes, wanted: Any, deadline: float, *, asking: bool) -> list[Any]:
        del asking
        answers = [
            await channel.exchange(hiredis.pack_command(more), deadline)  # type: ignore[arg-type]  # its stub wants one word
            for more in durability.questions(wanted, 0.1)
        ]
        return [await channel.exchange(packed, deadline), *answers]

    link._exchange_more = hasty  # noqa: SLF001


def _configuration_not_asked() -> None:
    setattr(durability, "fsync_lacks", lambda _: "")  # noqa: B010


def _fsync_not_awaited() -> None:
    achieved, questions = durability.achieved, durability.questions

    def claimed(wanted: durability.Durability, answers: Any) -> Any:
        return (wanted, "") if wanted.level == "fsync" else achieved(wanted, answers)

    setattr(link, "questions", lambda wanted, wait_s: () if wanted.level == "fsync" else questions(wanted, wait_s))  # noqa: B010
    setattr(link, "achieved", claimed)  # noqa: B010


MUTANTS = (
    Mutant(
        "check_then_set",
        "G1",
        "an update reads, compares and writes in three steps, as SyncKairos did",
        _check_then_set,
        "history",
    ),
    Mutant(
        "stale_read_compared",
        "G1",
        "an update is compared with what its instance read last, and not with what is stored",
        _stale_read_compared,
        "history",
    ),
    Mutant(
        "conflict_with_a_former_state",
        "G2",
        "what a refusal tells is taken for the state that an earlier one told, under the new version",
        _conflict_with_a_former_state,
        "history",
    ),
    Mutant(
        "known_believed",
        "G2",
        "what a mutation's function raises of a known state is its answer, be that state out of date or not",
        _known_believed,
        "what_is_known_is_no_answer",
    ),
    Mutant(
        "known_written_over",
        "G1",
        "what was made of a known state is written over what is stored once the refusal has told its version",
        _known_written_over,
        "history",
    ),
    Mutant("local_cache", "G2", "reads are answered from what this instance saw first", _local_cache, "history"),
    Mutant(
        "absence_remembered",
        "G2",
        "a session that this instance found absent once is absent to it for ever",
        _absence_remembered,
        "history",
    ),
    Mutant(
        "namespace_of_its_own", "G2", "each process looks where no other does", _namespace_of_its_own, "created_is_read"
    ),
    Mutant("read_before_write", "G3", "an update takes two round trips", _read_before_write, "one_round_trip"),
    Mutant(
        "known_read_all_the_same",
        "G3",
        "a mutation of what is known reads first",
        _known_read_all_the_same,
        "one_round_trip",
    ),
    Mutant(
        "retry_without_operation_id",
        "G5",
        "a write that is sent again is sent as another one",
        _retry_without_operation_id,
        "a_write_sent_again",
    ),
    Mutant(
        "unknown_reported_as_conflict",
        "G6",
        "a write that was never answered is called a conflict",
        _unknown_reported_as_conflict,
        "no_answer_is_unknown",
    ),
    Mutant(
        "deadline_passed_over",
        "G10",
        "a call that is not answered is tried again and again, whatever its deadline",
        _deadline_passed_over,
        "every_call_ends",
    ),
    Mutant("ttl_set_on_read", "G9", "a read puts a session's end off", _ttl_set_on_read, "writes_put_the_end_off"),
    Mutant(
        "replicas_not_counted",
        "G11",
        "WAIT is asked, and its number is not looked at",
        _replicas_not_counted,
        "replicated_is_only_claimed_where_it_is",
    ),
    Mutant(
        "asked_before_the_write",
        "G11",
        "WAIT goes ahead of the write, and waits for what was written before",
        _asked_before_the_write,
        "replicated_is_only_claimed_where_it_is",
    ),
    Mutant(
        "configuration_not_asked",
        "G11",
        "WAITAOF is believed, whatever `appendfsync` says",
        _configuration_not_asked,
        "fsync_is_only_claimed_where_it_is",
    ),
    Mutant(
        "fsync_not_awaited",
        "G11",
        "a write at fsync is acknowledged without a question to the server",
        _fsync_not_awaited,
        "fsync_is_only_claimed_where_it_is",
    ),
    Mutant(
        "ground_not_looked_at",
        "G14",
        "whoever connects takes any server for a safe one",
        _ground_not_looked_at,
        "unsafe_ground_is_refused",
    ),
)
