"""The metrics of `kairos worker`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from kairos_core.errors import ConfigurationError
from kairos_core.metrics.library import prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kairos_core.settings import Settings

# What is told is no secret, but nobody else's business either: who wants others to fetch it says so.
HOST = "127.0.0.1"
_SETTING = "--metrics-port"


@contextlib.contextmanager
def serving(settings: Settings, port: int, host: str = HOST) -> Iterator[int]:
    """Answer Prometheus on a port until the block ends; the block is given the port.

    Args:
        settings: those of the worker.
        port: TCP port; 0: a free one.
        host: the address to listen at; `0.0.0.0`, in a container, is all of its addresses.

    Raises:
        ConfigurationError: prometheus-client is not installed, or the port cannot be listened at.
    """
    library = prometheus()
    from kairos_core.metrics.audit import AuditCollector  # noqa: PLC0415 - rq and psycopg take their time to import

    with contextlib.closing(AuditCollector(settings)) as collector:
        registry = library.CollectorRegistry()
        registry.register(collector)
        server, thread = _listen(library, registry, port, host)
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _listen(library: Any, registry: Any, port: int, host: str) -> tuple[Any, Any]:
    try:
        found: tuple[Any, Any] = library.start_http_server(port, addr=host, registry=registry)
    except (OSError, OverflowError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(_SETTING, f"{host}:{port} cannot be listened at: {cause}") from error
    return found
