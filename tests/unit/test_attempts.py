from __future__ import annotations

import itertools
import math
import time
from typing import TYPE_CHECKING, Any

import pytest
from redis import exceptions as foreign

from kairos_core import CorruptState, OutcomeUnknown, Settings, StoreUnavailable, SyncMode, SyncState
from kairos_core.attempts import Attempts, Refused, Turns, pauses
from kairos_core.commands import Commands
from kairos_core.layout import Layout

if TYPE_CHECKING:
    from kairos_core.commands import Command

COMMANDS = Commands(Settings(), Layout("kairos", 16))
READ = COMMANDS.get("s")
WRITE = COMMANDS.update(SyncState.new("s", SyncMode.GLOBAL), "e")

# Replies by which a server refuses a command as it is.
REFUSED = [
    Refused("OOM command not allowed when used memory > 'maxmemory'."),
    Refused("MISCONF Errors writing to the AOF file: No space left on device"),
    Refused("NOREPLICAS Not enough good replicas to write."),
    Refused("NOAUTH Authentication required."),
    Refused("WRONGPASS invalid username-password pair or user is disabled."),
    Refused("NOPERM User default has no permissions to run the 'evalsha' command"),
]
# Refused, and gone in a moment.
PASSING = [
    Refused("READONLY You can't write against a read only replica."),
    Refused("LOADING Redis is loading the dataset in memory"),
    Refused("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
    Refused("CLUSTERDOWN The cluster is down"),
    Refused("TRYAGAIN Multiple keys request during rehashing of slot"),
    Refused("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."),
]
# Raised while a connection is made, and no other attempt would fare better.
HOPELESS = [
    foreign.AuthenticationError("invalid username-password pair"),
    foreign.AuthorizationError("Authorization failed"),
]
# Nobody can say what became of the command.
LOST = [
    foreign.ConnectionError("the connection was lost"),
    foreign.TimeoutError("no answer in time"),
    foreign.InvalidResponse("Protocol error"),
]
# The script may have begun to write.
HALFWAY = [
    Refused("ERR value is not an integer script: 0a, on @user_script:43."),
    Refused("NOPERM ACL failure in script: User default has no permissions to run the 'publish' command"),
    Refused("OOMPH is no code that is known"),
    Refused(""),
]
Failure = Refused | foreign.RedisError


def named(value: object) -> str:
    """The type of an error and how it begins."""
    return f"{type(value).__name__} {value!s:.22}"


def attempts(command: Command[Any] = WRITE, *, over: bool = False) -> Attempts:
    """The attempts of a call whose deadline is far off, or over."""
    return Attempts(command, -math.inf if over else time.monotonic() + 1e6)


@pytest.mark.parametrize("error", [*PASSING, *LOST], ids=named)
@pytest.mark.parametrize("command", [READ, WRITE], ids=["read", "write"])
def test_what_is_tried_again(command: Command[Any], error: Failure) -> None:
    """G10: before the deadline a failure that may pass leads to a pause and the same words again."""
    running = attempts(command)
    pause_s = running.after(error, sent=True)
    assert 0 <= pause_s <= 0.01
    assert command.packed == running.packed


@pytest.mark.parametrize("error", [*REFUSED, *HOPELESS], ids=named)
@pytest.mark.parametrize("command", [READ, WRITE], ids=["read", "write"])
def test_what_is_refused(command: Command[Any], error: Failure) -> None:
    """G6: a refusal ends the call at once, and says that nothing was applied."""
    with pytest.raises(StoreUnavailable, match="session s: ") as caught:
        attempts(command).after(error, sent=True)
    assert error is caught.value.__cause__
    assert caught.value.definite


@pytest.mark.parametrize("error", PASSING, ids=named)
def test_a_refusal_until_the_deadline(error: Failure) -> None:
    """G6: what was refused until the deadline was definitely not applied."""
    with pytest.raises(StoreUnavailable):
        attempts(over=True).after(error, sent=True)


@pytest.mark.parametrize("error", LOST, ids=named)
def test_a_lost_write(error: Failure) -> None:
    """G6: a write whose answer never came is unknown, with its operation id and the cause."""
    with pytest.raises(OutcomeUnknown, match=str(error)) as caught:
        attempts(over=True).after(error, sent=True)
    assert ("s", WRITE.operation_id) == (caught.value.session_id, caught.value.operation_id)
    assert error is caught.value.__cause__
    assert not caught.value.definite


@pytest.mark.parametrize("error", LOST, ids=named)
def test_a_write_that_was_not_sent(error: Failure) -> None:
    """G6: a write that never left was definitely not applied."""
    with pytest.raises(StoreUnavailable):
        attempts(over=True).after(error, sent=False)


@pytest.mark.parametrize("error", [*LOST, *HALFWAY], ids=named)
def test_a_read_is_never_unknown(error: Failure) -> None:
    """G6: a read that failed changed nothing, however it failed."""
    with pytest.raises(StoreUnavailable):
        attempts(READ, over=True).after(error, sent=True)


@pytest.mark.parametrize("error", HALFWAY, ids=named)
def test_a_script_that_failed_halfway(error: Failure) -> None:
    """G6: a script that failed for a reason that is not known to come before its first write is unknown."""
    with pytest.raises(OutcomeUnknown):
        attempts().after(error, sent=True)


@pytest.mark.parametrize("later", [*REFUSED, *HOPELESS, *HALFWAY], ids=named)
def test_once_unknown_always_unknown(later: Failure) -> None:
    """G6: a refusal of the second attempt says nothing of the first, which was lost."""
    running = attempts()
    running.after(LOST[0], sent=True)
    with pytest.raises(OutcomeUnknown):
        running.after(later, sent=True)


@pytest.mark.parametrize("later", [*PASSING, *LOST], ids=named)
def test_unknown_to_the_deadline(later: Failure) -> None:
    """G6: a lost attempt stays unknown where the later ones were refused, or not even sent, until the deadline."""
    running = Attempts(WRITE, time.monotonic() + 1e6)
    running.after(LOST[0], sent=True)
    running._deadline = -math.inf
    with pytest.raises(OutcomeUnknown):
        running.after(later, sent=False)


def test_refused_before_lost() -> None:
    """G6: refused attempts do not make a write unknown; one that is lost does."""
    running = attempts()
    for error in PASSING:
        running.after(error, sent=True)
    running.after(foreign.ConnectionError("refused"), sent=False)
    with pytest.raises(StoreUnavailable):
        running.after(REFUSED[0], sent=True)
    running.after(LOST[0], sent=True)
    with pytest.raises(OutcomeUnknown):
        running.after(REFUSED[0], sent=True)


def test_another_type_under_the_key() -> None:
    """A key that holds no hash is corrupt, whether it is read or written."""
    error = Refused("WRONGTYPE Operation against a key holding the wrong kind of value")
    for command in (READ, WRITE):
        with pytest.raises(CorruptState) as caught:
            attempts(command).after(error, sent=True)
        assert command.key == caught.value.key


def test_a_script_that_the_server_does_not_know() -> None:
    """The text is sent at once, from then on in every attempt, under the same operation id, past the deadline too."""
    for over in (False, True):
        running = attempts(over=over)
        assert 0.0 == running.after(Refused("NOSCRIPT No matching script."), sent=True)
        assert WRITE.with_script_text() == running.packed
    running = attempts()
    running.after(Refused("NOSCRIPT No matching script."), sent=True)
    running.after(LOST[0], sent=True)
    assert WRITE.with_script_text() == running.packed


def test_a_script_that_was_not_known_was_not_run() -> None:
    """G6: a server that does not know the script has not applied it."""
    running = attempts()
    running.after(Refused("NOSCRIPT No matching script."), sent=True)
    with pytest.raises(StoreUnavailable):
        running.after(REFUSED[0], sent=True)


def test_pauses_grow_and_are_bounded() -> None:
    """Pauses are drawn between nothing and a limit that doubles from 10 ms to a quarter of a second."""
    drawn: list[list[float]] = []
    for _ in range(200):
        running = attempts()
        drawn.append([running.after(LOST[0], sent=True) for _ in range(9)])
    for number, drawn_s in enumerate(zip(*drawn, strict=True)):
        limit = min(0.01 * 2**number, 0.25)
        assert 0 <= min(drawn_s) < limit / 4
        assert limit * 3 / 4 < max(drawn_s) <= limit


def test_no_pause_beyond_the_deadline() -> None:
    """G10: a pause that would reach the deadline is not begun."""
    with pytest.raises(StoreUnavailable):
        Attempts(READ, time.monotonic()).after(LOST[0], sent=True)


@pytest.mark.parametrize("command", [READ, WRITE], ids=["read", "write"])
def test_a_cause_on_one_line(command: Command[Any]) -> None:
    """Whatever a server answers, the message that quotes it is one line."""
    with pytest.raises((StoreUnavailable, OutcomeUnknown), match="ERR one two") as caught:
        attempts(command).after(Refused("ERR one\r\n two"), sent=True)
    assert 1 == len(str(caught.value).splitlines())


@pytest.mark.parametrize(("text", "code"), [("OOM command", "OOM"), ("NOAUTH", "NOAUTH"), ("", ""), (" OOM", "")])
def test_the_code_of_a_refusal(text: str, code: str) -> None:
    """A refusal is told by its first word, whole."""
    assert code == Refused(text).code


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 100, 1_000])
def test_a_writer_that_loses_ends(count: int) -> None:
    """G10: after as many attempts as are allowed there is no other one, and no pause before that is long."""
    found = list(pauses(count))
    assert count == len(found)
    assert [None][:count] == found[-1:]
    assert all(pause_s is not None and 0 <= pause_s <= 0.032 for pause_s in found[:-1])


def test_who_loses_more_often_tries_more_often() -> None:
    """G1: no writer starves: who goes on losing tries more often in a row each time, and does not pause for longer."""
    found = itertools.groupby(pauses(1_000), key=lambda pause_s: pause_s == 0)
    bursts = [len(list(some)) for at_once, some in found if at_once]
    # The last one is cut off by the limit.
    assert list(range(2, len(bursts) + 1)) == bursts[:-1]
    assert len(bursts) > 40


class Writer:
    """Writes a session again and again; the first time it had been refused before, if so."""

    def __init__(self, turns: Turns, since_s: float, *, refused: bool) -> None:
        self.turns, self.now_s, self.version, self.refused = turns, since_s, 1, refused

    def write(self, count: int, each_s: float = 0.001) -> None:
        """Let so many writes come through, one so long after the other."""
        for _ in range(count):
            self.now_s += each_s
            self.version += 1
            self.turns.came_through("a", self.version, self.now_s, refused=self.refused)
            self.refused = False


def longest_pause_s(turns: Turns, now_s: float) -> float:
    """The longest that is drawn."""
    return max(turns.pause_s("a", now_s) for _ in range(100))


def test_who_goes_on_writing_leaves_the_others_their_turn() -> None:
    """G1: no writer starves: who has written often enough in a row where others were met pauses, for a moment."""
    turns = Turns()
    writer = Writer(turns, 5.0, refused=True)
    writer.write(31)
    assert 0 == longest_pause_s(turns, writer.now_s)
    writer.write(1)
    assert 0 < longest_pause_s(turns, writer.now_s) <= 0.032
    assert 0 == turns.pause_s("b", writer.now_s)
    # Somebody has taken it meanwhile, as a refusal or the version tells: then there is another turn like this.
    for writer.refused in (True, False):
        writer.version += 1
        writer.write(32)
        assert 0 < longest_pause_s(turns, writer.now_s)
    # Nobody has: there is nobody to leave it to.
    writer.write(100)
    assert 0 == longest_pause_s(turns, writer.now_s)


@pytest.mark.parametrize(
    ("each_s", "met", "later_s"),
    [(0.001, False, 0.0), (0.005, True, 0.0), (0.001, True, 0.2)],
    ids=["alone", "unhurried", "after a while"],
)
def test_who_need_not_wait_does_not(each_s: float, met: bool, later_s: float) -> None:
    """Who writes alone, or at leisure, never waits for anybody."""
    turns = Turns()
    writer = Writer(turns, 5.0, refused=met)
    writer.write(32, each_s)
    assert 0 == longest_pause_s(turns, writer.now_s + later_s)


def test_turns_are_forgotten() -> None:
    """G5: what is remembered of who was met stays small, however many sessions are written."""
    turns = Turns()
    for number in range(5_000):
        turns.came_through(f"s-{number}", 2, 5.0, refused=True)
    assert len(turns._by_session) <= 1_024
    turns.came_through("s-4999", 3, 6.0, refused=False)
    assert "s-4999" not in turns._by_session
