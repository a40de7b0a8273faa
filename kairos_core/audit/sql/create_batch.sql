-- Where COPY puts a batch before it is merged; private to the connection, emptied at each commit.
CREATE TEMPORARY TABLE IF NOT EXISTS batch (
    operation_id   uuid,
    session_id     text COLLATE "C",
    incarnation    bigint,
    version        bigint,
    kind           text,
    event_type     text,
    occurred_at    timestamptz,
    state_snapshot jsonb
) ON COMMIT DELETE ROWS
