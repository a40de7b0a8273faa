from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis

from kairos_core import RedisStateManager, Settings
from kairos_core.errors import ConfigurationError
from loadtests.environment import new_namespace
from loadtests.servers.levels import VARIABLE, file_system, level_servers
from loadtests.states import sample_state


def test_each_level_can_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each server keeps what its level promises, and no more: memory is measured without a file and a replica."""
    with level_servers() as servers:
        assert ["memory", "fsync", "replicated"] == list(servers)
        files, replicas = [], []
        for level, url in servers.items():
            settings = Settings(redis_url=url, namespace=new_namespace("level"), durability=level)
            with RedisStateManager.connect(settings) as manager:
                assert level == manager.create_session(sample_state("a")).durability.level
            with redis.Redis.from_url(url) as client:
                files.append(client.info("persistence")["aof_enabled"])
                replicas.append(client.info("replication")["connected_slaves"])
        assert ([0, 1, 0], [0, 0, 1]) == (files, replicas)
        # A process that is told of them uses them, and leaves them as they are.
        monkeypatch.setenv(VARIABLE, json.dumps(servers))
        with level_servers() as same:
            assert servers == same
        with redis.Redis.from_url(servers["memory"]) as client:
            assert client.ping()


def test_servers_that_do_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the servers cannot be started, the setting is named, in one line."""
    monkeypatch.setenv("KAIROS_LOCAL_FOLDER", str(tmp_path / "missing"))
    with pytest.raises(ConfigurationError, match=r"\AKAIROS_LOCAL_FOLDER: .+\Z"), level_servers():
        pass


def test_file_system(tmp_path: Path) -> None:
    """The file system of a folder is that of the innermost mount above it."""
    if not Path("/proc/mounts").exists():
        pytest.skip("this system does not list its mounts")
    assert "proc" == file_system("/proc/self")
    assert "proc" != file_system(str(tmp_path))
    assert file_system("/") == file_system("/no-such-folder/below")
