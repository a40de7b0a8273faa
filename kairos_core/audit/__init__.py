"""The audit trail: from the outbox in Redis to rows in PostgreSQL, and what is done with these.

Recording. `outbox` reads what waits; `batch` makes it ready and plans what is to be recorded; `chain` is what rows are
chained by; `writer` records, over `postgres`; `drain` does it for a lane. `migrations` and `sql/` are the schema.

Running. `jobs` is RQ; `work` is what a worker does with a job; `pool` starts the workers and hands lanes out; `watch`
looks whether PostgreSQL is back; `outage` and `alerts` say what is wrong.

Reading. `reading` connects to read; `reader` is the history of a session, for services and notebooks; `status` is how
much waits; `dead_letters` lists, replays and discards what was refused; `recorded` is what a recovery asks.

Verifying. `verify` reads all, by `copied`, and `letters`; `trail` judges the rows of a session, `comparison` a session
in the store and in the trail, which `store` looks at; `findings` is what they find.
"""
