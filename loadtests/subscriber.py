"""A process that notes when updates arrive: `python -m loadtests.subscriber kairos|wire`."""

from __future__ import annotations

import os
import sys
import time

import msgspec

from kairos_core import RedisStateManager, Settings
from kairos_core.layout import Layout
from kairos_core.lifeline import end_with_parent
from loadtests.subjects.wire import Wire


def main() -> None:
    """Print `ready`, then a line per update: its version and the time of its arrival."""
    settings = Settings.from_env()
    end_with_parent()
    if sys.argv[1] == "kairos":
        _watch(settings)
    else:
        _listen(settings)


def _say(version: int, arrival_s: float) -> None:
    os.write(1, b"%d %.9f\n" % (version, arrival_s))


def _watch(settings: Settings) -> None:
    with RedisStateManager.connect(settings) as manager, manager.watch_sessions() as updates:
        os.write(1, b"ready\n")
        for update in updates:
            _say(update.version, time.monotonic())


def _listen(settings: Settings) -> None:
    wire = Wire(settings.redis_url)
    channels = Layout(settings.namespace, settings.lanes).lane_channels
    for channel in channels:
        wire.ask("SUBSCRIBE", channel)
    os.write(1, b"ready\n")
    while True:
        try:
            data = wire.receive()
        except TimeoutError:
            continue
        arrival_s = time.monotonic()
        for message in (wire.parse(data), *wire.parse_rest()):
            _say(msgspec.json.decode(message[2])["v"], arrival_s)


if __name__ == "__main__":
    main()
