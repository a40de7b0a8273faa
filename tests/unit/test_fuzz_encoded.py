"""From any input comes a typed error or a correct result, never another exception, never a hang."""

from __future__ import annotations

import math
import traceback
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import hiredis
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kairos_core import (
    CorruptState,
    InvalidState,
    KairosError,
    Settings,
    SyncMode,
    SyncState,
    messages,
    session,
)
from kairos_core.audit.outbox import Entry, Outbox, Unreadable, _read
from kairos_core.commands import Commands, check_operation_id, new_operation_id
from kairos_core.durability import Durability
from kairos_core.errors import ConfigurationError, Stamp
from kairos_core.layout import Layout
from kairos_core.settings import LocalSettings, servers_given
from kairos_core.updates import StateUpdate, decode_update
from tests.outsiders import (
    BODY,
    SECRET,
    STATE,
    STATE_FIELDS,
    Nowhere,
    Room,
    Text,
    Untrue,
    attempt,
    check_encoded,
    makers,
    relaxed,
    tree,
)
from tests.strategies import ID_CHARACTERS, json_values, texts

if TYPE_CHECKING:
    from collections.abc import Callable

# What the caller of a command's reader turns into OutcomeUnknown or StoreUnavailable.
UNREADABLE = (KairosError, AttributeError, ArithmeticError, LookupError, TypeError, ValueError)


any_text = st.text(st.characters())
odd_text = st.text(st.characters() | st.sampled_from("/:@?#[]%&=,\n\t \0\ud800²٣"), max_size=20)


@relaxed
@given(
    wrong=st.sampled_from([b"a", "\0", "\ud800", (1,), {1}, {1: 2}, 10**5000, math.nan, object()]),
    field=st.sampled_from(["metadata", *STATE_FIELDS]),
    make=makers,
)
def test_no_error_carries_metadata(wrong: Any, field: str, make: Callable[[], Any]) -> None:
    """What is in metadata is in no message, and in none of its causes."""
    metadata = {SECRET: SECRET, "a": [SECRET, {SECRET: [wrong]}], "b": f"\ud800{SECRET}"}
    state = STATE.replace(**({field: make()} | {"metadata": metadata}))
    with pytest.raises(InvalidState) as caught:
        session.encode(state)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@relaxed
@given(before=st.text("'\"`\\ \nb"), after=st.text("'\"`\\ \nb"))
def test_no_error_carries_a_wrong_value(before: str, after: str) -> None:
    """A value that is refused is not in the message, with whatever quotation marks in it."""
    mode: Any = before + SECRET + after
    with pytest.raises(InvalidState) as caught:
        session.encode(STATE.replace(sync_mode=mode))
    assert SECRET not in str(caught.value)
    body = msgspec.json.encode({"session_id": "s", "sync_mode": mode})
    with pytest.raises(ValueError, match="enum") as read:
        session.decode(body, Stamp(1, 1), 0, 0)
    assert SECRET not in str(read.value)


# Pieces that are put into valid JSON: what is out of bounds, what ends it, what opens it without end.
PIECES = [
    b"",
    b"\0",
    b"\xff",
    b'"',
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"-1",
    b"1e999",
    b"9" * 400,
    b"9" * 5_000,
    b"9223372036854775808",
    b"NaN",
    b"{}",
    b"[",
    b"}",
    b',"v":2',
    b',"session_id":"z"',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b'"0001-01-01T00:00:00+23:59"',
    b'"9999-12-31T23:59:59.999999-23:59"',
]


def message(body: bytes = BODY, /, **changes: Any) -> bytes:
    """A published message, with some fields changed."""
    fields = {"i": "s", "k": "update", "e": "e", "o": "0" * 32, "n": 5, "v": 8, "c": 1, "u": 2, "s": msgspec.Raw(body)}
    return msgspec.json.encode(fields | changes)


@st.composite
def broken(draw: st.DrawFn, valid: bytes) -> bytes:
    """Valid JSON with a few pieces replaced, doubled, left out or cut off."""
    data = valid
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, min(len(data), 2 * len(valid))))
        end = draw(st.integers(start, min(len(data), start + 12)))
        middle = draw(st.sampled_from([*PIECES, data[start:end] * 2]) | st.binary(max_size=3))
        data = data[:start] + middle + (b"" if draw(st.integers(0, 9)) == 0 else data[end:])
    return data


def some_values(valid: bytes) -> st.SearchStrategy[bytes]:
    """Valid JSON of the right shape, with one of its values replaced by any other."""
    fields: dict[str, Any] = msgspec.json.decode(valid)
    wrong = st.one_of(
        json_values(),
        st.sampled_from([-1, 2**53, 2**63, 2**64, 10**300, 1.5, True, "1", [], {}, "\0"]),
        st.sampled_from([piece for piece in PIECES if piece]).map(msgspec.Raw),
    )
    return st.builds(
        lambda name, value: msgspec.json.encode(fields | {name: value}), st.sampled_from(sorted(fields)), wrong
    )


def stored(valid: bytes) -> st.SearchStrategy[bytes]:
    """Bytes as they might be found where a valid value is expected."""
    return st.one_of(
        broken(valid),
        some_values(valid),
        st.binary(max_size=64),
        json_values().map(msgspec.json.encode),
        st.just(valid),
    )


times_us = st.integers(0, 2**53 - 1) | st.integers()


@relaxed
@given(body=stored(BODY), stamp=st.builds(Stamp, st.integers(), st.integers()), created=times_us, updated=times_us)
@example(body=BODY.replace(b'"title":', b'"deep":' + b"[" * 100_000), stamp=STATE.stamp, created=0, updated=0)
def test_any_body(body: bytes, stamp: Stamp, created: int, updated: int) -> None:
    """Of any stored body comes a state within its bounds, or an error that is documented."""
    found = attempt(lambda: session.decode(body, stamp, created, updated), ValueError, OverflowError)
    if isinstance(found, Exception):
        assert str(found)
        return
    assert stamp == found.stamp
    check_encoded(found)
    # Nobody but the server names a version, so there is none that cannot be written again.
    session.encode(SyncState.new("s", SyncMode.GLOBAL, incarnation=found.incarnation, version=found.version))


@relaxed
@given(data=stored(message()))
@example(data=message(n=2**53))
@example(data=message(b"null", v=-1))
def test_any_message(data: bytes) -> None:
    """Of any published bytes comes a message, or ValueError; to a watcher an update, or CorruptState."""
    found = attempt(lambda: messages.decode(data), ValueError)
    if isinstance(found, messages.Message):
        numbers = (found.incarnation, found.version, found.created_us, found.updated_us)
        assert all(0 <= number <= session.MAX_INTEGER for number in numbers)
        assert found == messages.decode(messages.encode(found))
    update = attempt(lambda: decode_update("c", data), CorruptState)
    if isinstance(update, StateUpdate):
        assert isinstance(found, messages.Message)
        assert update.state is None or update.state.stamp == Stamp(update.incarnation, update.version)
    else:
        assert "c" == update.key


@relaxed
@given(
    fields=st.fixed_dictionaries({b"m": stored(message())})
    | st.dictionaries(st.binary(max_size=2) | st.just(b"m"), st.binary(max_size=9), max_size=2)
)
def test_any_entry_of_an_outbox(fields: dict[bytes, bytes]) -> None:
    """Of any entry comes one that gives a row or refuses to, or one that is unreadable with its reason."""
    found = _read(b"1-0", fields)
    assert b"1-0" == found.entry_id
    assert isinstance(found.payload, bytes)
    if isinstance(found, Unreadable):
        assert found.reason
        return
    assert isinstance(found, Entry)
    row = attempt(found.row, ValueError, OverflowError)
    assert isinstance(row, Exception) or found.message.session_id == row[1]


replies = st.recursive(
    st.one_of(
        st.none(),
        st.integers(-1, 8),
        st.integers(-(2**63), 2**63 - 1),
        st.binary(max_size=8),
        st.sampled_from([b"5", b"OK", b"\xff", BODY, b"9" * 5_000, b"-1"]),
        st.sampled_from(["ERR no", "OOM x", ""]).map(hiredis.ReplyError),
    ),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=8,
)
COMMANDS = Commands(Settings(), Layout("kairos", 16))


def outbox_reader() -> Callable[[Any], Any]:
    """What reads the reply of an outbox."""
    outbox: Any = Outbox.connect(Settings())
    outbox._ask = lambda key, lane, read, *words: read  # noqa: ARG005 - what it is asked with is not looked at
    read: Callable[[Any], Any] = outbox.read(0, 1)
    return read


READERS: dict[str, Callable[[Any], Any]] = {
    "get": COMMANDS.get("123456789").read,
    "create": COMMANDS.create(STATE, "e").read,
    "update": COMMANDS.update(STATE, "e").read,
    "delete": COMMANDS.delete("s", None, "e").read,
    "delete that version": COMMANDS.delete("s", STATE.stamp, "e").read,
    "touch": COMMANDS.touch("s").read,
    "resolve": COMMANDS.resolve(new_operation_id(3)).read,
    "expire": COMMANDS.expire("s").read,
    "due": COMMANDS.due(3, 1, 1).read,
    "clock": COMMANDS.clock(3).read,
    "depth": COMMANDS.depth(3).read,
    "oldest": COMMANDS.oldest(3).read,
    "living": COMMANDS.living(3).read,
    "broadcast": COMMANDS.broadcast("s", {}).read,
    "outbox": outbox_reader(),
}


@pytest.mark.parametrize("name", READERS)
@settings(relaxed, max_examples=60)
@example(reply=[[1]])
@given(reply=replies | st.lists(st.integers(0, 9) | st.binary(max_size=3), min_size=5, max_size=5))
def test_any_reply(name: str, reply: Any) -> None:
    """Of any reply comes a result, or an error that the caller turns into a typed one."""
    attempt(lambda: READERS[name](reply), *UNREADABLE)


@pytest.mark.parametrize(
    ("check", "characters"),
    [
        (session.check_session_id, ID_CHARACTERS),
        (session.check_event_type, ID_CHARACTERS),
        (check_operation_id, "0123456789abcdef"),
    ],
    ids=["session_id", "event_type", "operation_id"],
)
@settings(relaxed, max_examples=60)
@given(data=st.data())
def test_any_id(check: Callable[[Any], str], characters: str, data: st.DataObject) -> None:
    """An id is returned as plain text of the allowed characters, or refused."""
    likely = st.text(characters, max_size=130) | st.builds(new_operation_id, st.integers(0, 4095))
    value = data.draw(likely | any_text | likely.map(Text) | likely.map(lambda text: f"{text}\n") | makers)
    value = value() if callable(value) else value
    found = attempt(lambda: check(value), InvalidState)
    if isinstance(found, InvalidState):
        assert len(str(found)) < 150
        return
    assert type(found) is str
    assert value == found
    assert set(found) <= set(characters)
    assert 1 <= len(found) <= 128


@relaxed
@given(make=makers | json_values().map(lambda value: lambda: value))
@example(make=tree)
@example(make=lambda: datetime(2026, 1, 1, tzinfo=Nowhere()))
def test_any_application_message(make: Callable[[], Any]) -> None:
    """Of any object comes JSON that is read as it was, or InvalidState."""
    value = make()
    text = attempt(lambda: session.encode_json(value), InvalidState)
    if isinstance(text, InvalidState):
        assert 0 < len(str(text)) < 300
        return
    assert value == msgspec.json.decode(text)
    assert len(text) <= session.MAX_STATE_BYTES


levels = st.sampled_from(["memory", "fsync", "replicated", "disk", "", Room.LOBBY])


@relaxed
@given(make=makers, level=levels, count=st.integers(-1, 101) | odd_text, make_count=makers | st.just(lambda: 1))
def test_any_durability(make: Callable[[], Any], level: Any, count: int | str, make_count: Callable[[], Any]) -> None:
    """Of any object, any text and whatever was built as one comes a durability to be asked for, or InvalidState."""
    for wanted in (make(), level, f"{level}:{count}", Durability(level, make_count())):
        found = attempt(partial(Durability.parse, wanted), InvalidState)
        if not isinstance(found, InvalidState):
            assert (1 <= found.replicas <= 100) if found.level == "replicated" else found.replicas == 0
            assert found == Durability.parse(str(found))


def test_a_durability_of_another_kind() -> None:
    """A durability that was built with no text is refused."""
    level: Any = Untrue()
    with pytest.raises(InvalidState):
        Durability.parse(Durability(level))


ADDRESSES = ["KAIROS_REDIS_URL", "KAIROS_POSTGRES_URL", "KAIROS_QUEUE_URL"]
NUMBERS = [
    "KAIROS_LANES",
    "KAIROS_SESSION_TTL_S",
    "KAIROS_TIMEOUT_S",
    "KAIROS_RECEIPT_TTL_S",
    "KAIROS_OUTBOX_LIMIT",
    "KAIROS_STATE_LIMIT_BYTES",
]
VARIABLES = [*ADDRESSES, *NUMBERS, "KAIROS_NAMESPACE", "KAIROS_DURABILITY"]
LOCAL_VARIABLES = ["KAIROS_LOCAL_FOLDER", "KAIROS_LOCAL_REDIS_PORT"]


number_text = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["9" * 400, "9" * 5_000, "1e999", "-0", "1_0", "٣", "²", "0x7", "True", "nan", "1e400"]),
)
schemes = st.sampled_from(
    [
        "redis",
        "rediss",
        "unix",
        "redis+sentinel",
        "rediss+sentinel",
        "redis+cluster",
        "postgresql",
        "postgres",
        "REDIS",
        "http",
        "",
    ]
)
# The secret stands where a password stands; what surrounds it may make the address none.
secret_addresses = st.one_of(
    st.builds(
        lambda scheme, user, odd, rest: f"{scheme}://{user}:{odd}{SECRET}{odd}@{rest}",
        schemes,
        st.sampled_from(["", "u"]) | odd_text,
        st.just("") | odd_text,
        st.sampled_from(["h", "h:7/1", "h:0x7", "h:65536", "[::1", "h,h:7/s", "h//x"]) | odd_text,
    ),
    st.builds(lambda scheme, rest: f"{scheme}://h/d?password={SECRET}{rest}", schemes, odd_text),
)


def check_settings(read: Callable[[dict[str, str]], object], environment: dict[str, str]) -> None:
    """Settings that can be printed, or an error of one line that names its variable; neither with the password."""
    found = attempt(lambda: read(environment), ConfigurationError)
    if isinstance(found, ConfigurationError):
        assert found.setting in environment
        assert [str(found)] == str(found).splitlines()
        assert SECRET not in "".join(traceback.format_exception(found))
    else:
        assert SECRET not in f"{found!r}"


@relaxed
@given(environment=st.dictionaries(st.sampled_from(VARIABLES), odd_text | number_text, max_size=4))
def test_any_environment(environment: dict[str, str]) -> None:
    """Of any texts come settings, or an error of one line that names a variable."""
    check_settings(Settings.from_env, environment)


@pytest.mark.parametrize("variable", [name for name in VARIABLES if name not in NUMBERS])
@settings(relaxed, max_examples=60)
@given(text=secret_addresses)
def test_no_error_carries_a_password(variable: str, text: str) -> None:
    """An address with a password comes back in no message and in none of its causes."""
    check_settings(Settings.from_env, {variable: text})


@pytest.mark.parametrize("variable", NUMBERS)
def test_no_number_carries_a_password(variable: str) -> None:
    """Nor does an address that was put into a variable for a number."""
    check_settings(Settings.from_env, {variable: f"redis://u:{SECRET}@h"})


@relaxed
@given(environment=st.dictionaries(st.sampled_from([*LOCAL_VARIABLES, *ADDRESSES]), odd_text | number_text, max_size=3))
def test_any_local_environment(environment: dict[str, str]) -> None:
    """The harness's own settings, and the question which servers are given, are answered or refused likewise."""
    check_settings(LocalSettings.from_env, environment)
    given_both = attempt(lambda: servers_given(environment), ConfigurationError)
    assert (
        given_both.setting in ADDRESSES if isinstance(given_both, ConfigurationError) else given_both in {True, False}
    )


@relaxed
@given(text=texts | st.text('\\u0\x01"/'))
@example(text="\\u0000")
def test_no_text_of_metadata_changes(text: str) -> None:
    """A text that JSON can hold comes back as it was, as a value and as a key."""
    written = STATE.replace(metadata={text: [text]})
    assert written.metadata == session.decode(session.encode(written)[0], Stamp(1, 1), 0, 0).metadata
