from __future__ import annotations

import os
import signal
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from kairos_core.errors import ConfigurationError
from loadtests.at_once import helpers_of
from loadtests.environment import as_administrator
from loadtests.orders import OrderError
from loadtests.servers.proxy import Proxy
from loadtests.servers.valkeys import Cluster, Launcher, valkeys
from loadtests.studies import cluster, lanes, live_sessions, state_size, tls
from loadtests.studies.study import Bench
from loadtests.subjects.sizes import OPERATIONS, SUBJECTS
from loadtests.subjects.wire import Wire
from loadtests.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack
    from pathlib import Path

    from kairos_core import Settings
    from loadtests.orders import Helper
    from loadtests.studies.study import Point


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    """Servers of our own."""
    with valkeys() as started:
        yield started


@pytest.fixture
def kept() -> dict[str, Any]:
    """What a study keeps besides its points."""
    return {}


@pytest.fixture
def bench(kept: dict[str, Any]) -> Bench:
    """A bench that is quiet."""
    return Bench("quick", lambda _: None, kept.__setitem__, lambda _: None)


def by_place(points: list[Point]) -> dict[tuple[str, int | str], dict[str, float]]:
    """The values of each point; each is there once."""
    found = {(point.subject, point.x): point.values for point in points}
    assert len(points) == len(found)
    return found


def are_ordered(values: dict[str, float], what: str = "") -> bool:
    """Whether the percentiles of something are all there, above nothing and none below a smaller one."""
    found = [values[f"{what}{part}_ms"] for part in ("p50", "p95", "p99")]
    return 0 < found[0] <= found[1] <= found[2]


def test_state_sizes(bench: Bench, kept: dict[str, Any], settings: Settings) -> None:
    """Every subject is there at every size with all operations; a large state, too, is exchanged as a whole."""
    values = by_place(state_size.points(bench, as_administrator(settings), (2, 400), 1, 100))
    assert {(subject, size) for subject in SUBJECTS for size in (2, 400)} == set(values)
    for own in values.values():
        assert all(are_ordered(own, f"{what}_") for what in OPERATIONS)
    # A participant takes some 220 bytes.
    assert 700 < values["kairos", 2]["body_bytes"] < 1_000
    assert 80_000 < values["kairos", 400]["body_bytes"] < 100_000
    # A hundred times as many bytes take longer on any machine, to encode most of all.
    assert values["kairos", 400]["create_p50_ms"] > values["kairos", 2]["create_p50_ms"]
    assert len(values) * len(OPERATIONS) == len(kept)


def test_a_reply_in_pieces(settings: Settings) -> None:
    """The same bytes are only had when the last of them is there, however they come."""
    # The core's account may not use ECHO.
    with Proxy(as_administrator(settings).redis_url) as proxy, closing(Wire(proxy.url)) as wire:
        text = b"x" * 300_000
        assert "PONG" == wire.ask("PING").decode()
        echo = b"*2\r\n$4\r\nECHO\r\n$300000\r\n" + text + b"\r\n"
        size = wire.size_of_reply(echo)
        assert len(b"$300000\r\n\r\n") + len(text) == size
        assert size == len(wire.exchange_whole(echo, size))
        assert "PONG" == wire.ask("PING").decode()


def test_live_sessions(bench: Bench, kept: dict[str, Any]) -> None:
    """Every number of sessions is there, and the first once more; each session takes its state, and more."""
    with live_sessions.stores_of((20, 400), bench) as stores:
        values = by_place(live_sessions.points(bench, stores, 1, 60))
    assert {("kairos", 20), ("kairos", 400), (live_sessions.AGAIN, 20)} == set(values)
    for own in values.values():
        assert all(are_ordered(own, f"{what}_") for what in ("get", "update"))
        assert own["memory_bytes_per_session"] > 800
    assert 120 == len(kept["kairos/400/1/update"])


def test_more_live_sessions_than_memory_holds(bench: Bench) -> None:
    """They are refused before anything is started."""
    with pytest.raises(ConfigurationError, match="GB of memory"), live_sessions.stores_of((10**12,), bench):
        pass


def test_lanes(bench: Bench, kept: dict[str, Any], settings: Settings) -> None:
    """Every number of lanes is there: updates, sweeps, and a drain that leaves nothing in any of them."""
    extent = lanes.Extent(repetitions=1, rounds=100, drains=1, rows=60)
    values = by_place(lanes.points(bench, as_administrator(settings), (1, 8), extent))
    assert {("kairos", 1), ("kairos", 8)} == set(values)
    for own in values.values():
        assert all(are_ordered(own, f"{what}_") for what in lanes.CALLS)
        assert own["drain_rows_per_s"] > 1
        assert 60 == own["rows"]
    assert {1} == {len(samples) for key, samples in kept.items() if key.endswith("/drain")}


def test_a_cluster_beside_a_single_server(bench: Bench, launcher: Launcher) -> None:
    """Both stores are there with a process's calls and with the updates of all; every primary takes part."""
    node, three = launcher.start(), launcher.cluster(replicas=False)
    values = by_place(cluster.points(bench, node, three, cluster.Extent(1, 100, 0.2, processes=2)))
    names = ("standalone", "cluster")
    assert {(name, what) for name in names for what in ("get", "update", cluster.CONCURRENT)} == set(values)
    for name in names:
        assert are_ordered(values[name, "get"])
        assert are_ordered(values[name, "update"])
        concurrent = values[name, cluster.CONCURRENT]
        assert concurrent["updates_per_s"] == pytest.approx(concurrent["count"] / 0.2)
    for primary in three.primaries:
        with primary.client() as client:
            assert client.info("commandstats")["cmdstat_evalsha"]["calls"] > 0
            # The copies are gone.
            assert [] == [*client.scan_iter(match="*:outbox", count=1_000)]
            launcher.kill(primary)
    launcher.kill(node)


def test_tls_beside_none(bench: Bench, launcher: Launcher, tmp_path: Path) -> None:
    """Every way to the server is there with calls and connections; what takes two handshakes more takes longer."""
    node = launcher.start()
    values = by_place(tls.points(bench, node.url, tmp_path, tls.Extent(1, 100, 8)))
    every = (*tls.CALLS, *tls.CONNECTIONS)
    assert {(subject, what) for subject in tls.SUBJECTS for what in every} == set(values)
    for subject in tls.SUBJECTS:
        assert all(are_ordered(values[subject, what]) for what in tls.CALLS)
    assert all(values["tls", what]["p50_ms"] > values["plain", what]["p50_ms"] for what in tls.CONNECTIONS)
    launcher.kill(node)


class Killed(Turns):
    """A process that is killed when it is to measure."""

    def samples_ns(self, rounds: int, seed: int, warmup_rounds: int = 1) -> dict[str, list[int]]:
        """Find that it has ended."""
        self._helper.ask("take", rounds=1, seed=seed, warmup_rounds=1)
        os.kill(self._helper.process.pid, signal.SIGKILL)
        return super().samples_ns(rounds, seed, warmup_rounds)


def test_a_subject_that_was_killed_is_an_error(
    bench: Bench, settings: Settings, launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study of which a process was killed, or ended because its sessions are not there, has no points."""
    monkeypatch.setattr(state_size, "Turns", Killed)
    with pytest.raises(OrderError, match=r"loadtests\.turns ended with status -9"):
        state_size.points(bench, as_administrator(settings), (2,), 1, 100)

    def killed(module: str, count: int, settings: Settings, stack: ExitStack) -> list[Helper]:
        helpers = helpers_of(module, count, settings, stack)
        os.kill(helpers[0].process.pid, signal.SIGKILL)
        return helpers

    monkeypatch.setattr(tls, "helpers_of", killed)
    node = launcher.start()
    with pytest.raises(OrderError, match=r"loadtests\.updating ended with status -9"):
        tls.points(bench, node.url, tmp_path, tls.Extent(1, 100, 8))
    launcher.kill(node)
    with live_sessions.stores_of((20,), bench) as stores:
        gone = {name: store._replace(settings=settings) for name, store in stores.items()}
        with pytest.raises(subprocess.CalledProcessError):
            live_sessions.points(bench, gone, 1, 20)


def test_a_primary_that_only_looks_on_is_an_error(bench: Bench, launcher: Launcher) -> None:
    """Where a primary has no session, it is not measured as if it had."""
    node, one, other = (launcher.start() for _ in range(3))
    with pytest.raises(cluster.UnevenError, match=f"port {other.port} has no session"):
        cluster.points(bench, node, Cluster((one, other), (), one.url), cluster.Extent(1, 20, 0.1, processes=1))
    for started in (node, one, other):
        launcher.kill(started)
