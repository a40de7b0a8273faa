"""`kairos report`, `validate` and `load`: the harness of a checkout, as a process of its own.

The harness imports the core, and never the other way round. So these commands start it as anybody would, hand on what
they were given, and end as it ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

import kairos_core
from kairos_core.cli.described import Told, command
from kairos_core.errors import ConfigurationError

_ROOT = Path(kairos_core.__file__).resolve().parents[1]
_MORE = "Words that it does not know go to the harness. Needs a checkout of Kairos, with its extra `harness`."
_READS = ("KAIROS_REDIS_URL", "KAIROS_POSTGRES_URL", "KAIROS_LOCAL_FOLDER", "KAIROS_LOCAL_REDIS_PORT")
_NO_VERDICT = "it could not be told, or not be run"


def _offered(name: str, metavar: str, text: str) -> typer.models.OptionInfo:
    found: typer.models.OptionInfo = typer.Option(name, metavar=metavar, help=text)
    return found


_Profile = Annotated[str | None, _offered("--profile", "NAME", "How much: quick (the default) or full.")]
_Seed = Annotated[str | None, _offered("--seed", "N", "What chance draws from; another one each time without it.")]
_Folder = Annotated[str | None, _offered("--folder", "DIR", "Where the run is stored; a new folder without it.")]

REPORT = Told(
    summary="measure, judge and write the report of this machine",
    more=f"Uses the servers that the settings name, or embedded ones where they name none. {_MORE}",
    reads=_READS,
    statuses={
        0: "all targets are met, and all guarantees were held",
        1: "one is missed, or was broken",
        2: _NO_VERDICT,
    },
    examples=(
        ("kairos report", "as `make report` does, in some minutes"),
        ("kairos report --run reports/sample", "write the page of a stored run again, and measure nothing"),
    ),
)
VALIDATE = Told(
    summary="attack the core, judge what was seen, and show that broken cores are noticed",
    more=f"Runs on servers of its own. {_MORE}",
    reads=("KAIROS_LOCAL_FOLDER",),
    statuses={0: "all guarantees were held", 1: "one was broken, or a broken core went unnoticed", 2: _NO_VERDICT},
    examples=(
        ("kairos validate", "about two minutes"),
        ("kairos validate --profile full --seed 7", "about twenty, with faults that can be had again"),
    ),
)
LOAD = Told(
    summary="run a load test, and judge whether it was fast and right",
    more=f"Runs on servers of its own, with processes of a service. {_MORE}",
    reads=("KAIROS_LOCAL_FOLDER",),
    statuses={0: "it was fast enough, and right", 1: "one of them it was not", 2: _NO_VERDICT},
    examples=(
        ("kairos load --list", "which load tests there are"),
        ("kairos load baseline --time 0.2", "a short one"),
        ("kairos load sessions_1k --subject lock", "the same load on another state manager"),
    ),
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "report", REPORT, family="Prove", passes=True)(report)
    command(app, "validate", VALIDATE, family="Prove", passes=True)(validate)
    command(app, "load", LOAD, family="Prove", passes=True)(load)


def report(
    context: typer.Context,
    *,
    profile: _Profile = None,
    runs: Annotated[str | None, _offered("--runs", "DIR", "The folder of all runs.")] = None,
    run: Annotated[str | None, _offered("--run", "DIR", "A run that is there: write its report again.")] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="With --run: measure first what is missing in it.")
    ] = False,
) -> int:
    """Run `python -m reports`."""
    words = _words({"--profile": profile, "--runs": runs, "--run": run}, ["--measure"] if measure else [])
    return _harness("reports", "--end-with-stdin", *words, *context.args)


def validate(context: typer.Context, *, profile: _Profile = None, seed: _Seed = None, folder: _Folder = None) -> int:
    """Run `python -m loadtests validate`."""
    words = _words({"--profile": profile, "--seed": seed, "--folder": folder})
    return _harness("loadtests", "validate", "--end-with-stdin", *words, *context.args)


def load(  # noqa: PLR0913 - what the harness offers
    context: typer.Context,
    scenario: Annotated[
        str | None,
        typer.Argument(
            metavar="SCENARIO", show_default=False, help="Which one, else baseline; --list has all of them."
        ),
    ] = None,
    *,
    listed: Annotated[bool, typer.Option("--list", help="List the load tests, and run none.")] = False,
    time: Annotated[str | None, _offered("--time", "FACTOR", "So many times its time.")] = None,
    size: Annotated[str | None, _offered("--size", "FACTOR", "With so many times its sessions.")] = None,
    instances: Annotated[str | None, _offered("--instances", "N", "Processes of the service.")] = None,
    workers: Annotated[str | None, _offered("--workers", "N", "Processes that drain the audit.")] = None,
    subject: Annotated[str | None, _offered("--subject", "NAME", "Which state manager is loaded.")] = None,
    seed: _Seed = None,
    folder: _Folder = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not show how it goes.")] = False,
) -> int:
    """Run `python -m loadtests.load run`."""
    if listed:
        return _harness("loadtests.load", "list", *context.args)
    given = {
        "--time": time,
        "--size": size,
        "--instances": instances,
        "--workers": workers,
        "--subject": subject,
        "--seed": seed,
        "--folder": folder,
    }
    words = _words(given, ["--quiet"] if quiet else [])
    # Before the options: an unknown one of these may take a word.
    which = [] if scenario is None else [scenario]
    return _harness("loadtests.load", "run", *which, "--end-with-stdin", *words, *context.args)


def _words(given: dict[str, str | None], more: list[str] | None = None) -> list[str]:
    # In one word each, so that a value that begins with a dash is one.
    return [f"{name}={value}" for name, value in given.items() if value is not None] + (more or [])


def _harness(module: str, *words: str) -> int:
    """Run a part of the harness; return its exit status as a shell would tell it."""
    package = _ROOT / module.partition(".")[0]
    if not (package / "__init__.py").is_file():
        raise ConfigurationError(
            "harness", f"there is none beside {_ROOT / 'kairos_core'}: clone the repository, and call it there"
        )
    # What was said before comes before what the harness says.
    if sys.stdout is not None:
        sys.stdout.flush()
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module, *words],
        # -P: what is in the folder where it was called is no part of it. It ends with this process where it was told
        # to, however that ends.
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        # A signal reaches it once, by the lines below, and not by the terminal as well.
        process_group=0,
    )
    kept = {
        number: signal.signal(number, lambda got, _: process.send_signal(got))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        status = process.wait()
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
        if process.stdin is not None:
            process.stdin.close()
    return 128 - status if status < 0 else status
