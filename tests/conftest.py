"""Real servers for every test: those that the environment names, or embedded ones."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest

from kairos_core import AuditWriter, RedisStateManager, Settings
from kairos_core.errors import ConfigurationError
from loadtests.environment import harness, new_namespace
from loadtests.measure import unwind_on_termination

if TYPE_CHECKING:
    from collections.abc import Iterator

# Chosen before any test module imports rq, which reads its prefix when it is imported.
NAMESPACE = new_namespace("test")
os.environ["RQ_KEY_PREFIX"] = f"{NAMESPACE}:rq"

_numbers = itertools.count(1)


def pytest_configure() -> None:
    """Let a termination unwind like Ctrl-C, so that given servers are left as they were."""
    unwind_on_termination()


@pytest.fixture(scope="session")
def servers() -> Iterator[Settings]:
    """The servers of this run; everything made there begins with the run's namespace and is removed at its end."""
    try:
        with harness(NAMESPACE) as settings:
            yield settings
    except ConfigurationError as error:
        pytest.exit(f"kairos: {error}", returncode=2)


@pytest.fixture
def settings(servers: Settings) -> Settings:
    """Settings with a namespace of this test's own."""
    return Settings(
        redis_url=servers.redis_url,
        postgres_url=servers.postgres_url,
        queue_url=servers.queue_url,
        namespace=f"{servers.namespace}_{next(_numbers)}",
    )


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
