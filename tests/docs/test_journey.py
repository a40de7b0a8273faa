from __future__ import annotations

import re
import subprocess
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING

import psycopg
import pytest

from loadtests.waiting import wait_for
from tests.docs.markdown import program
from tests.docs.shell import checkout, environment, words

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)
DEADLINE_S = 30.0
EXPORT = re.compile(r"^export (\w+)='(.*)'$", re.MULTILINE)


def started(
    command: str, variables: dict[str, str], here: Path, output: IO[str], stack: ExitStack
) -> subprocess.Popen[str]:
    """A command in a terminal of its own, which ends with the others, as by Ctrl-C in theirs."""
    process = subprocess.Popen(words(command), env=variables, cwd=here, stdout=output, text=True)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def test_three_terminals(tmp_path: Path) -> None:
    """From README to running servers, a worker, and a write that is in the trail, by what is written there alone."""
    here = checkout(tmp_path / "kairos")
    bare = environment(tmp_path / "home")
    with ExitStack() as stack:
        said = stack.enter_context((tmp_path / "up").open("w+", encoding="utf-8"))
        started(".venv/bin/kairos up", bare, here, said, stack)

        def exported() -> dict[str, str]:
            return dict(EXPORT.findall((tmp_path / "up").read_text(encoding="utf-8")))

        wait_for("the addresses", lambda: len(exported()) == 2, DEADLINE_S)
        variables = bare | exported()
        assert {"KAIROS_REDIS_URL", "KAIROS_POSTGRES_URL"} == exported().keys()
        started(".venv/bin/kairos worker --workers 1", variables, here, said, stack)
        subprocess.run([".venv/bin/python", "-c", program("mutate_session")], env=variables, cwd=here, check=True)
        with psycopg.connect(variables["KAIROS_POSTGRES_URL"], autocommit=True) as trail:
            wait_for("the trail", lambda: recorded(trail) == [1, 2, 3, 4, 5], DEADLINE_S)


def recorded(trail: psycopg.Connection[tuple[int]]) -> list[int]:
    """The versions in the trail."""
    try:
        return [version for (version,) in trail.execute("SELECT version FROM kairos.sync_events ORDER BY version")]
    except psycopg.errors.UndefinedTable:
        return []
