-- All events, in the order in which they are verified: meant to read the whole table.
COPY (
    SELECT session_id, incarnation, version, position, operation_id, kind, event_type, occurred_at, recorded_at,
        encode(chain_hash, 'hex'), state_snapshot
    FROM sync_events
    ORDER BY session_id, incarnation, version, occurred_at
) TO STDOUT
