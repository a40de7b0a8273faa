from __future__ import annotations

import contextlib
import re
import sys
import threading
import time
import types
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry
from redis import exceptions as foreign

from kairos_core import ConfigurationError, Settings, StoreUnavailable
from kairos_core.attempts import Refused
from kairos_core.commands import CREATE, Command, pack
from kairos_core.metrics import PrometheusObserver, Silent
from kairos_core.metrics.audit import AuditCollector
from kairos_core.metrics.probe import Probe
from kairos_core.observed import ObservedLink

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


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Refused("NOSCRIPT No matching script"), "script"),
        (Refused("MOVED 1 127.0.0.1:7000"), "moved"),
        (Refused("ASK 1 127.0.0.1:7000"), "moved"),
        (Refused("LOADING the dataset"), "refused"),
        (foreign.ConnectionError("gone"), "lost"),
        (Refused("OOM command not allowed"), None),
    ],
    ids=str,
)
def test_a_retry_says_why(error: Refused | foreign.RedisError, reason: str | None) -> None:
    """Each failure that leads to another attempt is told with its reason; one that ends the call is no retry."""
    told: list[str] = []

    class Listening(Silent):
        def retried(self, reason: str) -> None:
            told.append(reason)

    write: Any = Command(pack(("EVALSHA", "0", "0")), bool, "key", "a", 0, "id", CREATE)
    link: Any = types.SimpleNamespace(observer=Listening())
    attempts = ObservedLink.attempts(link, write, time.monotonic() + 1e6, patient=True)
    if reason is None:
        with pytest.raises(StoreUnavailable):
            attempts.after(error, sent=True)
    else:
        attempts.after(error, sent=True)
    assert ([] if reason is None else [reason]) == told


def test_a_server_that_does_not_answer_in_time_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A scrape that comes to its deadline goes on without that answer; the log says so once, until there is one."""
    silent: Future[int] = Future()
    answered: Future[int] = Future()
    answered.set_result(7)
    with contextlib.closing(AuditCollector(Settings())) as collector:
        assert [None, None, 7, None] == [
            collector._answered("store", asked, 0.0) for asked in (silent, silent, answered, silent)
        ]
    assert ["metrics: the store does not answer: no answer in 3 s"] * 2 == [record.message for record in caplog.records]
