from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

import loadtests.__main__
import loadtests.profiling
import reports.__main__
import reports.bench
import reports.scale
import reports.studies

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("main", "arguments", "said"),
    [
        (reports.__main__.main, ["--profile", "fast"], "argument --profile: there is no such choice (choose from "),
        (reports.bench.main, ["--profile", "fast"], "argument --profile: there is no such choice (choose from "),
        (reports.bench.main, ["--operations", "x"], "argument --operations: there is no such choice (choose from "),
        (reports.studies.main, ["contenion"], "there is no study contenion; there are awake, cluster, contention, "),
        (reports.studies.main, ["contention", "--profile"], "argument --profile: expected one argument"),
        (reports.scale.main, ["--sessions", "abc"], "argument --sessions: a whole number, at least 1, is needed"),
        (reports.scale.main, ["--sessions", "0"], "argument --sessions: a whole number, at least 1, is needed"),
        (loadtests.profiling.main, ["--operation", "x"], "argument --operation: there is no such choice (choose from "),
        (loadtests.__main__.main, ["validate", "--profile", "x"], "argument --profile: there is no such choice "),
    ],
    # Those of functions differ from one process to the next, and processes share the tests.
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_in_a_call_is_one_line(
    main: Callable[[], int],
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A mistyped PROFILE, STUDY, OPERATION or SESSIONS of `make` ends with 2 and one line that says what there is."""
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert (2, 1) == (ended.value.code, error.count("\n"))
    assert error.startswith("python -m ")
    assert said in error
