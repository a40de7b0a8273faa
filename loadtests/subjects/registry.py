"""The subjects by name: those that are here, and any other by its module and class."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from kairos_core.errors import ConfigurationError
from loadtests.subjects.check_then_set import CheckThenSet
from loadtests.subjects.delayed import Delayed
from loadtests.subjects.lock import Locked
from loadtests.subjects.managed import Managed
from loadtests.subjects.outside import Outside, class_named, is_outside, share_import_path
from loadtests.subjects.watch_multi import WatchMulti

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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


def subject_named(
    name: str, known: Mapping[str, Callable[[Settings], Register]] = SUBJECTS
) -> Callable[[Settings], Register]:
    """What makes a subject from settings.

    Args:
        name: one of those that are known, or `package.module:Class`.
        known: SUBJECTS or LOADABLE.

    Raises:
        ConfigurationError: there is none of this name, or its class cannot be a subject.
    """
    if is_outside(name):
        return partial(Outside, class_named(name))
    if name not in known:
        names = ", ".join(known)
        raise ConfigurationError("SUBJECT", f"there is no {name}; there are {names}, and yours as package.module:Class")
    return known[name]


def make_ready(name: str, known: Mapping[str, Callable[[Settings], Register]] = SUBJECTS) -> None:
    """See that there is such a subject before anything is started, and that the processes that are can import it.

    Raises:
        ConfigurationError: see `subject_named`.
    """
    subject_named(name, known)
    if is_outside(name):
        share_import_path()
