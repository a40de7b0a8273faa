-- The events of some sessions, in the order in which they are verified.
COPY (
    SELECT session_id, incarnation, version, position, operation_id, kind, event_type, occurred_at, recorded_at,
        encode(chain_hash, 'hex'), state_snapshot
    FROM sync_events
    WHERE session_id = ANY(%s COLLATE "C")
    ORDER BY session_id, incarnation, version, occurred_at
) TO STDOUT
