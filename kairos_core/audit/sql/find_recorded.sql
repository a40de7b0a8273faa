-- What is recorded of these sessions last. Recorded behind it there may be older versions, replayed; but where that is one
-- of an older life, it may be that the clock was put back, and that the life with the lower number is the later one.
SELECT latest.session_id, latest.incarnation, latest.version, latest.updated_at, latest.deleted_at IS NOT NULL,
    latest.state_snapshot::text,
    CASE WHEN recorded.position < latest.chain_length THEN EXISTS (
        SELECT FROM sync_events AS later
        WHERE later.session_id = latest.session_id AND later.incarnation < latest.incarnation
            AND later.position > recorded.position
    ) ELSE false END
FROM sync_sessions AS latest
LEFT JOIN sync_events AS recorded ON recorded.session_id = latest.session_id
    AND recorded.incarnation = latest.incarnation AND recorded.version = latest.version
    AND recorded.occurred_at = latest.updated_at
WHERE latest.session_id = ANY(%s)
