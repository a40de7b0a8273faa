-- What is known of all sessions beside their events: meant to read both tables whole.
COPY (
    SELECT session_id, stored.incarnation, stored.version, stored.sync_mode, stored.status,
        stored.created_at, stored.updated_at, stored.deleted_at, stored.chain_length, encode(stored.chain_hash, 'hex'),
        stored.state_snapshot, kept.position, kept.incarnation, kept.version, encode(kept.chain_hash, 'hex')
    FROM sync_sessions AS stored
    FULL JOIN audit_anchors AS kept USING (session_id)
    ORDER BY session_id
) TO STDOUT
