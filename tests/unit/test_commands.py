from __future__ import annotations

import hashlib
import re
import uuid
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

import hiredis
import msgspec
import pytest

from kairos_core import (
    AuditBacklogFull,
    CorruptState,
    InvalidState,
    SessionExists,
    SessionNotFound,
    Settings,
    SyncMode,
    SyncState,
    VersionConflict,
)
from kairos_core.commands import CREATE, DELETE, GRACE_MS, UPDATE, Command, Commands, new_operation_id
from kairos_core.errors import Stamp
from kairos_core.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS = Settings(session_ttl_s=0.0015, receipt_ttl_s=60.0004, timeout_s=1.0, outbox_limit=77)
COMMANDS = Commands(SETTINGS, Layout("kairos", 16))
STATE = SyncState.new("123456789", SyncMode.GLOBAL, incarnation=5, version=7, metadata={"a": 1})
BODY = b'{"session_id":"123456789","sync_mode":"global"}'
KEY = "kairos:{L03}:s:123456789"
WRITES = ["create", "update", "delete"]
WRITE_SCRIPTS = (CREATE, UPDATE, DELETE)


def write(kind: str, event_type: str = "e") -> Command[Any]:
    """One of the three writes."""
    makers: dict[str, Callable[[], Command[Any]]] = {
        "create": lambda: COMMANDS.create(STATE, event_type),
        "update": lambda: COMMANDS.update(STATE, event_type),
        "delete": lambda: COMMANDS.delete(STATE.session_id, STATE.stamp, event_type),
    }
    return makers[kind]()


@pytest.mark.parametrize(("kind", "script"), [("create", CREATE), ("update", UPDATE), ("delete", DELETE)])
def test_the_words_of_a_write(kind: str, script: Any) -> None:
    """A write is one EVALSHA with the keys of one lane and the arguments in the order of the script's header."""
    command = write(kind)
    operation_id = command.operation_id
    body = "" if kind == "delete" else command.words[{"create": 11, "update": 9}[kind]].decode()
    assert tuple(word.decode() for word in command.words) == (
        "EVALSHA",
        script.sha,
        {"create": "5", "update": "3", "delete": "4"}[kind],
        KEY,
        f"kairos:{{L03}}:op:{operation_id}",
        "kairos:{L03}:outbox",
        *{
            "create": ["kairos:{L03}:deadlines", "kairos:{L03}:life"],
            "update": [],
            "delete": ["kairos:{L03}:deadlines"],
        }[kind],
        operation_id,
        "123456789",
        "e",
        body,
        str(2 + GRACE_MS),
        "60000",
        "77",
        "PUBLISH",
        "kairos:{L03}:u:123456789",
        "kairos:{L03}:u",
        *(["2"] if kind == "create" else ["5", "7"]),
    )
    assert (KEY, "123456789", script) == (command.key, command.session_id, command.script)


@pytest.mark.parametrize("kind", WRITES)
def test_a_script_gets_what_it_reads(kind: str) -> None:
    """Each script gets as many keys and arguments as it reads and its header names."""
    # The longest form of an update; without its last word, a conflict is answered with the version alone.
    command = COMMANDS.update(STATE, "e", tell_stored=True) if kind == "update" else write(kind)
    assert command.script is not None
    text = command.script.text
    code = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    sent = len(command.words) - 3 - int(command.words[2])
    assert {"create": 5, "update": 3, "delete": 4}[kind] == max(
        int(number) for number in re.findall(r"KEYS\[(\d+)\]", code)
    )
    assert sent == max(int(number) for number in re.findall(r"ARGV\[(\d+)\]", code))
    header = text[text.index("ARGV") : text.index("-- reply")]
    assert list(range(1, sent + 1)) == [
        int(number) for number in re.findall(r"(?:ARGV|  |--)\s+(\d+) [A-Za-z]", header)
    ]


def test_a_read_is_one_command() -> None:
    """G3: a read is one HMGET of the five fields; it is no write and has no operation id."""
    command = COMMANDS.get("123456789")
    assert (b"HMGET", KEY.encode(), b"n", b"v", b"c", b"u", b"s") == command.words
    assert (None, None) == (command.operation_id, command.script)


def test_what_was_packed_before_is_what_it_says() -> None:
    """What is kept packed of a read are its own words, the first time and the next."""
    for session_id in ("123456789", "a", "123456789", "a"):
        command = COMMANDS.get(session_id)
        assert hiredis.pack_command(command.words) == command.packed  # type: ignore[arg-type]  # its stub wants one word
        assert session_id == command.session_id


@pytest.mark.parametrize("kind", WRITES)
def test_the_script_in_full(kind: str) -> None:
    """Where the server does not know the SHA, the same write is sent with the text, under the same operation id."""
    command = write(kind)
    assert command.script is not None
    in_full = msgspec.structs.replace(command, packed=command.with_script_text())
    assert (b"EVAL", command.script.text.encode(), *command.words[2:]) == in_full.words


def test_a_read_has_no_script() -> None:
    """Asking a read for its script is a mistake in the program."""
    with pytest.raises(TypeError):
        COMMANDS.get("s").with_script_text()


@pytest.mark.parametrize("script", WRITE_SCRIPTS, ids=lambda script: str(script.name))
def test_the_sha_is_the_server_s(script: Any) -> None:
    """A script is known by the SHA-1 of its text."""
    assert hashlib.sha1(script.text.encode()).hexdigest() == script.sha  # noqa: S324 - the server's own choice


def test_ttls_are_whole_milliseconds() -> None:
    """The shortest time to live is a millisecond, never none."""
    settings = Settings(session_ttl_s=0.001, timeout_s=0.001, receipt_ttl_s=0.002)
    words = Commands(settings, Layout("kairos", 16)).create(STATE, "e").words
    assert (str(1 + GRACE_MS).encode(), b"2") == words[12:14]
    assert b"1" == words[-1]


@pytest.mark.parametrize("kind", ["create", "update"])
def test_an_applied_write(kind: str) -> None:
    """An applied write gives the state with what the server assigned, and leaves the caller's as it was."""
    found = write(kind).read([0, 2**53 - 1, 8, 1_700_000_000_000_001, 1_700_000_000_000_002])
    assert found == STATE.replace(
        incarnation=2**53 - 1,
        version=8,
        created_at=datetime(2023, 11, 14, 22, 13, 20, 1, tzinfo=UTC),
        updated_at=datetime(2023, 11, 14, 22, 13, 20, 2, tzinfo=UTC),
    )
    assert (Stamp(5, 7), None) == (STATE.stamp, STATE.created_at)


def test_an_applied_deletion() -> None:
    """A deletion says whether there was something to delete."""
    assert write("delete").read([0, 5, 8, 1, 2]) is True
    assert write("delete").read([2]) is False


def test_a_creation_of_what_exists() -> None:
    """A creation that finds a session names the session and what is stored."""
    with pytest.raises(SessionExists, match="123456789") as caught:
        write("create").read([1, 9, 3])
    assert ("123456789", Stamp(9, 3)) == (caught.value.session_id, caught.value.current)
    assert caught.value.definite


def test_an_update_of_another_version() -> None:
    """G1: an update that came late names what it expected and what is stored."""
    with pytest.raises(VersionConflict, match="expected version 7 of incarnation 5, stored is version 8") as caught:
        write("update").read([1, 5, 8])
    assert ("123456789", Stamp(5, 7), Stamp(5, 8)) == (
        caught.value.session_id,
        caught.value.expected,
        caught.value.current,
    )
    assert caught.value.definite


def test_a_conflict_that_tells_what_is_stored() -> None:
    """G1: an update that asks for it learns of a conflict with the stored state, in one piece with its version."""
    command = COMMANDS.update(STATE, "e", tell_stored=True)
    stored = [b"6", b"1", b"1", b"2", BODY]
    with pytest.raises(VersionConflict, match="expected version 7 of incarnation 5, stored is version 1") as caught:
        command.read([1, *stored])
    assert (Stamp(5, 7), Stamp(6, 1)) == (caught.value.expected, caught.value.current)
    assert COMMANDS.get("123456789").read(stored) == caught.value.stored
    assert (*write("update").words[5:], b"s")[2:] == command.words[7:]
    with pytest.raises(VersionConflict) as plain:
        write("update").read([1, 5, 8])
    assert plain.value.stored is None


@pytest.mark.parametrize("lost", range(5))
def test_a_conflict_with_what_is_none(lost: int) -> None:
    """What a conflict brings is looked at as what is read: a hash that is no session is corrupt."""
    stored: list[bytes | None] = [b"5", b"8", b"1", b"2", BODY]
    stored[lost] = None
    with pytest.raises(CorruptState, match="lacks fields") as caught:
        COMMANDS.update(STATE, "e", tell_stored=True).read([1, *stored])
    assert KEY == caught.value.key
    stored[lost] = b"x"
    with pytest.raises(CorruptState):
        COMMANDS.update(STATE, "e", tell_stored=True).read([1, *stored])


@pytest.mark.parametrize("reply", [[1, None, None, None, None, None], [1, 5, 8], [1]])
def test_a_conflict_that_makes_no_sense(reply: list[Any]) -> None:
    """G6: a conflict without what was asked for is no answer, which the link calls unknown."""
    with pytest.raises((ValueError, TypeError)):
        COMMANDS.update(STATE, "e", tell_stored=True).read(reply)


def test_an_update_of_nothing() -> None:
    """An update of a session that is gone says so."""
    with pytest.raises(SessionNotFound, match="123456789") as caught:
        write("update").read([2])
    assert caught.value.definite


@pytest.mark.parametrize("kind", WRITES)
def test_a_full_outbox(kind: str) -> None:
    """G10: a write that the outbox has no room for names lane and depth."""
    with pytest.raises(AuditBacklogFull) as caught:
        write(kind).read([3, 77])
    assert (3, 77) == (caught.value.lane, caught.value.depth)
    assert caught.value.definite


@pytest.mark.parametrize("kind", WRITES)
def test_a_key_that_holds_something_else(kind: str) -> None:
    """A write that finds no session under its key names the key."""
    with pytest.raises(CorruptState) as caught:
        write(kind).read([4])
    assert KEY == caught.value.key
    assert caught.value.definite


def test_a_read_state() -> None:
    """A read gives body and assigned fields together; nothing stored is None."""
    get = COMMANDS.get("123456789")
    expected = SyncState.new(
        "123456789",
        SyncMode.GLOBAL,
        incarnation=5,
        version=8,
        created_at=datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        updated_at=datetime(1970, 1, 1, 0, 0, 0, 2, tzinfo=UTC),
    )
    assert expected == get.read([b"5", b"8", b"1", b"2", BODY])
    assert get.read([None] * 5) is None


@pytest.mark.parametrize("lost", range(5))
def test_a_stored_hash_that_lacks_a_field(lost: int) -> None:
    """A session that lacks a field is corrupt, and not absent."""
    reply: list[bytes | None] = [b"5", b"8", b"1", b"2", BODY]
    reply[lost] = None
    with pytest.raises(CorruptState, match="lacks fields") as caught:
        COMMANDS.get("123456789").read(reply)
    assert KEY == caught.value.key


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("value", [b"", b"x", b"1.5", b"nan", b"\xff", b"9" * 5000])
def test_stored_numbers_that_are_none(position: int, value: bytes) -> None:
    """A stored number that is none makes the session corrupt."""
    reply = [b"5", b"8", b"1", b"2", BODY]
    reply[position] = value
    with pytest.raises(CorruptState):
        COMMANDS.get("123456789").read(reply)


@pytest.mark.parametrize("position", [2, 3])
@pytest.mark.parametrize("value", [b"9" * 30, b"9" * 18, b"-" + b"9" * 18])
def test_stored_times_that_are_none(position: int, value: bytes) -> None:
    """A stored time outside the calendar makes the session corrupt."""
    reply = [b"5", b"8", b"1", b"2", BODY]
    reply[position] = value
    with pytest.raises(CorruptState):
        COMMANDS.get("123456789").read(reply)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"null", b"\xff", BODY[:-1], BODY.replace(b"global", b"sundial"), BODY.replace(b"9", b"8")]
)
def test_stored_bodies_that_are_none(body: bytes) -> None:
    """A stored body that is no state, or another session's, makes the session corrupt; the key is named."""
    with pytest.raises(CorruptState) as caught:
        COMMANDS.get("123456789").read([b"5", b"8", b"1", b"2", body])
    assert KEY == caught.value.key


@pytest.mark.parametrize(
    "reply",
    [
        [b"hidden", b"8", b"1", b"2", BODY],
        [b"5", b"8", b"1", b"2", BODY.replace(b"global", b"hidden")],
    ],
    ids=["number", "body"],
)
def test_no_content_in_a_message(reply: list[bytes | None]) -> None:
    """A message says what is wrong with stored bytes, without the bytes."""
    with pytest.raises(CorruptState) as caught:
        COMMANDS.get("123456789").read(reply)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("session_id", ["", "a\n", "a" * 129, "{a}", None, 7, b"a", uuid.UUID(int=7)])
def test_bad_ids_get_no_command(session_id: Any) -> None:
    """A session id that is none is refused before there is anything to send."""
    for make in (COMMANDS.get, lambda found: COMMANDS.delete(found, None, "e")):
        with pytest.raises(InvalidState):
            make(session_id)


@pytest.mark.parametrize("session_id", [b"abc", uuid.UUID(int=7)], ids=["bytes", "UUID"])
def test_a_state_whose_id_is_no_text(session_id: Any) -> None:
    """A state whose id is no str is refused, and nothing else is raised."""
    for make in (COMMANDS.create, COMMANDS.update):
        with pytest.raises(InvalidState):
            make(STATE.replace(session_id=session_id), "e")


class Room(str, Enum):  # noqa: UP042 - it is this kind that formats as its name
    """Ids as an enumeration."""

    LOBBY = "lobby"


def test_an_id_that_is_a_str_and_more() -> None:
    """An id that is accepted leads to the key of its text, however it formats."""
    try:
        written = COMMANDS.create(STATE.replace(session_id=Room.LOBBY), "e")
        read = COMMANDS.get(Room.LOBBY)
    except InvalidState:
        return
    expected = COMMANDS.get("lobby").key
    assert (expected, expected) == (written.key, read.key)


class Chameleon(str):
    """An id that passes for another one wherever it is looked up."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash("lobby")

    def __eq__(self, other: object) -> bool:
        return True


def test_an_id_that_passes_for_another() -> None:
    """A read goes to the key of its id's text, whatever was read before, and is not taken for another's afterwards."""
    commands = Commands(SETTINGS, Layout("kairos", 16))
    for session_id in ("lobby", Chameleon("cellar"), Chameleon("attic"), "lobby"):
        assert str.__str__(session_id) == commands.get(session_id).session_id


@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize("event_type", ["", "a" * 51, "a\n", 'a"', None, 7])
def test_bad_event_types_get_no_command(kind: str, event_type: Any) -> None:
    """An event type that is none is refused: it is put into JSON as it is."""
    with pytest.raises(InvalidState, match="event_type"):
        write(kind, event_type)


@pytest.mark.parametrize("make", [COMMANDS.create, COMMANDS.update])
def test_bad_states_get_no_command(make: Callable[[SyncState, str], object]) -> None:
    """A state that does not validate is refused before there is anything to send."""
    with pytest.raises(InvalidState):
        make(STATE.replace(metadata={"a": (1,)}), "e")


def test_operation_ids() -> None:
    """Operation ids are UUIDs of version 7, all different, that rise with the time in milliseconds."""
    found = [new_operation_id(0x2A5) for _ in range(1_000)]
    parsed = [uuid.UUID(hex=one) for one in found]
    assert 1_000 == len(set(found))
    assert {32} == {len(one) for one in found}
    assert {(7, uuid.RFC_4122)} == {(one.int >> 76 & 0xF, one.variant) for one in parsed}
    assert {"2a5"} == {one[-3:] for one in found}
    times = [one.int >> 80 for one in parsed]
    assert sorted(times) == times
    # 60 of the other bits are random: each is set in some and clear in others.
    random = 2**80 - 1 & ~(0xF << 76 | 0xF << 60 | 0xFFF)
    every, some = random, 0
    for one in parsed:
        every, some = every & one.int, some | one.int & random
    assert (0, random) == (every, some)


@pytest.mark.parametrize("kind", WRITES)
def test_each_write_has_an_id_of_its_own(kind: str) -> None:
    """G5: two writes never share an operation id, and one write keeps its own."""
    one, other = write(kind), write(kind)
    assert one.operation_id != other.operation_id
    assert one.operation_id is not None
    assert one.operation_id.encode() in one.words
    assert one.operation_id.encode() in one.with_script_text()
