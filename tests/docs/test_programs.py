from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from kairos_core import RedisStateManager, SyncMode, SyncState
from kairos_core.audit.drain import drain_lane
from kairos_core.audit.outbox import Outbox
from kairos_core.commands import CREATE, RESOLVE
from kairos_core.layout import Layout
from kairos_core.settings import child_environment
from loadtests.environment import admin, as_worker
from loadtests.servers.proxy import Proxy
from loadtests.states import sample_state
from tests.at_hand import PROGRAM
from tests.docs.markdown import ROOT, Block, block, blocks, program
from tests.docs.registry import as_they_stand, missing_test, programs, run_by_a_test
from tests.docs.shell import environment

if TYPE_CHECKING:
    from kairos_core import AuditWriter, Settings


LIBRARY = "docs/library.md"
Run = Callable[["Settings", str], str]


@pytest.fixture
def run_here(kairos: Path, tmp_path: Path) -> Run:
    """Runs a program as it stands, in a process of its own, with settings in the environment; gives what it printed."""
    file = tmp_path / "program.py"

    def run(settings: Settings, text: str) -> str:
        file.write_text(text, encoding="utf-8")
        done = subprocess.run(
            [str(kairos), PROGRAM, str(file)],
            env=environment(tmp_path / "home", **settings.to_env()),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_each_program_is_run_by_a_test() -> None:
    """Each entry of `programs.toml` names one program and a test that takes it; all others are run as they stand."""
    assert {} == {str(block): found for block in blocks("python") if len(found := run_by_a_test(block)) > 1}
    assert [] == [said for one in programs() if (said := missing_test(one.test, one.word))]
    for one in programs():
        assert block(one.word, file=one.file)


@pytest.mark.parametrize("written", as_they_stand(), ids=str)
def test_a_program_runs_as_it_stands(written: Block, ground: Settings, run_here: Run) -> None:
    """What is pasted from the documents works, on servers that the environment names."""
    run_here(ground, written.text)


def test_the_programs_run_as_written(settings: Settings, tmp_path: Path, run_here: Run) -> None:
    """The two programs of the library work as they stand: one writes, the other hears each write in another process."""
    heard = tmp_path / "heard"
    client = admin(settings)
    channel = Layout(settings.namespace, settings.lanes).lane_channels[0]
    with heard.open("w", encoding="utf-8") as out:
        watcher = subprocess.Popen(
            [sys.executable, "-c", program("watch_sessions", file=LIBRARY)], env=child_environment(settings), stdout=out
        )
        try:
            deadline = time.monotonic() + 30
            while client.pubsub_numsub(channel) != [(channel.encode(), 1)] and time.monotonic() < deadline:
                time.sleep(0.02)
            written = run_here(settings, program("mutate_session", file=LIBRARY))
            while heard.read_text(encoding="utf-8").count("\n") < 5 and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            watcher.terminate()
            watcher.wait()
    lines = written.splitlines()
    assert re.match(r"session table-12: expected version 2 of .*, stored is version 3 of ", lines[0])
    assert ["4 {'turns': 1}", "5 {'turns': 2}"] == lines[1:]
    versions = [line.split()[:3] for line in heard.read_text(encoding="utf-8").splitlines()]
    assert [["table-12", "1", "created"], *(["table-12", f"{n}", "updated"] for n in (2, 3, 4, 5))] == versions


def test_the_program_under_asyncio_runs_as_written(settings: Settings, run_here: Run) -> None:
    """The library's asyncio program works as it stands, also where its session exists already."""
    for first in ("1 created", "2 deleted", "2 deleted"):
        lines = run_here(settings, program("AsyncRedisStateManager", file=LIBRARY)).splitlines()
        assert ["1 created", "2 topic.set"] == lines[-2:]
        assert first.split()[1] == lines[0].split()[1]


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_the_program_that_resolves_runs_as_written(settings: Settings, lost: str, run_here: Run) -> None:
    """G5, G6: the library's way out of OutcomeUnknown ends with one session, whichever way was lost."""
    text = program("OutcomeUnknown", file=LIBRARY)
    assert run_here(settings, text).startswith("SyncState(session_id='table-13'")
    names: dict[str, Any] = {}
    exec(text.partition("\nwith ")[0], names)  # noqa: S102 - likewise
    with Proxy(settings.redis_url) as proxy:
        through = msgspec.structs.replace(settings, redis_url=proxy.url, timeout_s=1.0)
        with RedisStateManager.connect(through) as manager:
            _lose_until_it_is_resolved(proxy, lost)
            state = names["create_for_certain"](manager, SyncState.new("a", SyncMode.GLOBAL))
            assert (1, state) == (state.version, manager.get_session("a"))
    with admin(settings) as client:
        entries = client.xlen(Layout(settings.namespace, settings.lanes).keys_of("a").outbox)
    assert 1 == entries


def _lose_until_it_is_resolved(proxy: Proxy, lost: str) -> None:
    """Lose each creation, or each answer to one, until a manager asks what became of it."""
    in_write, resolved = threading.Event(), threading.Event()

    def on_request(data: bytes) -> bytes | None:
        if RESOLVE.sha.encode() in data:
            resolved.set()
        (in_write.set if CREATE.sha.encode() in data and not resolved.is_set() else in_write.clear)()
        return None if in_write.is_set() and lost == "request" else data

    def on_reply(data: bytes) -> bytes | None:
        return None if in_write.is_set() else data

    proxy.on_request, proxy.on_reply = on_request, on_reply


def is_excerpt(found: Block) -> bool:
    """Whether a block is out of the midst of a file, which a test of `programs.toml` holds it to."""
    return found.text.startswith(" ") and bool(run_by_a_test(found))


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """What mypy --strict says, by file, of all programs and of one with a mistyped name.

    At once: reading the core and what it needs takes it two seconds.
    """
    folder = tmp_path_factory.mktemp("typed")
    whole = [one for one in blocks("python") if not is_excerpt(one)]
    programs = {f"{Path(one.file).stem}_{one.line}": one.text for one in whole}
    assert len(programs) == len(whole)
    programs["mistyped"] = "from kairos_core import RedisStateManager, RedisStateManger\n"
    for name, text in programs.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-pretty", f"--cache-dir={folder / 'cache'}"]
    files = [str(folder / f"{name}.py") for name in programs]
    finished = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (1, "") == (finished.returncode, finished.stderr), finished.stdout
    assert f"checked {len(programs)} source files" in finished.stdout
    found = re.findall(r"^([^:\n]+):\d+: error: (.*)$", finished.stdout, re.MULTILINE)
    assert found
    return [(Path(file).name, said) for file, said in found]


def test_the_programs_are_typed(typed: list[tuple[str, str]]) -> None:
    """The programs pass mypy --strict, so what is pasted from them does."""
    assert [] == [found for found in typed if found[0] != "mistyped.py"]


def test_a_name_that_is_not_there_is_told_by_the_type_checker(typed: list[tuple[str, str]]) -> None:
    """A mistyped import from the core does not pass mypy."""
    (said,) = [said for file, said in typed if file == "mistyped.py"]
    assert 'has no attribute "RedisStateManger"' in said


def test_the_program_that_reads_the_audit_runs_as_written(
    settings: Settings, manager: RedisStateManager, writer: AuditWriter, run_here: Run
) -> None:
    """The program that reads a history works as it stands."""
    manager.create_session(sample_state("table-12"))
    manager.mutate_session("table-12", lambda state: state.replace(metadata={"turns": 1}))
    outbox = Outbox.connect(as_worker(settings))
    for lane in range(settings.lanes):
        drain_lane(outbox, writer, lane)
    outbox.close()
    read = run_here(settings, program("AuditReader")).splitlines()
    assert ["1 create created", "2 update updated"] == [line[:16] for line in read]


def test_the_program_that_reads_samples_runs_as_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What is said of the samples of a run reads them."""
    rng = np.random.default_rng(1)
    samples: dict[str, Any] = {"get_session/kairos": rng.integers(50_000, 90_000, 100)}
    np.savez(tmp_path / "run-01.npz", **samples)
    text = program("np.load")
    assert "reports/runs/FOLDER/latency" in text
    exec(text.replace("reports/runs/FOLDER/latency", str(tmp_path)), {})  # noqa: S102 - this repository's own
    assert re.fullmatch(r"\['get_session/kairos'\]\n[\d.]+ µs\n", capsys.readouterr().out)
