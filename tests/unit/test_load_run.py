from __future__ import annotations

import subprocess
import sys

import pytest

from loadtests.load.facts import LoadError
from loadtests.load.run import wait_for_end


def test_who_leads_and_was_stopped_is_not_waited_for_without_end() -> None:
    """A Locust that hangs, or was stopped, ends the load test with a reason, and not never."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as waiting:
        with pytest.raises(LoadError, match="not over after 0 s"):
            wait_for_end(waiting, 0.05)
        waiting.communicate(b"\n")
        wait_for_end(waiting, 60)
    assert waiting.returncode == 0
