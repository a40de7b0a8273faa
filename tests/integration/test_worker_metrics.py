from __future__ import annotations

import contextlib
import socket
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kairos_core import AuditWriter, ConfigurationError, RedisStateManager, Settings
from kairos_core.audit.drain import drain_lane
from kairos_core.audit.jobs import DrainQueue, DrainWorker, drain
from kairos_core.audit.outbox import Outbox
from kairos_core.layout import Layout
from kairos_core.metrics.worker import serving
from loadtests.servers.proxy import Proxy
from loadtests.states import sample_state

if TYPE_CHECKING:
    import redis
    from rq.job import Job


def scraped(port: int) -> dict[str, float]:
    """What a port answers: each series and its value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return {
        sample.name + (f"{{{sample.labels['lane']}}}" if "lane" in sample.labels else ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_worker_tells_how_the_audit_is(
    worker_settings: Settings, manager: RedisStateManager, writer: AuditWriter, client: redis.Redis
) -> None:
    """A scrape says what waits, what was drained, what is dead or given up, and who is at work, as it is stored."""
    layout = Layout(worker_settings.namespace, worker_settings.lanes)
    lane, other = layout.lane_of("a"), layout.lane_of("b")
    assert lane != other
    state = manager.create_session(sample_state("a"))
    for _ in range(4):
        state = manager.update_session(state)
    outbox, queue = Outbox.connect(worker_settings), DrainQueue(worker_settings)
    with contextlib.closing(outbox), contextlib.closing(queue):
        drain_lane(outbox, writer, lane)
        manager.create_session(sample_state("b"))
        # Nobody has written these: one that PostgreSQL gets nothing of, and one that waits.
        client.xadd(layout.outboxes[lane], {"m": b"no message"})
        drain_lane(outbox, writer, lane)
        worker: Any = DrainWorker([queue._queue], connection=queue._client)
        worker.register_birth()
        job: Job = queue._queue.enqueue(drain, [], "token")
        queue._failed.add(job, ttl=60)
        with serving(worker_settings, 0) as port:
            found = scraped(port)
        worker.register_death()
    names = {
        "kairos_store_up": 1,
        "kairos_postgres_up": 1,
        "kairos_queue_up": 1,
        f"kairos_outbox_entries{{{lane}}}": 0,
        f"kairos_outbox_entries{{{other}}}": 1,
        "kairos_written_entries_total": 7,
        "kairos_drained_entries_total": 6,
        "kairos_dead_letters": 1,
        "kairos_audit_jobs_failed": 1,
        "kairos_worker_processes": 1,
        "kairos_outbox_limit_entries": 100_000,
        "kairos_build_info": 1,
    }
    assert names == {name: found[name] for name in names}
    assert found["kairos_audit_lag_seconds"] > 0
    assert worker_settings.lanes == sum(name.startswith("kairos_outbox_entries") for name in found)


def test_a_scrape_is_answered_whoever_is_away(worker_settings: Settings) -> None:
    """A store that says nothing, a PostgreSQL that is away: they are down in the answer, and nothing old is told."""
    with Proxy(worker_settings.redis_url) as proxy:
        nowhere = "postgresql://127.0.0.1:1/none"
        away = msgspec.structs.replace(worker_settings, redis_url=proxy.url, postgres_url=nowhere, timeout_s=0.2)
        proxy.on_reply = lambda _: b""
        with serving(away, 0) as port:
            found = scraped(port)
    ups = {"kairos_store_up": 0, "kairos_queue_up": 0, "kairos_postgres_up": 0}
    assert ups | {"kairos_build_info": 1, "kairos_outbox_limit_entries": 100_000} == found


def test_a_port_that_cannot_be_had_is_said_in_one_line(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port in use, an address that is none, a library that is not installed: one line that says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigurationError, match=rf"\A--metrics-port: 127\.0\.0\.1:{port} cannot .* in use\Z"),
            serving(settings, port),
        ):
            pass
    with pytest.raises(ConfigurationError, match=r"\A--metrics-port: .*70000 cannot be listened at: [^\n]+\Z"):
        serving(settings, 70_000).__enter__()
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with (
        pytest.raises(ConfigurationError, match=r"not without the package prometheus-client: pip install 'kairos\[m"),
        serving(settings, 0),
    ):
        pass
