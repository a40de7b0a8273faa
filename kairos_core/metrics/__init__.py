"""What a monitoring system asks of Kairos (extra `metrics`): docs/metrics.md has every name and its meaning."""

from kairos_core.metrics.prometheus import PrometheusObserver
from kairos_core.metrics.spans import SpanObserver
from kairos_core.observing import Call, Observer, Observers, Silent

__all__ = ["Call", "Observer", "Observers", "PrometheusObserver", "Silent", "SpanObserver"]
