"""Ends that come late: a session that nobody wrote or touched is gone some time after its time.

That none comes early is decided with absence (see `settling.py`). Asked only where the round says by how much the end
may be late at the most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loadtests.history import Kind, Outcome
from loadtests.judging.table import running_max
from loadtests.judging.verdict import Rule

if TYPE_CHECKING:
    from loadtests.judging.chain import Chain
    from loadtests.judging.gaps import ChainAccuser
    from loadtests.judging.table import Column, Table


def check_late_ends(table: Table, chain: Chain, accuser: ChainAccuser) -> None:
    """Accuse reads of a state that had to be gone."""
    ttl_ms, late_ms = table.facts.session_ttl_ms, table.facts.late_expiry_ms
    if ttl_ms is None or late_ms is None or table.eras > 1 or not len(chain.lane):
        return
    sizes = np.diff(np.append(chain.class_at, len(chain.lane)))
    writer_at = np.repeat(chain.class_at, sizes)
    # A write had taken effect when the first that saw it, or what followed, had ended.
    refreshed = np.maximum(chain.earliest[writer_at], _touched(table, chain))
    is_read = (chain.phase == 1) & ~chain.removal & (chain.start > 0)
    wrong = np.flatnonzero(is_read & (chain.start > refreshed + (ttl_ms + late_ms) * 1_000_000))
    pairs = [(int(writer_at[one]), int(one)) for one in wrong]
    accuser(Rule.EXPIRY, pairs, "nobody had written or touched it for so long that it had to be gone")


def _touched(table: Table, chain: Chain) -> Column:
    """For each place of the chain the latest end of a touch of its session that may have come before."""
    touches = np.flatnonzero((table.kind == Kind.TOUCH) & (table.outcome != Outcome.REFUSED) & ~table.is_absent)
    # In one order by lane and time: touches where they start, places where they end; so many touches came before.
    lane = np.append(table.lane[touches], chain.lane)
    moment = np.append(table.start[touches], chain.end)
    is_place = np.append(np.zeros(len(touches), bool), np.ones(len(chain.lane), bool))
    end = np.append(table.end[touches], np.zeros(len(chain.lane), np.int64))
    order = np.lexsort((is_place, moment, lane))
    latest = np.empty(len(order), np.int64)
    latest[order] = running_max(end[order], lane[order], table.far + 1)
    return latest[len(touches) :]
