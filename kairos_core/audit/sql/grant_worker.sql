-- What a role needs that drains: it records events and dead letters, makes the partitions that are missing, and reads.
-- It changes no row and makes no other object; the latest rows follow by a trigger that has its owner's rights.
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role};
GRANT INSERT ON {schema}.sync_events TO {role};
GRANT INSERT (lane, entry_id, sqlstate, reason, payload) ON {schema}.audit_dead_letters TO {role};
GRANT EXECUTE ON FUNCTION {schema}.sync_make_partitions(timestamptz, timestamptz) TO {role};
