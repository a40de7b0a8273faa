"""The command `kairos` itself: how it looks on a terminal and on a pipe, what it needs, what it hands on."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from kairos_core import acl
from kairos_core.cli import main, terminal
from kairos_core.cli.acl import Part, Role
from kairos_core.cli.described import COMMANDS
from kairos_core.cli.program import root, tree
from kairos_core.cli.worker import Style
from kairos_core.layout import Layout
from kairos_core.logs import STYLES
from kairos_core.settings import Settings, child_environment
from loadtests.environment import as_worker
from loadtests.states import sample_state
from loadtests.waiting import wait_for
from tests.docs.parsers import refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from kairos_core import RedisStateManager

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0
Capture = pytest.CaptureFixture[str]


@contextmanager
def on_a_terminal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Iterator[list[str]]:
    """Both outputs are a real terminal, 80 columns wide; what it was shown is there at the end."""
    controller, device = pty.openpty()
    shown: list[str] = []
    read: list[bytes] = []

    def reading() -> None:
        # Reading fails once nobody has the terminal open any more.
        try:
            while piece := os.read(controller, 65536):
                read.append(piece)
        except OSError:
            pass

    reader = threading.Thread(target=reading)
    with monkeypatch.context() as changed, os.fdopen(device, "w", encoding="utf-8") as screen:
        for name in ("NO_COLOR", "FORCE_COLOR"):
            changed.delenv(name, raising=False)
        for name, value in {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", **variables}.items():
            changed.setenv(name, value)
        changed.setattr(sys, "stdout", screen)
        changed.setattr(sys, "stderr", screen)
        reader.start()
        yield shown
    reader.join()
    os.close(controller)
    shown.append(b"".join(read).decode())


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of the test are those of this process."""
    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)
    return settings


def worked(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """What a terminal is shown of a help, of a healthy store and of a long piece of work."""
    with on_a_terminal(monkeypatch, **variables) as shown:
        assert 0 == main(["worker", "--help"])
        assert 0 == main(["health"])
        with terminal.Progress("things") as progress:
            progress("things", 1_234)
    return shown[0]


@pytest.mark.usefixtures("environment")
def test_a_terminal_gets_colours_and_others_do_not(
    manager: RedisStateManager, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """A terminal gets colours and a line of progress; with NO_COLOR, TERM=dumb or on a pipe there is not one escape."""
    manager.create_session(sample_state("a"))
    shown = worked(monkeypatch)
    assert "1,234 things, " in shown
    assert "\x1b[1;32mhealthy" in shown
    assert "╭─ Options ─" in re.sub(r"\x1b\[[0-9;]*m", "", shown)
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        plain = worked(monkeypatch, **variables)
        assert "healthy\r\n" in plain
        assert "\x1b" not in plain
        assert "things" not in plain
    assert [0, 0] == [main(["worker", "--help"]), main(["health"])]
    said = capsys.readouterr()
    assert "" == said.err
    assert "\x1b" not in said.out


def test_a_line_on_a_pipe_is_never_wrapped(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program reads line by line comes in whole lines, however narrow the terminal beside it is."""
    monkeypatch.setenv("COLUMNS", "40")
    assert 0 == main(["acl", "core"])
    assert 1 == capsys.readouterr().out.count("\n")


def test_what_an_encoding_has_not_is_escaped() -> None:
    """What a narrow encoding cannot write is no traceback, and JSON with it is read as it was meant."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii")
    terminal.say_all(stream, None)
    print(json.dumps("é😀", ensure_ascii=False), file=stream, flush=True)
    assert rb'"\u00e9\ud83d\ude00"' == raw.getvalue().strip()
    assert "é😀" == json.loads(raw.getvalue())


@pytest.mark.parametrize("words", ["", *(words for words, _ in tree(root()) if words in COMMANDS)])
def test_help_says_what_is_needed(words: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command's help fits 80 columns and has its settings, its exit statuses and examples, which can be called."""
    monkeypatch.setenv("COLUMNS", "80")
    assert 0 == main([*words.split(), "--help"])
    text = capsys.readouterr().out
    assert [] == [line for line in text.splitlines() if len(line) > 80]
    assert text.startswith(f"Usage: kairos {words}".strip())
    if not words:
        return
    told = COMMANDS[words]
    for part in (*told.reads, "Exit status:", *(f"  {number}   " for number in told.statuses), "Examples:"):
        assert part in text
    assert told.examples
    for call, _ in told.examples:
        assert f"  {call}\n" in text
        assert refused(call.partition(" >")[0]) is None, call


def test_without_a_command_the_first_steps_are_shown(capsys: Capture) -> None:
    """`kairos` alone shows its help, and in which order a newcomer uses the commands."""
    assert 0 == main([])
    alone = capsys.readouterr().out
    assert 0 == main(["--help"])
    assert capsys.readouterr().out == alone
    steps = re.findall(r"^ +\d\. (kairos [a-z ]+[a-z])", alone, re.MULTILINE)
    assert ["kairos up", "kairos migrate", "kairos worker", "kairos health", "kairos watch", "kairos audit verify"] == [
        step.partition("  ")[0] for step in steps
    ]
    assert 0 == main(["--version"])
    assert re.fullmatch(r"kairos \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_choices_are_those_that_there_are() -> None:
    """What help and completion offer for roles, parts and styles is what the core knows."""
    assert acl.ROLES == get_args(Role)
    assert acl.PARTS == tuple(part.value for part in Part)
    assert STYLES == get_args(Style)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For each shell there is a script, also put where the shell finds it; it asks with the words, and gets more."""
    assert 0 == main(["--show-completion", shell])
    script = capsys.readouterr().out
    assert f"_KAIROS_COMPLETE=complete_{shell}" in script
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=script, text=True, check=True, timeout=DEADLINE_S)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert 0 == main(["--install-completion", shell])
    said = capsys.readouterr().out
    assert Path(said.partition(" is in ")[2].partition(": ")[0]).is_file()
    monkeypatch.setenv("_KAIROS_COMPLETE", f"complete_{shell}")
    for words, found in (("kairos au", "audit"), ("kairos acl w", "worker"), ("kairos audit dead show 1", "11")):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", words)
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
        with pytest.raises(SystemExit) as ended:
            main([])
        assert 0 == ended.value.code
        assert found in capsys.readouterr().out


# Without the packages of the extra: the command says what it needs, and a member of a pool works.
_BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("typer", "rich"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from kairos_core.cli import main
print(main(["health"]), flush=True)
from kairos_core.audit import member
sys.exit(member.main(["--log", "json", "worker"]))
"""


def test_the_core_alone_runs_a_pool(settings: Settings, client: redis.Redis) -> None:
    """Without typer and rich, `kairos` says in one line what to install, and a pool's members work all the same."""
    everyone = f"{os.environ['RQ_KEY_PREFIX']}:workers"
    before = client.smembers(everyone)
    with subprocess.Popen(
        [sys.executable, "-c", _BLOCKED],
        env=child_environment(as_worker(settings)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert "2\n" == process.stdout.readline()
        assert "kairos: the command needs typer and rich: pip install 'kairos[cli]'\n" == process.stderr.readline()
        try:
            wait_for("a worker", lambda: client.smembers(everyone) - before, DEADLINE_S)
        finally:
            process.stdin.close()
        # By order, or by SIGTERM itself, where that came between its first words to the queue and its first job.
        assert process.wait(DEADLINE_S) in (0, -signal.SIGTERM)
        assert "" == process.stderr.read()


# A harness of the test's own, which says how it was called and waits to be told to end.
_HARNESS = """
import os, signal, sys, time
got = []
signal.signal(signal.SIGINT, lambda number, _: got.append(number))
print(*sys.argv[1:], flush=True)
if "list" in sys.argv:
    sys.exit(3)
while not got:
    time.sleep(0.01)
time.sleep(0.1)
# Alone in its group, it gets a terminal's signal once, and not twice.
print(len(got), os.getpgrp() == os.getpid(), flush=True)
sys.exit(130)
"""
_CALL = """
import json, sys
from pathlib import Path
from kairos_core.cli import harness, main
statuses = [main(["--help"])]
print(json.dumps([name for name in ("redis", "rq", "psycopg", "rich", "pydantic") if name in sys.modules]), flush=True)
harness._ROOT = Path(sys.argv[1])
statuses += [main(["report"]), main(["load", "--list"])]
print(json.dumps(statuses), flush=True)
sys.exit(main(["load", "spike", "--time", "-1", "--new-option", "a", "--quiet"]))
"""


def test_the_harness_is_called_as_it_was_asked(tmp_path: Path) -> None:
    """Options go on to the harness, also those that are not known here; signals, too, once; its status comes back.

    Where there is none it says so. And help imports none of the packages that take their time.
    """
    package = tmp_path / "loadtests"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "load.py").write_text(_HARNESS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KAIROS_")}
    with subprocess.Popen(
        [sys.executable, "-c", _CALL, str(tmp_path)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = iter(process.stdout.readline, "")
        try:
            assert [] == next(json.loads(line) for line in lines if line.startswith("["))
            assert "list\n" == next(lines)
            assert [0, 2, 3] == json.loads(next(lines))
            assert "run spike --end-with-stdin --time=-1 --quiet --new-option a\n" == next(lines)
            # As a terminal does, to all of a group.
            os.killpg(process.pid, signal.SIGINT)
            assert "1 True\n" == next(lines)
            assert 130 == process.wait(DEADLINE_S)
        finally:
            process.kill()
        assert f"kairos: harness: there is none beside {tmp_path / 'kairos_core'}: " in process.stderr.readline()


class Writer(threading.Thread):
    """Writes a session again and again, and once in between ends the connections of those who watch."""

    def __init__(self, manager: RedisStateManager, client: redis.Redis) -> None:
        super().__init__()
        self.manager, self.client, self.ended = manager, client, threading.Event()

    def run(self) -> None:
        """Until it is told to end."""
        number = 0
        while not self.ended.wait(0.01):
            self.manager.mutate_session("a", lambda state: state, event_type="turn")
            number += 1
            if number % 50 == 0:
                self.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")


@pytest.mark.usefixtures("environment")
def test_a_session_is_watched(
    manager: RedisStateManager, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """G8: `kairos watch` has a line for each write, or a JSON object; says when it lost the connection; ends with 0."""
    manager.create_session(sample_state("a"))
    writer = Writer(manager, client)
    writer.start()
    try:
        assert 0 == main(["watch", "a", "--count", "100"])
        lines = capsys.readouterr()
        assert 0 == main(["watch", "--all", "--json", "--count", "2"])
        objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        with on_a_terminal(monkeypatch) as shown:
            assert 0 == main(["watch", "a", "--count", "2"])
    finally:
        writer.ended.set()
        writer.join()
    first, *updates = lines.out.splitlines()
    assert "  a  v" in first
    assert "  as it is  " in first
    assert 100 == len(updates)
    # Whether writes were missed is for the moment to decide in which the connection was lost.
    assert "turn" in (events := {line.split("  ")[3] for line in updates})
    assert events <= {"turn", "resynchronised"}
    assert "kairos: the connection was lost, and made again\n" in lines.err
    assert ["a", "a"] == [one["session_id"] for one in objects]
    assert objects[0]["version"] < objects[1]["version"] == objects[1]["state"]["version"]
    assert "session a: quiet for 0 s; Ctrl-C ends" in shown[0]


@pytest.mark.usefixtures("environment")
def test_what_cannot_be_watched(
    settings: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """`kairos watch` needs an id that is one, or --all, a session that is one, and a store: else one line, and 2."""
    assert [2, 2, 2] == [main(["watch", *words]) for words in ([], ["a", "--all"], ["no id"])]
    key = Layout(settings.namespace, settings.lanes).keys_of("a").session
    client.hset(key, "n", "1")
    assert 2 == main(["watch", "a"])
    monkeypatch.setenv("KAIROS_REDIS_URL", "redis://:hunter2@127.0.0.1:1/0")
    assert 2 == main(["watch", "a"])
    said = capsys.readouterr()
    assert ["ID", "ID", "ID", key, "KAIROS_REDIS_URL"] == [line.split(": ")[1] for line in said.err.splitlines()]
    assert "hunter2" not in said.err
