"""What a loss took: acknowledged writes above the state that a session went on from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loadtests.judging.chain import BASE

if TYPE_CHECKING:
    from loadtests.judging.chain import Chain
    from loadtests.judging.table import Table
    from loadtests.judging.verdict import Findings


def count_losses(table: Table, chain: Chain, findings: Findings) -> None:
    """Count acknowledged writes that are gone, and were allowed to be."""
    if table.eras == 1:
        findings.count("lost (expected)", 0)
        return
    lost = 0
    first_of_lane = np.flatnonzero(chain.new_lane) if len(chain.lane) else np.zeros(0, np.int64)
    begins = {int(chain.lane[place]): int(place) for place in first_of_lane}
    absent = _found_absent_first(table)
    writes = np.flatnonzero(table.is_acknowledged)
    order = writes[np.argsort(table.session[writes], kind="stable")]
    sessions = table.session[order]
    for session in np.unique(sessions).tolist():
        own = order[np.searchsorted(sessions, session) : np.searchsorted(sessions, session, side="right")]
        lost += sum(
            _lost(table, chain, own, session * table.eras + era, begins, absent) for era in range(1, table.eras)
        )
    findings.count("lost (expected)", lost)


def _lost(table: Table, chain: Chain, writes: np.ndarray, lane: int, begins: dict[int, int], absent: set[int]) -> int:
    """How many acknowledged writes of the era before are above the state that a lane began with."""
    before = writes[table.last_era[writes] == lane % table.eras - 1]
    if not len(before):
        return 0
    place = begins.get(lane)
    if place is not None and int(chain.index[place]) == BASE:
        n, v = int(chain.n[place]), int(chain.v[place])
        above = (table.wrote_n[before] > n) | ((table.wrote_n[before] == n) & (table.wrote_v[before] > v))
        return int(above.sum())
    if lane not in absent:
        return 0
    # Gone as a whole: what was last there, if nobody had removed it.
    last = int(table.wrote_n[before].max())
    session = lane // table.eras
    removed = (table.session == session) & (table.removed_n == last) & (table.last_era < lane % table.eras)
    return 0 if removed.any() else int((table.wrote_n[before] == last).sum())


def _found_absent_first(table: Table) -> set[int]:
    found = table.lane[table.is_absent & (table.lane >= 0)]
    return set(np.unique(found).tolist())
