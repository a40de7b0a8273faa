"""Servers as the documents speak of them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec
import pytest

from kairos_core import Settings
from kairos_core.local import local_servers
from kairos_core.settings import servers_given
from tests.at_hand import at_hand
from tests.docs.ground import begin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def store(request: pytest.FixtureRequest) -> Iterator[Settings]:
    """Servers with the namespace of the documents, a session `table-12` and its trail: for commands.

    They are embedded ones in any case: on given servers, `kairos` is somebody's.
    """
    with contextlib.ExitStack() as stack:
        if servers_given():
            made = stack.enter_context(local_servers())
            settings = Settings(redis_url=made.redis_url, postgres_url=made.postgres_url)
        else:
            settings = msgspec.structs.replace(request.getfixturevalue("servers"), namespace="kairos")
        begin(settings)
        yield settings


@pytest.fixture(scope="session")
def ground(servers: Settings) -> Settings:
    """The same in a namespace of its own: for programs."""
    settings = msgspec.structs.replace(servers, namespace=f"{servers.namespace}_programs")
    begin(settings)
    return settings


@pytest.fixture(scope="session")
def kairos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The command `kairos` without its start."""
    with at_hand(tmp_path_factory.mktemp("kairos") / "at_hand") as program:
        yield program
