INSERT INTO sync_participants AS stored
    (session_id, participant_id, incarnation, version, participant_index, total_time_ms, time_used_ms,
     time_remaining_ms, cycle_count, is_active, has_expired, group_id)
SELECT latest.session_id, participant.participant_id, latest.incarnation, latest.version,
    participant.participant_index, participant.total_time_ms, participant.time_used_ms,
    participant.time_remaining_ms, participant.cycle_count, participant.is_active, participant.has_expired,
    participant.group_id
FROM (
    SELECT DISTINCT ON (session_id) session_id, incarnation, version, state_snapshot
    FROM batch
    ORDER BY session_id, incarnation DESC, version DESC
) AS latest
CROSS JOIN LATERAL jsonb_to_recordset(latest.state_snapshot -> 'participants') AS participant (
    participant_id text, participant_index bigint, total_time_ms bigint, time_used_ms bigint,
    time_remaining_ms bigint, cycle_count bigint, is_active boolean, has_expired boolean, group_id text
)
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
