-- Says what became of a dead letter, which stays; one that is settled is left as it is.
UPDATE audit_dead_letters SET settled_at = clock_timestamp(), settlement = %s
WHERE lane = %s AND entry_id = %s COLLATE "C" AND settled_at IS NULL
