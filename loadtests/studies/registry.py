"""The studies by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtests.studies.awake import AWAKE_STUDY
from loadtests.studies.cluster import CLUSTER
from loadtests.studies.contention import CONTENTION
from loadtests.studies.durability import DURABILITY
from loadtests.studies.instances import INSTANCES
from loadtests.studies.instead import INSTEAD
from loadtests.studies.lanes import LANES
from loadtests.studies.live_sessions import LIVE_SESSIONS
from loadtests.studies.state_size import STATE_SIZE
from loadtests.studies.tls import TLS
from loadtests.studies.watchers import WATCHERS

if TYPE_CHECKING:
    from loadtests.studies.study import Study

STUDIES: dict[str, Study] = {
    "awake": AWAKE_STUDY,
    "cluster": CLUSTER,
    "contention": CONTENTION,
    "durability": DURABILITY,
    "instances": INSTANCES,
    "instead": INSTEAD,
    "lanes": LANES,
    "live_sessions": LIVE_SESSIONS,
    "state_size": STATE_SIZE,
    "tls": TLS,
    "watchers": WATCHERS,
}
