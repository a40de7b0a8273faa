"""Lives of sessions, as far as stamps leave them open: removals, absence, presence, expiry."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from loadtests.history import NEVER, seconds
from loadtests.judging.lives import Life, lanes
from loadtests.judging.search import explain
from loadtests.judging.settling import Lifetime, Trouble, settle
from loadtests.judging.verdict import Operation, Rule, Violation

if TYPE_CHECKING:
    from loadtests.judging.chain import Chain
    from loadtests.judging.gaps import Pool
    from loadtests.judging.lives import Lane
    from loadtests.judging.table import Column, Table
    from loadtests.judging.verdict import Findings

# How many sessions are searched at the most: beyond that a history is broken, and nobody reads on.
_SEARCHED = 200


class Case(NamedTuple):
    """What was decided before.

    Attributes:
        table: all records.
        chain: those with a stamp, in their order.
        pool: unknown writes that nobody needs so far.
        chosen: unknown creations that were chosen, rather than seen.
        findings: what is found goes there.
        spoiled: sessions that are beyond further judgement.
    """

    table: Table
    chain: Chain
    pool: Pool
    chosen: set[int]
    findings: Findings
    spoiled: Column


def check_absence(case: Case) -> None:
    """Accuse sessions whose removals and reads without a stamp nothing explains."""
    table, chain, pool, chosen, findings, spoiled = case
    searched = undecided = 0
    for lane in lanes(table, chain, pool, spoiled):
        trouble = _settle(table, chain, pool, lane)
        if trouble is None:
            continue
        if searched >= _SEARCHED:
            undecided += 1
            continue
        searched += 1
        may_begin = _may_begin(chain, pool, lane)
        found = explain(table, chain, lane, pool.creations(lane.number), chosen, may_begin=may_begin)
        if found is None:
            undecided += 1
        if found is False:
            findings.accuse(trouble.rule, 1, [_violation(table, chain, lane, trouble)])
            spoiled[lane.number // table.eras] = True
    findings.count("sessions searched", searched)
    if undecided:
        findings.count("sessions undecided", undecided)
        findings.reasons.append(f"{undecided} sessions have more explanations than were tried")


def _may_begin(chain: Chain, pool: Pool, lane: Lane) -> bool:
    """Whether the state that a lane seems to have begun with may as well have been created in it."""
    if not lane.lives or int(chain.index[lane.lives[0].first]) >= 0:
        return False
    place = lane.lives[0].first
    n, top = int(chain.n[place]), int(chain.v[place])
    return all(pool.look(lane.number, n, version) is not None for version in range(1, top + 1))


def _settle(table: Table, chain: Chain, pool: Pool, lane: Lane) -> Trouble | None:
    """Try the usual way, with and without a state that was carried over a loss."""
    has_base = bool(lane.lives) and int(chain.index[lane.lives[0].first]) < 0
    trouble = settle(table, lane, has_base=has_base)
    if trouble is not None and table.facts.session_ttl_ms is not None:
        trouble = settle(table, lane, has_base=has_base, is_late=True) and trouble
    if trouble is not None and _may_begin(chain, pool, lane):
        return settle(table, lane) and trouble
    if trouble is None or has_base or not lane.number % table.eras:
        return trouble
    far, end = table.far, lane.first_end
    carried = Life(0, 0, 0, 0, 0, end, end, (-1, -1), is_told=False, first=0, last=0)
    other = settle(table, lane._replace(lives=[carried, *lane.lives], first_end=far), has_base=True)
    return None if other is None else trouble


def _violation(table: Table, chain: Chain, lane: Lane, trouble: Trouble) -> Violation:
    """What did not fit, as two operations and a sentence."""
    origin = table.facts.began_ns or table.origin_ns
    if trouble.one is None:
        other = _next_creation(table, chain, lane, trouble.life)
    else:
        other = Operation.of(table.records[trouble.one.record], origin)
    session = int(table.sessions[lane.number // table.eras])
    if not lane.lives or trouble.life < 0:
        return _of_nothing(session, other)
    life = lane.lives[trouble.life]
    against = _against(table, chain, lane, life, trouble)
    return Violation(
        rule=trouble.rule,
        session=session,
        sentence=_sentence(table, chain, lane, trouble, against, other),
        first=against,
        second=other,
    )


def _of_nothing(session: int, other: Operation | None) -> Violation:
    if other is None:
        raise AssertionError("a session without lives lacks no removal")
    sentence = f"Nobody can have created session {session}, and yet it was found there: {other.words}."
    return Violation(rule=Rule.ABSENCE, session=session, sentence=sentence, first=other)


def _against(table: Table, chain: Chain, lane: Lane, life: Life, trouble: Trouble) -> Operation:
    """The operation that stands against it: the last to start of those before it, or of the life itself."""
    origin = table.facts.began_ns or table.origin_ns
    place = life.last - 1
    if trouble.one is not None:
        end = trouble.one.end
        late = [at for at in range(life.first, life.last) if int(chain.start[at]) > end]
        place = max(late, key=lambda at: int(chain.start[at]), default=place)
    index, stamp = int(chain.index[place]), (int(chain.n[place]), int(chain.v[place]))
    session = int(table.sessions[lane.number // table.eras])
    if index < 0:
        return Operation.by_the_store(session, stamp, table.time_of(0), origin)
    return Operation.of(table.records[index], origin, stamp)


def _next_creation(table: Table, chain: Chain, lane: Lane, number: int) -> Operation | None:
    if number + 1 >= len(lane.lives):
        return None
    place = lane.lives[number + 1].first
    index = int(chain.index[place])
    origin = table.facts.began_ns or table.origin_ns
    return None if index < 0 else Operation.of(table.records[index], origin, (int(chain.n[place]), int(chain.v[place])))


def _sentence(  # noqa: PLR0913, PLR0917 - what did not fit, and where
    table: Table, chain: Chain, lane: Lane, trouble: Trouble, against: Operation, other: Operation | None
) -> str:
    life = lane.lives[trouble.life]
    origin = table.facts.began_ns or table.origin_ns
    what = f"incarnation {life.n} of session {against.session}"
    when = ""
    expiry = Lifetime(table, lane).first(life.written, 0)
    if expiry is not None:
        is_in_time = expiry.start < table.far - 1
        due = seconds(table.time_of(expiry.start), origin)
        when = f", and it could not expire before {due}" if is_in_time else ", and its time was not over in the end"
    if other is None:
        return f"Nobody can have removed {what}{when}; yet a watcher was told of its end. Its last: {against.words}."
    if trouble.one is None:
        return f"Nobody can have removed {what}{when}: {against.words}. Yet another one began: {other.words}."
    if trouble.is_present:
        return f"No life of the session is left that this can have found: {other.words}; of {what}: {against.words}."
    late_ms = (against.start_ns - other.end_ns) / 1e6
    if late_ms <= 0 or NEVER in {against.start_ns, other.end_ns}:
        return f"Nothing had removed {what}{when}: {against.words}. Yet it was found absent: {other.words}."
    return (
        f"Nothing had removed {what}{when}: {against.words}. Yet {late_ms:.3f} ms before that, it was found absent: "
        f"{other.words}{_had_begun(table, chain, life, other)}."
    )


def _had_begun(table: Table, chain: Chain, life: Life, other: Operation) -> str:
    """In words, what shows that a life had begun before somebody found it absent, if one operation does."""
    origin = table.facts.began_ns or table.origin_ns
    before = [
        index for index in chain.index[life.first : life.last].tolist() if index >= 0 and not table.is_note[index]
    ]
    first = min(before, key=lambda index: int(table.end_ns[index]), default=-1)
    if first < 0 or int(table.end_ns[first]) >= other.start_ns:
        return ""
    return f"; and before that, it was there: {Operation.of(table.records[first], origin).words}"
