COPY sync_events
    (operation_id, session_id, incarnation, version, kind, event_type, occurred_at, state_snapshot, position, recorded_at,
     chain_hash)
FROM STDIN
