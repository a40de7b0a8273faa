"""What follows from a failed attempt: another one after a pause, or which error. No I/O."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

from redis import exceptions as foreign

from kairos_core.errors import CorruptState, KairosError, OutcomeUnknown, StoreUnavailable

if TYPE_CHECKING:
    from kairos_core.commands import Command

# The server refuses these before it runs a command or, inside a script, at the first write: nothing was changed.
_REFUSED = (
    foreign.OutOfMemoryError,
    foreign.ReadOnlyError,
    foreign.MasterDownError,
    foreign.ClusterDownError,
    foreign.TryAgainError,
)
_REFUSED_TEXTS = ("MISCONF", "NOREPLICAS", "BUSY")
# Worth another try within the deadline: a failover is under way, or a script holds the server.
_PASSING = (foreign.ReadOnlyError, foreign.ClusterDownError, foreign.TryAgainError)
_PASSING_TEXTS = ("BUSY",)
# A reply that the server gives instead of running a command, though redis-py counts it among the lost connections.
_NOT_RUN = (foreign.BusyLoadingError, foreign.AuthenticationError, foreign.AuthorizationError)
_HOPELESS = (foreign.AuthenticationError, foreign.AuthorizationError)

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.25


class Attempts:
    """The attempts of one call, from its first failure on."""

    def __init__(self, command: Command[Any], deadline: float) -> None:
        self.words = command.words
        self._command = command
        self._deadline = deadline
        self._may_be_applied = False
        self._pause_s = _FIRST_PAUSE_S

    def after(self, error: foreign.RedisError, *, sent: bool) -> float:
        """The seconds to wait before `words` are sent again.

        Args:
            error: how the attempt failed.
            sent: whether any of the command may have reached the server.

        Raises:
            StoreUnavailable: the call ends here, and was definitely not applied.
            OutcomeUnknown: the call ends here, and may have been applied.
            CorruptState: the key holds another type.
        """
        if isinstance(error, foreign.NoScriptError):
            self.words = self._command.with_script_text()
            return 0.0
        if isinstance(error, foreign.ResponseError):
            self._check_refusal(error)
        elif isinstance(error, _HOPELESS):
            raise self._ended(error) from error
        elif sent and not isinstance(error, _NOT_RUN):
            self._may_be_applied = True
        # Full jitter, so that writers that were cut off together do not come back together.
        pause_s = random.uniform(0, self._pause_s)  # noqa: S311 - not a secret
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
        if time.monotonic() + pause_s >= self._deadline:
            raise self._ended(error) from error
        return pause_s

    def _check_refusal(self, error: foreign.ResponseError) -> None:
        """Return where another try is worth it, else raise."""
        text = str(error)
        if isinstance(error, _PASSING) or text.startswith(_PASSING_TEXTS):
            return
        if text.startswith("WRONGTYPE"):
            raise CorruptState(self._command.key, "holds another type than a session's hash") from error
        refused = isinstance(error, _REFUSED) or text.startswith(_REFUSED_TEXTS)
        # An ACL is checked for the call and again for each command in the script, which may have begun to write.
        refused = refused or (isinstance(error, foreign.NoPermissionError) and "script" not in text)
        if not refused:
            self._may_be_applied = True
        raise self._ended(error) from error

    def _ended(self, cause: Exception) -> KairosError:
        command, reason = self._command, f"{type(cause).__name__}: {cause}"
        if self._may_be_applied and command.operation_id is not None:
            return OutcomeUnknown(command.session_id, command.operation_id, reason)
        return StoreUnavailable(f"session {command.session_id}: {reason}")
