-- A session's row never goes back to an older version, in whatever order batches arrive.
INSERT INTO sync_sessions AS stored
    (session_id, incarnation, version, sync_mode, status, created_at, updated_at, deleted_at, state_snapshot)
SELECT DISTINCT ON (session_id)
    session_id, incarnation, version, state_snapshot ->> 'sync_mode', state_snapshot ->> 'status',
    (state_snapshot ->> 'created_at')::timestamptz, occurred_at,
    CASE WHEN kind IN ('delete', 'expire') THEN occurred_at END, state_snapshot
FROM batch
ORDER BY session_id, incarnation DESC, version DESC
ON CONFLICT (session_id) DO UPDATE SET
    incarnation = excluded.incarnation,
    version = excluded.version,
    sync_mode = excluded.sync_mode,
    status = excluded.status,
    created_at = excluded.created_at,
    updated_at = excluded.updated_at,
    deleted_at = excluded.deleted_at,
    state_snapshot = excluded.state_snapshot
WHERE (excluded.incarnation, excluded.version) > (stored.incarnation, stored.version)
