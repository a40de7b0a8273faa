from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from loadtests import checks
from loadtests.environment import as_worker
from loadtests.instances import Instance
from loadtests.servers.worker import worker_pool

if TYPE_CHECKING:
    from kairos_core import Settings

FOUR = (checks.created_is_read, checks.updated_is_seen, checks.update_is_delivered, checks.stale_is_refused)


@pytest.mark.parametrize("check", FOUR)
def test_it_holds_between_processes(check: checks.Check, settings: Settings) -> None:
    """G1, G2, G8: what one instance does, another sees, and a stale write is refused."""
    result = check(settings)
    assert result.passed, result.evidence


def test_no_increment_is_lost_and_all_are_recorded(settings: Settings) -> None:
    """G1, G7: 2,000 increments from four processes are 2,000, and 2,001 rows of the audit trail."""
    with worker_pool(as_worker(settings)):
        for check in (checks.nothing_is_lost, checks.everything_is_recorded):
            result = check(settings)
            assert result.passed, result.evidence


@pytest.mark.parametrize(
    ("check", "mutant"),
    [
        (checks.updated_is_seen, "local_cache"),
        (checks.updated_is_seen, "state_not_written"),
        (checks.update_is_delivered, "publish_dropped"),
        (checks.stale_is_refused, "version_not_compared"),
        (checks.nothing_is_lost, "version_not_compared"),
        (checks.nothing_is_lost, "check_then_set"),
        (checks.created_is_read, "namespace_of_its_own"),
    ],
)
def test_the_checks_can_fail(
    check: checks.Check, mutant: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each check is red on a core with one bug: a check that nothing turns red would have shown nothing."""
    monkeypatch.setattr(checks, "_DELIVERY_TIMEOUT_S", 0.5)
    result = check(settings, mutant)
    assert not result.passed, result.evidence


def test_the_audit_check_can_fail(settings: Settings) -> None:
    """The audit check is red on a core that writes without recording."""
    with worker_pool(as_worker(settings)):
        assert checks.nothing_is_lost(settings, "outbox_dropped").passed
        result = checks.everything_is_recorded(settings)
    assert not result.passed, result.evidence


def test_a_hung_instance_is_killed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance that does not answer ends the check instead of hanging it."""
    monkeypatch.setattr("loadtests.instances.ANSWER_TIMEOUT_S", 0.5)
    with Instance(settings) as instance, pytest.raises(RuntimeError, match="status -9"):
        instance.ask("increment", session_id="none", times=1, start_at=1e18)
