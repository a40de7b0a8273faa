-- What PostgreSQL refused, or nobody could read: kept with the reason, so that the rest of its lane goes on.
CREATE TABLE audit_dead_letters (
    lane      integer     NOT NULL,
    entry_id  text        NOT NULL COLLATE "C",
    buried_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sqlstate  text,
    reason    text        NOT NULL,
    payload   bytea       NOT NULL,
    PRIMARY KEY (lane, entry_id)
);
COMMENT ON TABLE audit_dead_letters IS 'Writes that could not be recorded as events, with the reason.';
COMMENT ON COLUMN audit_dead_letters.entry_id IS 'The id of the entry in the lane''s outbox.';
COMMENT ON COLUMN audit_dead_letters.sqlstate IS 'What PostgreSQL answered; null where the entry could not be read.';
COMMENT ON COLUMN audit_dead_letters.payload IS 'The entry as it was, in JSON where it was ours.';
