from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from loadtests.judging.verdict import Status
from loadtests.load.findings import Line, Speed
from loadtests.load.summary import WIDTH, summary
from loadtests.load.verdict import judge_load
from tests.made_load import Answer, made, scenario, sound, target

if TYPE_CHECKING:
    import random

    from loadtests.load.plan import Step


def bad(_: Step, rng: random.Random) -> Answer:
    """A system with some of everything."""
    outcome = rng.choices(["ok", "conflict", "error", "unknown", "dropped"], [80, 5, 5, 5, 5])[0]
    return Answer(outcome=outcome, waiting_us=rng.uniform(1, 90e6), service_us=rng.uniform(1, 9e6))


def test_the_first_line_is_the_verdict() -> None:
    """The first line says what came of both, speed and correctness; then come what was measured and the targets."""
    lines = summary(judge_load(*sound()), Status.VALID)
    assert "speed PASS: all targets are met; correctness VALID: all that was seen is explained" == lines[0]
    assert lines[1].startswith("made: ")
    heads = [line.split("  ")[0] for line in lines]
    order = [
        heads.index(one) for one in ("of that time, in ms", "in all, how it ended", "target", "beside the targets")
    ]
    assert sorted(order) == order
    row = next(line.split() for line in lines if line.startswith("turn "))
    assert ["turn", "ok"] == row[:2]
    assert lines[heads.index("target") + 1].startswith("turn p95")
    assert lines[heads.index("target") + 1].endswith("PASS")


def test_the_first_line_says_why() -> None:
    """Whoever reads one line knows what to look at: the first target that was missed, or why the run shows nothing."""
    limit = target(below_ms=0.001)
    missed = summary(judge_load(*made(scenario(targets=[limit]))), Status.VALID)[:2]
    assert "turn p95, " in " ".join(missed)
    load, told = sound()
    load.notes.append("the store was full")
    assert "(the store was full)" in " ".join(summary(judge_load(load, told), Status.VALID)[:3])


def test_processes_of_one_kind_are_told_together() -> None:
    """Of many processes in which all is well, the one that grew most; each that grew too much by itself."""
    lines = [
        Line(what=f"memory of worker {number}", measured=number, limit=5.0, unit="%", verdict=verdict, sentence="grew")
        for number, verdict in ((1, Speed.PASS), (3, Speed.PASS), (2, Speed.PASS), (9, Speed.FAIL))
    ]
    verdict = judge_load(*sound())
    verdict.lines = lines
    found = [line.split("  ")[0] for line in summary(verdict, Status.VALID) if line.startswith("memory of")]
    assert ["memory of worker 3", "memory of worker 9"] == found


def test_nobody_judged() -> None:
    """Where there is no verdict on correctness, the first line says so."""
    assert "correctness nobody judged" in summary(judge_load(*sound()), None)[0]


def test_it_fits_a_terminal() -> None:
    """No line is wider than a hundred columns, whatever went wrong; all of it is told."""
    windows = {"before": (0.1, 0.5), "away": (0.5, 1.0)}
    targets = [
        target(),
        target(operation="turn.update", statistic="p99", below_ms=None, at_most=1.5, window="away", over="before"),
        target(operation="message_delivery", window="before"),
        target(is_knee=True),
    ]
    one = made(
        scenario(windows=windows, targets=targets, steps=2, max_growth=0.05, message_s=0.2, listeners=2), bad, places=3
    )
    one.load.notes += ["something went wrong, " * 20, "x" * 300]
    one.load.messages_sent = 123_456_789
    verdict = judge_load(*one)
    doubts = ["assumption: token abcdef is that of two attempts", "a doubt " * 40]
    lines = summary(verdict, Status.VIOLATION, doubts)
    assert max(map(len, lines)) <= WIDTH
    text = "\n".join(lines)
    for words in (
        "speed INVALID",
        "correctness VIOLATION",
        "why it shows nothing: ",
        "never",
        "away / before",
        "step 1",
    ):
        assert words in text
    for outcome in ("conflict", "unknown", "error", "dropped"):
        assert any(line.startswith("turn ") and outcome in line for line in lines)
    assert all(line == line.rstrip() for line in lines)


def test_wide_numbers_fit() -> None:
    """So do the numbers of a long and large run."""
    verdict = judge_load(
        *made(scenario(targets=[target(operation="message_delivery", window="before")], windows={"before": (0.1, 1.0)}))
    )
    wide = msgspec.structs.replace(
        verdict.targets[0], measured=12_345.0, lower=12_300.0, upper=98_765.0, calls=999_999, over=999_999
    )
    grown = Line(what="memory of postgres: walwriter", measured=12_345.0, limit=5.0, unit="%", verdict=Speed.FAIL)
    rows = [
        msgspec.structs.replace(one, calls=123_456_789, p999=600_309.0, longest=600_309.0, p99=123_456.0, p95=99_999.0)
        for one in verdict.percentiles
    ]
    told = msgspec.structs.replace(verdict, targets=[wide], lines=[grown], percentiles=rows)
    lines = summary(told, Status.UNDECIDED)
    assert max(map(len, lines)) <= WIDTH
    assert any("999,999 of 999,999" in line for line in lines)


def test_what_was_scaled_is_said() -> None:
    """A run that was scaled down says so in the second line."""
    verdict = judge_load(*sound())
    assert "TIME" not in summary(verdict, None)[1]
    verdict.time = 0.1
    assert "(TIME=0.1 SIZE=1)" in summary(verdict, None)[1]


def test_attempts_that_say_no_more_than_their_steps() -> None:
    """The only attempt of a step is not told of beside it; of several, each is, and how they ended where it matters."""
    verdict = judge_load(*sound())
    text = "\n".join(summary(verdict, None))
    assert "turn.update" not in text
    row = next(row for row in verdict.percentiles if row.operation == "turn.update")
    verdict.percentiles.append(msgspec.structs.replace(row, operation="turn.get"))
    verdict.counts["turn.get"] = {"ok": 7}
    text = "\n".join(summary(verdict, None))
    assert [1, 1] == [text.count(f"turn.{one} ") for one in ("update", "get")]
    verdict.counts["turn.update"]["unknown"] = 1
    assert 2 == "\n".join(summary(verdict, None)).count("turn.update ")
