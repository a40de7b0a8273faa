"""The audit trail: from the outbox in Redis to rows in PostgreSQL."""
