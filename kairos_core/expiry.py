"""The sweep that ends sessions whose time has come, each as an event like any other.

Redis' own expiry tells nobody: its notifications are sent at most once, and late. So each lane keeps an index of when
its sessions can expire at the earliest, and one script per session ends those that are due: state, audit record and
notification in one step. Any number of sweeps may run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from kairos_core.blocking import BlockingTransport
from kairos_core.errors import CorruptState, KairosError, StoreUnavailable
from kairos_core.operations import Operations
from kairos_core.transport import run

if TYPE_CHECKING:
    from kairos_core.settings import Settings

# Sessions of a lane that one sweep looks at; the rest is due at the next one.
_AT_ONCE = 200


class Expiry:
    """Ends what is due, over connections of its own."""

    def __init__(self, operations: Operations, lanes: int) -> None:
        self._operations = operations
        self._commands = operations.commands
        self._link = operations.link
        self._lanes = lanes

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Prepare the connections; nothing is sent yet."""
        return cls(Operations(settings, BlockingTransport), settings.lanes)

    def close(self) -> None:
        """Close the connections."""
        self._link.close()

    def check(self) -> None:
        """Refuse ground that is unsafe for a worker (G14).

        Raises:
            ConfigurationError: names the setting and the cause in one line.
        """
        run(self._operations.check("worker"))

    def sweep(self) -> int:
        """End the sessions that are due; return how many were.

        Raises:
            StoreUnavailable, CorruptState: the store could not be asked, or one session could not be ended; the others
                were, and what is due stays due.
        """
        return run(self._sweep())

    async def _sweep(self) -> int:
        # Each script looks at its own server's clock again.
        now_ms = await self._link.call(self._commands.clock(0))
        lanes = await self._link.call_many([self._commands.due(lane, now_ms, _AT_ONCE) for lane in range(self._lanes)])
        commands = [self._commands.expire(session_id) for due in lanes for session_id in due]
        failures: list[KairosError] = []
        ended = 0
        for command in commands:
            try:
                ended += await self._link.call(command)
            except (CorruptState, StoreUnavailable) as error:
                # One that cannot be ended must not keep those after it from their end.
                failures.append(error)
                if isinstance(error, StoreUnavailable) and error.code is None:
                    break
        if failures:
            raise failures[-1]
        return ended
