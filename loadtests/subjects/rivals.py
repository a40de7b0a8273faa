"""The operations of the rivals, to be timed: what a service would run, without what the attack's harness adds to it.

`Register` has each of its results say what was seen, with a digest, for the judge. That is no part of the rivals'
way to work, so what is timed here are the same reads and exchanges beneath it.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from loadtests.states import sample_state
from loadtests.subjects.check_then_set import CheckThenSet
from loadtests.subjects.lock import Locked
from loadtests.subjects.stored import Rival, Stored
from loadtests.subjects.watch_multi import WatchMulti

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core import Settings

RIVALS: dict[str, Callable[[Settings], Rival]] = {
    "check_then_set": CheckThenSet,
    "watch_multi": WatchMulti,
    "lock": Locked,
}
_WRITER = f"{1:016x}"


def _created(session_id: str, current: Stored | None, latest: int) -> Stored:
    if current is not None:
        raise AssertionError(f"{session_id}: is there already")
    return Stored(max(latest + 1, time.time_ns() // 1000), 1, _WRITER, sample_state(session_id))


def _written(expected: Stored | None, state: Any, current: Stored | None, _: int) -> Stored:
    """What to store after what is stored; where something is expected, only if that is it."""
    if current is None:
        raise AssertionError("the session is gone")
    stamp = (current.incarnation, current.version)
    if expected is not None and stamp != (expected.incarnation, expected.version):
        raise AssertionError(f"conflict with {stamp}, and nobody else writes")
    return Stored(current.incarnation, current.version + 1, _WRITER, state)


class Get:
    """GET, decoding included. All rivals read alike."""

    def __init__(self, rival: Rival, session_id: str) -> None:
        self._rival, self._key = rival, rival.key(session_id)
        rival.exchange(session_id, partial(_created, session_id))

    def prepare(self) -> Callable[[], Stored | None]:
        """The call to time."""
        return self._get

    def _get(self) -> Stored | None:
        return self._rival.decode(self._rival.client.get(self._key))

    def finish(self, result: Stored | None) -> None:
        """Check what it returned."""
        if result is None:
            raise AssertionError("get: the session is gone")


class Update:
    """Read, compare, write and publish.

    Args:
        rival: in its way.
        session_id: of a session that is made for it.
        compares: False: whatever is stored is written over, as `mutate` does.
    """

    def __init__(self, rival: Rival, session_id: str, *, compares: bool = True) -> None:
        self._exchange = partial(rival.exchange, session_id)
        self._compares = compares
        self._state = sample_state(session_id)
        self._stored = rival.exchange(session_id, partial(_created, session_id))

    def prepare(self) -> Callable[[], Stored]:
        """The call to time."""
        expected = self._stored if self._compares else None
        return partial(self._exchange, partial(_written, expected, self._state))

    def finish(self, result: Stored) -> None:
        """Check that it is one version on, and go on from there."""
        if result.version != self._stored.version + 1:
            raise AssertionError(f"update: version {result.version} after {self._stored.version}")
        self._stored = result


class Create:
    """Look whether it is there, write and publish; each time another session."""

    def __init__(self, rival: Rival, prefix: str) -> None:
        self._rival, self._prefix, self._count = rival, prefix, 0

    def prepare(self) -> Callable[[], Stored]:
        """The call to time."""
        self._count += 1
        session_id = f"{self._prefix}-{self._count}"
        return partial(self._rival.exchange, session_id, partial(_created, session_id))

    def finish(self, result: Stored) -> None:
        """Check that it is the first version."""
        if result.version != 1:
            raise AssertionError(f"create: version {result.version}")


class Delete:
    """Read, compare where that is asked, delete and publish; each time a session made for it."""

    def __init__(self, rival: Rival, prefix: str, *, if_unchanged: bool = False) -> None:
        self._create = Create(rival, prefix)
        self._rival, self._prefix, self._count, self._if_unchanged = rival, prefix, 0, if_unchanged

    def prepare(self) -> Callable[[], Stored]:
        """The call to time."""
        self._count += 1
        stored = self._create.prepare()()
        expected = stored if self._if_unchanged else None
        return partial(self._rival.exchange, f"{self._prefix}-{self._count}", partial(_written, expected, None))

    def finish(self, result: Stored) -> None:
        """Check that there was one."""
        if result.state is not None:
            raise AssertionError("delete: it is still there")


class Touch:
    """PEXPIRE. All rivals touch alike."""

    def __init__(self, rival: Rival, session_id: str) -> None:
        self._touch = partial(rival.touch, session_id)
        rival.exchange(session_id, partial(_created, session_id))

    def prepare(self) -> Callable[[], bool]:
        """The call to time."""
        return self._touch

    def finish(self, result: object) -> None:
        """Check that there was one."""
        if result is not True:
            raise AssertionError("touch: the session is gone")
