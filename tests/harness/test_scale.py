from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import redis

from kairos_core.layout import Layout
from loadtests import scale
from loadtests.servers.proxy import Proxy
from loadtests.servers.valkeys import Launcher, valkeys
from reports.scale import judged
from reports.statistics import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
SESSIONS = 1_500
RUNS, ROUNDS = 3, 10


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    """A launcher for all tests here."""
    with valkeys() as started:
        yield started


@pytest.fixture
def stores(launcher: Launcher, tmp_path: Path) -> Iterator[dict[str, scale.Store]]:
    """Stores with few sessions and with more, each on a plain server of its own."""
    nodes = {subject: launcher.start() for subject in scale.SUBJECTS}
    yield {
        subject: scale.fill(node, SESSIONS if subject == "many" else scale.FEW, tmp_path / subject, lambda _: None)
        for subject, node in nodes.items()
    }
    for node in nodes.values():
        launcher.kill(node)


def test_a_store_holds_its_sessions_and_no_more(stores: dict[str, scale.Store]) -> None:
    """What is counted is sessions: no record waits in an outbox, no receipt is there; each takes its state and more."""
    layout = Layout(stores["many"].settings.namespace, stores["many"].settings.lanes)
    with redis.Redis.from_url(stores["many"].settings.redis_url) as client:
        assert SESSIONS == sum(client.zcard(key) for key in layout.deadlines)
        assert SESSIONS == sum(1 for _ in client.scan_iter(match="*:s:*", count=1_000))
        assert 0 == sum(client.xlen(key) for key in layout.outboxes)
    assert 800 < stores["many"].bytes_each < 4_000
    assert SESSIONS * 16 == stores["many"].stamps.stat().st_size


def delayed(data: bytes) -> bytes:
    """A request, by so much later that it shows on a busy machine, too."""
    time.sleep(0.01)
    return data


def test_it_can_be_red(stores: dict[str, scale.Store]) -> None:
    """A server that answers later is found to; each process calls each as often as it was told, and updates count."""
    with Proxy(stores["many"].settings.redis_url) as proxy:
        proxy.on_request = delayed
        far = msgspec.structs.replace(stores["many"].settings, redis_url=proxy.url)
        slower = stores | {"many": stores["many"]._replace(settings=far)}
        said: list[str] = []
        samples = list(scale.compare(slower, RUNS, ROUNDS, said.append))
    assert RUNS == len(samples) == len(said)
    for run in samples:
        assert {operation: dict.fromkeys(scale.SUBJECTS, 2 * ROUNDS) for operation in scale.OPERATIONS} == {
            operation: {subject: len(values) for subject, values in subjects.items()}
            for operation, subjects in run.items()
        }
    found = judged(scale.Measured(SESSIONS, 0.0, 0, "", samples))
    # So small a measurement may be unfair to itself on a busy machine.
    assert {one.verdict for one in found} <= {Verdict.FAIL, Verdict.INVALID}
    assert all(one.ratio.lower > one.limit for one in found)
    versions = memoryview(stores["many"].stamps.read_bytes()).cast("Q")[1::2]
    assert RUNS * 2 * (ROUNDS + scale.WARMUP_ROUNDS) == sum(versions) - SESSIONS


def test_the_command() -> None:
    """The command measures, prints both latencies and the memory of a session, and ends with the verdict's status."""
    finished = subprocess.run(
        [sys.executable, "-m", "reports.scale", "--sessions", "1_000", "--runs", "3", "--rounds", "20"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    words = ["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
    lines = finished.stdout.splitlines()
    assert [0, 1, 2, 2][words.index(lines[-1].split()[1])] == finished.returncode, finished.stderr
    assert {"get_session", "update_session"} <= {line.split()[2] for line in lines if line.count(" ms ") == 2}
    assert any("bytes of memory a session" in line for line in lines)
    assert "" == finished.stderr


def test_more_than_memory_holds() -> None:
    """More sessions than fit into memory are refused in one line with status 2, before anything is started."""
    finished = subprocess.run(
        [sys.executable, "-m", "reports.scale", "--sessions", "1000000000000"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert 2 == finished.returncode
    assert 1 == len(finished.stderr.splitlines())
    assert finished.stderr.startswith("kairos: --sessions: ")
    assert "" == finished.stdout
