"""Load, checks and the processes that act as instances. It imports the core; reports and tests import it."""
