-- How far these sessions are recorded, and whether they have ended.
SELECT session_id, incarnation, version, deleted_at IS NOT NULL, updated_at
FROM sync_sessions WHERE session_id = ANY(%s COLLATE "C")
