"""What makes OpenTelemetry's spans and keeps them, on its API alone.

Its SDK would do, too; but where that is installed, redis-py imports it in every process, which takes a quarter of what
it takes to start one.
"""

# ruff: noqa: D102 - OpenTelemetry's API says what its methods do

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
    get_current_span,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


class KeptSpan(Span):
    """A span as it was made."""

    def __init__(self, name: str, kind: SpanKind, attributes: Mapping[str, Any], start_ns: int | None) -> None:
        self.name, self.kind, self.attributes = name, kind, dict(attributes)
        self.parent = get_current_span()
        self.start_ns = start_ns
        self.end_ns: int | None = None
        self.status = Status(StatusCode.UNSET)

    def end(self, end_time: int | None = None) -> None:
        self.end_ns = end_time

    def get_span_context(self) -> SpanContext:
        return INVALID_SPAN_CONTEXT

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        self.attributes |= attributes

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        raise NotImplementedError

    def update_name(self, name: str) -> None:
        self.name = name

    def is_recording(self) -> bool:
        return True

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        self.status = status if isinstance(status, Status) else Status(status, description)

    def record_exception(
        self, exception: BaseException, attributes: Any = None, timestamp: int | None = None, escaped: bool = False
    ) -> None:
        raise NotImplementedError


class KeptSpans(TracerProvider, Tracer):
    """Keeps the spans that it makes, in the order in which they began."""

    def __init__(self) -> None:
        self.spans: list[KeptSpan] = []

    def get_tracer(self, *_: Any, **__: Any) -> KeptSpans:
        return self

    def start_span(
        self,
        name: str,
        context: Any = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Any = None,
        links: Any = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> KeptSpan:
        del context, links, record_exception, set_status_on_exception
        self.spans.append(KeptSpan(name, kind, attributes or {}, start_time))
        return self.spans[-1]

    def start_as_current_span(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError
