from __future__ import annotations

import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from kairos_core import ConfigurationError, SessionNotFound
from kairos_core.metrics import Call, Observers, SpanObserver

ID = "a-person"
CALLS = {
    "ok": Call("get_session", "ok", 0.25, ID, None),
    "nothing": Call("get_session", "not_found", 0.1, ID, None),
    "error": Call("update_session", "not_found", 0.1, ID, SessionNotFound(ID)),
    "cancelled": Call("mutate_session", "interrupted", 0.1, ID, KeyboardInterrupt()),
}


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Where the spans go."""
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    """What a service sets up."""
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made


def test_a_call_is_a_span_within_the_current_one(provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """A span has the call's name, times, outcome and error, stands within the current one, and names no session."""
    observers = Observers(SpanObserver(provider))
    with provider.get_tracer("service").start_as_current_span("request") as request:
        for call in CALLS.values():
            observers.called(call)
    *found, _ = exporter.get_finished_spans()
    spans = dict(zip(CALLS, found, strict=True))
    for name, span in spans.items():
        assert f"kairos {CALLS[name].operation}" == span.name
        assert span.kind is SpanKind.CLIENT
        assert span.parent is not None
        assert request.get_span_context().span_id == span.parent.span_id
        assert span.attributes is not None
        expected = {
            "db.system.name": "redis",
            "db.operation.name": CALLS[name].operation,
            "kairos.outcome": CALLS[name].outcome,
        }
        assert expected | ({"error.type": "SessionNotFound"} if name == "error" else {}) == dict(span.attributes)
        assert (StatusCode.ERROR if name == "error" else StatusCode.UNSET) is span.status.status_code
        assert ID not in span.to_json()
    assert spans["ok"].end_time is not None
    assert spans["ok"].start_time is not None
    assert 250_000_000 == spans["ok"].end_time - spans["ok"].start_time


def test_ids_are_there_where_they_are_asked_for(provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """Asked for them, a span says which session it was about, and what the error said; of many, it says none."""
    observer = SpanObserver(provider, with_ids=True)
    for call in (
        CALLS["error"],
        Call("get_sessions", "ok", 0.1, [ID], None),
        Call("resolve", "ok", 0.1, "0" * 32, None),
    ):
        observer.called(call)
    one, many, neither = exporter.get_finished_spans()
    assert one.attributes is not None
    assert ID == one.attributes["kairos.session_id"]
    assert f"session {ID} does not exist" == one.status.description
    for span in (many, neither):
        assert span.attributes is not None
        assert "kairos.session_id" not in span.attributes


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's API is imported when it is asked for, and is not needed for anything else."""
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(ConfigurationError, match=r"\Aspans: not without .* pip install opentelemetry-api\Z"):
        SpanObserver()
