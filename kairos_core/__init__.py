"""Session state for real-time, multi-instance services, with a harness that proves it."""

from kairos_core.audit.writer import AuditWriter
from kairos_core.errors import (
    AuditBacklogFull,
    CorruptState,
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

__all__ = [
    "AuditBacklogFull",
    "AuditWriter",
    "CorruptState",
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
