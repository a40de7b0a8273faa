-- A page of the sessions that live as far as is recorded, and about how large their states are.
SELECT session_id, incarnation, version, pg_column_size(state_snapshot)
FROM sync_sessions
WHERE session_id > %s AND deleted_at IS NULL
ORDER BY session_id
LIMIT %s
