-- One row per write, for ever. Text in the C collation: ids are ASCII, and comparing bytes is all that is needed.
CREATE TABLE sync_events (
    operation_id   uuid        NOT NULL PRIMARY KEY,
    session_id     text        NOT NULL COLLATE "C",
    incarnation    bigint      NOT NULL,
    version        bigint      NOT NULL CHECK (version >= 1),
    kind           text        NOT NULL CHECK (kind IN ('create', 'update', 'delete', 'expire')),
    event_type     text        NOT NULL CHECK (length(event_type) BETWEEN 1 AND 50),
    occurred_at    timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    state_snapshot jsonb       NOT NULL,
    -- A second writer of one version would be a lost update: it must not be recorded as if nothing were wrong.
    UNIQUE (session_id, incarnation, version)
);
COMMENT ON TABLE sync_events IS 'One row per acknowledged write; never changed.';
COMMENT ON COLUMN sync_events.occurred_at IS 'Time of the write by the clock of the store.';
COMMENT ON COLUMN sync_events.recorded_at IS 'Time at which the row was written here; the difference is the audit lag.';
COMMENT ON COLUMN sync_events.state_snapshot IS 'The full state as written; of a delete or an expiry, the state that ended.';

CREATE FUNCTION sync_events_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'sync_events is append-only: % refused', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER sync_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON sync_events
    FOR EACH STATEMENT EXECUTE FUNCTION sync_events_refuse_change();

-- The latest row per session.
CREATE TABLE sync_sessions (
    session_id     text        NOT NULL COLLATE "C" PRIMARY KEY,
    incarnation    bigint      NOT NULL,
    version        bigint      NOT NULL,
    sync_mode      text        NOT NULL,
    status         text        NOT NULL,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    deleted_at     timestamptz,
    state_snapshot jsonb       NOT NULL
);
COMMENT ON TABLE sync_sessions IS 'The latest recorded state of each session.';
COMMENT ON COLUMN sync_sessions.deleted_at IS 'When the session was deleted or expired; null while it lives.';

-- The latest row per session and participant.
CREATE TABLE sync_participants (
    session_id        text    NOT NULL COLLATE "C" REFERENCES sync_sessions,
    participant_id    text    NOT NULL COLLATE "C",
    incarnation       bigint  NOT NULL,
    version           bigint  NOT NULL,
    participant_index bigint  NOT NULL,
    total_time_ms     bigint  NOT NULL,
    time_used_ms      bigint  NOT NULL,
    time_remaining_ms bigint,
    cycle_count       bigint  NOT NULL,
    is_active         boolean NOT NULL,
    has_expired       boolean NOT NULL,
    group_id          text    COLLATE "C",
    PRIMARY KEY (session_id, participant_id)
);
COMMENT ON TABLE sync_participants IS 'Each participant as of the version named; one that left keeps its last row.';
