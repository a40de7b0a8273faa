-- The dead letters that are not recorded as events: meant to read the whole table.
SELECT lane, entry_id, settlement, reason, payload FROM audit_dead_letters WHERE settlement IS DISTINCT FROM 'replayed'
