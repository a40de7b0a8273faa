from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kairos_core.audit.drain import drain_lane
from kairos_core.audit.outbox import Outbox
from kairos_core.layout import Layout
from kairos_core.settings import child_environment
from loadtests.environment import admin, as_worker
from loadtests.states import sample_state

if TYPE_CHECKING:
    from kairos_core import AuditWriter, RedisStateManager, Settings

README = Path(__file__).parents[2] / "README.md"


def program(word: str) -> str:
    """The README's Python program that contains a word."""
    (found,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
        if word in block
    ]
    return str(found)


def test_the_programs_run_as_written(settings: Settings, tmp_path: Path) -> None:
    """The README's two programs work as they stand: one writes, the other hears each write in another process."""
    heard = tmp_path / "heard"
    environment = child_environment(settings)
    client = admin(settings)
    channel = Layout(settings.namespace, settings.lanes).lane_channels[0]
    with heard.open("w", encoding="utf-8") as out:
        watcher = subprocess.Popen([sys.executable, "-c", program("watch_sessions")], env=environment, stdout=out)
        try:
            deadline = time.monotonic() + 30
            while client.pubsub_numsub(channel) != [(channel.encode(), 1)] and time.monotonic() < deadline:
                time.sleep(0.02)
            written = subprocess.run(
                [sys.executable, "-c", program("mutate_session")],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            while heard.read_text(encoding="utf-8").count("\n") < 4 and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            watcher.terminate()
            watcher.wait()
    lines = written.stdout.splitlines()
    assert re.match(r"session table-12: expected version 2 of .*, stored is version 3 of ", lines[0])
    assert "4 {'turns': 1}" == lines[1]
    versions = [line.split()[:3] for line in heard.read_text(encoding="utf-8").splitlines()]
    assert [["table-12", "1", "created"], *(["table-12", f"{number}", "updated"] for number in (2, 3, 4))] == versions


def test_the_program_under_asyncio_runs_as_written(settings: Settings) -> None:
    """The README's asyncio program works as it stands, also where its session exists already."""
    for first in ("1 created", "2 deleted", "2 deleted"):
        finished = subprocess.run(
            [sys.executable, "-c", program("AsyncRedisStateManager")],
            env=child_environment(settings),
            capture_output=True,
            text=True,
            check=True,
        )
        lines = finished.stdout.splitlines()
        assert ["1 created", "2 topic.set"] == lines[-2:]
        assert first.split()[1] == lines[0].split()[1]


def test_the_program_that_reads_the_audit_runs_as_written(
    settings: Settings, manager: RedisStateManager, writer: AuditWriter
) -> None:
    """The README's program that reads a history works as it stands (its frame only where pandas is installed)."""
    manager.create_session(sample_state("table-12"))
    manager.mutate_session("table-12", lambda state: state.replace(metadata={"turns": 1}))
    outbox = Outbox.connect(as_worker(settings))
    for lane in range(settings.lanes):
        drain_lane(outbox, writer, lane)
    outbox.close()
    text = program("AuditReader")
    if importlib.util.find_spec("pandas") is None:
        text = re.sub(r"\n *frame = .*", "", text)
    finished = subprocess.run(
        [sys.executable, "-c", text], env=child_environment(settings), capture_output=True, text=True, check=True
    )
    assert ["1 create created", "2 update updated"] == [line[:16] for line in finished.stdout.splitlines()]
