"""`kairos audit`: what an operator types, sees and gets as an exit status."""

from __future__ import annotations

import io
import re
import sys
import time
from typing import Any

import msgspec
import psycopg
import pytest

from kairos_core import AuditWriter, RedisStateManager, Settings, messages
from kairos_core.audit import status
from kairos_core.audit.dead_letters import DeadLetters, NotWaiting
from kairos_core.audit.drain import drain_lane
from kairos_core.audit.outbox import Entry, Outbox
from kairos_core.audit.reading import connect_to_read, statement
from kairos_core.blocking import BlockingTransport
from kairos_core.cli import audit, main, terminal
from kairos_core.operations import Operations
from loadtests.environment import as_worker
from loadtests.states import sample_state
from loadtests.verification import entries
from tests.in_schema import change, rows

ENTRY = "9-1"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between two looks."""
    monkeypatch.setattr(status, "LOOK_S", 0.01)
    monkeypatch.setattr("kairos_core.audit.store._PAUSES_S", (0.0,))


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Two lanes; the commands read them from the environment, with the worker's account."""
    found = msgspec.structs.replace(settings, lanes=2)
    for name, value in as_worker(found).to_env().items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def buried(manager: RedisStateManager, writer: AuditWriter, outbox: Outbox) -> Entry:
    """The second of three versions of session `a`, which was refused, for a reason that has been removed since.

    It is a dead letter of lane 0, and so is an entry that nobody can read.
    """
    manager.create_session(sample_state("a"))
    for _ in range(2):
        manager.mutate_session("a", lambda state: state)
    lane = 0 if outbox.read(0, 1) else 1
    waiting = outbox.read(lane, 10)
    first, second, third = (entry for entry in waiting if isinstance(entry, Entry))
    writer.write(lane, [first, third])
    outbox.remove(lane, [entry.entry_id for entry in outbox.read(lane, 100)])
    writer._bury(0, second._replace(entry_id=ENTRY.encode()), "22P05", "unsupported \x1b[31m escape")
    unreadable = Entry(b"9-2", second.message)
    writer._bury(0, unreadable, None, "ValueError: no JSON")
    writer._connection.execute("UPDATE audit_dead_letters SET payload = 'no JSON' WHERE entry_id = '9-2'")
    writer._connection.commit()
    return second


def settlements(settings: Settings) -> list[Any]:
    """What became of each dead letter."""
    return [row[0] for row in rows(settings, "SELECT settlement FROM audit_dead_letters ORDER BY lane, entry_id")]


Capture = pytest.CaptureFixture[str]


def test_verify_ends_with_what_it_found(
    settings: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox, capsys: Capture
) -> None:
    """G13: status 0 where all holds; 1 where it does not, with the first bad session in a sentence."""
    manager.create_session(sample_state("a"))
    manager.mutate_session("a", lambda state: state)
    for lane in range(2):
        drain_lane(outbox, writer, lane)
    assert 0 == main(["audit", "verify"])
    first = capsys.readouterr()
    assert "1 sessions, 2 events verified" in first.out
    assert "1 sessions compared with the store" in first.out
    assert first.out.endswith("all holds\n")
    assert "" == first.err
    change(settings, "UPDATE sync_events SET event_type = 'x' WHERE version = 2")
    assert [1, 1, 1] == [main(["audit", "verify", *more]) for more in ([], ["--no-store"], ["--session", "a"])]
    said = capsys.readouterr().out
    assert 3 == said.count("the first: session a: version 2 of incarnation")
    assert 3 == said.count("VIOLATED\n")
    assert 3 == said.count("1 rows that were altered: the hash is not theirs")


def test_verify_says_what_it_cannot_tell(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """G13: status 2 and one line where there is no schema, no server, no such session, or no such id."""
    assert 2 == main(["audit", "verify"])
    assert "is not there: `kairos migrate` makes it" in capsys.readouterr().err
    with AuditWriter.connect(settings) as writer:
        writer.migrate()
    assert [0, 2, 2] == [main(["audit", "verify", *more]) for more in ([], ["--session", "a"], ["--session", "no id"])]
    told = capsys.readouterr()
    assert "session a is neither recorded nor in the store" in told.err
    # Of the first alone.
    assert 1 == told.out.count("all holds")
    monkeypatch.setenv("KAIROS_REDIS_URL", "redis://:secret@127.0.0.1:1/0")
    assert [2, 0] == [main(["audit", "verify"]), main(["audit", "verify", "--no-store"])]
    said = capsys.readouterr().err
    assert said.startswith("kairos: KAIROS_REDIS_URL: ")
    assert "secret" not in said


@pytest.mark.usefixtures("writer")
def test_verify_tells_of_a_store_that_failed(settings: Settings, client: Any, capsys: Capture) -> None:
    """G13: a store that fails on the way is no verdict: status 2, with what held so far."""
    for lane in range(2):
        client.set(f"{settings.namespace}:{{L{lane:02d}}}:deadlines", "x")
    assert 2 == main(["audit", "verify"])
    said = capsys.readouterr().out
    assert "not all compared with the store: " in said
    assert said.endswith("UNDECIDED\n")


class Terminal(io.StringIO):
    """What is a terminal, as far as anybody can tell."""

    def isatty(self) -> bool:
        """It is."""
        return True


@pytest.mark.usefixtures("settings")
def test_progress_is_for_terminals(writer: AuditWriter, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """On a terminal a line says how far it is and how fast, and is taken away at the end; elsewhere there is none."""
    writer.write(0, list(entries(2_000)))
    assert 0 == main(["audit", "verify", "--no-store"])
    assert "" == capsys.readouterr().err
    shown_on = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stderr", shown_on)
    assert 0 == main(["audit", "verify", "--no-store"])
    shown = shown_on.getvalue()
    assert "2,000 events, " in shown
    # The line is erased, and the cursor is there again.
    assert shown.endswith("\x1b[?25h\r\x1b[1A\x1b[2K")


def test_verify_can_be_interrupted(writer: AuditWriter, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Ctrl-C ends a verification at once, in the middle of what it reads."""
    writer.write(0, list(entries(5_000)))

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(terminal.Progress, "__call__", interrupt)
    started = time.monotonic()
    assert 130 == main(["audit", "verify"])
    assert 5 > time.monotonic() - started
    assert "" == capsys.readouterr().out


def test_status_counts_what_waits_and_what_is_dead(
    manager: RedisStateManager, buried: Entry, outbox: Outbox, capsys: Capture
) -> None:
    """G7: the status has each lane's depth, the age of its oldest entry and its dead letters, and the sum."""
    assert buried.message.version == 2
    for number in range(5):
        manager.create_session(sample_state(f"s{number}"))
    assert 0 == main(["audit", "status", "--json"])
    found = msgspec.json.decode(capsys.readouterr().out)
    assert outbox.depths() == [lane["depth"] for lane in found["lanes"]]
    assert (5, 2) == (found["total"]["depth"], found["total"]["dead"])
    assert [2, 0] == [lane["dead"] for lane in found["lanes"]]
    assert 0 <= found["total"]["oldest_s"] < 5
    assert 0 == main(["audit", "status"])
    lines = capsys.readouterr().out.splitlines()
    assert ["lane", "waiting", "oldest", "s", "in/s", "out/s", "dead", "letters"] == lines[0].split()
    assert ["all", "5"] == lines[-1].split()[:2]
    assert "2" == lines[-1].split()[-1]


@pytest.mark.usefixtures("settings", "writer")
def test_status_of_a_store_that_has_nothing(capsys: Capture) -> None:
    """Lanes that never had an entry have nothing, and are no error."""
    assert 0 == main(["audit", "status"])
    assert ["all", "0", "-", "0", "0", "0"] == capsys.readouterr().out.splitlines()[-1].split()


def test_status_knows_rates(
    settings: Settings,
    manager: RedisStateManager,
    writer: AuditWriter,
    outbox: Outbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """G7: what came between two looks and what went are told apart, also where as much went as came."""

    def work(_: float) -> None:
        for _ in range(10):
            manager.mutate_session("a", lambda state: state)
        drain_lane(outbox, writer, lane)
        manager.mutate_session("a", lambda state: state)

    manager.create_session(sample_state("a"))
    lane = 0 if outbox.read(0, 1) else 1
    monkeypatch.setattr("kairos_core.audit.status.time.sleep", work)
    operations = Operations(as_worker(settings), BlockingTransport)
    found = status.examine(operations, as_worker(settings))
    operations.link.close()
    assert 11 == pytest.approx(11 * found.lanes[lane].out_per_s / found.lanes[lane].in_per_s)
    assert (1, 0) == (found.lanes[lane].depth, found.lanes[1 - lane].depth)
    assert found.total.in_per_s == found.lanes[lane].in_per_s > 0


@pytest.mark.usefixtures("settings")
def test_status_without_postgres(manager: RedisStateManager, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Where PostgreSQL is away, which is when it matters, the status still says how much waits; it ends with 2."""
    manager.create_session(sample_state("a"))
    monkeypatch.setenv("KAIROS_POSTGRES_URL", "postgresql://user:secret@127.0.0.1:1/x")
    assert 2 == main(["audit", "status"])
    said = capsys.readouterr().out
    assert ["all", "1"] == said.splitlines()[-2].split()[:2]
    assert "?" == said.splitlines()[-2].split()[-1]
    assert said.splitlines()[-1].startswith("PROBLEM KAIROS_POSTGRES_URL: ")
    assert "secret" not in said


@pytest.mark.usefixtures("settings")
def test_status_without_a_store(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Without a store there is no status: one line, and 2."""
    monkeypatch.setenv("KAIROS_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("KAIROS_TIMEOUT_S", "0.1")
    assert 2 == main(["audit", "status"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kairos: KAIROS_REDIS_URL: ")


@pytest.mark.usefixtures("settings", "writer")
def test_status_goes_on_if_it_is_to(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """With --watch it looks again and again, until Ctrl-C."""
    looks = []

    def examine(*_: Any) -> Any:
        looks.append(1)
        if len(looks) > 2:
            raise KeyboardInterrupt
        return real(*_)

    real = status.examine
    monkeypatch.setattr(status, "examine", examine)
    monkeypatch.setattr(audit, "_WATCH_S", 0.0)
    assert 130 == main(["audit", "status", "--watch"])
    assert 2 == capsys.readouterr().out.count("lane ")


@pytest.mark.usefixtures("buried")
def test_dead_letters_are_listed_and_shown(capsys: Capture) -> None:
    """Dead letters are listed, and shown whole; what a foreign hand wrote does not command a terminal."""
    assert 0 == main(["audit", "dead", "list"])
    lines = capsys.readouterr().out.splitlines()
    assert [["0", "9-1"], ["0", "9-2"]] == [line.split()[:2] for line in lines]
    assert lines[0].endswith("22P05 unsupported \\x1b[31m escape")
    assert 0 == main(["audit", "dead", "list", "--lane", "1"])
    assert "" == capsys.readouterr().out
    assert 0 == main(["audit", "dead", "show", "0", ENTRY])
    shown = capsys.readouterr().out
    assert '"e":"updated"' in shown
    assert "\x1b" not in shown
    assert 1 == main(["audit", "dead", "show", "0", "1-1"])
    assert "kairos: dead letter 1-1 of lane 0 is not there\n" == capsys.readouterr().err


def test_many_dead_letters_come_in_pages(settings: Settings, buried: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every dead letter is listed once, whatever the length of a page."""
    monkeypatch.setattr("kairos_core.audit.dead_letters._AT_ONCE", 1)
    with DeadLetters.connect(settings) as letters:
        assert [ENTRY, "9-2"] == [letter.entry_id for letter in letters.letters()]
        assert messages.encode(buried.message) == letters.find(0, ENTRY).payload


def test_a_dead_letter_is_replayed(settings: Settings, buried: Entry, capsys: Capture) -> None:
    """G7: a replayed dead letter is the row that it should have been, in the chain; it stays, settled."""
    assert 1 == main(["audit", "verify"])
    assert "it waits as dead letter 9-1 of lane 0" in capsys.readouterr().out
    assert 0 == main(["audit", "dead", "replay", "0", ENTRY])
    assert "0 9-1 is recorded\n" == capsys.readouterr().out
    assert [(1, 1), (2, 3), (3, 2)] == rows(settings, "SELECT version, position FROM sync_events ORDER BY version")
    operation_id = buried.message.operation_id
    assert [(operation_id,)] == rows(
        settings, "SELECT replace(operation_id::text, '-', '') FROM sync_events WHERE version = 2"
    )
    assert [(3,)] == rows(settings, "SELECT version FROM sync_sessions")
    assert ["replayed", None] == settlements(settings)
    assert 0 == main(["audit", "verify"])
    for again in ("replay", "discard"):
        assert 1 == main(["audit", "dead", again, "0", ENTRY])
        assert "was replayed at" in capsys.readouterr().err
    assert 0 == main(["audit", "dead", "list", "--all"])
    assert [True, False] == ["replayed" in line for line in capsys.readouterr().out.splitlines()]


def test_a_replay_that_was_cut_off_repeats_harmlessly(
    settings: Settings, buried: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G7: a replay that ended between the row and the settlement is done again, and the row is there once."""
    with DeadLetters.connect(settings) as letters:
        with monkeypatch.context() as context:
            context.setattr(letters, "_settle", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                letters.replay(0, ENTRY)
        assert [None, None] == settlements(settings)
        assert letters.replay(0, ENTRY) is None
    assert ["replayed", None] == settlements(settings)
    assert [(3,)] == rows(settings, "SELECT count(*) FROM sync_events")
    assert buried.message.version == 2


def test_what_is_refused_again_waits_with_the_new_reason(settings: Settings, buried: Entry, capsys: Capture) -> None:
    """G7: what is refused again stays a dead letter, with the latest reason and SQLSTATE; status 1."""
    assert 1 == main(["audit", "dead", "replay", "0", "9-2"])
    # Which nobody can read as anything: the reason that it was buried for stays.
    assert "0 9-2 was refused again: ValueError: no JSON" in capsys.readouterr().err
    assert [("ValueError: no JSON",)] == rows(settings, "SELECT reason FROM audit_dead_letters WHERE entry_id = '9-2'")
    second = msgspec.structs.replace(buried.message, operation_id=f"{1:032x}", version=3)
    nul = msgspec.structs.replace(buried.message, body=msgspec.Raw(b'{"a":"\\u0000"}'))
    with DeadLetters.connect(settings) as letters:
        for message, sqlstate, words in ((second, "23505", "is recorded for operation"), (nul, "22P05", "u0000")):
            with letters._connection.transaction():
                letters._connection.execute(
                    "UPDATE audit_dead_letters SET payload = %s WHERE entry_id = %s", [messages.encode(message), ENTRY]
                )
            assert words in str(letters.replay(0, ENTRY))
            found = letters.find(0, ENTRY)
            assert (sqlstate, None) == (found.sqlstate, found.settled_at)
            assert words in found.reason
    assert 1 == main(["audit", "dead", "replay", "--all"])
    assert [None, None] == settlements(settings)
    assert [(2,)] == rows(settings, "SELECT count(*) FROM audit_dead_letters")


@pytest.mark.usefixtures("buried")
def test_all_dead_letters_are_replayed(settings: Settings, capsys: Capture) -> None:
    """With --all each that waits is replayed; status 1 where one of them was refused again."""
    assert 1 == main(["audit", "dead", "replay", "--all"])
    said = capsys.readouterr()
    assert ("0 9-1 is recorded\n", True) == (said.out, "0 9-2 was refused again" in said.err)
    assert ["replayed", None] == settlements(settings)
    assert [2, 2, 2] == [
        main(["audit", "dead", "replay", *more]) for more in ([], ["--all", "0", ENTRY], ["--all", "0"])
    ]


@pytest.mark.usefixtures("buried")
def test_a_dead_letter_is_given_up(settings: Settings, capsys: Capture) -> None:
    """A discarded dead letter stays as a row and is never recorded; what it was is still missed, by name."""
    assert 0 == main(["audit", "dead", "discard", "0", ENTRY])
    assert f"0 {ENTRY} is discarded\n" == capsys.readouterr().out
    assert ["discarded", None] == settlements(settings)
    assert 1 == main(["audit", "dead", "discard", "0", ENTRY])
    assert 1 == main(["audit", "dead", "discard", "7", ENTRY])
    said = capsys.readouterr().err
    assert "was discarded at" in said
    assert "is not there" in said
    assert 1 == main(["audit", "verify"])
    assert "was discarded: dead letter 9-1 of lane 0" in capsys.readouterr().out


@pytest.mark.usefixtures("buried")
def test_two_who_settle_at_once(settings: Settings) -> None:
    """Of two who settle a dead letter at the same time, one hears that it was settled meanwhile."""
    with DeadLetters.connect(settings) as one, DeadLetters.connect(settings) as other:
        letter = one.find(0, ENTRY)
        other.discard(0, ENTRY)
        with pytest.raises(NotWaiting, match="was settled meanwhile"):
            one._settle(letter, "replayed")


@pytest.mark.usefixtures("settings", "writer")
def test_a_database_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """What keeps a command from its work is one line, and status 2."""

    def fail(*_: Any, **__: Any) -> Any:
        raise psycopg.OperationalError("the server\nwent away")

    monkeypatch.setattr(DeadLetters, "letters", fail)
    assert 2 == main(["audit", "dead", "list"])
    assert "kairos: KAIROS_POSTGRES_URL: the server went away\n" == capsys.readouterr().err


class Gone(io.StringIO):
    """What nobody reads any more."""

    def write(self, _: str) -> int:
        """As a pipe does whose reader has ended."""
        raise BrokenPipeError


@pytest.mark.usefixtures("buried")
def test_a_reader_that_has_read_enough(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """A list that goes to `head` ends without a word when nobody reads it any more."""
    monkeypatch.setattr(sys, "stdout", Gone())
    assert 141 == main(["audit", "dead", "list"])
    assert "" == capsys.readouterr().err


MANY = 20_000
_IDS = [f"session-{number}" for number in range(3)]
_PAGE = {"first": 0, "last": 99, "lane": 0, "entry_id": "5-0", "limit": 10}
_OF_ONE = {
    "session_id": "session-7",
    "after_incarnation": 0,
    "after_version": 0,
    "first": 0,
    "last": 2**53 - 1,
    "since": "-infinity",
    "until": "infinity",
    "limit": 10,
}
# The queries that go to a few rows, with what they ask for; none of these may read a table whole.
BY_INDEX: dict[str, Any] = {
    "read_events": _OF_ONE,
    "read_last_event": {"session_id": "session-7", "incarnation": 2**53 - 1, "version": 5, "until": "infinity"},
    "verify_events_of": [_IDS],
    "verify_known_of": {"ids": _IDS},
    "find_latest": [_IDS],
    "find_living": ["session-1", 10],
    "find_recorded": [_IDS],
    "find_dead_letter": [0, "7-0"],
    "list_dead_letters": _PAGE,
    "list_all_dead_letters": _PAGE,
    "settle_dead_letter": ["discarded", 0, "7-0"],
    "refuse_dead_letter": ["22P05", "x", 0, "7-0"],
    "count_dead_letters": None,
}
# Those that are meant to read a table whole.
WHOLE = {"verify_events", "verify_known", "verify_letters", "find_buried"}


@pytest.fixture(scope="module")
def filled(servers: Settings) -> Settings:
    """Many sessions and dead letters, most of which are settled, of which PostgreSQL has statistics."""
    found = msgspec.structs.replace(servers, namespace=f"{servers.namespace}_filled", lanes=2)
    with AuditWriter.connect(found) as writer:
        writer.migrate()
        writer.write(0, list(entries(MANY)))
        connection = writer._connection
        connection.execute(
            "INSERT INTO sync_sessions SELECT 'more-' || number, incarnation, version, sync_mode, status, created_at,"
            " updated_at, deleted_at, state_snapshot, chain_length, chain_hash FROM sync_sessions,"
            " generate_series(1, 20000) AS number WHERE session_id = 'session-1'"
        )
        connection.execute("INSERT INTO audit_anchors SELECT session_id, 1, 1, 1, chain_hash FROM sync_sessions")
        connection.execute(
            "INSERT INTO audit_dead_letters (lane, entry_id, reason, payload, settled_at, settlement)"
            " SELECT number %% 2, number || '-0', repeat('r', 100), repeat('p', 900)::bytea,"
            " CASE WHEN number %% 100 > 0 THEN now() END, CASE WHEN number %% 100 > 0 THEN 'replayed' END"
            " FROM generate_series(1, %s) AS number",
            [MANY],
        )
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE")
    return found


@pytest.mark.parametrize("name", BY_INDEX)
def test_queries_go_by_an_index(name: str, filled: Settings) -> None:
    """Each query of these commands that is about a few rows finds them by an index, as PostgreSQL plans it itself."""
    text = statement(name).decode()
    if "COPY (" in text:
        text = text.partition("COPY (")[2].rpartition(") TO STDOUT")[0]
    with connect_to_read(filled) as connection, psycopg.ClientCursor(connection) as cursor:
        connection.read_only = False
        cursor.execute("SET default_transaction_read_only = off")
        connection.commit()
        plan = "\n".join(row[0] for row in cursor.execute(f"EXPLAIN {text}".encode(), BY_INDEX[name]))
        # A partition of a month to come has no rows, and no plan reads these better.
        read_whole = re.findall(r"Seq Scan on (\w+)", plan)
        tables = [table for table in read_whole if not re.fullmatch(r"sync_events_\d{4}_\d\d", table)]
        months = [table for table in read_whole if table not in tables]
        empty = [cursor.execute(f"SELECT count(*) FROM {table}".encode()).fetchall() for table in months]
    assert [] == tables, plan
    assert [[(0,)]] * len(months) == empty, plan
    assert "Index" in plan, plan
    if name == "count_dead_letters":
        assert "Index Only Scan using audit_dead_letters_open" in plan, plan


def test_every_query_is_looked_at() -> None:
    """No query of these commands is left out of the one above, but for those that read a table whole."""
    from importlib import resources  # noqa: PLC0415

    names = {
        file.name.removesuffix(".sql") for file in resources.files("kairos_core").joinpath("audit", "sql").iterdir()
    }
    ours = {
        name
        for name in names
        if name.startswith(("read_", "verify_", "find_", "list_", "settle_", "refuse_", "count_"))
    }
    # Those of the writer.
    writers = {"find_heads", "find_operations", "find_versions"}
    assert ours - writers == set(BY_INDEX) | WHOLE
