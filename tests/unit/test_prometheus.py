from __future__ import annotations

import re
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from kairos_core import ConfigurationError
from kairos_core.metrics import PrometheusObserver
from kairos_core.metrics.probe import Probe

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_a_registry_takes_one_observer() -> None:
    """A second observer for the same registry is refused in one line that says what to do."""
    registry = CollectorRegistry()
    PrometheusObserver(registry)
    with pytest.raises(ConfigurationError, match=r"\Aregistry: has .* already: give one PrometheusObserver to all"):
        PrometheusObserver(registry)


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core does without prometheus-client; who asks for its metrics is told what to install."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigurationError, match=r"\Ametrics: not without .* pip install 'kairos\[metrics\]'\Z"):
        PrometheusObserver()


def test_a_manager_imports_no_monitoring() -> None:
    """What an observer may need is imported by who makes one: nothing of the core imports it when it is imported."""
    core = Path(__file__).parents[2] / "kairos_core"
    imports = re.compile(r"^(?:from|import) (?:kairos_core\.metrics|prometheus_client|opentelemetry)\b", re.MULTILINE)
    found = [path for path in core.rglob("*.py") if imports.search(path.read_text(encoding="utf-8"))]
    assert {core / "metrics"} == {path.parent for path in found}


def test_a_question_without_an_answer_holds_up_nobody() -> None:
    """A server that says nothing has one thread that waits for it, however often it is asked."""
    go_on = threading.Event()
    asked: list[int] = []

    def ask() -> int:
        asked.append(1)
        go_on.wait(30)
        return len(asked)

    probe = Probe(ask, keep_s=60)
    first = probe.begin()
    assert first is probe.begin()
    with pytest.raises(TimeoutError):
        first.result(0.01)
    go_on.set()
    assert 1 == probe.begin().result(30) == len(asked)


def test_an_answer_is_given_again_for_a_while() -> None:
    """Within `keep_s` nobody is asked again, also where the answer was an error; after it, somebody is."""
    answers: Iterator[int | Exception] = iter([ValueError("once"), 2])

    def ask() -> int:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    kept = Probe(ask, keep_s=60)
    for _ in range(2):
        with pytest.raises(ValueError, match="once"):
            kept.begin().result(30)
    fresh = Probe(ask, keep_s=0)
    assert 2 == fresh.begin().result(30)
    until = time.monotonic() + 30
    while time.monotonic() < until and fresh.begin().exception(30) is None:
        time.sleep(0.001)
    # There are no more answers.
    assert isinstance(fresh.begin().exception(30), StopIteration)
