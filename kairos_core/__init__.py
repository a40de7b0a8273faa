"""Session state for real-time, multi-instance services, with a harness that proves it."""

from typing import TYPE_CHECKING, Any

from kairos_core.async_state_manager import AsyncRedisStateManager
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
from kairos_core.state_manager import RedisStateManager
from kairos_core.updates import StateUpdate

if TYPE_CHECKING:
    from kairos_core.audit.writer import AuditWriter

__all__ = [
    "AsyncRedisStateManager",
    "AuditBacklogFull",
    "AuditWriter",
    "ConfigurationError",
    "CorruptState",
    "Durability",
    "DurabilityNotReached",
    "InvalidState",
    "KairosError",
    "OutcomeUnknown",
    "RedisStateManager",
    "SessionExists",
    "SessionNotFound",
    "Settings",
    "StateUpdate",
    "StoreUnavailable",
    "SyncMode",
    "SyncParticipant",
    "SyncState",
    "SyncStatus",
    "VersionConflict",
]


def __getattr__(name: str) -> Any:
    # psycopg takes longer to import than all the rest, and a service that only writes sessions never needs it.
    if name == "AuditWriter":
        from kairos_core.audit.writer import AuditWriter  # noqa: PLC0415

        return AuditWriter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
