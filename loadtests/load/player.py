"""A process of Locust's as an instance of the service: it hears what to do from who leads, and says how it went.

What they say to each other are Locust's custom messages; histograms go with Locust's reports.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

import gevent
import locust.log
import msgspec
from gevent.event import AsyncResult

from kairos_core import Settings
from kairos_core.errors import ConfigurationError
from kairos_core.settings import servers_given
from loadtests.load.instance import Instance, Orders
from loadtests.load.machine import boot
from loadtests.load.timeline import FAILED
from loadtests.load.words import BEGIN, FINISH, ORDERS, REPORT, SAID

if TYPE_CHECKING:
    from collections.abc import Callable

    from locust.env import Environment


_log = logging.getLogger(__name__)


class Player:
    """A process's part in all runs that it lives to see.

    Args:
        environment: Locust's.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._heard: dict[str, AsyncResult] = {}
        self._instance: Instance | None = None
        self._forget()
        for name in (ORDERS, BEGIN, FINISH):
            self._runner.register_message(name, self._hear)
        environment.events.report_to_master.add_listener(self._report)

    @property
    def _runner(self) -> Any:
        assert self._environment.runner is not None  # noqa: S101 - there is one from Locust's `init` on
        return self._environment.runner

    def connect(self) -> None:
        """Hear what is to be done, and connect all that it takes; `on_start` of Locust's user."""
        self._forget()
        self._try(self._connect)

    def live(self) -> None:
        """Do what is planned; the task of Locust's user. Returns at the end of the run."""
        self._try(self._live)

    def leave(self) -> None:
        """Close what is open, whatever became of it; `on_stop` of Locust's user."""
        instance, self._instance = self._instance, None
        if instance is not None:
            with contextlib.suppress(Exception):
                instance.close()

    def take(self) -> dict[str, Any] | None:
        """What was counted since the last time."""
        if self._instance is None:
            return None
        return {"place": self._instance.part.place, **self._instance.tally.take()}

    def _forget(self) -> None:
        self._heard = {name: AsyncResult() for name in (ORDERS, BEGIN, FINISH)}

    def _hear(self, environment: Environment, msg: Any, **_: Any) -> None:
        del environment
        self._heard[msg.type].set(msg.data)

    def _report(self, client_id: str, data: dict[str, Any]) -> None:
        del client_id
        report = self.take()
        if report is not None:
            data[REPORT] = report

    def _say(self, what: str, **more: Any) -> None:
        self._runner.send_message(SAID, {"what": what, **more})

    def _try(self, do: Callable[[], object]) -> None:
        """Do it, and tell the one that leads where it goes wrong: Locust only counts what a user raises."""
        try:
            do()
        except ConfigurationError as error:
            self._say("failed", cause=str(error))
            self.leave()
        except Exception as error:  # noqa: BLE001 - whatever it is, who leads must know
            _log.exception("a process of the load test failed")
            self._say("failed", cause=f"{type(error).__name__}: {error}")
            self.leave()

    def _connect(self) -> None:
        self._say("here", boot=boot())
        if not servers_given():
            raise ConfigurationError(
                "KAIROS_REDIS_URL, KAIROS_POSTGRES_URL", "not set; `make load` starts servers itself"
            )
        orders = msgspec.convert(self._heard[ORDERS].get(), Orders)
        instance = Instance(orders, Settings.from_env(), self._told)
        self._instance = instance
        instance.open()
        self._say("ready", place=orders.place)

    def _live(self) -> None:
        instance = self._instance
        if instance is None:
            # It could not connect, and has said so.
            return
        begin = self._heard[BEGIN].get()
        # On another machine, another clock: there it begins as long after it was told.
        begin_ns = begin["begin_ns"] if begin["boot"] == boot() else time.monotonic_ns() + begin["lead_ns"]
        instance.run(begin_ns)
        self._say("done", place=instance.part.place)
        self._heard[FINISH].get()
        instance.finish()
        # From here on nothing more is counted, and nothing goes with Locust's reports.
        self._instance = None
        instance.close()
        if locust.log.unhandled_greenlet_exception:
            instance.part.notes.append("a listener or a greenlet of Locust's raised: see the log")
        last = {"place": instance.part.place, **instance.tally.take()}
        instance.part.reports = instance.tally.reports
        self._say(
            "finished",
            part=msgspec.to_builtins(instance.part),
            sent=instance.tally.sent,
            told=instance.tally.told,
            own=instance.tally.own,
            last=last,
        )

    def _told(self, operation: str, outcome: str, latency_ms: float) -> None:
        """Let Locust count a step, too."""
        self._environment.events.request.fire(
            request_type="step",
            name=f"{operation}:{outcome}",
            response_time=latency_ms,
            response_length=0,
            exception=RuntimeError(outcome) if outcome in FAILED else None,
            context={},
        )


def rest() -> None:
    """Do nothing until the greenlet is ended."""
    while True:
        gevent.sleep(3600)
