COPY batch (operation_id, session_id, incarnation, version, kind, event_type, occurred_at, state_snapshot) FROM STDIN
