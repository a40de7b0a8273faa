from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest

from loadtests.waiting import wait_for
from tests.docs.markdown import ROOT, block
from tests.docs.shell import Ran, checkout, commands_of, differs, environment, run, words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.docs.shell import Written

pytestmark = pytest.mark.timeout(120)
DEADLINE_S = 30.0
README = "README.md"
EXPORT = re.compile(r"^export (\w+)='(.*)'$", re.MULTILINE)
FIRST = "docs/examples/first_session.py"


def written(command: str, file: str = README) -> Written:
    """A command of a document, with what is printed below it."""
    found = block(f"$ {command}\n", kind="console", file=file)
    (one,) = [one for one in commands_of(found) if one.command == command]
    return one


class Terminal:
    """A command in a terminal of its own, until the end; what it says is in a file."""

    def __init__(self, command: str, variables: dict[str, str], here: Path, stack: ExitStack) -> None:
        self.written = written(command)
        self._said = here.with_name(f"{words(command)[1]}.said")
        out = stack.enter_context(self._said.open("w", encoding="utf-8"))
        process = subprocess.Popen(
            words(command), env=variables, cwd=here, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)

    def said(self) -> str:
        """What it has said so far."""
        return self._said.read_text(encoding="utf-8")

    def wait_until_it_says(self, text: str) -> None:
        """Wait for a text."""
        wait_for(f"{text!r} of {self.written}", lambda: text in self.said(), DEADLINE_S)

    def differs(self) -> str | None:
        """What it says that README does not print below it."""
        return differs(self.written, Ran(0, self.said()))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What ends with the test, in the order of terminals that are closed."""
    with ExitStack() as found:
        yield found


def test_four_terminals(tmp_path: Path, stack: ExitStack) -> None:
    """Whoever types what README says gets servers, a worker, a watch and a recorded session, as printed there."""
    here = checkout(tmp_path / "kairos")
    bare = environment(tmp_path / "home", here)
    up = Terminal(".venv/bin/kairos up", bare, here, stack)
    up.wait_until_it_says("# running")
    addresses = dict(EXPORT.findall(up.said()))
    assert {"KAIROS_REDIS_URL", "KAIROS_POSTGRES_URL"} == addresses.keys()
    variables = bare | addresses
    worker = Terminal(".venv/bin/kairos worker --workers 1", variables, here, stack)
    watch = Terminal(".venv/bin/kairos watch table-12", variables, here, stack)
    watch.wait_until_it_says("waiting")
    worker.wait_until_it_says("draining")
    first, verify = written(f".venv/bin/python {FIRST}"), written(".venv/bin/kairos audit verify")
    (ran,) = run([first.command], variables, here)
    watch.wait_until_it_says("v3")
    with psycopg.connect(addresses["KAIROS_POSTGRES_URL"], autocommit=True) as trail:
        wait_for("the trail", lambda: recorded(trail) == [1, 2, 3], DEADLINE_S)
    (verified,) = run([verify.command], variables, here)
    found = [up.differs(), worker.differs(), watch.differs(), differs(first, ran), differs(verify, verified)]
    found.append(differs(written("kairos worker --workers 2", "docs/commands.md"), Ran(0, worker.said())))
    if shutil.which("ps"):
        # Of the worker, among what else of Kairos this machine may run.
        look, _ = commands_of(block("ps -o pid,", kind="sh"))
        (seen,) = run([look.command], variables, here)
        assert re.search(r"kairos_core\.audit\.member .*worker", seen.output), seen
    assert [] == [said for said in found if said]


def recorded(trail: psycopg.Connection[tuple[int]]) -> list[int]:
    """The versions in the trail."""
    return [version for (version,) in trail.execute("SELECT version FROM kairos.sync_events ORDER BY version")]


def test_the_first_program_is_that_of_the_file() -> None:
    """README shows the program that it says to run."""
    assert (ROOT / FIRST).read_text(encoding="utf-8") == block("Two instances of a service", file=README).text
