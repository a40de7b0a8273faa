from __future__ import annotations

import tomllib
from typing import Any

import pytest

from loadtests import ROOT
from loadtests.scale import OPERATIONS, SUBJECTS, Measured, Samples
from reports import scale
from reports.statistics import Verdict

TARGETS = tomllib.loads((ROOT / "reports" / "targets.toml").read_text(encoding="utf-8"))["scale"]
SESSIONS = 1_000_000
RUNS = 10


def measured(sessions: int = SESSIONS, **factors: Any) -> Measured:
    """What a measurement gives in which each subject takes so much longer than 0.1 ms, in each run or in all alike."""
    runs: list[Samples] = []
    for number in range(RUNS):
        samples: Samples = {operation: {} for operation in OPERATIONS}
        for operation in OPERATIONS:
            for subject in SUBJECTS:
                found = factors.get(subject, 1.0)
                factor = found[number] if isinstance(found, list) else found
                # From run to run the machine changes; what is compared does not.
                samples[operation][subject] = [round(100_000 * factor * (1 + number / 10))] * 20
        runs.append(samples)
    return Measured(sessions, 1_400.4, 800, "Valkey 9.1.2", runs)


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ({}, Verdict.PASS),
        ({"many": 1.14}, Verdict.PASS),
        ({"many": 0.5}, Verdict.PASS),
        ({"many": 1.16}, Verdict.FAIL),
        ({"many": [1.0, 1.3] * 5}, Verdict.INCONCLUSIVE),
        ({"again": 1.2}, Verdict.INVALID),
        ({"again": 1.04}, Verdict.INVALID),
        ({"again": [1.0, 1.08] * 5}, Verdict.PASS),
        ({"again": 0.8, "many": 2.0}, Verdict.INVALID),
    ],
)
def test_verdicts(factors: dict[str, Any], expected: Verdict) -> None:
    """Only what is below the limit with its bound passes; a doubt is none, nor is what was not fair to itself."""
    assert [expected] * len(TARGETS) == [one.verdict for one in scale.judged(measured(**factors))]


def test_every_target_is_judged() -> None:
    """Each target of the file is judged with its own limit, and a ratio compares the subjects of the same run."""
    found = scale.judged(measured(many=1.1))
    assert [(one["operation"], one["statistic"], one["below"], one["sessions"]) for one in TARGETS] == [
        (one.operation, one.statistic, one.limit, one.sessions) for one in found
    ]
    assert set(OPERATIONS) == {one.operation for one in found}
    for one in found:
        assert all(abs(value - 1.1) < 1e-4 for value in one.ratio[:5])
        assert all(abs(value - 1.0) < 1e-4 for value in one.own[:5])
        assert abs(one.many.value - 0.1595) < 1e-9


@pytest.mark.parametrize(
    ("factors", "status", "word"),
    [({}, 0, "✔ PASS"), ({"many": 2.0}, 1, "✘ FAIL"), ({"again": 2.0}, 2, "! INVALID")],
)
def test_what_is_told(factors: dict[str, Any], status: int, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures are printed with the verdict last, and the exit status is the verdict."""
    assert status == scale._tell(measured(**factors), 10)
    printed = capsys.readouterr().out
    assert word == printed.splitlines()[-1]
    assert "1,400 bytes of memory a session" in printed
    assert "1,000,000 sessions" in printed
    assert "which these are not" not in printed


def test_fewer_sessions_are_said_to_be_fewer(capsys: pytest.CaptureFixture[str]) -> None:
    """A measurement with fewer sessions than the target has does not pass for one with as many."""
    scale._tell(measured(1_000), 10)
    assert "the target is of 1,000,000 sessions, which these are not" in capsys.readouterr().out


@pytest.mark.parametrize(("argument", "value"), [("--runs", "2"), ("--sessions", "0"), ("--sessions", "x")])
def test_what_cannot_be_judged(
    argument: str, value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer runs than can be judged, and what is no number, are refused with status 2 before anything is started."""
    monkeypatch.setattr("sys.argv", ["scale", argument, value])
    with pytest.raises(SystemExit) as caught:
        scale.main()
    assert 2 == caught.value.code
    assert argument in capsys.readouterr().err
