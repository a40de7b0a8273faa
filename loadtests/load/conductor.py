"""The process of Locust's that leads a load test: all instances begin together, and end when all of them are done.

Written for Locust's master, and for its single process, which leads itself.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
import locust.log
import msgspec

from kairos_core.errors import ConfigurationError
from loadtests.load.board import Board
from loadtests.load.facts import Load, Part, write_load
from loadtests.load.folders import FROM_RUNNER, empty_folder, new_run, round_folder
from loadtests.load.hands import PATIENCE_S
from loadtests.load.histograms import Histograms
from loadtests.load.instance import Orders
from loadtests.load.machine import boot
from loadtests.load.progress import Progress
from loadtests.load.store import Store
from loadtests.load.words import BEGIN, BEGUN, FINISH, ORDERS, REPORT, RUNNER, SAID
from loadtests.scenarios import Scenario  # noqa: TC001 - msgspec reads it
from loadtests.subjects.registry import OF_KAIROS

if TYPE_CHECKING:
    from collections.abc import Callable

    from locust.env import Environment

    from kairos_core import Settings

# Connecting, with a watch and hundreds of listeners, on a machine that starts other things, too.
_CONNECT_TIMEOUT_S = 120.0
# What is left when the plan is over: calls under way, what waits for them, the last watches.
_END_TIMEOUT_S = PATIENCE_S + 60.0
_REPORTS_TIMEOUT_S = 15.0
# From when all are told to begin to when they do.
_LEAD_NS = 500_000_000
_TICK_S = 0.02

_log = logging.getLogger(__name__)


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asked for: see `Load`, and `folder`, where the run goes; None: a new one."""

    name: str
    scenario: Scenario
    time: float
    size: float
    subject: str
    seed: int
    folder: Path | None


class FailedError(RuntimeError):
    """A run that cannot go on; the message says why."""


class Conductor:
    """Leads one run after the other.

    Args:
        environment: Locust's.
        choose: what was asked for, when a run begins.
        settings: of the store, to look at it while a run goes on; None: it is not looked at.
        is_quiet: whether it is not shown how it goes.
        own: in a single process: takes the report of its own instance, which Locust sends to nobody.

    Attributes:
        load: the run, or the last one.
        folder: where it goes.
        cause: why there is none.
    """

    def __init__(
        self,
        environment: Environment,
        choose: Callable[[], Choice],
        settings: Settings | None,
        *,
        is_quiet: bool = False,
        own: Callable[[], dict[str, Any] | None] | None = None,
    ) -> None:
        self.load: Load | None = None
        self.folder = Path()
        self.cause = ""
        self._is_over = False
        self._environment = environment
        self._choose = choose
        self._settings = settings
        self._is_quiet = is_quiet
        self._progress = Progress(sys.stderr, 1.0, is_quiet=True)
        self._own = own
        self._board = Board(0)
        self._total = Histograms()
        self._said: dict[str, dict[str, dict[str, Any]]] = {}
        self._places = 0
        self._leading: gevent.Greenlet[..., None] | None = None
        self._ticked_at = 0.0
        # Where a process waits for the end of it, and has servers to end, it is not to be outlived.
        self._parent = os.getppid() if RUNNER in os.environ else None
        self._runner.register_message(SAID, self._hear)
        environment.events.worker_report.add_listener(self._take)

    @property
    def _runner(self) -> Any:
        assert self._environment.runner is not None  # noqa: S101 - there is one from Locust's `init` on
        return self._environment.runner

    @property
    def places(self) -> int:
        """How many processes take part."""
        return 1 if self._own is not None else int(self._runner.worker_count)

    def histograms(self) -> Histograms:
        """All that was counted so far, in all processes."""
        return self._total

    def take_end(self) -> bool:
        """Whether a run has ended; said once of each, since the next is asked about before it begins."""
        is_over, self._is_over = self._is_over, False
        return is_over

    def begin(self) -> None:
        """Lead a run, in a greenlet of its own."""
        self._is_over = False
        self.load = None
        self.cause = ""
        self._said = {}
        self._leading = gevent.spawn(self._lead)

    def stop(self) -> None:
        """End a run that is not over: it shows nothing."""
        leading, self._leading = self._leading, None
        if leading is not None and not leading.ready():
            leading.kill()
            self._end("the test was stopped before its end")

    def _hear(self, environment: Environment, msg: Any, **_: Any) -> None:
        del environment
        self._said.setdefault(msg.data["what"], {})[msg.node_id] = msg.data
        if "last" in msg.data:
            self._add(msg.data["last"])

    def _take(self, client_id: str, data: dict[str, Any]) -> None:
        del client_id
        if REPORT in data:
            self._add(data[REPORT])

    def _add(self, report: dict[str, Any]) -> None:
        seconds = {int(second): counted for second, counted in report["seconds"].items()}
        self._board.take(report["place"], report["number"], seconds)
        for counted in seconds.values():
            self._total.add(counted)

    def _lead(self) -> None:
        cause = ""
        try:
            self._conduct()
        except (FailedError, ConfigurationError) as error:
            cause = str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run ends, and says so
            _log.exception("the load test failed")
            cause = f"{type(error).__name__}: {error}"
        self._end(cause)

    def _end(self, cause: str) -> None:
        """Write down what there is."""
        self.cause = cause
        load = self.load
        if load is not None:
            if cause:
                load.notes.append(cause)
            load.notes += self._board.notes
            if locust.log.unhandled_greenlet_exception:
                load.notes.append("a listener or a greenlet of Locust's raised in the process that led: see the log")
            load.seconds = self._board.seconds()
            write_load(self.folder, load)
        self._progress.end()
        self._is_over = True

    def _conduct(self) -> None:
        choice = self._choose()
        self.folder = new_run(choice.name) if choice.folder is None else empty_folder(choice.folder, FROM_RUNNER)
        load = self.load = _new_load(choice)
        round_folder(self.folder).mkdir(parents=True)
        places = self.places
        self._board, self._total, self._places = Board(places), Histograms(), places
        self._progress = Progress(sys.stderr, load.scenario.duration_s, is_quiet=self._is_quiet)
        clients = sorted(self._wait("connect", "here", places, _CONNECT_TIMEOUT_S))
        for place, client in enumerate(clients):
            orders = Orders(
                place=place,
                places=places,
                folder=str(self.folder.resolve()),
                prefix=load.prefix,
                seed=load.seed,
                subject=load.subject,
                scenario=load.scenario,
            )
            self._tell(ORDERS, msgspec.to_builtins(orders), client)
        self._wait("be ready", "ready", places, _CONNECT_TIMEOUT_S)
        load.begin_ns = time.monotonic_ns() + _LEAD_NS
        begin = {"begin_ns": load.begin_ns, "boot": load.boot, "lead_ns": _LEAD_NS}
        # Whoever started this process may have something to do at its time.
        (self.folder / BEGUN).write_text(str(load.begin_ns))
        store = Store(self._settings) if self._settings is not None and load.subject in OF_KAIROS else None
        try:
            for client in clients:
                self._tell(BEGIN, begin, client)
            self._wait("do what was planned", "done", places, load.scenario.duration_s + _END_TIMEOUT_S, store)
            for client in clients:
                self._tell(FINISH, {}, client)
            finished = self._wait("come to an end", "finished", places, _END_TIMEOUT_S, store)
        finally:
            if store is not None:
                store.close()
        load.parts = sorted(
            (msgspec.convert(said["part"], Part) for said in finished.values()), key=lambda it: it.place
        )
        load.messages_sent = sum(said["sent"] for said in finished.values())
        load.messages_told = sum(said["told"] for said in finished.values())
        load.messages_own = sum(said["own"] for said in finished.values())
        self._wait_until("send all reports", self._has_all_reports, _REPORTS_TIMEOUT_S, None)

    def _has_all_reports(self) -> bool:
        assert self.load is not None  # noqa: S101 - the run at hand
        return not self._board.missing({part.place: part.reports for part in self.load.parts})

    def _tell(self, name: str, data: dict[str, Any], client: str) -> None:
        self._runner.send_message(name, data, client)

    def _wait(
        self, what: str, said: str, places: int, timeout_s: float, store: Store | None = None
    ) -> dict[str, dict[str, Any]]:
        """Wait until all have said something; what each of them said, by Locust's name of it."""
        self._wait_until(what, lambda: len(self._said.get(said, {})) >= places, timeout_s, store)
        return self._said[said]

    def _wait_until(self, what: str, is_so: Callable[[], bool], timeout_s: float, store: Store | None) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_so():
            for said in self._said.get("failed", {}).values():
                raise FailedError(said["cause"])
            if time.monotonic() > deadline:
                raise FailedError(f"the processes did not all {what} within {timeout_s:.0f} s")
            if self._parent not in (None, os.getppid()):
                raise FailedError("who started the load test has ended")
            if self._own is None and self._runner.worker_count < self._places:
                raise FailedError("a process of the load test has ended, or does not answer any more")
            self._tick(store)
            gevent.sleep(_TICK_S)

    def _tick(self, store: Store | None) -> None:
        """Once a second: look at the store, and show how it goes."""
        load = self.load
        if load is None or not load.begin_ns or time.monotonic() < self._ticked_at + 1.0:
            return
        self._ticked_at = time.monotonic()
        if self._own is not None and (report := self._own()) is not None:
            self._add(report)
        at_s = (time.monotonic_ns() - load.begin_ns) / 1e9
        if store is not None and (moment := store.look(at_s)) is not None:
            load.moments.append(moment)
        self._progress.show(at_s, self._board.now(int(at_s)), load.moments[-1] if load.moments else None)


def _new_load(choice: Choice) -> Load:
    return Load(
        name=choice.name,
        scenario=choice.scenario,
        time=choice.time,
        size=choice.size,
        subject=choice.subject,
        seed=choice.seed,
        prefix=f"1x{secrets.token_hex(4)}",
        command=sys.argv,
        began_at=datetime.now(UTC).isoformat(timespec="seconds"),
        begin_ns=0,
        boot=boot(),
    )
