"""Directed checks of what a server gives: durability (G11), and safe ground at all (G14). On servers of their own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgspec

from kairos_core import Durability, DurabilityNotReached, RedisStateManager
from kairos_core.errors import ConfigurationError
from loadtests.guarantees.finding import Facts, Finding, directed
from loadtests.guarantees.on_the_way import drop_replies, through
from loadtests.servers.valkeys import valkeys
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core import Settings

# Where a disk or a replica is silent, a call takes most of it.
_TIMEOUT_S = 1.0
_WRITES = 10


def _reached(call: Callable[[], Any]) -> Durability:
    """How safe a write is said to be, whether that was enough or not."""
    try:
        found: Durability = call().durability
    except DurabilityNotReached as error:
        return error.achieved
    return found


@directed("G11", "Is a write called fsync only where the server answers once the disk has it?")
def fsync_is_only_claimed_where_it_is(settings: Settings) -> Finding:
    """A server under `appendfsync always`, and then under others."""
    facts = Facts()
    with valkeys() as launcher:
        node = launcher.start("appendonly yes", "appendfsync always")
        found = msgspec.structs.replace(settings, redis_url=node.url)
        impatient = msgspec.structs.replace(found, timeout_s=_TIMEOUT_S)
        with (
            RedisStateManager.connect(found) as manager,
            RedisStateManager.connect(impatient) as hasty,
            node.client() as client,
        ):
            state = manager.create_session(sample_state("a"))
            reached = []
            for _ in range(_WRITES):
                state = manager.update_session(state, durability="fsync")
                reached.append(state.durability)
            calls = client.info("commandstats").get("cmdstat_waitaof", {"calls": 0})["calls"]
            facts.note(
                reached == [Durability.FSYNC] * _WRITES and calls >= _WRITES,
                f"always: {reached.count(Durability.FSYNC)} of {_WRITES} writes called fsync, {calls} waited for",
            )
            for value in ("everysec", "no"):
                client.config_set("appendfsync", value)
                level = _reached(lambda: hasty.mutate_session("a", lambda state: state, durability="fsync"))
                facts.note(level == Durability.MEMORY, f"{value}: a write is called {level}")
    return facts.finding


@directed("G11", "Is a write called replicated only where a replica has it, also one that is sent again?")
def replicated_is_only_claimed_where_it_is(settings: Settings) -> Finding:
    """A replica that stands still, and a write that was applied, lost its reply and is sent again meanwhile."""
    facts = Facts()
    with valkeys() as launcher:
        primary = launcher.start()
        replica = launcher.replica_of(primary)
        launcher.wait_for_replica(primary)
        found = msgspec.structs.replace(settings, redis_url=primary.url)
        with through(found, _TIMEOUT_S) as (proxy, manager):
            state = manager.create_session(sample_state("a"))
            with contextlib.suppress(DurabilityNotReached):
                # The first may be late: a replica that was just made answers once a second.
                state = manager.update_session(state, durability="replicated")
            launcher.pause(replica)
            try:
                level = _reached(lambda: manager.mutate_session("a", lambda state: state, durability="replicated"))
                facts.note(level == Durability.MEMORY, f"no replica has it: a write is called {level}")
                stored = manager.get_session("a")
                if stored is not None:
                    drop_replies(proxy, 1)
                    level = _reached(lambda: manager.update_session(stored, durability="replicated"))
                    facts.note(level == Durability.MEMORY, f"sent again: it is called {level}")
            finally:
                launcher.resume(replica)
    return facts.finding


@directed("G14", "Is a server refused that evicts, and a store that is laid out otherwise?")
def unsafe_ground_is_refused(settings: Settings) -> Finding:
    """An evicting server, and another number of lanes."""
    facts = Facts()
    RedisStateManager.connect(settings).close()
    with valkeys() as launcher:
        node = launcher.start("maxmemory-policy allkeys-lru")
        for what, found in (
            ("a server that evicts", msgspec.structs.replace(settings, redis_url=node.url)),
            ("a store of 16 lanes, taken for one of 8", msgspec.structs.replace(settings, lanes=8)),
        ):
            try:
                RedisStateManager.connect(found).close()
            except ConfigurationError as error:
                facts.note(True, f"{what}: {error}")
            else:
                facts.note(False, f"{what}: taken")
    return facts.finding
