"""`kairos audit dead`: what could not be recorded."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from kairos_core.cli import terminal
from kairos_core.cli.complaints import complain
from kairos_core.cli.described import WHY_MISUSED, Told, command
from kairos_core.cli.trouble import BROKEN, HOLDS, UNKNOWN, guarded
from kairos_core.errors import ConfigurationError
from kairos_core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core.audit.dead_letters import DeadLetter

_READS = ("KAIROS_POSTGRES_URL", "KAIROS_NAMESPACE")
_NONE = "there is no such dead letter, or it is settled"
LIST = Told(
    summary="list the dead letters that wait",
    more="A dead letter is a write that PostgreSQL refused: nothing else waits for it, and nothing of it is lost.",
    reads=_READS,
    statuses={0: "they are listed, also where there are none", 2: WHY_MISUSED},
    examples=(
        ("kairos audit dead list", "what waits"),
        ("kairos audit dead list --all --json", "with what is settled, one object a line"),
    ),
)
SHOW = Told(
    summary="show one dead letter with all that is known of it, its state included",
    more="",
    reads=_READS,
    statuses={0: "it is shown", 1: "there is no such dead letter", 2: WHY_MISUSED},
    examples=(("kairos audit dead show 3 1767225600000-0", "that of lane 3"),),
)
REPLAY = Told(
    summary="record dead letters as what they are after all",
    more="What is refused again goes on to wait.",
    reads=_READS,
    statuses={0: "they are recorded", 1: f"one was refused again; or {_NONE}", 2: WHY_MISUSED},
    examples=(
        ("kairos audit dead replay 3 1767225600000-0", "one"),
        ("kairos audit dead replay --all", "all that wait, once the reason is gone"),
    ),
)
DISCARD = Told(
    summary="give a dead letter up; it stays as a row",
    more="It is never recorded, and `kairos audit verify` goes on to miss it.",
    reads=_READS,
    statuses={0: "it is discarded", 1: _NONE, 2: WHY_MISUSED},
    examples=(("kairos audit dead discard 3 1767225600000-0", "for ever"),),
)


def _lanes(incomplete: str) -> list[str]:
    """The lanes that there are, for a shell to complete."""
    try:
        names = [str(lane) for lane in range(Settings.from_env().lanes)]
    except ConfigurationError:
        return []
    return [name for name in names if name.startswith(incomplete)]


_Lane = Annotated[
    int, typer.Argument(metavar="LANE", show_default=False, autocompletion=_lanes, help="Its lane, as in the list.")
]
_Entry = Annotated[str, typer.Argument(metavar="ENTRY", show_default=False, help="Its entry, as in the list.")]


def register(audit: typer.Typer) -> None:
    """Add the commands."""
    dead = typer.Typer(name="audit dead", help="list, show, replay or discard what could not be recorded")
    command(dead, "list", LIST)(list_all)
    command(dead, "show", SHOW)(show)
    command(dead, "replay", REPLAY)(replay)
    command(dead, "discard", DISCARD)(discard)
    audit.add_typer(dead, name="dead")


@guarded
def list_all(
    *,
    lane: Annotated[
        int | None, typer.Option("--lane", metavar="N", autocompletion=_lanes, help="Of one lane alone.")
    ] = None,
    settled: Annotated[bool, typer.Option("--all", help="With those that are settled.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a dead letter.")] = False,
) -> int:
    """List them."""
    from kairos_core.audit.dead_letters import DeadLetters  # noqa: PLC0415 - psycopg takes its time to import

    with DeadLetters.connect(Settings.from_env()) as letters:
        found = letters.letters(lane, settled=settled)
        if as_json:
            for letter in found:
                print(msgspec.json.encode(_object(letter)).decode())
        elif terminal.is_rich(sys.stdout):
            rows = [_row(letter) for letter in found]
            terminal.show([], lambda: terminal.table(("lane", "entry", "buried", "sqlstate", "", "reason"), rows))
        else:
            # Each as it comes: there may be more than anybody wants to wait for.
            for letter in found:
                print(" ".join(filter(None, _row(letter))))
    return HOLDS


def _row(letter: DeadLetter) -> tuple[str, ...]:
    return (
        str(letter.lane),
        letter.entry_id,
        f"{letter.buried_at:%Y-%m-%d %H:%M:%S}",
        letter.sqlstate or "-",
        letter.settlement or "",
        _plain(letter.reason),
    )


def _object(letter: DeadLetter) -> dict[str, object]:
    """A dead letter for a program; its payload as text, since it is JSON or cannot be read."""
    return {**letter._asdict(), "payload": letter.payload.decode(errors="backslashreplace")}


@guarded
def show(
    lane: _Lane,
    entry: _Entry,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as one JSON object.")] = False,
) -> int:
    """Show one."""
    from kairos_core.audit.dead_letters import DeadLetters  # noqa: PLC0415

    def say() -> None:
        letter = letters.find(lane, entry)
        if as_json:
            print(msgspec.json.encode(_object(letter)).decode())
        else:
            lines = _facts(letter)
            terminal.show(lines, lambda: terminal.facts(lines, _WIDTH))

    with DeadLetters.connect(Settings.from_env()) as letters:
        return _refusing(say)


_WIDTH = 10


def _facts(letter: DeadLetter) -> list[str]:
    settlement = f"{letter.settlement} at {letter.settled_at}" if letter.settlement else "waits"
    return [
        f"lane      {letter.lane}",
        f"entry     {_plain(letter.entry_id)}",
        f"buried    {letter.buried_at}",
        f"sqlstate  {letter.sqlstate or '-'}",
        f"reason    {_plain(letter.reason)}",
        f"state     {settlement}",
        f"payload   {_plain(letter.payload.decode(errors='backslashreplace'))}",
    ]


def _plain(text: str) -> str:
    """A text as a terminal may see it: what a foreign hand wrote must not command it."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


@guarded
def replay(
    lane: Annotated[
        int | None, typer.Argument(metavar="LANE", show_default=False, autocompletion=_lanes, help="Its lane.")
    ] = None,
    entry: Annotated[str | None, typer.Argument(metavar="ENTRY", show_default=False, help="Its entry.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that wait, the oldest of each lane first.")] = False,
) -> int:
    """Replay one, or all."""
    from kairos_core.audit.dead_letters import DeadLetters  # noqa: PLC0415

    if every != (lane is None) or every != (entry is None):
        complain("LANE and ENTRY are needed, or --all")
        return UNKNOWN
    with DeadLetters.connect(Settings.from_env()) as letters:
        if lane is not None and entry is not None:
            return _refusing(lambda: _replay_one(letters, lane, entry))
        return _replay_all(letters)


def _replay_all(letters: Any) -> int:
    status = HOLDS
    with terminal.Progress("dead letters") as progress:
        for number, letter in enumerate(letters.letters(), 1):
            status = max(status, _refusing(functools.partial(_replay_one, letters, letter.lane, letter.entry_id)))
            progress("dead letters", number)
    return status


def _replay_one(letters: Any, lane: int, entry_id: str) -> int:
    refusal = letters.replay(lane, entry_id)
    if refusal is None:
        print(f"{lane} {entry_id} is recorded")
        return HOLDS
    complain(f"{lane} {entry_id} was refused again: {_plain(refusal)}")
    return BROKEN


@guarded
def discard(lane: _Lane, entry: _Entry) -> int:
    """Discard one."""
    from kairos_core.audit.dead_letters import DeadLetters  # noqa: PLC0415

    with DeadLetters.connect(Settings.from_env()) as letters:
        status = _refusing(lambda: letters.discard(lane, entry))
    if status == HOLDS:
        print(f"{lane} {entry} is discarded")
    return status


def _refusing(work: Callable[[], int | None]) -> int:
    """Do it; where there is no such letter, or it is settled, say so."""
    from kairos_core.audit.dead_letters import NotWaiting  # noqa: PLC0415

    try:
        return work() or HOLDS
    except NotWaiting as error:
        complain(str(error))
        return BROKEN
