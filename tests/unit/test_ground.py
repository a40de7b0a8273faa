from __future__ import annotations

from typing import Any

import pytest

from kairos_core.audit.postgres import check_postgres_version
from kairos_core.errors import ConfigurationError, one_line
from kairos_core.ground import check_kind, check_redis_version, with_default


@pytest.mark.parametrize("version", ["7.0", "7.0.0", "7.2.4", "7.10.1", "8.0.0", "10.0.0", "255.255.255"])
def test_redis_versions_that_work(version: str) -> None:
    """G14: from 7.0 on a server is accepted; numbers are compared as numbers."""
    check_redis_version({"redis_version": version})


@pytest.mark.parametrize("version", ["6.2.14", "6.99.99", "2.8.24", "0.0.0"])
def test_redis_versions_that_are_too_old(version: str) -> None:
    """G14: an older server is refused with its version, the oldest that works, and the setting that named it."""
    with pytest.raises(ConfigurationError, match=r"version .*7\.0") as caught:
        check_redis_version({"redis_version": version})
    assert "KAIROS_REDIS_URL" == caught.value.setting
    assert version in str(caught.value)


@pytest.mark.parametrize(
    "info", [{}, {"redis_version": ""}, {"redis_version": "7"}, {"redis_version": "x.y"}, {"redis_version": None}]
)
def test_a_server_without_a_version(info: dict[str, Any]) -> None:
    """G14: a server that does not say what it is, is refused and not guessed at."""
    with pytest.raises(ConfigurationError, match="reports no version") as caught:
        check_redis_version(info)
    assert "KAIROS_REDIS_URL" == caught.value.setting


def test_a_node_of_a_cluster() -> None:
    """G14: a cluster's node is no server that has all the lanes, and is refused under an address of one."""
    check_kind({"cluster_enabled": "1"}, is_cluster=True)
    check_kind({"cluster_enabled": "0"}, is_cluster=False)
    with pytest.raises(ConfigurationError, match=r"redis\+cluster:// is needed"):
        check_kind({"cluster_enabled": "1"}, is_cluster=False)


@pytest.mark.parametrize("number", [140_000, 140_001, 150_004, 180_006])
def test_postgres_versions_that_work(number: int) -> None:
    """G14: from 14 on PostgreSQL is accepted."""
    check_postgres_version(number)


@pytest.mark.parametrize(("number", "named"), [(139_999, "13"), (130_018, "13"), (90_624, "9"), (0, "0")])
def test_postgres_versions_that_are_too_old(number: int, named: str) -> None:
    """G14: an older PostgreSQL is refused with its version, the oldest that works, and the setting that named it."""
    with pytest.raises(ConfigurationError, match=f"is version {named}; 14 is the oldest") as caught:
        check_postgres_version(number)
    assert "KAIROS_POSTGRES_URL" == caught.value.setting


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("one\ntwo\r\n\t three"), "one two three"),
        (ValueError("one"), "one"),
        (ValueError(), "ValueError"),
        (ValueError(" \n"), "ValueError"),
    ],
)
def test_one_line(error: Exception, expected: str) -> None:
    """An error is told on one line, and by its type where it says nothing."""
    assert expected == one_line(error)


def test_who_named_no_address_is_told_where_one_comes_from() -> None:
    """A terminal without the two exports of `kairos up` is the first mistake that one makes."""
    refused = "Error 111 connecting to 127.0.0.1:6379. Connection refused."
    assert "`kairos up` prints one" in with_default(refused, "KAIROS_REDIS_URL", is_default=True)
    assert refused == with_default(refused, "KAIROS_REDIS_URL", is_default=False)
    assert "NOAUTH" == with_default("NOAUTH", "KAIROS_REDIS_URL", is_default=True)
