from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec

from kairos_core.settings import child_environment
from loadtests.environment import admin

if TYPE_CHECKING:
    from kairos_core import Settings

# Calls in a loop while a timer's signal handler raises at random moments; then says what it saw, as JSON.
INTERRUPTED = """
import json, random, signal, sys, time
from kairos_core import KairosError, RedisStateManager, Settings
from loadtests.states import sample_state

class Interruption(Exception):
    pass

armed = False

def handler(*_):
    if armed:
        raise Interruption

def arm(on):
    global armed
    armed = on

signal.signal(signal.SIGALRM, handler)
manager = RedisStateManager.connect(Settings.from_env())
names = [f"s{number}" for number in range(5)]
for name in names:
    manager.create_session(sample_state(name))
seen = {"rounds": 0, "interrupted": 0, "wrong": 0, "errors": []}
end = time.monotonic() + 3
sys.unraisablehook = lambda *_: None
while time.monotonic() < end:
    seen["rounds"] += 1
    name = random.choice(names)
    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 3e-4))
    try:
        arm(True)
        state = manager.get_session(name)
        if random.random() < 0.5:
            state = manager.update_session(state)
        arm(False)
        seen["wrong"] += state.session_id != name
    except Interruption:
        seen["interrupted"] += 1
        if random.random() < 0.2:
            manager._operations.link.close()
    except KairosError as error:
        if type(error).__name__ != "VersionConflict":
            seen["errors"].append(repr(error))
    finally:
        arm(False)
        signal.setitimer(signal.ITIMER_REAL, 0)
seen["wrong"] += sum(manager.get_session(name).session_id != name for name in names)
print(json.dumps(seen))
"""


def test_interrupted_calls_leave_nothing_behind(settings: Settings) -> None:
    """G5: exceptions from signal handlers at any moment, also while connecting, mix no replies up and leak nothing."""
    # Another database, so that a connection whose handshake was not finished would be in the wrong one.
    elsewhere = msgspec.structs.replace(settings, redis_url=settings.redis_url.removesuffix("/0") + "/3")
    client, ours = admin(settings), admin(elsewhere)
    before = len(client.client_list())
    finished = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        # Not where coverage is measured: an exception at any moment would break what measures it.
        env={name: value for name, value in child_environment(elsewhere).items() if not name.startswith("COVERAGE")},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert 0 == finished.returncode, finished.stderr[-2000:]
    seen = msgspec.json.decode(finished.stdout)
    assert (0, []) == (seen["wrong"], seen["errors"][:3])
    assert seen["interrupted"] > 100
    assert [] == list(client.scan_iter(match=f"{settings.namespace}:*"))
    assert list(ours.scan_iter(match=f"{settings.namespace}:*"))
    assert len(client.client_list()) <= before + 2
    keys = list(ours.scan_iter(match=f"{settings.namespace}:*"))
    ours.unlink(*keys)
