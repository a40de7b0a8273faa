-- Holds the lane until the commit, so that whoever records the same one finds what this batch recorded; then tells the time.
WITH held AS MATERIALIZED (SELECT pg_advisory_xact_lock(%s, %s))
SELECT clock_timestamp() FROM held
