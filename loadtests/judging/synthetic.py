"""Histories of any size that a correct store could have left behind, to measure the checker.

Rivals on a register, played through: each attempt takes effect at one moment within its interval. `spoiled` puts a
violation in. `python -m loadtests.judging.synthetic --measure 1000000 2000000` prints seconds and memory.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from loadtests.history import NEVER, RECORD, Error, Kind, Outcome, join, read, token, write
from loadtests.judging import checker
from loadtests.judging.checker import Facts
from loadtests.temporary import temporary_folder

if TYPE_CHECKING:
    from loadtests.history import History

# Played through in earnest up to here; a larger one is this many times the same, in other sessions and later.
_PLAYED = 250_000
_PROCESSES = 8
_AT_ONCE = 16
_A_SESSION = 400
READER = 100
WATCHERS = (200, 201)
_UNKNOWN = 0.003
_LATENCY_NS = 300_000
_TOLD_AFTER_NS = 150_000
_TOUCHED_AFTER_NS = 1_000
_KINDS = (Kind.GET, Kind.UPDATE, Kind.MUTATE, Kind.CREATE, Kind.DELETE, Kind.DELETE_IF, Kind.TOUCH)
_WEIGHTS = (0.40, 0.27, 0.05, 0.15, 0.04, 0.03, 0.06)


class _Attempt(NamedTuple):
    process: int
    session: int
    kind: Kind
    start: int
    at: int
    end: int
    is_open: bool


class _Play:
    """Attempts on registers, in the order in which they take effect."""

    def __init__(self, seed: int, ttl_ns: int | None, *, watched: bool, audited: bool) -> None:
        self._random = np.random.default_rng(seed)
        self._ttl_ns, self._watched, self._audited = ttl_ns, watched, audited
        self.rows: list[tuple[Any, ...]] = []
        self._count: dict[int, int] = {}
        # Of each session: incarnation, version, writer, digest, when it was refreshed.
        self._stored: dict[int, tuple[int, int, int, int, int]] = {}
        self._held: dict[tuple[int, int], tuple[int, int]] = {}
        self._incarnations: dict[int, int] = {}
        self._places: dict[int, int] = {}

    def plan(self, attempts: int, sessions: int) -> list[_Attempt]:
        """What the processes do, sorted by when it takes effect."""
        random = self._random
        each = -(-attempts // _PROCESSES)
        planned = []
        phases = max(sessions // _AT_ONCE, 1)
        for process in range(1, _PROCESSES + 1):
            took = random.exponential(_LATENCY_NS, each).astype(np.int64) + 50_000
            start = 1_000_003 + np.cumsum(np.append(0, took[:-1] + random.integers(1_000, 80_000, each - 1)))
            at = start + (took * random.random(each)).astype(np.int64)
            session = np.arange(each) * phases // each * _AT_ONCE + random.integers(0, _AT_ONCE, each)
            kind = random.choice(len(_KINDS), each, p=_WEIGHTS)
            is_open = random.random(each) < _UNKNOWN
            columns = (session + 1, kind, start, at, start + took, is_open)
            rows = zip(*(column.tolist() for column in columns), strict=True)
            planned += [_Attempt(process, s, _KINDS[k], b, a, e, u) for s, k, b, a, e, u in rows]
        planned.sort(key=lambda one: one.start)
        for one in planned:
            self._count[one.process] = self._count.get(one.process, 0) + 1
        planned.sort(key=lambda one: one.at)
        return planned

    def play(self, planned: list[_Attempt]) -> None:
        """Let them take effect."""
        self._count = {}
        by_process: dict[int, list[_Attempt]] = {}
        for one in planned:
            by_process.setdefault(one.process, []).append(one)
        for one in planned:
            self._expire(one.session, one.at)
            self._one(one, self._token(one.process))

    def read_all(self, sessions: int, at: int) -> None:
        """What is there in the end."""
        for session in range(1, sessions + 1):
            own = self._token(READER)
            start = at + session * 1_001
            stored = self._stored.get(session)
            n, v, writer, digest = stored[:4] if stored else (0, 0, 0, 0)
            self._put(own, READER, session, Kind.GET, start, start + 500, (n, v), writer=writer, digest=digest)

    def _token(self, process: int) -> int:
        self._count[process] = self._count.get(process, 0) + 1
        return token(process, self._count[process])

    def _put(  # noqa: PLR0913, PLR0917 - a record has that many fields
        self,
        own: int,
        process: int,
        session: int,
        kind: Kind,
        start: int,
        end: int,
        stamp: tuple[int, int] = (0, 0),
        *,
        expected: tuple[int, int] = (0, 0),
        writer: int = 0,
        digest: int = 0,
        outcome: Outcome = Outcome.OK,
        error: Error = Error.NONE,
    ) -> None:
        self.rows.append(
            (own, writer, *expected, *stamp, 0, start, end, session, digest, process, kind, outcome, error, b"")
        )

    def _expire(self, session: int, now: int) -> None:
        stored = self._stored.get(session)
        if stored is not None and self._ttl_ns is not None and stored[4] + self._ttl_ns < now:
            self._remove(session, 0, stored[4] + self._ttl_ns)

    def _one(self, one: _Attempt, own: int) -> None:
        stored = self._stored.get(one.session)
        expected = self._expected(one, stored)
        applies = not one.is_open or self._random.random() < 0.5
        new, error = self._effect(one, own, stored, expected) if applies else (None, Error.NONE)
        digest = own & 0xFFFFFFFF if one.kind in {Kind.CREATE, Kind.UPDATE, Kind.MUTATE} else 0
        end = NEVER if one.is_open else one.end
        put = partial(self._put, own, one.process, one.session, one.kind, one.start, end, expected=expected)
        if one.is_open:
            put(digest=digest, outcome=Outcome.UNKNOWN)
        elif error != Error.NONE:
            stamp = (stored[0], stored[1]) if stored else (0, 0)
            self._held[one.process, one.session] = stamp if stored else expected
            put(stamp, digest=digest, outcome=Outcome.REFUSED, error=error)
        elif new is None:
            put()
        else:
            self._held[one.process, one.session] = new[0], new[1]
            put((new[0], new[1]), writer=new[2], digest=new[3])

    def _expected(self, one: _Attempt, stored: tuple[int, int, int, int, int] | None) -> tuple[int, int]:
        """What an attempt is derived from."""
        current = (stored[0], stored[1]) if stored else None
        if one.kind == Kind.MUTATE:
            return current or (0, 0)
        if one.kind in {Kind.UPDATE, Kind.DELETE_IF}:
            # What the process read or wrote last; it may be old.
            return self._held.get((one.process, one.session), current or (1, 1))
        return 0, 0

    def _effect(  # noqa: PLR0911 - each kind of attempt has its answers
        self, one: _Attempt, own: int, stored: tuple[int, int, int, int, int] | None, expected: tuple[int, int]
    ) -> tuple[tuple[int, int, int, int, int] | None, Error]:
        """What an attempt does, and is answered."""
        kind, session = one.kind, one.session
        if kind == Kind.GET:
            return stored, Error.NONE
        if kind == Kind.CREATE:
            if stored is not None:
                return None, Error.EXISTS
            self._incarnations[session] = self._incarnations.get(session, 0) + 1
            return self._write(session, (self._incarnations[session], 1), own, one.at), Error.NONE
        if stored is None:
            return None, Error.NOT_FOUND
        if kind in {Kind.UPDATE, Kind.DELETE_IF} and (stored[0], stored[1]) != expected:
            return None, Error.CONFLICT
        if kind in {Kind.DELETE, Kind.DELETE_IF}:
            self._remove(session, own, one.at)
            return None, Error.NONE
        if kind == Kind.TOUCH:
            self._stored[session] = (*stored[:4], one.at)
            return None, Error.NONE
        return self._write(session, (stored[0], stored[1] + 1), own, one.at), Error.NONE

    def _write(self, session: int, stamp: tuple[int, int], own: int, now: int) -> tuple[int, int, int, int, int]:
        state = (*stamp, own, own & 0xFFFFFFFF, now)
        self._stored[session] = state
        self._tell(session, Kind.TOLD, Kind.RECORDED, state, now)
        return state

    def _remove(self, session: int, own: int, now: int) -> None:
        n, v, _, _, _ = self._stored.pop(session)
        self._tell(session, Kind.TOLD_REMOVED, Kind.RECORDED_REMOVED, (n, v + 1, own, 0, now), now)

    def _tell(self, session: int, told: Kind, recorded: Kind, event: tuple[int, int, int, int, int], now: int) -> None:
        n, v, own, digest, _ = event
        if self._watched:
            for watcher in WATCHERS:
                received = now + _TOLD_AFTER_NS + watcher
                self._put(
                    self._token(watcher), watcher, session, told, received, received, (n, v), writer=own, digest=digest
                )
        if self._audited:
            place = self._places[session] = self._places.get(session, 0) + 1
            self._put(self._token(0), 0, session, recorded, place, place, (n, v), writer=own, digest=digest)


def generate(  # noqa: PLR0913 - what a history may be like
    attempts: int,
    seed: int = 1,
    *,
    sessions: int | None = None,
    ttl_ms: int | None = None,
    watched: bool = True,
    audited: bool = True,
) -> tuple[History, Facts]:
    """A history of a correct store, and what is known of it.

    Args:
        attempts: how many the processes make; what mutations read, watchers are told and the audit holds comes on top.
        seed: of all that is random.
        sessions: how many; by default as many as attempts give enough to do.
        ttl_ms: after how long sessions end by themselves.
        watched: whether two watchers are told.
        audited: whether there is an audit.
    """
    times = -(-attempts // _PLAYED)
    played = -(-attempts // times)
    count = sessions or max(played // _A_SESSION // _AT_ONCE, 1) * _AT_ONCE
    play = _Play(seed, None if ttl_ms is None else ttl_ms * 1_000_000, watched=watched, audited=audited)
    planned = play.plan(played, count)
    play.play(planned)
    play.read_all(count, max(one.end for one in planned) + 1_000_000)
    history = np.array(play.rows, RECORD)
    if times > 1:
        history = _repeat(history, times, count)
    facts = Facts(
        session_ttl_ms=ttl_ms,
        ttl_slack_ms=0,
        planned={process: int((history["process"] == process).sum()) for process in range(1, _PROCESSES + 1)},
        watchers=WATCHERS if watched else (),
        has_audit=audited,
    )
    return history[np.argsort(history["token"], kind="stable")], facts


def _repeat(history: History, times: int, sessions: int) -> History:
    timed = history["kind"] < Kind.RECORDED
    span = int(history["end_ns"][timed & (history["end_ns"] != NEVER)].max()) + 10_000_000
    tokens = int((history["token"] & ((1 << 40) - 1)).max())
    parts = []
    for number in range(times):
        part = history.copy()
        part["session"] += number * sessions
        part["token"] += number * tokens
        part["writer"][part["writer"] != 0] += np.uint64(number * tokens)
        part["start_ns"][timed] += number * span
        part["end_ns"][timed & (part["end_ns"] != NEVER)] += number * span
        parts.append(part)
    return join(parts)


def store(history: History, facts: Facts, folder: Path) -> None:
    """Put a history into files, one for each process, as a round leaves them behind."""
    for process in np.unique(history["process"]).tolist():
        write(folder / f"{process}.history.gz", history[history["process"] == process], process)
    (folder / "facts.json").write_bytes(msgspec.json.encode(facts))


def judge(folder: Path) -> dict[str, Any]:
    """Read a stored history, judge it, and tell what that took."""
    facts = msgspec.json.decode((folder / "facts.json").read_bytes(), type=Facts)
    start = time.perf_counter()
    cpu = time.process_time()
    history = join(read(path) for path in sorted(folder.glob("*.history.gz")))
    after_reading = time.perf_counter()
    verdict = checker.check(history, facts)
    done = time.perf_counter()
    return {
        "status": verdict.status,
        "attempted": verdict.counts["attempted"],
        "records": len(history),
        "sessions": verdict.counts["sessions"],
        "searched": verdict.counts.get("sessions searched", 0),
        "read_s": round(after_reading - start, 3),
        "judged_s": round(done - start, 3),
        "cpu_s": round(time.process_time() - cpu, 3),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "reasons": list(verdict.reasons),
        "violations": [one.sentence for one in verdict.violations[:3]],
    }


def measure(sizes: list[int], **options: Any) -> list[dict[str, Any]]:
    """Judge histories of these sizes, each in a process of its own."""
    found = []
    for size in sizes:
        with temporary_folder("synthetic") as folder:
            history, facts = generate(size, **options)
            store(history, facts, folder)
            del history
            command = [sys.executable, "-m", "loadtests.judging.synthetic", "--judge", str(folder)]
            answer = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(json.loads(answer.stdout))
    return found


def main() -> int:
    """Measure, or judge one stored history."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", type=int, nargs="+", default=[1_000_000, 2_000_000, 4_000_000])
    parser.add_argument("--judge", type=Path)
    parser.add_argument("--ttl-ms", type=int)
    parser.add_argument("--unwatched", action="store_true", help="neither watchers nor an audit: removals are unknown")
    given = parser.parse_args()
    if given.judge:
        print(json.dumps(judge(given.judge)))
        return 0
    seen = not given.unwatched
    found = measure(given.measure, ttl_ms=given.ttl_ms, watched=seen, audited=seen)
    first = found[0]
    for one in found:
        ratio = one["records"] * math.log(one["records"]) / (first["records"] * math.log(first["records"]))
        growth = one["cpu_s"] / first["cpu_s"] / ratio
        print(
            f"{one['attempted']:,} attempts, {one['records']:,} records, {one['sessions']:,} sessions: "
            f"{one['status']} in {one['judged_s']:.2f} s ({one['read_s']:.2f} s of it reading; {one['cpu_s']:.2f} s of "
            f"processor time), {one['peak_mb']:,} MB at most, {growth:.2f} × n log n, {one['searched']} searched"
        )
        for line in [*one["reasons"], *one["violations"]]:
            print("  ", line)
    return int(any(one["status"] != "VALID" for one in found))


if __name__ == "__main__":
    sys.exit(main())
