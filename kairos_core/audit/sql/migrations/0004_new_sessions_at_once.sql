-- Sessions that are recorded for the first time are inserted as such, which costs less than looking for a row to change.
-- The latest rows follow the events in the same statement, whoever inserts these: so the worker needs no right to change
-- a row. A session's row never goes back to an older version, in whatever order batches arrive. Within a batch, the rows
-- of a session are in the order of their versions (see batch.py).
CREATE OR REPLACE FUNCTION sync_events_keep_latest() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
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
