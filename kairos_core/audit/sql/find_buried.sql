-- The beginnings of a lane's dead letters that were not replayed and are of these sessions, as text. That of a message is
-- {"i":"the session's id", and then kind, incarnation and version, whoever wrote it.
SELECT head, settlement IS NOT NULL
FROM (
    SELECT encode(substring(payload FROM 1 FOR 400), 'escape') AS head, settlement
    FROM audit_dead_letters
    WHERE lane = %s AND settlement IS DISTINCT FROM 'replayed'
) AS letters
WHERE substring(head FROM '^\{"i":"([A-Za-z0-9._:-]+)"') = ANY(%s)
