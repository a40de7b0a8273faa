"""Session state for real-time, multi-instance services, with a harness that proves it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kairos_core.durability import Durability
from kairos_core.errors import (
    AuditBacklogFull,
    ConfigurationError,
    CorruptState,
    DurabilityNotReached,
    InvalidState,
    KairosError,
    OutcomeUnknown,
    SessionExists,
    SessionNotFound,
    StoreUnavailable,
    VersionConflict,
)
from kairos_core.session import SyncMode, SyncParticipant, SyncState, SyncStatus
from kairos_core.settings import Settings

if TYPE_CHECKING:
    from kairos_core.async_state_manager import AsyncRedisStateManager
    from kairos_core.audit.reader import AuditEvent, AuditReader
    from kairos_core.audit.writer import AuditWriter
    from kairos_core.health import Health, ServerHealth
    from kairos_core.state_manager import RedisStateManager
    from kairos_core.updates import RESYNCHRONISED, StateUpdate
    from kairos_core.watches import AsyncMessageWatch, AsyncSessionWatch, MessageWatch, SessionWatch

__all__ = [
    "RESYNCHRONISED",
    "AsyncMessageWatch",
    "AsyncRedisStateManager",
    "AsyncSessionWatch",
    "AuditBacklogFull",
    "AuditEvent",
    "AuditReader",
    "AuditWriter",
    "ConfigurationError",
    "CorruptState",
    "Durability",
    "DurabilityNotReached",
    "Health",
    "InvalidState",
    "KairosError",
    "MessageWatch",
    "OutcomeUnknown",
    "RedisStateManager",
    "ServerHealth",
    "SessionExists",
    "SessionNotFound",
    "SessionWatch",
    "Settings",
    "StateUpdate",
    "StoreUnavailable",
    "SyncMode",
    "SyncParticipant",
    "SyncState",
    "SyncStatus",
    "VersionConflict",
]


# Loaded when they are first asked for: redis-py and psycopg take longer to import than all the rest, and who only needs
# the state and the errors, or one of the two managers, does not wait for the others.
_LATER = {
    "AsyncMessageWatch": "watches",
    "AsyncRedisStateManager": "async_state_manager",
    "AsyncSessionWatch": "watches",
    "AuditEvent": "audit.reader",
    "AuditReader": "audit.reader",
    "AuditWriter": "audit.writer",
    "Health": "health",
    "MessageWatch": "watches",
    "RESYNCHRONISED": "updates",
    "RedisStateManager": "state_manager",
    "ServerHealth": "health",
    "SessionWatch": "watches",
    "StateUpdate": "updates",
}


if not TYPE_CHECKING:
    # Not for type checkers, which would take any name for one that is there.
    def __getattr__(name: str) -> Any:
        if name in _LATER:
            found = getattr(import_module(f"kairos_core.{_LATER[name]}"), name)
            globals()[name] = found
            return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
