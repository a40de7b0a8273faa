-- How far each of these sessions is recorded; asked under the lane's lock.
SELECT session_id, incarnation, version, chain_length, chain_hash FROM sync_sessions WHERE session_id = ANY(%s)
