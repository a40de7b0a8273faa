-- One dead letter.
SELECT lane, entry_id, buried_at, sqlstate, reason, payload, settled_at, settlement
FROM audit_dead_letters WHERE lane = %s AND entry_id = %s COLLATE "C"
