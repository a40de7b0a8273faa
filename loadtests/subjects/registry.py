"""The subjects by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtests.subjects.check_then_set import CheckThenSet
from loadtests.subjects.delayed import Delayed
from loadtests.subjects.lock import Locked
from loadtests.subjects.managed import Managed
from loadtests.subjects.watch_multi import WatchMulti

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core import Settings
    from loadtests.subjects.register import Register

SUBJECTS: dict[str, Callable[[Settings], Register]] = {
    "kairos": Managed.connect,
    "kairos_async": Managed.connect_awaiting,
    "check_then_set": CheckThenSet,
    "watch_multi": WatchMulti,
    "lock": Locked,
}
# What a load test can be of: those that block, since greenlets cannot share an event loop; and besides, what shows
# whether it tells the truth.
LOADABLE: dict[str, Callable[[Settings], Register]] = {
    **{name: subject for name, subject in SUBJECTS.items() if name != "kairos_async"},
    "delayed": Delayed,
}
# These have an audit, and need no more than the core's account.
OF_KAIROS = ("kairos", "kairos_async")
