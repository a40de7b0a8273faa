"""`kairos worker`: the pool that moves what was written to PostgreSQL."""

from __future__ import annotations

import contextlib
from typing import Annotated, Literal

import typer

from kairos_core import logs
from kairos_core.cli.described import WHY_MISUSED, Told, command
from kairos_core.cli.stopping import stop_on_signals
from kairos_core.lifeline import end_with_parent
from kairos_core.settings import Settings

Style = Literal["text", "json"]

TOLD = Told(
    summary="run the audit: worker processes, their scheduler, the sweeps",
    more="Moves what was written to PostgreSQL and ends the sessions whose time has come, until Ctrl-C or SIGTERM."
    " Any number of them may run, on any number of machines.",
    reads=(
        "KAIROS_REDIS_URL",
        "KAIROS_POSTGRES_URL",
        "KAIROS_QUEUE_URL",
        "KAIROS_NAMESPACE",
        "KAIROS_LANES",
        "KAIROS_TIMEOUT_S",
        "KAIROS_ALERT",
    ),
    statuses={0: "it was told to end", 2: WHY_MISUSED},
    examples=(
        ("kairos worker --workers 2", "a small pool"),
        ("kairos worker --metrics-port 9464 --log json", "with what a monitoring system asks for"),
    ),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "worker", TOLD, family="Begin", logs_itself=True)(worker)


def worker(
    *,
    workers: Annotated[int, typer.Option("--workers", metavar="N", min=1, help="Worker processes.")] = 10,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            metavar="PORT",
            min=0,
            max=65535,
            help="Answer Prometheus on this TCP port; 0: a free one. Without it, none is opened.",
        ),
    ] = None,
    metrics_host: Annotated[
        str,
        typer.Option(
            "--metrics-host", metavar="HOST", help="The address to answer Prometheus at; in a container, 0.0.0.0."
        ),
    ] = "127.0.0.1",
    log: Annotated[
        Style,
        typer.Option("--log", metavar="STYLE", help="How the log is written: text, or json, one object a line."),
    ] = "text",
    end_with_stdin: Annotated[
        bool, typer.Option("--end-with-stdin", help="End, too, when standard input closes.")
    ] = False,
) -> int:
    """Run the pool until a signal."""
    logs.configure(log)
    from kairos_core.audit import alerts, jobs  # noqa: PLC0415
    from kairos_core.audit.pool import run_pool  # noqa: PLC0415 - rq takes its time to import
    from kairos_core.audit.writer import AuditWriter  # noqa: PLC0415
    from kairos_core.expiry import Expiry  # noqa: PLC0415
    from kairos_core.metrics.worker import serving  # noqa: PLC0415

    settings = Settings.from_env()
    stop = stop_on_signals()
    if end_with_stdin:
        end_with_parent()
    # Refuse unsafe ground here, once, instead of in every member.
    alerts.prepare(settings.alert)
    expiry = Expiry.connect(settings)
    try:
        expiry.check()
    finally:
        expiry.close()
    jobs.check_queue(settings)
    with AuditWriter.connect(settings) as writer:
        writer.migrate()
    with contextlib.nullcontext() if metrics_port is None else serving(settings, metrics_port, metrics_host) as port:
        print(f"kairos worker: draining {settings.namespace} with {workers} worker(s)", flush=True)
        if port is not None:
            print(f"kairos worker: metrics at http://{metrics_host}:{port}/metrics", flush=True)
        run_pool(settings, workers, stop, log)
    return 0
