-- The audit trail as it is: what the migrations lead to, which a test compares. Read this; run the migrations.
--
-- Text is in the C collation: ids are ASCII, and comparing bytes is all that is needed.

-- One row per write. Partitioned by the time of the write, a month each; `sync_make_partitions` makes them ahead, and
-- `sync_detach_partitions` takes old ones out.
--
-- A unique constraint of a partitioned table holds the time, too, so these alone would let one version be recorded twice
-- at two times. What is recorded is therefore looked up first (see batch.py), under a lock of the lane.
CREATE TABLE sync_events (
    session_id     text        NOT NULL COLLATE "C",
    incarnation    bigint      NOT NULL,
    version        bigint      NOT NULL,
    position       bigint      NOT NULL,
    operation_id   uuid        NOT NULL,
    kind           text        NOT NULL,
    event_type     text        NOT NULL,
    occurred_at    timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL,
    state_snapshot jsonb       NOT NULL,
    chain_hash     bytea       NOT NULL,
    CONSTRAINT sync_events_key PRIMARY KEY (session_id, incarnation, version, occurred_at),
    CONSTRAINT sync_events_operation UNIQUE (operation_id, occurred_at),
    CONSTRAINT sync_events_version CHECK (version >= 1),
    CONSTRAINT sync_events_position CHECK (position >= 1),
    CONSTRAINT sync_events_kind CHECK (kind IN ('create', 'update', 'delete', 'expire')),
    CONSTRAINT sync_events_event_type CHECK (length(event_type) BETWEEN 1 AND 50),
    CONSTRAINT sync_events_chain_hash CHECK (length(chain_hash) = 32)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE sync_events IS 'One row per acknowledged write; never changed.';
COMMENT ON COLUMN sync_events.session_id IS 'The session.';
COMMENT ON COLUMN sync_events.incarnation IS 'Which life of the session id; rises.';
COMMENT ON COLUMN sync_events.version IS 'The version that the write made: 1, 2, 3 and so on within an incarnation.';
COMMENT ON COLUMN sync_events.position IS 'Place in the session''s hash chain: 1, 2, 3 and so on in the order of recording.';
COMMENT ON COLUMN sync_events.operation_id IS 'The id of the write; recorded once.';
COMMENT ON COLUMN sync_events.kind IS 'What the write did.';
COMMENT ON COLUMN sync_events.event_type IS 'What the writer named it.';
COMMENT ON COLUMN sync_events.occurred_at IS 'Time of the write by the clock of the store.';
COMMENT ON COLUMN sync_events.recorded_at IS 'Time at which the row was written here; the difference is the audit lag.';
COMMENT ON COLUMN sync_events.state_snapshot IS 'The full state as written; of a delete or an expiry, the state that ended.';
COMMENT ON COLUMN sync_events.chain_hash IS 'SHA-256 over the hash of the session''s row before this one, the digest of this row, and recorded_at.';

-- The latest row per session.
CREATE TABLE sync_sessions (
    session_id     text        NOT NULL COLLATE "C",
    incarnation    bigint      NOT NULL,
    version        bigint      NOT NULL,
    sync_mode      text        NOT NULL,
    status         text        NOT NULL,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    deleted_at     timestamptz,
    state_snapshot jsonb       NOT NULL,
    chain_length   bigint      NOT NULL,
    chain_hash     bytea       NOT NULL,
    CONSTRAINT sync_sessions_key PRIMARY KEY (session_id),
    CONSTRAINT sync_sessions_sync_mode
        CHECK (sync_mode IN ('per_participant', 'per_cycle', 'per_group', 'global', 'count_up')),
    CONSTRAINT sync_sessions_status
        CHECK (status IN ('pending', 'running', 'paused', 'expired', 'completed', 'cancelled'))
);
-- For those who look for sessions that live, among many that have ended.
CREATE INDEX sync_sessions_living ON sync_sessions (session_id) WHERE deleted_at IS NULL;
COMMENT ON TABLE sync_sessions IS 'The latest recorded state of each session; follows sync_events by itself.';
COMMENT ON COLUMN sync_sessions.session_id IS 'The session.';
COMMENT ON COLUMN sync_sessions.incarnation IS 'Its latest life.';
COMMENT ON COLUMN sync_sessions.version IS 'Its latest version.';
COMMENT ON COLUMN sync_sessions.sync_mode IS 'How its time is counted.';
COMMENT ON COLUMN sync_sessions.status IS 'Where it stands.';
COMMENT ON COLUMN sync_sessions.created_at IS 'When this life of it began, by the clock of the store.';
COMMENT ON COLUMN sync_sessions.updated_at IS 'When it was last written, by the clock of the store.';
COMMENT ON COLUMN sync_sessions.deleted_at IS 'When the session was deleted or expired; null while it lives.';
COMMENT ON COLUMN sync_sessions.state_snapshot IS 'Its latest state.';
COMMENT ON COLUMN sync_sessions.chain_length IS 'How many rows its hash chain has.';
COMMENT ON COLUMN sync_sessions.chain_hash IS 'The hash of the last of them.';

-- The latest row per session and participant.
CREATE TABLE sync_participants (
    session_id        text    NOT NULL COLLATE "C",
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
    CONSTRAINT sync_participants_key PRIMARY KEY (session_id, participant_id)
);
COMMENT ON TABLE sync_participants IS 'Each participant as of the version named; one that left keeps its last row.';
COMMENT ON COLUMN sync_participants.session_id IS 'The session.';
COMMENT ON COLUMN sync_participants.participant_id IS 'The participant.';
COMMENT ON COLUMN sync_participants.incarnation IS 'The life of the session that the row is of.';
COMMENT ON COLUMN sync_participants.version IS 'The version of the session that the row is of.';
COMMENT ON COLUMN sync_participants.participant_index IS 'The participant''s place in the order.';
COMMENT ON COLUMN sync_participants.total_time_ms IS 'Milliseconds that it had at the start.';
COMMENT ON COLUMN sync_participants.time_used_ms IS 'Milliseconds that it has used.';
COMMENT ON COLUMN sync_participants.time_remaining_ms IS 'Milliseconds that it has left; null where none are counted.';
COMMENT ON COLUMN sync_participants.cycle_count IS 'Turns that it has completed.';
COMMENT ON COLUMN sync_participants.is_active IS 'Whether it is its turn.';
COMMENT ON COLUMN sync_participants.has_expired IS 'Whether its time is over.';
COMMENT ON COLUMN sync_participants.group_id IS 'The group that it is of.';

-- What PostgreSQL refused, or nobody could read: kept with the reason, so that the rest of its lane goes on.
CREATE TABLE audit_dead_letters (
    lane       integer     NOT NULL,
    entry_id   text        NOT NULL COLLATE "C",
    buried_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    sqlstate   text,
    reason     text        NOT NULL,
    payload    bytea       NOT NULL,
    settled_at timestamptz,
    settlement text,
    CONSTRAINT audit_dead_letters_key PRIMARY KEY (lane, entry_id),
    CONSTRAINT audit_dead_letters_settlement
        CHECK (settlement IN ('replayed', 'discarded') AND settled_at IS NOT NULL OR settlement IS NULL AND settled_at IS NULL)
);
-- For the list of those that wait, and their number per lane.
CREATE INDEX audit_dead_letters_open ON audit_dead_letters (lane, entry_id) WHERE settled_at IS NULL;
COMMENT ON TABLE audit_dead_letters IS 'Writes that could not be recorded as events, with the reason; kept when they are settled.';
COMMENT ON COLUMN audit_dead_letters.lane IS 'The lane whose outbox it was in.';
COMMENT ON COLUMN audit_dead_letters.entry_id IS 'The id of the entry in the lane''s outbox.';
COMMENT ON COLUMN audit_dead_letters.buried_at IS 'When it was refused.';
COMMENT ON COLUMN audit_dead_letters.sqlstate IS 'What PostgreSQL answered; null where the entry could not be read.';
COMMENT ON COLUMN audit_dead_letters.reason IS 'Why, in words.';
COMMENT ON COLUMN audit_dead_letters.payload IS 'The entry as it was, in JSON where it was ours.';
COMMENT ON COLUMN audit_dead_letters.settled_at IS 'When somebody replayed or discarded it; null while it waits.';
COMMENT ON COLUMN audit_dead_letters.settlement IS 'What became of it.';

-- Where the rows of a session begin whose older ones are elsewhere: in a partition that was detached.
CREATE TABLE audit_anchors (
    session_id  text   NOT NULL COLLATE "C",
    position    bigint NOT NULL,
    incarnation bigint NOT NULL,
    version     bigint NOT NULL,
    chain_hash  bytea  NOT NULL,
    CONSTRAINT audit_anchors_key PRIMARY KEY (session_id)
);
COMMENT ON TABLE audit_anchors IS 'The last row of each session that is elsewhere: what is left begins behind it.';
COMMENT ON COLUMN audit_anchors.session_id IS 'The session.';
COMMENT ON COLUMN audit_anchors.position IS 'The row''s place in the hash chain.';
COMMENT ON COLUMN audit_anchors.incarnation IS 'The row''s incarnation.';
COMMENT ON COLUMN audit_anchors.version IS 'The row''s version.';
COMMENT ON COLUMN audit_anchors.chain_hash IS 'The row''s hash.';

-- Who set what is recorded aside, and when: partitions that were detached, and whether rows may be missed for it.
CREATE TABLE audit_detached (
    partition   text        NOT NULL,
    starts_at   timestamptz NOT NULL,
    ends_at     timestamptz NOT NULL,
    detached_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT audit_detached_key PRIMARY KEY (partition)
);
COMMENT ON TABLE audit_detached IS 'Partitions of sync_events that were detached; they are tables of their own, to be archived or dropped.';
COMMENT ON COLUMN audit_detached.partition IS 'The table''s name.';
COMMENT ON COLUMN audit_detached.starts_at IS 'Its first moment.';
COMMENT ON COLUMN audit_detached.ends_at IS 'Its end, exclusive.';
COMMENT ON COLUMN audit_detached.detached_at IS 'When it was detached.';

CREATE FUNCTION sync_events_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'sync_events is append-only: % refused', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;
-- Each statement on the whole; each row of a statement on one partition, which the trigger of the whole does not see.
CREATE TRIGGER sync_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON sync_events
    FOR EACH STATEMENT EXECUTE FUNCTION sync_events_refuse_change();
CREATE TRIGGER sync_events_append_only_rows BEFORE UPDATE OR DELETE ON sync_events
    FOR EACH ROW EXECUTE FUNCTION sync_events_refuse_change();

-- The latest rows follow the events in the same statement, whoever inserts these: so the worker needs no right to change
-- a row. A session's row never goes back to an older version, in whatever order batches arrive. Within a batch, the rows
-- of a session are in the order of their versions (see batch.py).
CREATE FUNCTION sync_events_keep_latest() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
    has_failed boolean := false;
    sessions integer;
    newer integer;
BEGIN
    LOOP
        BEGIN
            WITH latest AS MATERIALIZED (
                -- Asked for in this way, it is looked up for each of them and never read as a whole.
                SELECT last.*, coalesce(
                    (SELECT true FROM sync_sessions AS stored WHERE stored.session_id = last.session_id), false
                ) AS is_known
                FROM (
                    SELECT DISTINCT ON (session_id)
                        session_id, incarnation, version, kind, occurred_at, state_snapshot, position, chain_hash
                    FROM inserted
                    ORDER BY session_id, position DESC
                ) AS last
            ), of_session AS MATERIALIZED (
                SELECT is_known, session_id, incarnation, version, state_snapshot ->> 'sync_mode' AS sync_mode,
                    state_snapshot ->> 'status' AS status, (state_snapshot ->> 'created_at')::timestamptz AS created_at,
                    occurred_at AS updated_at, CASE WHEN kind IN ('delete', 'expire') THEN occurred_at END AS deleted_at,
                    state_snapshot, position AS chain_length, chain_hash
                FROM latest
            ), of_participant AS MATERIALIZED (
                SELECT latest.is_known, latest.session_id, participant.participant_id, latest.incarnation, latest.version,
                    participant.participant_index, participant.total_time_ms, participant.time_used_ms,
                    participant.time_remaining_ms, participant.cycle_count, participant.is_active,
                    participant.has_expired, participant.group_id
                FROM latest
                CROSS JOIN LATERAL jsonb_to_recordset(latest.state_snapshot -> 'participants') AS participant (
                    participant_id text, participant_index bigint, total_time_ms bigint, time_used_ms bigint,
                    time_remaining_ms bigint, cycle_count bigint, is_active boolean, has_expired boolean, group_id text
                )
            -- Rows that are new cost a quarter less if none is looked for that they might conflict with.
            ), made AS (
                INSERT INTO sync_sessions
                    (session_id, incarnation, version, sync_mode, status, created_at, updated_at, deleted_at,
                     state_snapshot, chain_length, chain_hash)
                SELECT session_id, incarnation, version, sync_mode, status, created_at, updated_at, deleted_at,
                    state_snapshot, chain_length, chain_hash
                FROM of_session WHERE NOT is_known
            ), participants_made AS (
                INSERT INTO sync_participants
                    (session_id, participant_id, incarnation, version, participant_index, total_time_ms, time_used_ms,
                     time_remaining_ms, cycle_count, is_active, has_expired, group_id)
                SELECT session_id, participant_id, incarnation, version, participant_index, total_time_ms, time_used_ms,
                    time_remaining_ms, cycle_count, is_active, has_expired, group_id
                FROM of_participant WHERE NOT is_known
            ), changed AS (
                INSERT INTO sync_sessions AS stored
                    (session_id, incarnation, version, sync_mode, status, created_at, updated_at, deleted_at,
                     state_snapshot, chain_length, chain_hash)
                SELECT session_id, incarnation, version, sync_mode, status, created_at, updated_at, deleted_at,
                    state_snapshot, chain_length, chain_hash
                FROM of_session WHERE is_known
                ON CONFLICT (session_id) DO UPDATE SET
                    incarnation = excluded.incarnation,
                    version = excluded.version,
                    sync_mode = excluded.sync_mode,
                    status = excluded.status,
                    created_at = excluded.created_at,
                    updated_at = excluded.updated_at,
                    deleted_at = excluded.deleted_at,
                    state_snapshot = excluded.state_snapshot,
                    chain_length = excluded.chain_length,
                    chain_hash = excluded.chain_hash
                WHERE (excluded.incarnation, excluded.version) > (stored.incarnation, stored.version)
                RETURNING 1
            ), participants_changed AS (
                INSERT INTO sync_participants AS stored
                    (session_id, participant_id, incarnation, version, participant_index, total_time_ms, time_used_ms,
                     time_remaining_ms, cycle_count, is_active, has_expired, group_id)
                SELECT session_id, participant_id, incarnation, version, participant_index, total_time_ms, time_used_ms,
                    time_remaining_ms, cycle_count, is_active, has_expired, group_id
                FROM of_participant WHERE is_known
                ON CONFLICT (session_id, participant_id) DO UPDATE SET
                    incarnation = excluded.incarnation,
                    version = excluded.version,
                    participant_index = excluded.participant_index,
                    total_time_ms = excluded.total_time_ms,
                    time_used_ms = excluded.time_used_ms,
                    time_remaining_ms = excluded.time_remaining_ms,
                    cycle_count = excluded.cycle_count,
                    is_active = excluded.is_active,
                    has_expired = excluded.has_expired,
                    group_id = excluded.group_id
                WHERE (excluded.incarnation, excluded.version) > (stored.incarnation, stored.version)
            )
            SELECT (SELECT count(*) FROM latest WHERE is_known), (SELECT count(*) FROM changed) INTO sessions, newer;
            EXIT;
        EXCEPTION WHEN unique_violation THEN
            -- Somebody who does not hold the lane's lock has just recorded one of them: now it is known.
            IF has_failed THEN
                RAISE;
            END IF;
            has_failed := true;
        END;
    END LOOP;

    -- Recorded behind newer versions: the chain is longer, and the session is as it was.
    IF newer < sessions THEN
        UPDATE sync_sessions AS stored SET chain_length = last.position, chain_hash = last.chain_hash
        FROM (
            SELECT DISTINCT ON (session_id) session_id, position, chain_hash FROM inserted
            ORDER BY session_id, position DESC
        ) AS last
        WHERE stored.session_id = last.session_id AND stored.chain_length < last.position;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER sync_events_keep_latest AFTER INSERT ON sync_events REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION sync_events_keep_latest();

-- Makes the months' partitions that are missing between two moments; returns how many.
CREATE FUNCTION sync_make_partitions(since timestamptz, until timestamptz) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET timezone = 'UTC' AS $$
DECLARE
    made integer := 0;
    month timestamptz;
    name text;
    suffix integer;
BEGIN
    IF NOT (since >= '1970-01-01' AND until < '2256-01-01') THEN
        RAISE EXCEPTION 'no store has the time % or %', since, until USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Two that find the same month missing.
    PERFORM pg_advisory_xact_lock('sync_events'::regclass::oid::bigint);
    IF until - since > interval '3 years' THEN
        RAISE EXCEPTION 'partitions for more than three years at once' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR month IN SELECT generate_series(date_trunc('month', since), until, interval '1 month') LOOP
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
            WHERE inhparent = 'sync_events'::regclass
                AND relname ~ ('^sync_events_' || to_char(month, 'YYYY_MM') || '(_\d+)?$')
        );
        -- One that was detached keeps its name.
        name := 'sync_events_' || to_char(month, 'YYYY_MM');
        suffix := 1;
        WHILE to_regclass(format('%I', name)) IS NOT NULL LOOP
            suffix := suffix + 1;
            name := format('sync_events_%s_%s', to_char(month, 'YYYY_MM'), suffix);
        END LOOP;
        EXECUTE format('CREATE TABLE %I PARTITION OF sync_events FOR VALUES FROM (%L) TO (%L)',
            name, month, month + interval '1 month');
        EXECUTE format('CREATE TRIGGER sync_events_append_only BEFORE TRUNCATE ON %I'
            ' FOR EACH STATEMENT EXECUTE FUNCTION sync_events_refuse_change()', name);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;
-- A partition can be made by whoever writes events, and by nobody else.
REVOKE ALL ON FUNCTION sync_make_partitions(timestamptz, timestamptz) FROM PUBLIC;

-- Takes the partitions out that end by a moment, which lies before this month; returns their names. They stay, as tables of their own, to be
-- archived or dropped. What they hold of each session's chain is kept as an anchor, so that the rest can be verified.
CREATE FUNCTION sync_detach_partitions(before timestamptz) RETURNS SETOF text
    LANGUAGE plpgsql SET search_path FROM CURRENT SET timezone = 'UTC' AS $$
DECLARE
    name text;
    month timestamptz;
BEGIN
    IF before > date_trunc('month', now()) THEN
        RAISE EXCEPTION 'this month is still written to: % is later than its begin', before::date
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- What is recorded meanwhile would go out without being in an anchor.
    LOCK TABLE sync_events IN ACCESS EXCLUSIVE MODE;
    FOR name IN
        SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'sync_events'::regclass ORDER BY relname
    LOOP
        month := to_timestamp(substring(name FROM '^sync_events_(\d+_\d\d)'), 'YYYY_MM');
        CONTINUE WHEN month + interval '1 month' > before;
        -- The last row of the chain, and the latest version: of one that was recorded late, these are two rows.
        EXECUTE format('INSERT INTO audit_anchors AS kept (session_id, position, incarnation, version, chain_hash)'
            ' SELECT last.session_id, last.position, latest.incarnation, latest.version, last.chain_hash'
            ' FROM (SELECT DISTINCT ON (session_id) session_id, position, chain_hash FROM %1$I'
            ' ORDER BY session_id, position DESC) AS last'
            ' JOIN (SELECT DISTINCT ON (session_id) session_id, incarnation, version FROM %1$I'
            ' ORDER BY session_id, incarnation DESC, version DESC) AS latest ON latest.session_id = last.session_id'
            ' ON CONFLICT (session_id) DO UPDATE SET'
            ' position = greatest(excluded.position, kept.position),'
            ' chain_hash = CASE WHEN excluded.position > kept.position THEN excluded.chain_hash ELSE kept.chain_hash END,'
            ' incarnation = greatest(excluded.incarnation, kept.incarnation),'
            ' version = CASE WHEN (excluded.incarnation, excluded.version) > (kept.incarnation, kept.version)'
            ' THEN excluded.version ELSE kept.version END', name);
        EXECUTE format('ALTER TABLE sync_events DETACH PARTITION %I', name);
        INSERT INTO audit_detached (partition, starts_at, ends_at) VALUES (name, month, month + interval '1 month')
        ON CONFLICT (partition) DO UPDATE SET detached_at = excluded.detached_at;
        RETURN NEXT name;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION sync_detach_partitions(timestamptz) FROM PUBLIC;
