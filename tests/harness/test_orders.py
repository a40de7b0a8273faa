from __future__ import annotations

import io
import json
import signal
from typing import TYPE_CHECKING

import pytest

from loadtests.orders import Helper, OrderError, serve
from loadtests.waiting import wait_for, wait_until

if TYPE_CHECKING:
    from pathlib import Path

MODULE = "loadtests.servers.valkey_helper"


class Actor:
    """Halves numbers."""

    def halve(self, number: int) -> dict[str, int]:
        """The half of an even number."""
        if number % 2:
            raise ValueError(f"{number} is odd")
        return {"half": number // 2}


def test_orders_are_carried_out_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each order is answered in a line: with what it gives, or with the cause where it could not be carried out."""
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f'{{"do": "halve", "number": {n}}}\n' for n in (4, 5, 6))))
    serve(Actor(), ValueError)
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [{"half": 2}, {"cause": "5 is odd"}, {"half": 3}] == said


def test_what_is_not_expected_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody is to be told of is raised."""
    monkeypatch.setattr("sys.stdin", io.StringIO('{"do": "halve", "number": 5}\n'))
    with pytest.raises(ValueError, match="5 is odd"):
        serve(Actor(), OSError)


def test_a_helper_says_why_it_could_not(tmp_path: Path) -> None:
    """A cause comes back as an error, and the process takes the next order; one that has ended is told apart."""
    helper = Helper(MODULE, str(tmp_path))
    try:
        with pytest.raises(OrderError, match="Valkey did not start"):
            helper.ask("start", kind="server", config=["no such directive"])
        assert 0 < helper.ask("start", kind="server", config=[])["pid"]
        helper.process.send_signal(signal.SIGTERM)
        helper.process.wait(20)
        with pytest.raises(OrderError, match=f"{MODULE} ended with status 0"):
            helper.ask("kill", port=1)
    finally:
        helper.close()


def test_a_helper_that_hangs_is_ended(tmp_path: Path) -> None:
    """One that does not end by itself in time is killed."""
    helper = Helper(MODULE, str(tmp_path))
    helper.process.send_signal(signal.SIGSTOP)
    helper.close(0.1)
    assert -signal.SIGKILL == helper.process.returncode


def test_waiting_has_an_end() -> None:
    """What does not come is said, with its name; what is there already is not waited for."""
    assert wait_until(lambda: True, 0.0)
    assert not wait_until(lambda: False, 0.02)
    with pytest.raises(TimeoutError, match=r"the end: not within 0\.02 s"):
        wait_for("the end", lambda: False, 0.02)
