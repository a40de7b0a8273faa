"""Drills of docs/operations: read out of the documents, and typed on servers that something has befallen.

A drill is a `console` or `sh` block behind `<!-- drill: name -->`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest.mock import patch

from kairos_core.cli import main
from loadtests.environment import as_recovery, as_worker, with_login
from tests.docs.markdown import ROOT, Block
from tests.docs.shell import Ran, commands_of, differs, environment, run, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kairos_core import Settings
    from loadtests.losses import Store
    from loadtests.servers.valkeys import Node

# Of commands whose account is not the worker's.
_ACCOUNTS: dict[str, Callable[[Settings], Settings]] = {"recover": as_recovery, "health": lambda found: found}
DOCUMENTS = ROOT / "docs" / "operations"
_DRILL = re.compile(r"<!-- drill: (.*?) -->\n```(\w+)\n(.*?)```", re.DOTALL)


def configuration() -> list[str]:
    """The lines of deploy/valkey.conf, without comments."""
    lines = (ROOT / "deploy" / "valkey.conf").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def drills() -> dict[str, Block]:
    """All drills by their names."""
    found = {}
    for path in [DOCUMENTS.with_suffix(".md"), *sorted(DOCUMENTS.glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        for match in _DRILL.finditer(text):
            name = path.relative_to(ROOT).as_posix()
            # Of the fence, which is the line behind the mark.
            line = text[: match.start()].count("\n") + 2
            assert match[1] not in found, f"there are two drills {match[1]!r}"
            found[match[1]] = Block(name, line, match[2], match[3])
    return found


class Ground:
    """What is drilled on.

    Attributes:
        store: a store with its audit, and what befalls them.
        node: the store's server.
        folder: where commands are run.
        variables: their environment.
    """

    def __init__(self, store: Store, node: Node, folder: Path) -> None:
        self.store = store
        self.node = node
        self.folder = folder
        # redis-cli wants the name of the default user.
        admin = {"ADMIN_URL": with_login(node.url, f"default:{node.password}")}
        # The prefix of RQ's keys that this process was imported with.
        admin |= {"RQ_KEY_PREFIX": os.environ["RQ_KEY_PREFIX"]}
        self.variables = environment(folder / "home", None, **admin, **as_worker(store.settings).to_env())

    def play(self, drill: str, *statuses: int, **variables: str) -> list[str]:
        """Type a drill's commands one after another; what each said.

        Args:
            drill: its name.
            statuses: what its commands end with, where one does not with 0.
            variables: of the environment, besides.
        """
        written = commands_of(drills()[drill])
        wanted = statuses or (0,) * len(written)
        assert len(wanted) == len(written)
        found = []
        for one, status_ in zip(written, wanted, strict=True):
            ran = self.type(one.command, variables)
            assert None is (said := differs(one, ran, status_)), said
            found.append(ran.output)
        return found

    @contextmanager
    def running(self, command: str) -> Iterator[None]:
        """Run a command that runs until it is told to end."""
        with patch.dict(os.environ, self.variables), (self.folder / "running").open("a") as log:
            typed = [os.path.expandvars(word) for word in words(command)]
            process = subprocess.Popen(
                typed, env=self.variables, cwd=self.folder, stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        try:
            yield
        finally:
            process.terminate()
            process.communicate()

    def type(self, command: str, variables: dict[str, str]) -> Ran:
        """Run one command."""
        typed = words(command)
        if typed[0] != "kairos" or "|" in typed:
            return run([command], self.variables | variables, self.folder)[0]
        # Each command with the account that it is for.
        account = _ACCOUNTS.get(typed[1], as_worker)(self.store.settings).to_env()["KAIROS_REDIS_URL"]
        given = dict(re.findall(r"(KAIROS_\w+)=(\S+)", command)) | {"KAIROS_REDIS_URL": account}
        said = io.StringIO()
        with (
            patch.dict(os.environ, self.variables | variables | given, clear=True),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            ended = main(typed[1:])
        return Ran(ended, said.getvalue())
