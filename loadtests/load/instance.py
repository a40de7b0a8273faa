"""An instance of the service under load: a process with a manager, a watch and hands of its own."""

from __future__ import annotations

import contextlib
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
import msgspec

from kairos_core.errors import ConfigurationError
from kairos_core.layout import Layout
from loadtests.history import Outcome, Recorder
from loadtests.load.facts import Part
from loadtests.load.folders import round_folder
from loadtests.load.generator import Seconds
from loadtests.load.hands import Hands
from loadtests.load.machine import boot, own_memory_kb, wanted_s
from loadtests.load.numbers import CLOSER, LISTENERS, MOST_HANDS, MOST_LISTENERS, MOST_PLACES, WATCHER, number_of
from loadtests.load.plan import plan
from loadtests.load.steps import Steps
from loadtests.load.tally import Tally
from loadtests.load.watching import LAST_SESSIONS, Watching
from loadtests.scenarios import Scenario  # noqa: TC001 - msgspec reads it when it decodes
from loadtests.subjects.outside import has, is_outside, told_of
from loadtests.subjects.recorded import Recorded
from loadtests.subjects.register import session_name
from loadtests.subjects.registry import LOADABLE, subject_named

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core import Settings
    from loadtests.subjects.register import Register

_TOLD_TIMEOUT_S = 30.0


class Orders(msgspec.Struct, kw_only=True):
    """What a process is to do: told by the one that leads the run.

    Attributes:
        place: which it is, from 0.
        places: how many there are.
        folder: of the run; the histories go there.
        prefix: of the ids of its sessions.
        seed: what everything random is drawn from.
        subject: what is loaded.
        scenario: how.
    """

    place: int
    places: int
    folder: str
    prefix: str
    seed: int
    subject: str
    scenario: Scenario


class Instance:
    """One process's part in a run.

    Args:
        orders: what it is to do.
        settings: of its manager.
        on_step: told of each step: what it was, how it ended, and how long it took in milliseconds.

    Attributes:
        tally: what it counted.
        part: what it says of itself at its end.
    """

    def __init__(self, orders: Orders, settings: Settings, on_step: Callable[[str, str, float], None]) -> None:
        self.tally = Tally(on_step)
        self.part = Part(place=orders.place, boot=boot(), begin_ns=0, hands=orders.scenario.hands)
        self._orders = orders
        self._settings = settings
        self._register: Register = subject_named(orders.subject, LOADABLE)(settings)
        self._stack = contextlib.ExitStack()
        self._stack.callback(self._register.close)
        self._is_watched = not is_outside(orders.subject) or has(orders.subject, "watch")
        self._watching = Watching(orders.prefix, orders.place, self.tally)
        self._steps: list[Steps] = []
        self._sampler: gevent.Greenlet[..., None] | None = None

    def open(self) -> None:
        """Connect all that it needs, and watch.

        Raises:
            ConfigurationError: the scenario asks for more than there can be, or than the subject can do.
        """
        scenario = self._orders.scenario
        if scenario.hands > MOST_HANDS or scenario.listeners > MOST_LISTENERS or self._orders.places > MOST_PLACES:
            raise ConfigurationError("SCENARIO", "more hands, listeners or processes than there are numbers for")
        is_sociable = hasattr(self._register, "broadcast")
        if not is_sociable and (scenario.listeners or scenario.message_s):
            raise ConfigurationError("SUBJECT", f"{self._orders.subject} has no messages, which the scenario sends")
        self._raise_limit()
        broadcaster: Any = self._register if is_sociable else None
        for hand in range(scenario.hands):
            recorder = self._recorder(hand, self.part.histories)
            recorded = Recorded(self._register, recorder, self._orders.prefix)
            self._steps.append(
                Steps(recorded, broadcaster, self._orders.prefix, self._orders.place, is_shared=scenario.is_shared)
            )
        if self._is_watched:
            self._watching.watch_all(self._register.watch(), self._recorder(WATCHER, self.part.watchers))
        for listener in range(scenario.listeners):
            recorder = self._recorder(LISTENERS + listener, self.part.listeners)
            self._watching.watch_each(broadcaster, range(1, scenario.sessions + 1), recorder)

    def run(self, begin_ns: int) -> None:
        """Do all that is planned, from this moment on (`time.monotonic_ns`)."""
        self.part.begin_ns = self._watching.begin_ns = begin_ns
        orders = self._orders
        self._sampler = gevent.spawn(self._sample, begin_ns)
        hands = Hands(self.tally, self._steps, begin_ns, orders.scenario.duration_s)
        hands.do(plan(orders.scenario, orders.seed, orders.place, orders.places))
        self.part.planned = hands.planned
        self._watching.check()

    def finish(self) -> None:
        """Wait until the watch was told of all that was written by all processes, now that all have done theirs."""
        last = self._last_sessions()
        if self._orders.place == 0:
            numbers: list[int] = []
            recorded = Recorded(self._register, self._recorder(CLOSER, numbers), self._orders.prefix)
            self.part.closers = numbers
            if any(recorded.create(session).outcome != Outcome.OK for session in last):
                self.part.doubts.append("the last sessions could not be written")
            self.tally.attempted += len(last)
        if self._is_watched and not self._watching.wait_for(last, _TOLD_TIMEOUT_S):
            self.part.doubts.append(
                f"the watch of process {self._orders.place} was not told of the last writes"
                f" within {_TOLD_TIMEOUT_S:.0f} s"
            )

    def close(self) -> None:
        """End the watches, close the connections and the histories, and say what there is to say."""
        if self._sampler is not None:
            self._sampler.kill()
        with self._stack:
            self._watching.close()
        self.part.doubts += told_of(self._register)
        self.part.begun = self.tally.begun
        self.part.dropped = self.tally.dropped
        self.part.late = self.tally.late.total()
        self.part.late_in = sorted((second, late) for second, late in self.tally.late.items() if late)
        self.part.attempted = self.tally.attempted

    def _recorder(self, number: int, noted: list[int]) -> Recorder:
        found = number_of(self._orders.place, number)
        folder = round_folder(Path(self._orders.folder))
        folder.mkdir(parents=True, exist_ok=True)
        noted.append(found)
        return self._stack.enter_context(Recorder(folder / f"{found}.history", found))

    def _last_sessions(self) -> list[int]:
        """Numbers of sessions of which there is one in each lane."""
        layout = Layout(self._settings.namespace, self._settings.lanes)
        found: dict[int, int] = {}
        number = LAST_SESSIONS
        while len(found) < layout.lanes:
            found.setdefault(layout.lane_of(session_name(self._orders.prefix, number)), number)
            number += 1
        return sorted(found.values())

    def _raise_limit(self) -> None:
        """Each connection takes a file descriptor; many systems give a process fewer than it may have."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    def _sample(self, begin_ns: int) -> None:
        """Note each second for how much of it this process wanted a processor, and how much memory is its own."""
        gevent.sleep(max(0, begin_ns - time.monotonic_ns()) / 1e9)
        seconds = Seconds(time.monotonic_ns(), wanted_s())
        while True:
            gevent.sleep(seconds.left_s(time.monotonic_ns()))
            shares = seconds.look(time.monotonic_ns(), wanted_s())
            self.part.cpu += shares
            self.part.rss_kb += [own_memory_kb()] * len(shares)
