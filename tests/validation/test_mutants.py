from __future__ import annotations

import itertools
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from loadtests import mutants
from loadtests.guarantees import GUARANTEES
from loadtests.mutants import MUTANTS
from loadtests.mutants.catch import CATCHERS, CAUGHT, FAILED, GREEN, RED, SURVIVED, catch, looked_at, status_of_mutants
from loadtests.mutants.rounds import Look

if TYPE_CHECKING:
    from kairos_core import Settings
    from loadtests.mutants.catch import Caught

# What a judge must be able to notice, and the mutant of it.
LIST = {
    "version not compared": "version_not_compared",
    "compared with a stale read": "stale_read_compared",
    "incarnation ignored": "incarnation_ignored",
    "version taken from the caller": "version_from_the_caller",
    "publish before write": "publish_before_write",
    "publish dropped": "publish_dropped",
    "outbox append dropped": "outbox_dropped",
    "outbox append doubled": "outbox_doubled",
    "outbox append before the check": "outbox_before_the_check",
    "receipt missing": "receipt_missing",
    "receipt never expiring": "receipt_never_expires",
    "TTL not set on update": "ttl_not_set_on_update",
    "TTL set on read": "ttl_set_on_read",
    "deadline not moved": "deadline_not_moved",
    "delete not recorded": "delete_not_recorded",
    "expiry not announced": "expiry_not_announced",
    "drain that deletes before commit": "delete_before_commit",
    "drain that swallows a refused row": "refused_row_swallowed",
    "session row that goes back": "session_row_goes_back",
    "random event id": "random_event_id",
    "watcher that does not resync": "watcher_does_not_resync",
    "watcher that accepts older versions": "watcher_accepts_older",
    "unknown reported as conflict": "unknown_reported_as_conflict",
    "retry without operation id": "retry_without_operation_id",
    "instance-local cache": "local_cache",
    "fsync not awaited": "fsync_not_awaited",
    "generator that skips late operations": "late_operations_skipped",
    "timer that rounds": "timer_rounds",
}
# One of each kind of check, of those that are quick.
SOME = (
    "incarnation_ignored",
    "outbox_doubled",
    "ttl_set_on_read",
    "watcher_accepts_older",
    "delete_before_commit",
    "version_not_compared",
    "timer_rounds",
)

_numbers = itertools.count(1)

# Run in a process of its own: breaks a fork of it in each way, and names those that do not fit.
FIT = """
import os
from loadtests import mutants
for name in mutants.MUTANTS:
    child = os.fork()
    if child == 0:
        try:
            mutants.apply(name)
        except BaseException as error:
            print(name, error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_every_mutant_still_fits() -> None:
    """What a mutant replaces is there: one that changes nothing would be a check that nobody has seen fail."""
    done = subprocess.run([sys.executable, "-c", FIT], capture_output=True, text=True, check=True, timeout=50)
    assert "" == done.stdout


def test_a_mutant_that_does_not_fit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that has changed is not broken in silence: not even where the piece is there twice."""
    from kairos_core import commands  # noqa: PLC0415 - whose script is put back

    text = commands.UPDATE.text
    for changed in (text.replace("call('XADD'", "call('xadd'"), text + "call('XADD', KEYS[3], '*', 'm', message)\n"):
        monkeypatch.setattr(commands, "UPDATE", commands.UPDATE._replace(text=changed))
        with pytest.raises(mutants.MisfitError, match=r"update\.lua"):
            mutants.apply("outbox_doubled")


def test_the_list_is_whole() -> None:
    """Every bug that a judge must notice has a mutant, and each has a check that there is."""
    assert set(LIST.values()) <= MUTANTS.keys()
    assert len(MUTANTS) >= 24
    assert {mutant.catcher for mutant in MUTANTS.values()} <= set(CATCHERS)
    assert {f"G{number}" for number in range(1, 15)} | {"harness"} == {mutant.guarantee for mutant in MUTANTS.values()}


def test_every_directed_check_has_a_mutant() -> None:
    """No check stands in the list that nothing is known to turn red."""
    assert set(GUARANTEES) <= {mutant.catcher for mutant in MUTANTS.values()}


@pytest.fixture
def own(servers: Settings) -> Settings:
    """Settings with an account that may do anything, and a namespace of this test's own."""
    return msgspec.structs.replace(servers, namespace=f"{servers.namespace}_m{next(_numbers)}")


def said(found: list[Caught]) -> str:
    """What was found, for whoever reads that a test failed."""
    return "\n".join(f"{one.line}\n    {one.evidence}" for one in found)


def test_some_are_caught(own: Settings) -> None:
    """Broken cores, and a broken harness, are noticed by the checks meant for them; the whole core is not."""
    found = catch(own, SOME)
    assert set(SOME) == {one.mutant for one in found if one.result == CAUGHT}, said(found)
    checks = {MUTANTS[name].catcher for name in SOME}
    assert checks == {one.check for one in found if one.result == GREEN}, said(found)
    assert 0 == status_of_mutants(found)


def test_a_survivor_is_told(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant that its check does not notice is one too many."""
    mutant = MUTANTS["outbox_doubled"]
    monkeypatch.setitem(MUTANTS, mutant.name, mutant._replace(catcher="one_round_trip"))
    found = catch(own, [mutant.name])
    assert [("", GREEN), (mutant.name, SURVIVED)] == [(one.mutant, one.result) for one in found], said(found)
    assert 1 == status_of_mutants(found)


def test_luck_is_given_three_times() -> None:
    """A mutant is looked at with other seeds until it is noticed, and a check that is red on the whole core is not."""
    seeds: list[int] = []

    def look(seed: int) -> Look:
        seeds.append(seed)
        return Look(seed == 2, seed != 2, "seen")

    caught = looked_at("local_cache", "history", look, 3)
    assert ([1, 2], CAUGHT, 2) == (seeds, caught.result, caught.attempts)
    assert SURVIVED == looked_at("local_cache", "history", lambda _: Look(False, True, ""), 3).result
    # Neither noticed nor clean: of a whole core, that is not good enough either.
    assert RED == looked_at(None, "history", lambda _: Look(False, False, "a doubt"), 1).result
    assert GREEN == looked_at(None, "history", lambda _: Look(False, True, ""), 1).result


def test_what_could_not_be_run_is_no_catch() -> None:
    """A mutant whose check fails to run is neither caught nor a survivor."""

    def fail(_: int) -> Look:
        raise OSError("no servers")

    found = looked_at("local_cache", "history", fail, 3)
    assert (FAILED, "OSError: no servers") == (found.result, found.evidence)
    assert 2 == status_of_mutants([found])
