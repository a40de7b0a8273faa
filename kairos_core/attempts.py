"""What follows from a failed attempt: another one after a pause, or which error. No I/O."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from redis import exceptions as foreign

from kairos_core.errors import CorruptState, KairosError, OutcomeUnknown, StoreUnavailable, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kairos_core.commands import Command

# The server answers these before it runs a command or, inside a script, at the first write: nothing was changed. The
# passing ones are worth another try: the server is starting, a failover is under way, a script holds it.
_PASSING = frozenset(["READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY"])
_NOT_APPLIED_BY_ONE = _PASSING | {"OOM", "MISCONF", "NOREPLICAS", "NOAUTH", "WRONGPASS"}
# Raised while a connection is made; trying again would not help.
_HOPELESS = (foreign.AuthenticationError, foreign.AuthorizationError)

# Another server has the slot, or a script is not known: the next attempt goes elsewhere, or says more, at once.
_AT_ONCE = frozenset(["MOVED", "ASK", "NOSCRIPT"])
_NOT_APPLIED = _NOT_APPLIED_BY_ONE | _AT_ONCE
# So often at most: two servers may each take the other for the slot's owner for a while.
_MOST_AT_ONCE = 4

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.25
# How often in a row a write that lost to another is tried at once, before its first pause; once more after each.
_FIRST_BURST = 2
# Some dozens of times as long as a write takes on one machine.
_LONGEST_RIVAL_PAUSE_S = 0.032
# So many writes of a session make a turn, if they follow each other as fast as this.
_TURN_WRITES, _TURN_S = 32, 0.125
# Turns that are looked after at once: far more than a process has in an eighth of a second.
_MOST_TURNS = 1_024


def pauses(attempts: int) -> Iterator[float | None]:
    """The seconds to wait after each attempt that lost to another writer; 0: none, None: it was the last.

    A refusal brings the stored state with it, so the next attempt has a good chance if it follows at once, and hardly
    any if it follows later. So a writer tries in bursts. Between them it leaves the session to the others for long
    enough that some of them write undisturbed: all at once they would mostly refuse each other. Who has lost more often
    tries more often in a row and pauses no longer: where pauses grow, as is usual, who wins goes on winning.
    """
    burst, left = _FIRST_BURST, _FIRST_BURST
    for _ in range(attempts - 1):
        if left:
            left -= 1
            yield 0.0
        else:
            burst += 1
            left = burst
            yield random.uniform(0, _LONGEST_RIVAL_PAUSE_S)  # noqa: S311 - not a secret
    if attempts > 0:
        yield None


class _Turn(NamedTuple):
    """Writes that came through one after the other: when the first did, how many they are, and the last's version."""

    begun_s: float
    writes: int
    version: int


class Turns:
    """Sees to it that who writes a session again and again, where others write it, too, leaves them their turn.

    Who has just come through knows what is stored, and the others have yet to be refused, which takes longer than a
    write: without an end to it one of many would write most of the time, and another hardly ever. What is remembered
    is of no session's state, but of an eighth of a second in which somebody else was met.
    """

    def __init__(self) -> None:
        self._by_session: dict[str, _Turn] = {}

    def pause_s(self, session_id: str, now_s: float) -> float:
        """How long the session is left to the others, as long as they pause; 0 but at the end of a turn among them."""
        turn = self._by_session.get(session_id)
        if turn is None or turn.writes < _TURN_WRITES or now_s - turn.begun_s > _TURN_S:
            return 0.0
        return random.uniform(0, _LONGEST_RIVAL_PAUSE_S)  # noqa: S311 - not a secret

    def came_through(self, session_id: str, version: int, now_s: float, *, refused: bool) -> None:
        """Take note of a write.

        Args:
            session_id: of which session.
            version: which it made.
            now_s: the time (`time.monotonic`).
            refused: whether it had been refused before it came through, since another was first.
        """
        turn = self._by_session.get(session_id)
        if refused or (turn is not None and version != turn.version + 1):
            # Somebody else has written.
            if len(self._by_session) >= _MOST_TURNS:
                self._by_session.clear()
            self._by_session[session_id] = _Turn(now_s, 1, version)
        elif turn is not None and (turn.writes >= _TURN_WRITES or now_s - turn.begun_s > _TURN_S):
            # Nobody has taken what it was left to, or nobody is in a hurry.
            self._by_session.pop(session_id, None)
        elif turn is not None:
            self._by_session[session_id] = _Turn(turn.begun_s, turn.writes + 1, version)


class Refused(Exception):  # noqa: N818 - a fact that the server states; the callers' errors are in errors.py
    """The server's own error reply.

    Attributes:
        code: its first word, such as OOM.
    """

    def __init__(self, text: str) -> None:
        self.code = text.partition(" ")[0]
        super().__init__(text)


class Attempts:
    """The attempts of one call, from its first failure on."""

    def __init__(self, command: Command[Any], deadline: float, *, patient: bool = True) -> None:
        self.packed = command.packed
        self._command = command
        self._deadline = deadline
        self._patient = patient
        self._may_be_applied = False
        self._pause_s = _FIRST_PAUSE_S
        self._at_once = 0

    def about(self, command: Command[Any]) -> None:
        """Say which of many commands the next failure is of."""
        self._command = command

    def after(self, error: Refused | foreign.RedisError, *, sent: bool) -> float:
        """The seconds to wait before `packed` is sent again.

        Args:
            error: how the attempt failed.
            sent: whether any of the command may have reached the server.

        Raises:
            StoreUnavailable: the call ends here, and was definitely not applied.
            OutcomeUnknown: the call ends here, and may have been applied.
            CorruptState: the key holds another type.
        """
        if isinstance(error, Refused):
            if error.code in _AT_ONCE and (error.code != "NOSCRIPT" or self._command.script is not None):
                return self._at_once_or_later(error)
            self._check_refusal(error)
        elif isinstance(error, _HOPELESS):
            raise self._ended(error) from error
        elif sent:
            self._may_be_applied = True
        return self._later(error)

    def _at_once_or_later(self, error: Refused) -> float:
        if error.code == "NOSCRIPT":
            self.packed = self._command.with_script_text()
        self._at_once += 1
        if self._at_once <= _MOST_AT_ONCE:
            return 0.0
        return self._later(error)

    def _later(self, error: Refused | foreign.RedisError) -> float:
        # Full jitter, so that writers that were cut off together do not come back together.
        pause_s = random.uniform(0, self._pause_s)  # noqa: S311 - not a secret
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
        if not self._patient or time.monotonic() + pause_s >= self._deadline:
            raise self._ended(error) from error
        return pause_s

    def _check_refusal(self, error: Refused) -> None:
        """Return where another try is worth it, else raise."""
        if error.code in _PASSING:
            return
        if error.code == "WRONGTYPE":
            raise CorruptState(self._command.key, "it, or a key beside it, holds another type") from error
        # An ACL is checked for the call and again for each command in the script, which may have begun to write.
        if error.code not in _NOT_APPLIED and not (error.code == "NOPERM" and "script" not in str(error)):
            self._may_be_applied = True
        raise self._ended(error) from error

    def unreadable(self, error: Exception) -> KairosError:
        """The error of a call whose reply made no sense."""
        self._may_be_applied = True
        return self._ended(error)

    def _ended(self, cause: Exception) -> KairosError:
        command = self._command
        reason = one_line(cause)
        if self._may_be_applied and command.operation_id is not None:
            return OutcomeUnknown(command.session_id, command.operation_id, reason)
        code = cause.code if isinstance(cause, Refused) else None
        return StoreUnavailable(f"session {command.session_id}" if command.session_id else command.key, reason, code)
