"""Tables of two runs side by side; those of a run alone are in `reports/lab/tables.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.tables import NOTHING, Table

if TYPE_CHECKING:
    from reports.comparing.changes import LoadPair
    from reports.comparing.runs import Side
    from reports.comparing.verdict import Compared

_ALIKE = ("nothing: the same machine, servers, packages and profile", "", "")
_SHARES = ("p50", "p95", "p99")
# What of a load test is set side by side, and how long it took from when it was due.
_STEPS = (("turn", "latency"), ("create", "latency"), ("delivery", "latency"))


def facts(found: Compared) -> Table:
    """What the two runs are."""

    def row(what: str, before: object, after: object) -> tuple[str, ...]:
        return what, str(before), str(after)

    before, after = found.before, found.after
    return Table(
        ("what", "before", "after"),
        [
            row("run", before.name, after.name),
            row("commit", _machine(before, "commit"), _machine(after, "commit")),
            row("measured", before.manifest.get("started_at", NOTHING), after.manifest.get("started_at", NOTHING)),
            row("profile", before.manifest.get("profile", NOTHING), after.manifest.get("profile", NOTHING)),
            row("load average before it", _load(before), _load(after)),
        ],
        "One run was found, so its odd processes are compared with its even ones: nothing was changed between them."
        if found.is_one
        else "",
    )


def _machine(side: Side, name: str) -> object:
    return side.manifest.get("machine", {}).get(name, NOTHING)


def _load(side: Side) -> str:
    machine = side.manifest.get("machine", {})
    load = machine.get("load_average_before")
    return f"{load[0]:.1f} on {machine.get('cores')} cores" if load else NOTHING


def unlike(found: Compared) -> Table:
    """What is other than the code; where there is anything, no time is judged."""
    rows: list[tuple[str, ...]] = [(one.what, one.before, one.after) for one in found.unlike]
    rows += [(problem, NOTHING, NOTHING) for problem in found.problems]
    return Table(("not alike", "before", "after"), rows or [_ALIKE])


def speeds(found: Compared) -> Table:
    """Of each operation its ratio to bare redis-py, before and now."""
    return Table(
        (
            "operation",
            "÷ bare redis-py before",
            "now",
            "now over before",
            "band",
            "the same over the raw socket",
            "smallest visible",
            "verdict",
        ),
        [
            (
                one.operation,
                f"{one.before.ratio:.3f}",
                f"{one.now.ratio:.3f}",
                str(one.changed),
                f"{one.band:.3f}",
                NOTHING if one.floor is None else str(one.floor),
                f"{one.visible:.3f}",
                one.word.value,
            )
            for one in found.speeds
        ],
        "Ratios of p50, medians over processes, with 95 % intervals. worse: beyond the band, the interval excludes 1, "
        "and the ratio to the raw socket grew beyond the band, too. unclear: the two contradict each other.",
    )


def times(found: Compared) -> Table:
    """How long the operations took, before and now; shown and not judged."""
    rows = []
    for one in found.speeds:
        pairs = [[side.median_ms(one.operation, name) for side in (found.before, found.after)] for name in _SHARES]
        rows.append((one.operation, *(f"{_ms(then)} → {_ms(now)}" for then, now in pairs)))
    return Table(
        ("operation", *(f"{name}, ms" for name in _SHARES)),
        rows,
        "Medians over processes, before → now. Not judged: another hour is another machine.",
    )


def _ms(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def turned(found: Compared) -> Table:
    """Guarantees, mutants, checks and histories that are not what they were."""
    nothing = "nothing was changed between the halves of one run" if found.is_one else "nothing"
    rows: list[tuple[str, ...]] = [(one.what, one.before, one.now, one.word.value) for one in found.turned]
    return Table(("what", "before", "now", "verdict"), rows or [(nothing, "", "", "")])


def loads(found: Compared) -> Table:
    """Load tests that both have; shown and not judged."""
    rows = [row for pair in found.loads for row in _load_rows(pair)]
    return Table(
        ("load test", "what", *(f"{name}, ms" for name in _SHARES), "verdict"),
        rows or [("none that both have", *[""] * 5)],
        "Before → now, from when each was due. Not judged: another hour is another machine.",
    )


def _load_rows(pair: LoadPair) -> list[tuple[str, ...]]:
    verdict = f"{pair.before.verdict.verdict} → {pair.now.verdict.verdict}"
    if pair.unlike:
        return [(pair.name, f"not alike: {pair.unlike}", NOTHING, NOTHING, NOTHING, verdict)]
    rows = []
    for operation, part in _STEPS:
        then, now = (
            [
                one
                for one in test.verdict.percentiles
                if (one.operation, one.outcome, one.part) == (operation, "ok", part)
            ]
            for test in (pair.before, pair.now)
        )
        if then and now:
            values = (f"{getattr(then[0], name):.2f} → {getattr(now[0], name):.2f}" for name in _SHARES)
            rows.append((pair.name, operation, *values, verdict))
    knees = [[one.measured for one in test.verdict.targets if one.target.is_knee] for test in (pair.before, pair.now)]
    if all(knees):
        told = " → ".join(NOTHING if one[0] is None else f"{one[0]:,.0f}" for one in knees)
        rows.append((pair.name, f"knee, steps/s: {told}", NOTHING, NOTHING, NOTHING, verdict))
    return rows


def every(found: Compared) -> list[Table]:
    """All of them, what is not alike first."""
    tables = [facts(found), unlike(found), speeds(found), times(found)]
    return tables if found.is_one else [*tables, turned(found), loads(found)]
