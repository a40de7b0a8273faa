INSERT INTO audit_dead_letters (lane, entry_id, sqlstate, reason, payload) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (lane, entry_id) DO NOTHING
