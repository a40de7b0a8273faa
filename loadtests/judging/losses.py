"""What a loss took: acknowledged writes above the state that a session went on from."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from loadtests.judging.chain import BASE

if TYPE_CHECKING:
    from loadtests.judging.chain import Chain
    from loadtests.judging.table import Column, Table
    from loadtests.judging.verdict import Findings


def count_losses(table: Table, chain: Chain, findings: Findings) -> None:
    """Count acknowledged writes that are gone, and were allowed to be."""
    findings.count("lost (expected)", _Ledger(table, chain).lost() if table.eras > 1 else 0)


class _Ledger:
    """What each lane began with, and what was acknowledged before it."""

    def __init__(self, table: Table, chain: Chain) -> None:
        self._table, self._chain = table, chain
        first = np.flatnonzero(chain.new_lane) if len(chain.lane) else np.zeros(0, np.int64)
        self._begins = dict(zip(chain.lane[first].tolist(), first.tolist(), strict=True))
        self._absent = set(np.unique(table.lane[table.is_absent & (table.lane >= 0)]).tolist())

    def lost(self) -> int:
        """How many acknowledged writes are above the state that their session went on from."""
        table = self._table
        writes = np.flatnonzero(table.is_acknowledged)
        order = writes[np.argsort(table.session[writes], kind="stable")]
        bounds = np.flatnonzero(np.diff(table.session[order], prepend=-1, append=-1))
        own = [order[begin:end] for begin, end in pairwise(bounds.tolist())]
        return sum(self._lost(part, era) for part in own for era in range(1, table.eras))

    def _lost(self, writes: Column, era: int) -> int:
        """How many of a session's writes of the era before are above what an era began with."""
        table, chain = self._table, self._chain
        session = int(table.session[writes[0]])
        before = writes[table.last_era[writes] == era - 1]
        if not len(before):
            return 0
        place = self._begins.get(session * table.eras + era)
        if place is not None and int(chain.index[place]) == BASE:
            n, v = int(chain.n[place]), int(chain.v[place])
            above = (table.wrote_n[before] > n) | ((table.wrote_n[before] == n) & (table.wrote_v[before] > v))
            return int(above.sum())
        if session * table.eras + era not in self._absent:
            return 0
        # Gone as a whole: what was last there, if nobody had removed it.
        last = int(table.wrote_n[before].max())
        removed = (table.session == session) & (table.removed_n == last) & (table.last_era < era)
        return 0 if removed.any() else int((table.wrote_n[before] == last).sum())
