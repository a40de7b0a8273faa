from __future__ import annotations

import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from kairos_core import RedisStateManager
from loadtests import ROOT, profiling
from loadtests.environment import as_administrator
from loadtests.flames import Frame, flame_graph

if TYPE_CHECKING:
    from pathlib import Path

    from kairos_core import Settings

CALLED = {
    "get": "get_session",
    "update": "update_session",
    "mutate": "mutate_session",
    "delivery": "receive",
    "drain": "drain_lane",
}


def names(frame: Frame) -> set[str]:
    """The functions of a tree."""
    return {frame.name.split()[0]}.union(*map(names, frame.children.values()))


# Each of the operations, in one colour or the other.
@pytest.mark.parametrize(
    ("operation", "is_async"),
    [("get", False), ("update", True), ("mutate", False), ("delivery", True), ("drain", False)],
)
def test_a_profile_shows_where_the_time_goes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, operation: str, is_async: bool
) -> None:
    """The operation is in the picture with what it calls, and the shares are those of the whole time."""
    monkeypatch.setattr(profiling, "_ROWS", 100)
    found = profiling.profile(as_administrator(settings), operation, 0.3, is_async=is_async)
    assert 1.0 == pytest.approx(sum(found.split.values()), abs=0.02)
    assert {profiling.WAITING, profiling.KERNEL, profiling.OURS, profiling.HIREDIS, profiling.MSGSPEC} < set(
        found.split
    )
    assert found.split[profiling.OURS] > 0
    assert found.calls > 0
    assert CALLED[operation] in names(found.root)
    shares = [share for _, share in found.top]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 1.0001
    file = profiling.written(found, tmp_path)
    text = file.read_text(encoding="utf-8")
    assert f"{operation}{'-async' if is_async else ''}.svg" == file.name
    assert CALLED[operation] in text
    # It loads nothing and runs nothing.
    ET.fromstring(text)  # noqa: S314 - our own
    assert ["http://www.w3.org/2000/svg"] == re.findall(r"\w+://[^\"]*", text)
    assert "<script" not in text
    # What is said of it stays, too.
    assert f"{profiling.described(found)}\n" == file.with_suffix(".txt").read_text(encoding="utf-8")


def test_an_interrupted_profile_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Ctrl-C ends it with status 130 and one line, not with where it happened to be."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(profiling, "profile", interrupted)
    monkeypatch.setattr(profiling, "unwind_on_termination", lambda: None)
    monkeypatch.setattr("sys.argv", ["profiling", "--operation", "get", "--folder", str(tmp_path)])
    assert 130 == profiling.main()
    assert 1 == capsys.readouterr().err.count("\n")


def test_what_was_made_slow_is_found(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that takes most of the time stands above all others that work."""
    real = RedisStateManager.get_session

    def burn(until: float) -> None:
        while time.perf_counter() < until:
            pass

    def slow(self: RedisStateManager, session_id: str) -> Any:
        burn(time.perf_counter() + 0.005)
        return real(self, session_id)

    monkeypatch.setattr(RedisStateManager, "get_session", slow)
    found = profiling.profile(settings, "get", 0.6)
    shares = {name.split()[0]: share for name, share in found.top}
    burnt = shares.pop("burn") + shares.pop("perf_counter", 0.0)
    # On a machine that is busy, anything may take long, and a system call most of all: it gives others the processor.
    assert burnt > max(share for name, share in shares.items() if name not in profiling._SYSTEM_CALLS)
    assert found.call_us > 5_000


@pytest.mark.parametrize(
    ("name", "file", "caller", "kind"),
    [
        ("socket.recv", "<built-in>", profiling.OURS, profiling.SYSTEM),
        ("Reader.gets", "<built-in>", profiling.OURS, profiling.HIREDIS),
        ("Decoder.decode", "<built-in>", profiling.OURS, profiling.MSGSPEC),
        ("dict.get", "<built-in>", profiling.OURS, profiling.OURS),
        ("dict.get", "<built-in>", profiling.LIBRARIES, profiling.LIBRARIES),
        ("call", "/x/kairos_core/link.py", profiling.HARNESS, profiling.OURS),
        ("update", "/x/loadtests/profiling.py", profiling.HARNESS, profiling.HARNESS),
        ("run_forever", "/x/asyncio/base_events.py", profiling.HARNESS, profiling.LIBRARIES),
    ],
)
def test_what_a_function_counts_as(name: str, file: str, caller: str, kind: str) -> None:
    """A function counts as what it belongs to; a compiled one that is not known as what called it."""
    assert kind == profiling._kind(name, file, caller)


def test_the_picture_is_to_scale() -> None:
    """A frame is as wide as its share of the time, what it called stands on it, and names are written as they are."""
    root = Frame("all", "a")
    root.add([("<lambda> & co", "a"), ("inner", "b")], 3.0)
    root.add([("other", "b")], 1.0)
    assert 3 == root.depth()
    assert 1 == root.depth(3.5)
    picture = ET.fromstring(flame_graph(root, "title", {"a": "#111", "b": "#222"}))  # noqa: S314 - our own
    space = "{http://www.w3.org/2000/svg}"
    drawn = {}
    for group in picture.iter(f"{space}g"):
        title, rectangle = group.find(f"{space}title"), group.find(f"{space}rect")
        assert title is not None
        assert rectangle is not None
        drawn[(title.text or "").partition(":")[0]] = rectangle.attrib
    assert {"all", "<lambda> & co", "inner", "other"} == set(drawn)
    width = {name: float(found["width"]) for name, found in drawn.items()}
    assert width["all"] == pytest.approx(4 * width["other"], abs=0.1)
    assert width["<lambda> & co"] == pytest.approx(3 * width["other"], abs=0.1)
    tops = [float(drawn[name]["y"]) for name in ("inner", "<lambda> & co", "all")]
    assert tops == sorted(tops)
    first = drawn["<lambda> & co"]
    assert first["x"] == drawn["inner"]["x"] == drawn["all"]["x"]
    # The other begins where it ends.
    assert float(drawn["other"]["x"]) == pytest.approx(float(first["x"]) + float(first["width"]), abs=0.1)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "0.01"])
def test_too_short_to_see_anything_is_refused(seconds: str) -> None:
    """A time in which nothing can be seen is a mistake in the command, told before anything is started."""
    command = [sys.executable, "-m", "loadtests.profiling", f"--seconds={seconds}"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert 2 == finished.returncode
    assert "0.1 or more are needed" in finished.stderr
