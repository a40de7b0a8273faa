"""`python -m docs.examples.chess_clock --port 8001 --instances 8001 8002`: one instance, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import socket
import string
import sys

import uvicorn

from kairos_core import AsyncRedisStateManager, KairosError, Settings

from .service import Service

_HOST = "127.0.0.1"
# Longer than any write takes, so that what was begun is answered.
_SHUTDOWN_S = 10
_MOST_MESSAGE_BYTES = 4_096


async def _check(settings: Settings) -> None:
    """See whether the store is there, and may be used.

    Raises:
        KairosError: it is not, or may not.
    """
    async with AsyncRedisStateManager.connect(settings):
        pass


def main() -> int:
    """Serve; the exit status is 0, or 2 where a setting, the store or the port cannot be used."""
    parser = argparse.ArgumentParser(prog="chess_clock", description="One instance of the chess clock.")
    parser.add_argument("--port", type=int, required=True, help="the port of this instance, on 127.0.0.1")
    parser.add_argument("--instances", type=int, nargs="+", help="the ports of all instances (else this one alone)")
    chosen = parser.parse_args()
    ports = chosen.instances or [chosen.port]
    if chosen.port not in ports or len(ports) > len(string.ascii_uppercase):
        parser.error("--instances: at most 26 are needed, with --port among them")
    instances = {name: f"http://{_HOST}:{port}" for name, port in zip(string.ascii_uppercase, ports, strict=False)}
    name = string.ascii_uppercase[ports.index(chosen.port)]
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {name} %(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings.from_env()
        # Asked before the server starts, whose word for it would be a traceback.
        asyncio.run(_check(settings))
        listening = socket.create_server((_HOST, chosen.port))
    except KairosError as error:
        sys.stderr.write(f"chess_clock: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"chess_clock: --port: {chosen.port}: {os.strerror(error.errno or 0)}\n")
        return 2
    sys.stdout.write(f"chess_clock: instance {name} at {instances[name]}; Ctrl-C ends it\n")
    sys.stdout.flush()
    config = uvicorn.Config(
        Service(settings, name, instances).app,
        log_level="warning",
        ws="websockets-sansio",
        ws_max_size=_MOST_MESSAGE_BYTES,
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
    return 0


if __name__ == "__main__":
    sys.exit(main())
