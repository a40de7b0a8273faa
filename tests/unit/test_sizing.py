"""`python -m reports.sizing`: what it multiplies, and that the documents show what it says."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from kairos_core import Settings
from loadtests.sizes import Measured, Sizes
from reports import sizing

ROOT = Path(__file__).resolve().parents[2]
ONE = Sizes(
    state_bytes=1_000,
    session_bytes=2_000,
    receipt_bytes=100,
    outbox_bytes=1_500,
    request_bytes=1_200,
    reply_bytes=50,
    watcher_bytes=1_100,
    log_bytes=3_000,
    server_us=100,
    client_us=50,
    event_bytes=1_400,
    event_index_bytes=100,
    wal_bytes=4_000,
    latest_bytes=2_500,
    drain_per_s=10_000,
)


def test_a_load_is_multiplied() -> None:
    """Each figure of a plan is what its sentence says, in its unit."""
    found = sizing.plan(
        ONE, sessions=1_000, writes_per_s=100, watchers=3, memory_bytes=1e7, receipt_ttl_s=60, entries=6_000
    )
    assert found == sizing.Plan(
        sessions_bytes=2e6,
        receipts_bytes=100 * 60 * 100,
        outbox_bytes_per_s=150_000,
        limit_s=60,
        memory_s=(8e6 - 2.6e6) / 150_000,
        memory_for_limit_bytes=(2.6e6 + 6_000 * 1_500) / 0.8,
        in_bytes_per_s=120_000,
        out_bytes_per_s=100 * (50 + 3 * 1_100),
        log_bytes_per_s=300_000,
        store_cores=0.01,
        service_cores=0.005,
        events_bytes_per_day=100 * 86_400 * 1_500,
        wal_bytes_per_s=400_000,
        latest_bytes=2.5e6,
        drain_share=0.01,
    )


def test_a_memory_that_is_full_already_stands_no_outage() -> None:
    """Where sessions alone take more than there is, the time until memory is full is none, and not less."""
    found = sizing.plan(ONE, sessions=10**6, writes_per_s=1, watchers=0, memory_bytes=1e6, receipt_ttl_s=60, entries=1)
    assert found.memory_s == 0


def test_other_sizes_lie_on_the_line_through_both() -> None:
    """States of a size between the two that were measured take what lies between; a row's time does, not the rate."""
    large = msgspec.structs.replace(ONE, state_bytes=3_000, session_bytes=6_000, drain_per_s=2_500)
    measured = Measured(small=ONE, large=large, writes=1, servers="", machine="")
    assert ONE == sizing.at(measured, 1_000)
    found = sizing.at(measured, 2_000)
    assert (2_000, 4_000, 4_000) == (found.state_bytes, found.session_bytes, round(found.drain_per_s))
    steep = Measured(small=msgspec.structs.replace(ONE, session_bytes=0), large=large, writes=1, servers="", machine="")
    assert sizing.at(steep, 100).session_bytes == 0


def test_the_stored_figures_fit_what_is_stored() -> None:
    """What is in the repository is of real states: each figure is larger for the larger state that it carries."""
    measured = msgspec.json.decode(sizing.STORED.read_bytes(), type=Measured)
    small, large = measured.small, measured.large
    carried = large.state_bytes - small.state_bytes
    for name in ("session_bytes", "outbox_bytes", "request_bytes", "watcher_bytes", "event_bytes", "latest_bytes"):
        assert 0.9 * carried < getattr(large, name) - getattr(small, name) < 1.5 * carried
    # A write is in the log twice: as the session's state, and as the record.
    assert 1.9 * carried < large.log_bytes - small.log_bytes < 2.1 * carried
    assert small.outbox_bytes > small.state_bytes
    assert small.receipt_bytes == pytest.approx(large.receipt_bytes, rel=0.1)


@pytest.mark.parametrize("words", ["--writes-per-s 0", "--sessions many", "--memory-gb -1", "--watchers inf"])
def test_what_is_no_number_is_refused(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A load of nothing, or of what is no number, ends with status 2 and one line."""
    monkeypatch.setattr("sys.argv", ["sizing", *words.split()])
    with pytest.raises(SystemExit) as ended:
        sizing.main()
    said = capsys.readouterr().err
    assert (2, 1) == (ended.value.code, said.count("\n"))
    assert "a number above 0 is needed" in said


def test_what_the_documents_say_is_what_is_computed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/operations/sizing.md shows, to the digit, what its commands print, and names each figure of a table."""
    for name in ("KAIROS_LANES", "KAIROS_OUTBOX_LIMIT", "KAIROS_RECEIPT_TTL_S"):
        monkeypatch.delenv(name, raising=False)
    text = (ROOT / "docs" / "operations" / "sizing.md").read_text(encoding="utf-8")
    shown = re.findall(r"\$ python -m reports\.sizing(.*)\n((?:.*\n)*?)```", text)
    assert len(shown) == 2
    for words, output in shown:
        monkeypatch.setattr("sys.argv", ["sizing", *words.split()])
        assert 0 == sizing.main()
        said = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]
        assert said == [line for line in output.splitlines() if line.strip()]
    settings = Settings()
    assert f"{settings.outbox_limit * settings.lanes:,} entries" in text
