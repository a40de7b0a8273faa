"""What several files here start in the same way: servers of their own, and the outbox of a test."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest
from psycopg import sql

from kairos_core.audit.outbox import Outbox
from kairos_core.audit.postgres import connect_postgres
from loadtests.servers.valkeys import valkeys
from loadtests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from kairos_core import Settings
    from loadtests.servers.valkeys import Launcher, Node


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    """Starts servers that are a file's own: they may be configured, limited, cut off and killed."""
    with valkeys() as started:
        yield started


@pytest.fixture(scope="module")
def lone_cluster(launcher: Launcher) -> Node:
    """What is a cluster of one server two seconds later: a file that wants one begins it with its first test."""
    found = launcher._start("cluster", secrets.token_urlsafe(24), ["cluster-node-timeout 1000"])
    with found.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
    return found


@pytest.fixture(scope="module")
def cluster(lone_cluster: Node) -> Node:
    """A cluster of one server, once it serves."""
    with lone_cluster.client() as client:
        assert wait_until(lambda: client.cluster("info")["cluster_state"] == "ok")
    return lone_cluster


@pytest.fixture
def outbox(worker_settings: Settings) -> Iterator[Outbox]:
    """The outbox of the test's namespace."""
    connected = Outbox.connect(worker_settings)
    yield connected
    connected.close()


@pytest.fixture
def connection(settings: Settings) -> Iterator[psycopg.Connection]:
    """A connection that may do anything, in the test's schema; each statement by itself."""
    connected = connect_postgres(settings)
    connected.autocommit = True
    connected.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(settings.namespace)))
    yield connected
    connected.close()
