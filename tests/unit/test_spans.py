from __future__ import annotations

import sys

import pytest
from opentelemetry.trace import SpanKind, StatusCode, get_current_span, use_span

from kairos_core import ConfigurationError, SessionNotFound
from kairos_core.metrics import Call, Observers, SpanObserver
from tests.kept_spans import KeptSpans

ID = "a-person"
CALLS = {
    "ok": Call("get_session", "ok", 0.25, ID, None),
    "nothing": Call("get_session", "not_found", 0.1, ID, None),
    "error": Call("update_session", "not_found", 0.1, ID, SessionNotFound(ID)),
    "cancelled": Call("mutate_session", "interrupted", 0.1, ID, KeyboardInterrupt()),
}


@pytest.fixture
def provider() -> KeptSpans:
    """What a service sets up."""
    return KeptSpans()


def test_a_call_is_a_span_within_the_current_one(provider: KeptSpans) -> None:
    """A span has the call's name, times, outcome and error, stands within the current one, and names no session."""
    observers = Observers(SpanObserver(provider))
    request = provider.get_tracer("service").start_span("request")
    with use_span(request):
        assert request is get_current_span()
        for call in CALLS.values():
            observers.called(call)
    _, *found = provider.spans
    spans = dict(zip(CALLS, found, strict=True))
    for name, span in spans.items():
        assert f"kairos {CALLS[name].operation}" == span.name
        assert SpanKind.CLIENT is span.kind
        assert request is span.parent
        expected = {
            "db.system.name": "redis",
            "db.operation.name": CALLS[name].operation,
            "kairos.outcome": CALLS[name].outcome,
        }
        assert expected | ({"error.type": "SessionNotFound"} if name == "error" else {}) == span.attributes
        assert (StatusCode.ERROR if name == "error" else StatusCode.UNSET) is span.status.status_code
        assert ID not in f"{span.name} {span.attributes} {span.status.description}"
    assert spans["ok"].end_ns is not None
    assert spans["ok"].start_ns is not None
    assert 250_000_000 == spans["ok"].end_ns - spans["ok"].start_ns


def test_ids_are_there_where_they_are_asked_for(provider: KeptSpans) -> None:
    """Asked for them, a span says which session it was about, and what the error said; of many, it says none."""
    observer = SpanObserver(provider, with_ids=True)
    for call in (
        CALLS["error"],
        Call("get_sessions", "ok", 0.1, [ID], None),
        Call("resolve", "ok", 0.1, "0" * 32, None),
    ):
        observer.called(call)
    one, many, neither = provider.spans
    assert ID == one.attributes["kairos.session_id"]
    assert f"session {ID} does not exist" == one.status.description
    for span in (many, neither):
        assert "kairos.session_id" not in span.attributes


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's API is imported when it is asked for, and is not needed for anything else."""
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(ConfigurationError, match=r"\Aspans: not without .* pip install opentelemetry-api\Z"):
        SpanObserver()
