-- A page of the sessions that live, by the key.
SELECT session_id FROM sync_sessions WHERE session_id > %s COLLATE "C" AND deleted_at IS NULL
ORDER BY session_id LIMIT %s
