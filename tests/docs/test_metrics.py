from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import httpx
import prometheus_client

from kairos_core.settings import child_environment
from tests.docs.markdown import program

if TYPE_CHECKING:
    import pytest

    from kairos_core import Settings


def test_the_application_runs_as_written(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application of docs/metrics.md answers Prometheus with what its manager did."""
    for name, value in child_environment(settings).items():
        monkeypatch.setenv(name, value)
    # The library's own registry is the process's, and another program of the document has it.
    registry = prometheus_client.CollectorRegistry()
    monkeypatch.setattr(prometheus_client, "REGISTRY", registry)
    made = functools.partial(prometheus_client.make_asgi_app, registry)
    monkeypatch.setattr(prometheus_client, "make_asgi_app", made)
    names: dict[str, Any] = {}
    exec(program("make_asgi_app"), names)  # noqa: S102 - this repository's own

    async def asked() -> str:
        app = names["app"]
        transport = httpx.ASGITransport(app)
        async with names["lifespan"](app), httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            await app.state.manager.get_session("none")
            return (await client.get("/metrics/")).text

    line = 'kairos_operation_duration_seconds_count{operation="get_session",outcome="not_found"} 1.0'
    assert line in asyncio.run(asked()).splitlines()
