"""The account of benchmarks: what is compared must be asked by the same one, and bare redis-py needs more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

if TYPE_CHECKING:
    from kairos_core import Settings


@pytest.fixture
def settings(settings: Settings, servers: Settings) -> Settings:
    """The test's settings, with the account that the servers were given or started with."""
    return msgspec.structs.replace(settings, redis_url=servers.redis_url)
