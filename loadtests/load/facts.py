"""A load test as it was: `load.json`, which its verdict and every page about it are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from loadtests.scenarios import Scenario  # noqa: TC001 - msgspec reads it when it decodes
from loadtests.whole import write_whole

if TYPE_CHECKING:
    from pathlib import Path

# 1: the first.
FORMAT = 1
_NAME = "load.json"


class Part(msgspec.Struct, kw_only=True):
    """What one process says of itself at its end.

    Attributes:
        place: which it is, from 0.
        boot: of the machine that it ran on: with another, its clock is another.
        begin_ns: when it began (`time.monotonic_ns`).
        hands: how many calls it made at the same time, at the most.
        planned: how many steps it was to do.
        begun: how many of them it did.
        dropped: how many it gave up, since they were still waiting long after the time was over.
        late: how many it began so late by its own fault that they were not offered when they were to be.
        late_in: in which seconds those were due, and how many in each.
        attempted: how many attempts its steps were, and what it did beside them: those in its histories.
        histories: the numbers of the processes in the histories of its hands.
        watchers: likewise of its watch of all sessions.
        listeners: likewise of its watches of single sessions.
        closers: likewise of what it did beside its plan.
        cpu: for which share of each second it had a processor, or waited for one.
        rss_kb: at the end of each second, the memory that is its own.
        reports: how many reports of its histograms it sent.
        notes: what went wrong in it, so that the run shows nothing.
        doubts: what went wrong in it, so that nobody can tell whether all is right.
    """

    place: int
    boot: str
    begin_ns: int
    hands: int
    planned: int = 0
    begun: int = 0
    dropped: int = 0
    late: int = 0
    late_in: list[tuple[int, int]] = []
    attempted: int = 0
    histories: list[int] = []
    watchers: list[int] = []
    listeners: list[int] = []
    closers: list[int] = []
    cpu: list[float] = []
    rss_kb: list[int] = []
    reports: int = 0
    notes: list[str] = []
    doubts: list[str] = []


class Moment(msgspec.Struct, kw_only=True):
    """How the servers were at a moment.

    Attributes:
        at_s: seconds since the beginning.
        waiting: entries in the outboxes.
        lag_s: the age of the oldest.
        keys: of the store.
    """

    at_s: float
    waiting: int
    lag_s: float
    keys: int


class Memory(msgspec.Struct, kw_only=True):
    """The memory of a process over time: what is its own (neither files nor what it shares).

    Attributes:
        name: what it is, as `valkey` or `worker 2`.
        pid: its process id.
        at_s: when, in seconds since the beginning.
        kb: how much.
    """

    name: str
    pid: int
    at_s: list[float] = []
    kb: list[int] = []


class Outage(msgspec.Struct, kw_only=True):
    """That PostgreSQL was away: when, in seconds since the beginning, and what shows that it was."""

    from_s: float
    until_s: float
    most_waiting: int
    longest_lag_s: float


class Load(msgspec.Struct, kw_only=True):
    """A load test as it was.

    Attributes:
        format: of this file.
        name: of the scenario.
        scenario: as it was scaled.
        time, size: by what.
        subject: what was loaded.
        seed: what everything random was drawn from.
        prefix: what the ids of its sessions begin with.
        command: how it was started.
        began_at: when, as a date.
        begin_ns: likewise, by the clock of the process that led it.
        boot: of the machine of that process.
        seconds: what was counted in each second since the beginning, by all processes: of each name
            `operation/outcome/part` a histogram (see `histograms`).
        parts: of its processes.
        moments: see Moment.
        memories: see Memory; filled by who started the servers.
        outage: where PostgreSQL was taken away.
        messages_sent: to how many receivers messages were handed, as the store said.
        messages_told: how many of them told of one.
        messages_own: how many of those were told by the process that sent it, which says nothing of others: they are
            not timed.
        left: how many sessions still lived at the last moment, which is after everything ended and all receipts were
            forgotten.
        lane_keys: how many keys the lanes have of their own once they were written, at the most, however many sessions
            there are: those that may be there at the last moment and not at the first.
        notes: what went wrong, so that the run shows nothing.
    """

    format: int = FORMAT
    name: str
    scenario: Scenario
    time: float
    size: float
    subject: str
    seed: int
    prefix: str
    command: list[str]
    began_at: str
    begin_ns: int
    boot: str
    seconds: list[dict[str, str]] = []
    parts: list[Part] = []
    moments: list[Moment] = []
    memories: list[Memory] = []
    outage: Outage | None = None
    messages_sent: int = 0
    messages_told: int = 0
    messages_own: int = 0
    left: int = 0
    lane_keys: int = 0
    notes: list[str] = []


class LoadError(ValueError):
    """A folder holds no load test, or one of another format."""


def write_load(folder: Path, found: Load) -> None:
    """Write `load.json`."""
    write_whole(folder / _NAME, msgspec.json.encode(found))


def read_load(folder: Path) -> Load:
    """Read `load.json`.

    Raises:
        LoadError: names the folder and what is wrong with it.
    """
    try:
        data = (folder / _NAME).read_bytes()
        version = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("format")
        if version is None or bytes(version) != str(FORMAT).encode():
            raise LoadError(f"{folder}: a load test of another format, where this version reads format {FORMAT}")
        return msgspec.json.decode(data, type=Load)
    except FileNotFoundError as error:
        raise LoadError(f"{folder}: no load test, or one that was interrupted: there is no {_NAME}") from error
    except (OSError, msgspec.MsgspecError) as error:
        raise LoadError(f"{folder}: {error}") from error
