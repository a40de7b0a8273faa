-- How many dead letters of each lane wait.
SELECT lane, count(*) FROM audit_dead_letters WHERE settled_at IS NULL GROUP BY lane
