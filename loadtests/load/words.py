"""What the processes of a load test say to each other: names that more than one of them must know."""

from __future__ import annotations

from typing import Final

# Locust's custom messages: to an instance, and from it.
ORDERS: Final = "kairos_orders"
BEGIN: Final = "kairos_begin"
FINISH: Final = "kairos_finish"
SAID: Final = "kairos_said"
# In what a worker of Locust's reports to its master.
REPORT: Final = "kairos"
# The file in a run's folder that says when it began (`time.monotonic_ns`).
BEGUN: Final = "begun"
# In the environment of a Locust whose run somebody else finishes and judges.
RUNNER: Final = "KAIROS_LOAD_RUNNER"
# Likewise: the store, with an account that may look at the outboxes where the instances' own may not.
STORE_URL: Final = "KAIROS_LOAD_STORE_URL"
