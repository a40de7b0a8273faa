"""SpanObserver: a span of OpenTelemetry's for each call, within the one that is current where the call is made.

Only OpenTelemetry's API is used; where the spans go, if anywhere, is what the service has set up of its SDK.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kairos_core.metrics.library import opentelemetry, version
from kairos_core.observing import INTERRUPTED, Silent

if TYPE_CHECKING:
    from kairos_core.observing import Call


class SpanObserver(Silent):
    """Makes spans such as `kairos update_session`, with `db.system.name`, `db.operation.name` and `kairos.outcome`.

    A span is made when its call is over, with the times of the call, so nothing is added to the call itself before. A
    call that raised has the status ERROR and the error's class as `error.type`; its message, which may name the
    session, only where ids are asked for.

    Args:
        tracer_provider: an OpenTelemetry `TracerProvider`; None: the global one.
        with_ids: whether a span says which session it was about (`kairos.session_id`). An id may say who a person is.

    Raises:
        ConfigurationError: OpenTelemetry's API is not installed.
    """

    def __init__(self, tracer_provider: Any = None, *, with_ids: bool = False) -> None:
        self._trace = opentelemetry()
        self._tracer = self._trace.get_tracer("kairos", version(), tracer_provider)
        self._with_ids = with_ids

    def called(self, call: Call) -> None:
        """Make a call's span."""
        ended_ns = time.time_ns()
        attributes: dict[str, str] = {
            "db.system.name": "redis",
            "db.operation.name": call.operation,
            "kairos.outcome": call.outcome,
        }
        if self._with_ids and call.session_id is not None:
            attributes["kairos.session_id"] = call.session_id
        # Who cancels a call knows.
        is_error = call.error is not None and call.outcome != INTERRUPTED
        if is_error:
            attributes["error.type"] = type(call.error).__name__
        span = self._tracer.start_span(
            f"kairos {call.operation}",
            kind=self._trace.SpanKind.CLIENT,
            attributes=attributes,
            start_time=ended_ns - int(call.duration_s * 1e9),
        )
        if is_error:
            told = str(call.error) if self._with_ids else None
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, told))
        span.end(end_time=ended_ns)
