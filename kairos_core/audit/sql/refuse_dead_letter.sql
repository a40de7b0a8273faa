-- A dead letter that was refused again: it waits, with the latest reason.
UPDATE audit_dead_letters SET sqlstate = %s, reason = %s
WHERE lane = %s AND entry_id = %s COLLATE "C" AND settled_at IS NULL
