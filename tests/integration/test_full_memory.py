from __future__ import annotations

import time

import pytest

from kairos_core import RedisStateManager, Settings, StoreUnavailable, SyncState
from loadtests.environment import row_counts
from loadtests.servers.valkeys import valkeys
from loadtests.servers.worker import worker_pool
from loadtests.states import sample_state

ROOM = 3_000_000


def update_until_refused(manager: RedisStateManager, state: SyncState) -> tuple[SyncState, StoreUnavailable]:
    """The last state that was acknowledged, and the refusal of the next."""
    for _ in range(10_000):
        try:
            state = manager.update_session(state)
        except StoreUnavailable as error:
            return state, error
    pytest.fail("the memory was never full")


def test_a_full_memory_is_drained(servers: Settings) -> None:
    """G7, G10: where the outbox has filled the memory, a worker that starts then makes room, and nothing is lost."""
    # On a server of its own: its memory is limited.
    with valkeys() as launcher:
        node = launcher.start()
        # In the run's namespace, so that its schema is removed with the others.
        settings = Settings(
            redis_url=node.url,
            postgres_url=servers.postgres_url,
            namespace=f"{servers.namespace}_full",
            timeout_s=2.0,
        )
        client = node.client()
        with RedisStateManager.connect(settings) as manager:
            state = manager.create_session(sample_state("a"))
            client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + ROOM)
            state, error = update_until_refused(manager, state)
            assert (True, "OOM") == (error.definite, str(error).split(": ")[1].split()[0])
            # refused, and nothing of it stored
            assert state == manager.get_session("a")
            acknowledged = state.version
            assert 100 < acknowledged < 10_000
            with worker_pool(settings):
                deadline = time.monotonic() + 30
                while state.version == acknowledged and time.monotonic() < deadline:
                    try:
                        state = manager.update_session(state)
                    except StoreUnavailable:
                        time.sleep(0.05)
                assert acknowledged + 1 == state.version
                while row_counts(settings, "sync_events") < state.version and time.monotonic() < deadline:
                    time.sleep(0.05)
            assert state.version == row_counts(settings, "sync_events")
        client.close()
