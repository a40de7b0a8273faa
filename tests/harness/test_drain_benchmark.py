from __future__ import annotations

import importlib
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kairos_core import AuditWriter

if TYPE_CHECKING:
    from kairos_core import Settings
    from kairos_core.audit.batch import Batch

ROWS = 40


@pytest.fixture
def benchmark_module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark of the drain, of fewer rows."""
    module = importlib.import_module("tests.benchmarks.test_drain")
    monkeypatch.setattr(module, "ROWS", ROWS)
    monkeypatch.setattr(module, "LIVE", ROWS // 2)
    return module


@pytest.fixture
def settings(settings: Settings, servers: Settings) -> Settings:
    """With the account that benchmarks have."""
    return msgspec.structs.replace(settings, redis_url=servers.redis_url)


def test_a_drain_and_its_copy(benchmark_module: Any, settings: Settings) -> None:
    """What both do is what they say: all rows are in their tables, of new sessions and of live ones."""
    for subject in (benchmark_module.Drain(settings), benchmark_module.DrainOfLive(settings, "live")):
        with closing(subject) as drain, closing(benchmark_module.BareCopy(drain)) as copy:
            for one in (drain, copy, drain):
                one.finish(one.prepare()())


def test_a_drain_that_records_nothing_is_no_result(
    benchmark_module: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that only empties the outbox would be the fastest of all."""
    with closing(benchmark_module.Drain(settings)) as drain:
        monkeypatch.setattr(AuditWriter, "record", lambda *_: 0)
        with pytest.raises(AssertionError):
            drain.finish(drain.prepare()())


def test_a_drain_that_buries_is_no_result(
    benchmark_module: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that becomes a dead letter is moved and not recorded."""
    record = AuditWriter.record

    def bury_one(self: AuditWriter, lane: int, batch: Batch, *reached: Any) -> int:
        self._bury(lane, batch.ready.pop().entry, None, "a test")
        return record(self, lane, batch, *reached)

    with closing(benchmark_module.Drain(settings)) as drain:
        monkeypatch.setattr(AuditWriter, "record", bury_one)
        with pytest.raises(AssertionError):
            drain.finish(drain.prepare()())


def test_a_copy_that_leaves_a_table_out_is_no_result(
    benchmark_module: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare COPY of the events alone would be no comparison."""
    with closing(benchmark_module.Drain(settings)) as drain, closing(benchmark_module.BareCopy(drain)) as copy:
        copy.prepare()
        monkeypatch.setattr(copy, "_rows", {"sync_events": copy._rows["sync_events"]})
        copied = copy._copy()
        monkeypatch.undo()
        monkeypatch.setattr(benchmark_module, "ROWS", ROWS)
        with pytest.raises(AssertionError):
            copy.finish(copied)
