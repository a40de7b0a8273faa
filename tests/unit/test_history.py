"""Histories: files that outlive their process, sealed and read again, and told in words."""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from loadtests import history
from loadtests.history import NEVER, Error, HistoryError, Kind, Outcome, Recorder, Seen, describe, read, seal, token

if TYPE_CHECKING:
    from pathlib import Path

# Records until it is killed in the midst of it: the first is completed, the second has no end.
_RECORDING = """
import os, pathlib, signal, sys
from loadtests.history import Kind, Outcome, Recorder, Seen
recorder = Recorder(pathlib.Path(sys.argv[1]), 3)
for number in range(int(sys.argv[2])):
    place = recorder.begin(Kind.UPDATE, number, expected=(1, 1))
    recorder.end(place, Outcome.OK, 2**62, Seen((1, 2), recorder.next_token() - 1))
recorder.begin(Kind.DELETE, 9)
os.kill(os.getpid(), signal.SIGKILL)
"""


def recorded(path: Path, count: int = 3) -> Path:
    """A history of so many reads."""
    with Recorder(path, 7) as recorder:
        for session in range(count):
            place = recorder.begin(Kind.GET, session)
            recorder.end(place, Outcome.OK, 2**62, Seen((1, 4), 12, 99))
    return path


def test_a_killed_process_leaves_what_it_began(tmp_path: Path) -> None:
    """One that SIGKILL ends leaves its completed attempts, and the one that it had begun, which is pending."""
    path = tmp_path / "3.history"
    command = [sys.executable, "-c", _RECORDING, str(path), "20000"]
    assert -signal.SIGKILL == subprocess.run(command, check=False, timeout=50).returncode
    found = read(path)
    assert 20_001 == len(found)
    assert [Outcome.OK] * 20_000 + [Outcome.PENDING] == found["outcome"].tolist()
    assert token(3, 20_001) == found["token"][-1]
    assert NEVER == found["end_ns"][-1]
    assert 0 < found["start_ns"][-1]
    assert found.tobytes() == read(seal(path)).tobytes()


def test_it_grows(tmp_path: Path) -> None:
    """More attempts than the file had room for at first: none is lost, and the end is cut off."""
    count = history._GROWTH + 5
    path = recorded(tmp_path / "7.history", count)
    found = read(path)
    assert list(range(count)) == found["session"].tolist()
    assert history._HEADER.size + count * history.RECORD.itemsize == path.stat().st_size


def test_half_a_record_is_none(tmp_path: Path) -> None:
    """What was put down in part, or cut off, had not begun."""
    path = recorded(tmp_path / "7.history")
    with path.open("ab") as file:
        file.write(token(7, 4).to_bytes(8, "little") + bytes(history.RECORD.itemsize - 8) + b"x")
    assert 3 == len(read(path))


def test_what_is_recorded_is_read(tmp_path: Path) -> None:
    """Every field comes back as it was put down; of a refused write, the digest of what is stored instead."""
    with Recorder(tmp_path / "5.history", 5) as recorder:
        place = recorder.begin(Kind.MUTATE, 8, digest=77, planned_ns=5)
        recorder.derive(place, (4, 9))
        recorder.end(place, Outcome.REFUSED, 2**60, Seen((4, 11), 6, 78), Error.CONFLICT)
        place = recorder.begin(Kind.UPDATE, 8)
        recorder.end(place, Outcome.UNKNOWN, 2**60)
        recorder.saw(Kind.TOLD, 8, Seen((4, 12), 7, 79), 10, 20)
    mutation, update, told = read(tmp_path / "5.history")
    assert (token(5, 1), 6, 4, 9, 4, 11, 5) == tuple(mutation)[:7]
    assert (2**60, 8, 78, 5, Kind.MUTATE, Outcome.REFUSED, Error.CONFLICT) == tuple(mutation)[8:15]
    assert (NEVER, Outcome.UNKNOWN) == (update["end_ns"], update["outcome"])
    assert (7, 4, 12, 10, 20, 79) == tuple(
        told[name] for name in ("writer", "incarnation", "version", "start_ns", "end_ns", "digest")
    )


def test_a_file_is_not_overwritten(tmp_path: Path) -> None:
    """A process does not write over another's history."""
    path = recorded(tmp_path / "7.history")
    with pytest.raises(FileExistsError):
        Recorder(path, 7)


def test_sealed(tmp_path: Path) -> None:
    """A sealed history is smaller, reads the same, and the file that it was is gone."""
    path = recorded(tmp_path / "7.history", 500)
    size, before = path.stat().st_size, read(path)
    sealed = seal(path)
    assert "7.history.gz" == sealed.name
    assert [sealed] == list(tmp_path.iterdir())
    assert before.tobytes() == read(sealed).tobytes()
    assert size > 4 * sealed.stat().st_size


@pytest.mark.parametrize("name", ["a.history", "a.history.gz"])
def test_written_at_once(tmp_path: Path, name: str) -> None:
    """Records that come from elsewhere, as rows of the audit do, are a history, too."""
    records = read(recorded(tmp_path / "7.history"))
    history.write(tmp_path / name, records)
    assert records.tobytes() == read(tmp_path / name).tobytes()


@pytest.mark.parametrize("name", ["a.history", "a.history.gz"])
def test_another_format_is_refused(tmp_path: Path, name: str) -> None:
    """A format that this version does not know is named, not guessed at."""
    data = bytearray(recorded(tmp_path / "7.history").read_bytes())
    data[16] = 2
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    with pytest.raises(HistoryError, match=r"a\.history.*: a history of format 2, where this version reads format 1"):
        read(path)


@pytest.mark.parametrize("data", [b"", b"not a history, but longer than a header of one is"])
@pytest.mark.parametrize("name", ["a.history", "a.history.gz"])
def test_what_is_no_history_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    """Whatever it is, the file is named."""
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(HistoryError, match=r"a\.history.*: not a history"):
        read(path)


def test_cut_off_while_sealed(tmp_path: Path) -> None:
    """A compressed history whose end is missing is refused, rather than read in part."""
    path = seal(recorded(tmp_path / "7.history", 500))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(HistoryError, match="not a history"):
        read(path)


def test_joined(tmp_path: Path) -> None:
    """Histories of several processes are one; of none, an empty one."""
    one = read(recorded(tmp_path / "7.history"))
    assert 6 == len(history.join([one, one]))
    assert (0, history.RECORD) == (len(history.join([])), history.join([]).dtype)


def test_in_words() -> None:
    """A record reads as a sentence part, with times from the round's start."""
    record = np.zeros(1, history.RECORD)[0]
    fields = {
        "token": token(3, 5), "process": 3, "session": 7, "kind": Kind.UPDATE, "outcome": Outcome.REFUSED,
        "error": Error.NOT_FOUND, "expected_incarnation": 5, "expected_version": 2, "incarnation": 5, "version": 3,
        "writer": token(3, 12), "start_ns": 1_012_031_000, "end_ns": NEVER,
    }  # fmt: skip
    for name, value in fields.items():
        record[name] = value
    words = "p3 update of session 7, from (5, v2) to (5, v3) by 3.12, refused (not found), 0.012031 s to never"
    assert words == describe(record, 1_000_000_000)
    record["kind"], record["start_ns"] = Kind.RECORDED_REMOVED, 4
    assert describe(record).endswith("by 3.12, row 4")
