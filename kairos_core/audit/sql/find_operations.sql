-- Which of these operations are recorded, as what. A write is not sent again after a day, so it is looked for among those
-- of a day before the first of them and after the last.
SELECT operation_id, session_id, incarnation, version, occurred_at
FROM sync_events
WHERE operation_id = ANY(%s::uuid[])
    AND occurred_at BETWEEN %s::timestamptz - interval '1 day' AND %s::timestamptz + interval '1 day'
