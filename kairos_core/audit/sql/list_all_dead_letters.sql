-- As list_dead_letters.sql, with those that are settled.
SELECT lane, entry_id, buried_at, sqlstate, reason, payload, settled_at, settlement
FROM audit_dead_letters
WHERE lane BETWEEN %(first)s AND %(last)s AND (lane, entry_id) > (%(lane)s, %(entry_id)s COLLATE "C")
ORDER BY lane, entry_id
LIMIT %(limit)s
