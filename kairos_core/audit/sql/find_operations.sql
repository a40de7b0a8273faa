-- Which of these operations are recorded, as what. A write is not sent again after a day, so it is looked for among those
-- of a day before and after.
SELECT asked.place, recorded.session_id, recorded.incarnation, recorded.version, recorded.occurred_at
FROM unnest(%s::uuid[], %s::timestamptz[]) WITH ORDINALITY AS asked (operation_id, occurred_at, place)
JOIN sync_events AS recorded ON recorded.operation_id = asked.operation_id
    AND recorded.occurred_at BETWEEN asked.occurred_at - interval '1 day' AND asked.occurred_at + interval '1 day'
