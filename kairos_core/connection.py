"""The one place where a command meets a connection.

Commands go through redis-py's own connections and pool (so TLS, ACLs and reconnection are redis-py's), but past its
command methods, whose dispatch costs more than the rest of the call. What those methods would do is done here, for
what Kairos needs: bounded retries under one deadline, with the same operation id, so that a write takes effect once.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, TypeVar

import redis
from redis import exceptions as foreign
from redis.backoff import NoBackoff
from redis.retry import Retry

from kairos_core.errors import CorruptState, KairosError, OutcomeUnknown, StoreUnavailable

if TYPE_CHECKING:
    from redis.connection import ConnectionPool

    from kairos_core.commands import Command
    from kairos_core.settings import Settings

T = TypeVar("T")

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
_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.25
# Connections are made on demand, one per thread that is in a call; this only bounds a runaway.
_MAX_CONNECTIONS = 4096


def make_pool(settings: Settings) -> ConnectionPool:
    """A pool for commands: no retries of redis-py's own, replies as bytes, RESP2 (no pushes to look for)."""
    return redis.ConnectionPool.from_url(
        settings.redis_url,
        socket_timeout=settings.timeout_s,
        socket_connect_timeout=settings.timeout_s,
        retry=Retry(NoBackoff(), 0),
        max_connections=_MAX_CONNECTIONS,
        protocol=2,
        client_name="kairos",
    )


class Link:
    """Sends commands and reads their replies, within `timeout_s` a call; safe to share between threads."""

    def __init__(self, pool: ConnectionPool, timeout_s: float) -> None:
        self._pool = pool
        self._timeout_s = timeout_s

    def close(self) -> None:
        """Close all connections."""
        self._pool.disconnect()

    def call(self, command: Command[T]) -> T:
        """Send a command and return what it reads from the reply.

        Raises:
            StoreUnavailable: it was definitely not applied.
            OutcomeUnknown: a write was sent and no answer came.
            KairosError: what the command reads from a refusal.
        """
        deadline = time.monotonic() + self._timeout_s
        words = command.words
        may_be_applied = False
        pause_s = _FIRST_PAUSE_S
        while True:
            sent = False
            try:
                connection = self._pool.get_connection()
                try:
                    packed = connection.pack_command(*words)
                    sent = True
                    connection.send_packed_command(packed, check_health=False)
                    reply = connection.read_response()
                except foreign.ResponseError:
                    raise
                except BaseException:
                    # A reply may still be under way: nobody may read it as the answer to another command.
                    connection.disconnect()
                    raise
                finally:
                    self._pool.release(connection)
                return command.read(reply)
            except foreign.NoScriptError:
                words = command.with_script_text()
                continue
            except foreign.BusyLoadingError as error:
                failure: Exception = error
            except (foreign.AuthenticationError, foreign.AuthorizationError) as error:
                raise _ended(command, error, may_be_applied=may_be_applied) from error
            except foreign.ResponseError as error:
                if not _is_passing(error):
                    raise _translate(command, error, may_be_applied=may_be_applied) from error
                failure = error
            except foreign.RedisError as error:
                failure = error
                may_be_applied = may_be_applied or sent
            # Full jitter, so that writers that were cut off together do not come back together.
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            wait_s = random.uniform(0, pause_s)  # noqa: S311 - not a secret
            if time.monotonic() + wait_s >= deadline:
                raise _ended(command, failure, may_be_applied=may_be_applied) from failure
            time.sleep(wait_s)


def _is_passing(error: foreign.ResponseError) -> bool:
    return isinstance(error, _PASSING) or str(error).startswith(_PASSING_TEXTS)


def _translate(command: Command[T], error: foreign.ResponseError, *, may_be_applied: bool) -> KairosError:
    text = str(error)
    if text.startswith("WRONGTYPE"):
        return CorruptState(command.key, "holds another type than a session's hash")
    refused = isinstance(error, _REFUSED) or text.startswith(_REFUSED_TEXTS)
    # An ACL is checked for the call and again for each command in the script, which may have begun to write.
    refused = refused or (isinstance(error, foreign.NoPermissionError) and "script" not in text)
    return _ended(command, error, may_be_applied=may_be_applied or not refused)


def _ended(command: Command[T], cause: Exception, *, may_be_applied: bool) -> KairosError:
    reason = f"{type(cause).__name__}: {cause}"
    if may_be_applied and command.operation_id is not None:
        return OutcomeUnknown(command.session_id, command.operation_id, reason)
    return StoreUnavailable(f"session {command.session_id}: {reason}")
