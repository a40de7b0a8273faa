from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.docs.ground import record
from tests.docs.markdown import ROOT, Block, blocks, documents
from tests.docs.parsers import refused, refused_mention
from tests.docs.registry import commands, missing_by
from tests.docs.shell import KILLED, Ran, Written, checkout, commands_of, differs, environment, run

if TYPE_CHECKING:
    from pathlib import Path

    from kairos_core import Settings
    from tests.docs.registry import Command

WRITTEN = [one for block in blocks("console", "sh") for one in commands_of(block)]
# What the tests start may come late, on a busy machine.
pytestmark = pytest.mark.timeout(120)


class Done(NamedTuple):
    """A command that was run, and what was to be run in its place, if anything."""

    written: Written
    entry: Command | None
    ran: Ran


def entry_of(written: Written) -> Command | None:
    """What `commands.toml` says of a command; the first that fits counts."""
    return next((one for one in commands() if one.is_of(written.file, written.command)), None)


def runs_here(written: Written) -> bool:
    """Whether a command is run here: as it stands, or another in its place."""
    entry = entry_of(written)
    return entry is None or entry.by is None


@pytest.fixture(scope="module")
def done(store: Settings, kairos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Done]:
    """What became of all commands that are run here, those of a file in their order."""
    folder = tmp_path_factory.mktemp("documents")
    of_files: dict[str, list[Block]] = defaultdict(list)
    for block in blocks("console", "sh"):
        of_files[block.file].append(block)
    here = checkout(folder / "kairos", kairos)
    urls = {"KAIROS_REDIS_URL": store.redis_url, "KAIROS_POSTGRES_URL": store.postgres_url}
    variables = environment(folder / "home", here, **urls)

    found = []
    for of_a_file in of_files.values():
        # What the commands of one file left to be recorded is not in the way of the next.
        record(store)
        for block in of_a_file:
            found += run_block(block, variables, here)
    return found


def run_block(block: Block, variables: dict[str, str], here: Path) -> list[Done]:
    """Run what is to be run of a block, in one shell."""
    written = [one for one in commands_of(block) if runs_here(one)]
    entries = [entry_of(one) for one in written]
    lines = [(entry.instead if entry else None) or one.command for one, entry in zip(written, entries, strict=True)]
    ran = run(lines, variables, here) if lines else []
    return [Done(*one) for one in zip(written, entries, ran, strict=True)]


def test_commands_end_and_say_what_is_written(done: list[Done]) -> None:
    """Whoever types a command of the documents gets what they say: its exit status, and what is printed below it."""
    found = [differs(one.written, one.ran, one.entry.status if one.entry else 0) for one in done]
    assert "" == "\n".join(said for said in found if said)


def test_what_is_not_run_here_is_run_elsewhere() -> None:
    """Each entry of `commands.toml` is of a command that is written, and says what runs it: a test, or CI."""
    used = {one.command for written in WRITTEN if (one := entry_of(written)) is not None}
    assert [] == [one.command for one in commands() if one.command not in used]
    assert [] == [one.command for one in commands() if not (one.by or one.instead or one.status)]
    assert [] == [one.command for one in commands() if one.by and not one.why]
    assert [] == [said for one in commands() if one.by and (said := missing_by(one.by))]


def test_what_is_not_run_here_could_be() -> None:
    """The programs of this repository take the words and options of each command that is not run as it stands."""
    elsewhere = [one for one in WRITTEN if entry_of(one) is not None]
    assert elsewhere
    assert [] == [(str(one), said) for one in elsewhere if (said := refused(one.command))]


def test_commands_that_are_named_are_there() -> None:
    """A command of `kairos`, a target of `make` and a module that a text names are there, with these options."""
    found = [(one.file, line, text) for one in documents().values() for line, text in one.spans]
    assert [] == [(*one, said) for one in found if (said := refused_mention(one[2]))]


def test_all_targets_are_told() -> None:
    """Each target of the Makefile is in the table of commands, and none besides."""
    table = (ROOT / "docs" / "measuring.md").read_text(encoding="utf-8").partition("## The commands")[2]
    told = re.findall(r"^\| `make (\w+)`", table.partition("\n## ")[0], re.MULTILINE)
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(set(targets) - {"help"}) == sorted(told)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kairos audit verify --session ID", ""),
        ("kairos audit detach --before DATE", ""),
        (".venv/bin/kairos acl core", ""),
        ("kairos worker --metrics-port", ""),
        ("make report", ""),
        ("python -m reports --run FOLDER", ""),
        ("kairos core", "no such"),
        ("kairos audit verfy", "no such"),
        ("kairos health --jsn", "--jsn"),
        ("make tests", "make has no target tests"),
        ("python -m loadtests.nothing --x", "there is no module loadtests.nothing"),
    ],
)
def test_a_command_that_is_named_and_not_there(text: str, said: str) -> None:
    """A mistyped command in a text is found."""
    assert (refused_mention(text) is None) == (said == "")
    assert said in (refused_mention(text) or "")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("make tests", "make has no target tests"),
        ("cd x && make report PROFIL=full", "make has no variable PROFIL"),
        (".venv/bin/python -m loadtests.nothing", "there is no module loadtests.nothing"),
        (".venv/bin/python -m reports --profiles full", "unknown option --profiles"),
        (".venv/bin/python -m loadtests judge", "required: "),
        ("kairos audit verify --stor", "--stor"),
        ("A=1 kairos audit verify --stor 2>&1 | tail -1", "--stor"),
        ("psql -c 'SELECT 1; -- it''s' | kairos health --jsn", "--jsn"),
        ("kairos nothing", "there is no such command"),
        (".venv/bin/locust --mastr", "locust has no option --mastr"),
    ],
)
def test_a_command_that_its_program_would_refuse(command: str, said: str) -> None:
    """A mistyped target, variable, module, command or option is found without running anything."""
    assert said in (refused(command) or "")


SEVERAL_LINES = """\
psql -c "SELECT 1
  FROM x"
cat <<'END' >file
it's text
END
last
"""
CONSOLE = """\
$ one \\
>   --two  # for us
12 rows of 3f2a90bc11 in 0.2 s
  ──────
a …
…
end
$ next '# no comment'
"""


def test_commands_are_read_out_of_a_block() -> None:
    """Continued lines are one command, comments none, and what stands below a command is its output."""
    first, second = commands_of(Block("a.md", 1, "console", CONSOLE))
    assert ("one --two", 5, "next '# no comment'", []) == (
        first.command,
        len(first.output),
        second.command,
        second.output,
    )
    found = commands_of(Block("a.md", 1, "sh", "# why\nexport A=1   # one\n\nb \\\n  c\n"))
    assert ["export A=1", "b c"] == [one.command for one in found]
    assert [3, 5] == [one.line for one in found]
    found = commands_of(Block("a.md", 1, "sh", SEVERAL_LINES))
    assert ['psql -c "SELECT 1\n  FROM x"', "cat <<'END' >file\nit's text\nEND", "last"] == [
        one.command for one in found
    ]


@pytest.mark.parametrize(
    ("said", "same"),
    [
        ("12 rows of 3f2a90bc11 in 0.2 s\n──────\na b\nend\n", True),
        ("1,000 rows of 00aabbcc in 12:30 s\n───\na b\nmore\nand more\nend\n\n", True),
        ("12 rows of 3f2a90bc11 in 0.2 s\n──────\na b\n", False),
        ("12 rows of 3f2a90bc11 in 0.2 s\n──────\na b\nend\nmore\n", False),
        ("no rows of 3f2a90bc11 in 0.2 s\n──────\na b\nend\n", False),
        ("12 lines of 3f2a90bc11 in 0.2 s\n──────\na b\nend\n", False),
    ],
)
def test_output_is_compared(said: str, same: bool) -> None:
    """Numbers and identities may be others, and `…` is what is left out; all else is as it is printed."""
    written, _ = commands_of(Block("a.md", 1, "console", CONSOLE))
    assert same == (differs(written, Ran(0, said)) is None)
    assert differs(written, Ran(1, said)) is not None


@pytest.mark.parametrize(
    ("printed", "said", "same"),
    [
        ("live 0", "live 1", False),
        ("live 0", "live 0", True),
        ("live 2", "live 0", False),
        ("(2 rows)", "(0 rows)", False),
        ("live 2", "live 10", True),
        ("up for 3 s", "up for 0 s", True),
        ("0.2 s, 7-0", "0.0 s, 8-1", True),
    ],
)
def test_none_is_not_some(printed: str, said: str, same: bool) -> None:
    """Where nothing is counted the documents say 0, and nowhere else."""
    assert same == (differs(Written("a.md", 1, "one", [printed]), Ran(0, f"{said}\n")) is None)


def test_a_shell_that_ends_early_is_told(tmp_path: Path) -> None:
    """Each command's own status and output are kept, and what one exports the next has."""
    variables = environment(tmp_path / "home")
    assert [Ran(0, ""), Ran(3, "4\n")] == [
        Ran(one.status, one.output.lstrip("\n").removesuffix("\n"))
        for one in run(["export A=4", "echo $A; (exit 3)"], variables, tmp_path)
    ]
    assert [Ran(2, "it ended the shell"), Ran(2, "it was not run: the shell had ended")] == run(
        ["exit 2", "true"], variables, tmp_path
    )
    (endless,) = run(["echo now; sleep 100"], variables, tmp_path, deadline_s=0.3)
    assert (KILLED, "now\nit has not ended after 0.3 s") == endless
