"""What Locust is told of the load tests: its arguments, its user, its shape, and who does what in which process."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import locust
import locust.log
import locust.runners
import msgspec
from locust import LoadTestShape, User, events, task

from kairos_core import Settings
from kairos_core.settings import servers_given, without_password
from loadtests import ROOT
from loadtests.load import page
from loadtests.load.conductor import Choice, Conductor
from loadtests.load.player import Player, rest
from loadtests.load.words import RUNNER, STORE_URL
from loadtests.scenarios import offered, scenario_named, scenarios
from loadtests.subjects.registry import LOADABLE

if TYPE_CHECKING:
    from locust.argument_parser import LocustArgumentParser
    from locust.env import Environment

# What a process counted is known to the one that leads after a second.
locust.runners.WORKER_REPORT_INTERVAL = 1.0


class _Roles:
    """Who this process is, once Locust has said so."""

    player: ClassVar[Player | None] = None
    conductor: ClassVar[Conductor | None] = None
    verdict: ClassVar[str] = ""
    status: ClassVar[int] = 2


def add_arguments(parser: LocustArgumentParser) -> None:
    """Ask for the scenario and its scale, on the command line and in the form of the web UI."""
    # Not in a group of their own: the form has only what is added to the parser itself.
    parser.add_argument(
        "--scenario",
        # What is of one subject alone is no choice for a person.
        choices=list(scenarios() if RUNNER in os.environ else offered()),
        default="baseline",
        env_var="KAIROS_LOAD_SCENARIO",
        help="Kairos: which load test (baseline)",
    )
    parser.add_argument("--time", type=float, default=1.0, help="Kairos: so many times its time")
    parser.add_argument("--size", type=float, default=1.0, help="Kairos: with so many times its sessions")
    parser.add_argument(
        "--subject",
        # Who runs Locust has seen that there is such a subject, which may be one from outside.
        choices=None if RUNNER in os.environ else list(LOADABLE),
        default="kairos",
        help="Kairos: what is loaded; one of yours only by `kairos load --subject package.module:Class`",
    )
    parser.add_argument("--seed", type=int, default=0, help="Kairos: what all is drawn from; 0: another each time")
    parser.add_argument("--folder", default="", help="Kairos: where the run goes; none: a new one of loadtests/runs")
    parser.add_argument("--quiet", action="store_true", help="Kairos: show no progress", include_in_web_ui=False)


def on_init(environment: Environment, **_: Any) -> None:
    """Give this process its part."""
    runner = environment.runner
    if RUNNER in os.environ:
        # Its tables would stand between the lines that say how it goes.
        logging.getLogger("locust.stats_logger").setLevel(logging.CRITICAL)
    is_worker = isinstance(runner, locust.runners.WorkerRunner)
    is_master = isinstance(runner, locust.runners.MasterRunner)
    if not is_master:
        _Roles.player = Player(environment)
    if not is_worker:
        own = _Roles.player.take if _Roles.player is not None else None
        options = environment.parsed_options
        is_quiet = bool(options and options.quiet)
        _Roles.conductor = Conductor(
            environment, lambda: _choice(environment), _store_settings(), is_quiet=is_quiet, own=own
        )
        page.extend(environment, _Roles.conductor.histograms, lambda: _Roles.verdict)


def on_test_start(environment: Environment, **_: Any) -> None:
    """Begin to lead."""
    del environment
    if _Roles.conductor is not None:
        _Roles.verdict, _Roles.status = "", 2
        _Roles.conductor.begin()


def on_test_stop(environment: Environment, **_: Any) -> None:
    """A run that is not over shows nothing; one that is, is judged, unless whoever started it does so."""
    del environment
    conductor = _Roles.conductor
    if conductor is None:
        return
    conductor.stop()
    if conductor.load is None:
        _Roles.verdict = f"load: {conductor.cause}"
    elif RUNNER in os.environ:
        _Roles.status = 2 if conductor.load.notes else 0
        return
    else:
        command = [sys.executable, "-m", "loadtests.load", "judge", str(conductor.folder)]
        found = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
        _Roles.status, _Roles.verdict = found.returncode, found.stdout + found.stderr
    print(_Roles.verdict, flush=True)


def on_quitting(environment: Environment, **_: Any) -> None:
    """The status of the whole is that of the verdict; what a listener raised, Locust would otherwise let pass."""
    if _Roles.conductor is not None:
        # What is broken is so whatever else was raised.
        environment.process_exit_code = _Roles.status or 2 * bool(locust.log.unhandled_greenlet_exception)


events.init_command_line_parser.add_listener(add_arguments)
events.init.add_listener(on_init)
events.test_start.add_listener(on_test_start)
events.test_stop.add_listener(on_test_stop)
events.quitting.add_listener(on_quitting)


class Instance(User):
    """An instance of the service: one in each process, which makes the calls of many players."""

    # What Locust's pages say it is that is loaded.
    host = without_password(os.environ.get("KAIROS_REDIS_URL", "redis://"))

    def on_start(self) -> None:
        """Connect."""
        assert _Roles.player is not None  # noqa: S101 - only processes with one have users
        _Roles.player.connect()

    @task
    def live(self) -> None:
        """Do what is planned."""
        assert _Roles.player is not None  # noqa: S101 - likewise
        _Roles.player.live()
        rest()

    def on_stop(self) -> None:
        """Close all."""
        assert _Roles.player is not None  # noqa: S101 - likewise
        _Roles.player.leave()


class OneInEach(LoadTestShape):
    """One instance in each process, until the run is over. How many calls are made when, its plan says."""

    def tick(self) -> tuple[int, float] | None:
        """How many there are to be."""
        conductor = _Roles.conductor
        if conductor is None or conductor.take_end():
            return None
        return conductor.places, float(conductor.places)


def _choice(environment: Environment) -> Choice:
    options = environment.parsed_options
    assert options is not None  # noqa: S101 - Locust has parsed its arguments
    return Choice(
        name=options.scenario,
        # The form of the web UI lets anything through.
        scenario=scenario_named(options.scenario).scaled(float(options.time), float(options.size)),
        time=float(options.time),
        size=float(options.size),
        subject=options.subject,
        seed=int(options.seed) or random.SystemRandom().randrange(1, 1_000_000),
        folder=Path(options.folder) if options.folder else None,
    )


def _store_settings() -> Settings | None:
    if not servers_given():
        return None
    settings = Settings.from_env()
    return msgspec.structs.replace(settings, redis_url=os.environ.get(STORE_URL) or settings.redis_url)
