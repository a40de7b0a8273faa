-- A page of a session's events, in the order of versions.
SELECT session_id, incarnation, version, position, operation_id, kind, event_type, occurred_at, recorded_at, chain_hash,
    state_snapshot::text
FROM sync_events
WHERE session_id = %(session_id)s COLLATE "C"
    AND (incarnation, version) > (%(after_incarnation)s::bigint, %(after_version)s::bigint)
    AND incarnation BETWEEN %(first)s::bigint AND %(last)s::bigint
    AND occurred_at >= %(since)s::timestamptz AND occurred_at < %(until)s::timestamptz
ORDER BY incarnation, version
LIMIT %(limit)s
