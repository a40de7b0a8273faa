-- The last of a session's events up to a version and a time.
SELECT session_id, incarnation, version, position, operation_id, kind, event_type, occurred_at, recorded_at, chain_hash,
    state_snapshot::text
FROM sync_events
WHERE session_id = %(session_id)s COLLATE "C"
    AND (incarnation, version) <= (%(incarnation)s::bigint, %(version)s::bigint)
    AND occurred_at <= %(until)s::timestamptz
ORDER BY incarnation DESC, version DESC
LIMIT 1
