-- A page of the dead letters that wait, of a range of lanes, behind one of them.
SELECT lane, entry_id, buried_at, sqlstate, reason, payload, settled_at, settlement
FROM audit_dead_letters
WHERE settled_at IS NULL AND lane BETWEEN %(first)s AND %(last)s AND (lane, entry_id) > (%(lane)s, %(entry_id)s COLLATE "C")
ORDER BY lane, entry_id
LIMIT %(limit)s
