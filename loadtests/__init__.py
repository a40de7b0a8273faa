"""Load, checks and the processes that act as instances; imports the core, and nothing imports it but reports and tests."""
