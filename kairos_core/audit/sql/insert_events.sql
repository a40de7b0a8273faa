-- A batch that is written again finds its own operation ids. Any other conflict (a version with two writers) is an error.
INSERT INTO sync_events (operation_id, session_id, incarnation, version, kind, event_type, occurred_at, state_snapshot)
SELECT operation_id, session_id, incarnation, version, kind, event_type, occurred_at, state_snapshot
FROM batch
ON CONFLICT (operation_id) DO NOTHING
