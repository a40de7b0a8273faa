"""Load tests: many sessions that live like real ones, offered by a plan and not by who happens to be free."""
