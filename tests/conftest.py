"""Real servers for every test: those that the environment names, or embedded ones.

On embedded ones, `settings` has the account of `kairos_core/acl/core.acl`, which may do what the core does and no more.
What looks at the store, or disturbs it (SCAN, MONITOR, CLIENT KILL, CONFIG SET, a write of its own), takes
`admin(settings)` of `loadtests.environment` or the fixture `client`; what drains, sweeps or runs a pool takes the
worker's account: `as_worker(settings)`, or the fixture `worker_settings`.

`make test` lets three processes share the files, each with embedded servers of its own; on given servers, which may
have one configuration and one list of connections at a time, it stays one.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest

from kairos_core import AuditWriter, RedisStateManager, Settings
from kairos_core.errors import ConfigurationError
from kairos_core.settings import servers_given
from loadtests.ending import unwind_on_termination
from loadtests.environment import admin, as_worker, harness, make_accounts, new_namespace
from loadtests.losses import Store
from loadtests.on_a_loop import ManagerOnALoop

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

# Chosen before any test module imports rq, which reads its prefix when it is imported.
NAMESPACE = new_namespace("test")
os.environ["RQ_KEY_PREFIX"] = f"{NAMESPACE}:rq"

# What a test starts is no part of this run: in one, pytest-benchmark would refuse to measure.
for _name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
    os.environ.pop(_name, None)

_numbers = itertools.count(1)
# Where some processes share the files: those that take longest first, so that none is left with one at the end.
_FOLDERS = ("integration", "browser", "harness", "docs", "validation", "benchmarks", "unit")


def pytest_configure(config: pytest.Config) -> None:
    """Let a termination unwind like Ctrl-C, so that given servers are left as they were.

    Not in the process that only hands tests out: the others notice its end, and unwind for their part.
    """
    if not config.getoption("tx", None):
        unwind_on_termination()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many processes `-n auto` means; none besides this one where servers are given."""
    try:
        return 0 if servers_given() else 3
    except ConfigurationError:
        # The first test that asks for servers ends the run with it, in one line.
        return 0


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the folders in order, and leave the order within each as it was drawn."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _FOLDERS.index(item.path.parent.name))


@pytest.fixture(scope="session")
def servers() -> Iterator[Settings]:
    """The servers of this run; everything made there begins with the run's namespace and is removed at its end."""
    try:
        with harness(NAMESPACE) as settings:
            yield settings
    except ConfigurationError as error:
        pytest.exit(f"kairos: {error}", returncode=2)


@pytest.fixture(scope="session")
def limited(servers: Settings) -> Settings:
    """The servers with the core's account: made here on embedded ones, the given one on given ones."""
    return servers if servers_given() else make_accounts(servers)


@pytest.fixture
def settings(servers: Settings, limited: Settings) -> Settings:
    """Settings with a namespace of this test's own, and the core's account."""
    return Settings(
        redis_url=limited.redis_url,
        postgres_url=servers.postgres_url,
        queue_url=servers.queue_url,
        namespace=f"{servers.namespace}_{next(_numbers)}",
    )


@pytest.fixture
def worker_settings(settings: Settings) -> Settings:
    """The same settings with the worker's account."""
    return as_worker(settings)


@pytest.fixture
def client(settings: Settings) -> Iterator[redis.Redis]:
    """A client that may do anything."""
    with admin(settings) as connected:
        yield connected


@pytest.fixture
def colour(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which manager `RedisStateManager.connect` gives: the blocking one, or the asyncio one behind the same names.

    A module that is about both says so in its `pytestmark`.
    """
    found: str = getattr(request, "param", "blocking")
    if found == "asyncio":
        monkeypatch.setattr(RedisStateManager, "connect", ManagerOnALoop.connect)
    return found


@pytest.fixture
def manager(settings: Settings) -> Iterator[RedisStateManager]:
    """A connected manager."""
    with RedisStateManager.connect(settings) as connected:
        yield connected


@pytest.fixture
def writer(settings: Settings) -> Iterator[AuditWriter]:
    """A connected audit writer, with its schema in place."""
    with AuditWriter.connect(settings) as connected:
        connected.migrate()
        yield connected


@pytest.fixture
def store(settings: Settings, client: redis.Redis, manager: RedisStateManager, writer: AuditWriter) -> Iterator[Store]:
    """The test's store with its audit, to lose something of."""
    with Store(settings, client, manager, writer) as found:
        yield found
