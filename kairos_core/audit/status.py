"""How the audit is doing: what waits in the outboxes, how fast it comes and goes, what is dead."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
import psycopg

from kairos_core.audit.reading import connect_to_read, statement
from kairos_core.commands import Traffic
from kairos_core.errors import ConfigurationError, StoreUnavailable, one_line
from kairos_core.transport import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kairos_core.operations import Operations
    from kairos_core.settings import Settings

_COUNT_DEAD = statement("count_dead_letters")
# Between the two looks from which a rate comes.
LOOK_S = 1.0


class LaneStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One lane, or all of them.

    Attributes:
        lane: its number; None for all.
        depth: entries that wait.
        oldest_s: age of the oldest of them in seconds; None where none waits.
        in_per_s: entries a second that came.
        out_per_s: entries a second that went to PostgreSQL.
        dead: dead letters that nobody has settled; None where PostgreSQL could not be asked.
    """

    lane: int | None
    depth: int
    oldest_s: float | None
    in_per_s: float
    out_per_s: float
    dead: int | None


class AuditStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The audit at a moment.

    Attributes:
        lanes: each lane.
        total: all of them.
        problem: why PostgreSQL could not be asked; None where it could.
    """

    lanes: tuple[LaneStatus, ...]
    total: LaneStatus
    problem: str | None


def examine(operations: Operations, settings: Settings) -> AuditStatus:
    """Look twice, `LOOK_S` apart.

    Raises:
        KairosError: the store could not be asked.
    """
    started, before = time.monotonic(), traffic(operations, settings.lanes)
    dead, problem = dead_letters(settings)
    time.sleep(max(0.0, started + LOOK_S - time.monotonic()))
    oldest_s = ages(operations, settings.lanes)
    took_s, after = time.monotonic() - started, traffic(operations, settings.lanes)
    found = []
    for lane in range(settings.lanes):
        came = after[lane].added - before[lane].added
        went = came - (after[lane].length - before[lane].length)
        found.append(
            LaneStatus(
                lane=lane,
                depth=after[lane].length,
                oldest_s=oldest_s[lane],
                in_per_s=max(0, came) / took_s,
                out_per_s=max(0, went) / took_s,
                dead=None if dead is None else dead.get(lane, 0),
            )
        )
    return AuditStatus(lanes=tuple(found), total=_total(found, dead), problem=problem)


def _total(lanes: Sequence[LaneStatus], dead: dict[int, int] | None) -> LaneStatus:
    return LaneStatus(
        lane=None,
        depth=sum(lane.depth for lane in lanes),
        oldest_s=max((lane.oldest_s for lane in lanes if lane.oldest_s is not None), default=None),
        in_per_s=sum(lane.in_per_s for lane in lanes),
        out_per_s=sum(lane.out_per_s for lane in lanes),
        # Those of lanes that there were once are counted, too.
        dead=None if dead is None else sum(dead.values()),
    )


def ages(operations: Operations, lanes: int) -> list[float | None]:
    """The age of each outbox's oldest entry in seconds; None where none waits.

    Raises:
        KairosError: the store could not be asked.
    """
    link, commands = operations.link, operations.commands
    now_ms = run(link.call(commands.clock(0)))
    oldest_ms = run(link.call_many([commands.oldest(lane) for lane in range(lanes)]))
    return [None if made_ms is None else max(0.0, (now_ms - made_ms) / 1000) for made_ms in oldest_ms]


def traffic(operations: Operations, lanes: int) -> list[Traffic]:
    """What each outbox has and has had; nothing where it never had anything.

    Raises:
        KairosError: the store could not be asked.
    """
    found = []
    for lane in range(lanes):
        try:
            found.append(run(operations.link.call(operations.commands.traffic(lane))))
        except StoreUnavailable as error:
            if error.code != "ERR" or "no such key" not in error.cause:
                raise
            found.append(Traffic(0, 0))
    return found


def dead_letters(settings: Settings) -> tuple[dict[int, int] | None, str | None]:
    """How many dead letters wait, by lane; or why that cannot be said: what the store says is worth knowing then."""
    try:
        with connect_to_read(settings) as connection:
            return dict(connection.execute(_COUNT_DEAD).fetchall()), None
    except ConfigurationError as error:
        return None, str(error)
    except psycopg.Error as error:
        return None, one_line(error)
