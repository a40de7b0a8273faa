"""PrometheusObserver: what a service's managers do, as Prometheus' metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kairos_core.errors import ConfigurationError
from kairos_core.metrics.library import prometheus, version
from kairos_core.observed import OPERATIONS
from kairos_core.observing import OK, OUTCOMES, RETRY_REASONS, Silent

if TYPE_CHECKING:
    from kairos_core.observing import Call

# In seconds: an update takes 140 microseconds on a machine of its own, and a call ends by KAIROS_TIMEOUT_S, which is 5.
BUCKETS_S = (
    *(0.000_05, 0.000_1, 0.000_15, 0.000_25, 0.000_5),
    *(0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)


class PrometheusObserver(Silent):
    """Counts and times what managers do, for Prometheus to fetch.

    One for a process: all of its managers may share it. No label is a session's id, nor anything else of which there
    may be any number: there are at most as many series as operations times outcomes times buckets.

    Args:
        registry: a `prometheus_client.CollectorRegistry`; None: the library's own, which its exporters show.

    Raises:
        ConfigurationError: prometheus-client is not installed, or the registry has these metrics already.
    """

    def __init__(self, registry: Any = None) -> None:
        library = prometheus()
        registry = library.REGISTRY if registry is None else registry
        try:
            self._make(library, registry)
        except ValueError as error:
            cause = "has Kairos' metrics already: give one PrometheusObserver to all managers of the process"
            raise ConfigurationError("registry", cause) from error

    def _make(self, library: Any, registry: Any) -> None:
        info = library.Gauge("kairos_build_info", "1; the version is a label", ["part", "version"], registry=registry)
        info.labels("service", version()).set(1)
        self._durations = library.Histogram(
            "kairos_operation_duration_seconds",
            "How long a call took, with its retries",
            ["operation", "outcome"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._unknown = library.Counter(
            "kairos_unknown_outcomes_total",
            "Writes whose answer never came (OutcomeUnknown)",
            ["operation"],
            registry=registry,
        )
        self._failures = library.Counter(
            "kairos_failures_total", "Calls that ended in an error, by their outcome", ["outcome"], registry=registry
        )
        self._retries = library.Counter(
            "kairos_retries_total", "Commands that were sent again within their call", ["reason"], registry=registry
        )

        def counter(name: str, text: str) -> Any:
            return library.Counter(name, text, registry=registry)

        self._conflicts = counter("kairos_conflicts_total", "Writes that were refused since another was first")
        self._delivered = counter("kairos_watch_deliveries_total", "Updates that watches handed out")
        self._gaps = counter("kairos_watch_gaps_total", "Times a watch noticed that it had missed updates")
        self._resyncs = counter("kairos_watch_resynchronisations_total", "Times a watch made up for what it had missed")
        self._reconnects = counter("kairos_watch_reconnects_total", "Lost connections that watches made again")
        self._deaf = counter("kairos_watch_deaf_total", "Times a watch heard nothing for longer than twice the timeout")
        # What is looked up in a dict of our own takes a third of the time. They are made at once, so that a rate has
        # a first value, too.
        self._unknown_of = {name: self._unknown.labels(name) for name in OPERATIONS}
        self._failures_as = {outcome: self._failures.labels(outcome) for outcome in OUTCOMES if outcome != OK}
        self._retries_for = {reason: self._retries.labels(reason) for reason in RETRY_REASONS}
        self._duration_of: dict[tuple[str, str], Any] = {}

    def called(self, call: Call) -> None:
        """Count and time a call."""
        key = (call.operation, call.outcome)
        try:
            found = self._duration_of[key]
        except KeyError:
            found = self._duration_of[key] = self._durations.labels(*key)
        found.observe(call.duration_s)
        if call.error is not None:
            self._failures_as[call.outcome].inc()
        if call.outcome == "unknown":
            self._unknown_of[call.operation].inc()

    def conflicted(self) -> None:
        """Count a refusal."""
        self._conflicts.inc()

    def retried(self, reason: str) -> None:
        """Count what is sent again."""
        self._retries_for[reason].inc()

    def watch_delivered(self) -> None:
        """Count an update."""
        self._delivered.inc()

    def watch_gap(self) -> None:
        """Count a gap."""
        self._gaps.inc()

    def watch_resynchronised(self) -> None:
        """Count a resynchronisation."""
        self._resyncs.inc()

    def watch_reconnected(self) -> None:
        """Count a connection that was made again."""
        self._reconnects.inc()

    def watch_deaf(self, silence_s: float) -> None:
        """Count a silence."""
        del silence_s
        self._deaf.inc()
