-- What is known of some sessions beside their events.
COPY (
    SELECT session_id, stored.incarnation, stored.version, stored.sync_mode, stored.status,
        stored.created_at, stored.updated_at, stored.deleted_at, stored.chain_length, encode(stored.chain_hash, 'hex'),
        stored.state_snapshot, kept.position, kept.incarnation, kept.version, encode(kept.chain_hash, 'hex')
    FROM (SELECT * FROM sync_sessions WHERE session_id = ANY(%(ids)s COLLATE "C")) AS stored
    FULL JOIN (SELECT * FROM audit_anchors WHERE session_id = ANY(%(ids)s COLLATE "C")) AS kept USING (session_id)
    ORDER BY session_id
) TO STDOUT
