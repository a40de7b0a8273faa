"""The load tests, for Locust: `locust -f loadtests/locustfile.py`. `make load` starts it with servers and a verdict.

Locust makes the standard library wait for greenlets when it is imported, so it comes first: psycopg, imported before,
would wait for the whole process.
"""

import locust  # noqa: F401 - see above

from loadtests.load.on_locust import Instance, OneInEach

__all__ = ["Instance", "OneInEach"]
