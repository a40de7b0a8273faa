-- Which of these versions are recorded, for which operation.
SELECT asked.place, recorded.operation_id
FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) WITH ORDINALITY AS asked (session_id, incarnation, version, place)
JOIN sync_events AS recorded ON recorded.session_id = asked.session_id COLLATE "C"
    AND recorded.incarnation = asked.incarnation AND recorded.version = asked.version
