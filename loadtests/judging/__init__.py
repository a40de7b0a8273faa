"""The parts of the checker: each decides some of its rules, all over one table of records (see `checker.py`)."""
