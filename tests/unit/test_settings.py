from __future__ import annotations

import math
import tempfile
import traceback
from typing import Any

import pytest

from kairos_core import Durability, Settings
from kairos_core.errors import ConfigurationError
from kairos_core.settings import LocalSettings, child_environment, servers_given, without_password


def test_defaults() -> None:
    """Nothing need be set: the defaults are those of servers on this machine."""
    assert Settings() == Settings.from_env({})
    assert LocalSettings(folder=tempfile.gettempdir(), redis_port=0) == LocalSettings.from_env({})


@pytest.mark.parametrize(
    ("variable", "text", "field", "expected"),
    [
        ("KAIROS_REDIS_URL", "rediss://u:p@h:7/1", "redis_url", "rediss://u:p@h:7/1"),
        ("KAIROS_REDIS_URL", "unix:///run/valkey.sock", "redis_url", "unix:///run/valkey.sock"),
        ("KAIROS_POSTGRES_URL", "postgres://h/db", "postgres_url", "postgres://h/db"),
        ("KAIROS_POSTGRES_URL", "postgresql:///db?host=/run", "postgres_url", "postgresql:///db?host=/run"),
        ("KAIROS_QUEUE_URL", "redis://q", "queue_url", "redis://q"),
        ("KAIROS_NAMESPACE", "a_1", "namespace", "a_1"),
        ("KAIROS_NAMESPACE", "a" * 48, "namespace", "a" * 48),
        ("KAIROS_LANES", "1", "lanes", 1),
        ("KAIROS_LANES", "1024", "lanes", 1024),
        ("KAIROS_SESSION_TTL_S", "0.001", "session_ttl_s", 0.001),
        ("KAIROS_SESSION_TTL_S", "315360000", "session_ttl_s", 315_360_000.0),
        ("KAIROS_TIMEOUT_S", "0.001", "timeout_s", 0.001),
        ("KAIROS_TIMEOUT_S", "30", "timeout_s", 30.0),
        ("KAIROS_TIMEOUT_S", " 2.5 ", "timeout_s", 2.5),
        ("KAIROS_ALERT", "package.module:function", "alert", "package.module:function"),
        ("KAIROS_ALERT", "sentry", "alert", "sentry"),
        ("KAIROS_ALERT", "https://u:p@h:8443/a?b=c", "alert", "https://u:p@h:8443/a?b=c"),
        ("KAIROS_ALERT", "http://h", "alert", "http://h"),
    ],
)
def test_each_variable(variable: str, text: str, field: str, expected: Any) -> None:
    """Each variable sets its field, up to its bounds, with white space around it or without."""
    found = Settings.from_env({variable: text})
    assert expected == getattr(found, field)
    assert Settings(**{field: expected}) == found


@pytest.mark.parametrize(
    "variable",
    [
        "KAIROS_REDIS_URL",
        "KAIROS_POSTGRES_URL",
        "KAIROS_QUEUE_URL",
        "KAIROS_NAMESPACE",
        "KAIROS_LANES",
        "KAIROS_SESSION_TTL_S",
        "KAIROS_TIMEOUT_S",
        "KAIROS_DURABILITY",
        "KAIROS_ALERT",
    ],
)
@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_an_empty_variable_is_not_set(variable: str, text: str) -> None:
    """An empty variable counts as not set."""
    assert Settings() == Settings.from_env({variable: text})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("KAIROS_REDIS_URL", "http://h"),
        ("KAIROS_REDIS_URL", "127.0.0.1:6379"),
        ("KAIROS_REDIS_URL", "redis://h:0x7"),
        ("KAIROS_REDIS_URL", "redis://h:65536"),
        ("KAIROS_REDIS_URL", "redis://[::1"),
        ("KAIROS_POSTGRES_URL", "mysql://h"),
        ("KAIROS_POSTGRES_URL", "redis://h"),
        ("KAIROS_POSTGRES_URL", "host=h dbname=d"),
        ("KAIROS_QUEUE_URL", "amqp://h"),
        ("KAIROS_NAMESPACE", "Kairos"),
        ("KAIROS_NAMESPACE", "1a"),
        ("KAIROS_NAMESPACE", "_a"),
        ("KAIROS_NAMESPACE", "a-b"),
        ("KAIROS_NAMESPACE", "a:b"),
        ("KAIROS_NAMESPACE", "a*"),
        ("KAIROS_NAMESPACE", "{a}"),
        ("KAIROS_NAMESPACE", "é"),
        ("KAIROS_NAMESPACE", "a" * 49),
        ("KAIROS_LANES", "0"),
        ("KAIROS_LANES", "-1"),
        ("KAIROS_LANES", "1025"),
        ("KAIROS_LANES", "1.5"),
        ("KAIROS_LANES", "many"),
        ("KAIROS_LANES", "nan"),
        ("KAIROS_SESSION_TTL_S", "0"),
        ("KAIROS_SESSION_TTL_S", "0.0009"),
        ("KAIROS_SESSION_TTL_S", "315360001"),
        ("KAIROS_SESSION_TTL_S", "nan"),
        ("KAIROS_SESSION_TTL_S", "inf"),
        ("KAIROS_SESSION_TTL_S", "1h"),
        ("KAIROS_TIMEOUT_S", "0"),
        ("KAIROS_TIMEOUT_S", "-5"),
        ("KAIROS_TIMEOUT_S", "30.001"),
        ("KAIROS_TIMEOUT_S", "nan"),
        ("KAIROS_DURABILITY", "always"),
        ("KAIROS_DURABILITY", "fsync:1"),
        ("KAIROS_DURABILITY", "replicated:0"),
        ("KAIROS_DURABILITY", "replicated:1000"),
        ("KAIROS_DURABILITY", "replicated:"),
        ("KAIROS_DURABILITY", "MEMORY"),
        ("KAIROS_ALERT", "function"),
        ("KAIROS_ALERT", "package.module.function"),
        ("KAIROS_ALERT", "package:function()"),
        ("KAIROS_ALERT", "ftp://h"),
        ("KAIROS_ALERT", "https://"),
        ("KAIROS_ALERT", "https://h:0x7/"),
        ("KAIROS_ALERT", "https://h/a b"),
        ("KAIROS_ALERT", "https://h/\u00e9"),
    ],
)
def test_a_bad_variable_is_named(variable: str, text: str) -> None:
    """G14: a value that cannot be used is refused, with the name of its variable, on one line."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({variable: text})
    assert variable == caught.value.setting
    assert f"{variable}: {caught.value.cause}" == str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trailing_newline_in_a_namespace() -> None:
    """A namespace with a line break at its end is refused where nothing strips it."""
    with pytest.raises(ConfigurationError, match="KAIROS_NAMESPACE"):
        Settings(namespace="kairos\n")


@pytest.mark.parametrize(
    ("timeout_s", "receipt_ttl_s", "good"),
    [(5, 10, True), (5, 9.999, False), (5, 86400, True), (5, 86401, False), (30, 60, True), (5, math.nan, False)],
)
def test_a_receipt_outlives_the_call(timeout_s: float, receipt_ttl_s: float, *, good: bool) -> None:
    """G5: a receipt that could end before its call does is refused."""
    if good:
        assert receipt_ttl_s == Settings(timeout_s=timeout_s, receipt_ttl_s=receipt_ttl_s).receipt_ttl_s
    else:
        with pytest.raises(ConfigurationError, match="KAIROS_RECEIPT_TTL_S"):
            Settings(timeout_s=timeout_s, receipt_ttl_s=receipt_ttl_s)


def test_the_longest_timeout_needs_nothing_else() -> None:
    """Every timeout that the environment can set goes with the default of the receipts."""
    assert 30 == Settings.from_env({"KAIROS_TIMEOUT_S": "30"}).timeout_s


@pytest.mark.parametrize(("limit", "good"), [(1, True), (2**53 - 1, True), (0, False), (2**53, False), (-1, False)])
def test_the_limit_of_an_outbox(limit: int, *, good: bool) -> None:
    """G10: an outbox has a limit, of at least one entry, that Lua holds exactly."""
    if good:
        assert limit == Settings(outbox_limit=limit).outbox_limit
    else:
        with pytest.raises(ConfigurationError, match="KAIROS_OUTBOX_LIMIT"):
            Settings(outbox_limit=limit)


@pytest.mark.parametrize(
    ("field", "value", "needed"),
    [
        ("lanes", 1.5, "a whole number is needed, not float"),
        ("lanes", "16", "a whole number is needed, not str"),
        ("outbox_limit", True, "a whole number is needed, not bool"),
        ("timeout_s", "1", "a number is needed, not str"),
        ("session_ttl_s", None, "a number is needed, not NoneType"),
        ("receipt_ttl_s", True, "a number is needed, not bool"),
        ("redis_url", 5, "a text is needed, not int"),
        ("postgres_url", None, "a text is needed, not NoneType"),
        ("queue_url", b"redis://h", "a text is needed, not bytes"),
        ("namespace", 5, "a text is needed, not int"),
        ("durability", Durability.FSYNC, "a text is needed, not Durability"),
    ],
)
def test_a_setting_of_another_kind(field: str, value: Any, needed: str) -> None:
    """A setting of another type is refused like one out of bounds, by its name and with what is wanted."""
    with pytest.raises(ConfigurationError) as caught:
        Settings(**{field: value})
    assert f"KAIROS_{field.upper()}: {needed}" == str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text", "cause"),
    [
        ("KAIROS_STATE_LIMIT_BYTES", "1e6", "a whole number, of digits only, is needed"),
        ("KAIROS_TIMEOUT_S", "5s", "a number is needed"),
        ("KAIROS_REDIS_URL", "redis://h:99999/0", "has a port beyond 65535"),
        ("KAIROS_REDIS_URL", "redis://u:99999/x@h:1/0", "is not an address (in a password, "),
        ("KAIROS_REDIS_URL", "redis+cluster://h:99999", "has a port beyond 65535"),
    ],
)
def test_a_refusal_says_what_is_wanted(variable: str, text: str, cause: str) -> None:
    """A variable that cannot be used is refused with what is wrong with it, not with something near it."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({variable: text})
    assert str(caught.value).startswith(f"{variable}: {cause}")


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(
            redis_url="rediss://u:p%2F@h:7/1",
            postgres_url="postgres://u:p@h/d?sslmode=require",
            queue_url="redis://q:1/2",
            namespace="other_1",
            lanes=3,
            session_ttl_s=0.1 + 0.2,
            timeout_s=1 / 3,
        ),
        pytest.param(Settings(receipt_ttl_s=100, outbox_limit=5, alert="https://h/hook")),
    ],
    ids=["defaults", "others", "without a variable"],
)
def test_another_process_has_the_same(settings: Settings) -> None:
    """A process that is started with the variables of some settings has the same settings."""
    assert settings == Settings.from_env(settings.to_env())


def test_child_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child inherits the environment, and these settings in place of those it names."""
    monkeypatch.setenv("KAIROS_QUEUE_URL", "redis://elsewhere")
    monkeypatch.setenv("SOMETHING_ELSE", "kept")
    found = child_environment(Settings(lanes=3))
    assert ("kept", "3") == (found["SOMETHING_ELSE"], found["KAIROS_LANES"])
    assert Settings(lanes=3) == Settings.from_env(found)


def test_the_process_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping, the variables of the process are read."""
    monkeypatch.setenv("KAIROS_LANES", "5")
    assert 5 == Settings.from_env().lanes


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://:hidden@h:1/0", "redis://h:1/0"),
        ("redis://user:hidden@h:1/0", "redis://user@h:1/0"),
        ("redis://user@h:1/0", "redis://user@h:1/0"),
        ("redis://user:hid@den@h:1/0", "redis://user@h:1/0"),
        ("redis://user:hid:den@h:1/0", "redis://user@h:1/0"),
        ("redis://h:1/0?password=hidden", "redis://h:1/0"),
        ("redis://h:1/0#hidden", "redis://h:1/0"),
        ("rediss://[::1]:6379/0", "rediss://[::1]:6379/0"),
        ("rediss://u:hidden@[::1]:6379/0", "rediss://u@[::1]:6379/0"),
        ("unix://u:hidden@/run/valkey.sock?db=1", "unix://u@/run/valkey.sock"),
        ("postgresql://u:hidden@a:1,b:2/d?password=hidden", "postgresql://u@a:1,b:2/d"),
    ],
)
def test_without_password(url: str, expected: str) -> None:
    """What may be printed of an address is all of it but the password and the query."""
    assert expected == without_password(url)


URLS = ["redis://u:hidden@h:1/0", "redis://:hidden@h", "redis://h?password=hidden"]


@pytest.mark.parametrize("url", URLS)
def test_no_password_in_a_repr(url: str) -> None:
    """A repr ends up in logs, and holds no password of any address."""
    settings = Settings(redis_url=url, queue_url=url, postgres_url=url.replace("redis", "postgresql"), lanes=7)
    for text in (repr(settings), str(settings), f"{settings}", f"{[settings]}"):
        assert "hidden" not in text
    assert "lanes=7" in repr(settings)


@pytest.mark.parametrize(
    "alert", ["htps://h/hidden", "https://h:x/hidden", "https:///hidden", "https://h/hidden hidden"]
)
def test_no_webhook_in_a_refusal(alert: str) -> None:
    """A webhook's address that is refused is not quoted: it may be its own password."""
    with pytest.raises(ConfigurationError) as caught:
        Settings(alert=alert)
    assert "KAIROS_ALERT" == caught.value.setting
    assert "hidden" not in "".join(traceback.format_exception(caught.value))


def test_no_password_in_a_rich_repr() -> None:
    """What prints objects by their fields prints no password either."""
    rich_repr: Any = getattr(Settings(redis_url=URLS[0]), "__rich_repr__", tuple)
    assert "hidden" not in str(list(rich_repr()))


def told(**fields: Any) -> str:
    """All that is printed where settings are refused, causes included; else their repr."""
    try:
        return repr(Settings(**fields))
    except ConfigurationError as error:
        # what stands in the source of this test is no message
        return "".join(f"{e}" for e in traceback.TracebackException.from_exception(error).format_exception_only()) + (
            f"{error.__cause__}"
        )


@pytest.mark.parametrize(
    "url",
    ["http://u:hidden@h", "u:hidden@h", "redis://u:hidden@h:99999", "redis://u:hidden@h:x", "redis://u:hidden@[h"],
)
def test_no_password_in_a_refusal(url: str) -> None:
    """An address that is refused is not quoted."""
    for name in ("redis_url", "postgres_url", "queue_url"):
        assert "hidden" not in told(**{name: url})


@pytest.mark.parametrize(
    "fields",
    [
        {"redis_url": "redis://u:4711/x@h:1/0"},
        {"redis_url": "redis://u:hid4711/x@h:1/0"},
        {"redis_url": "redis://:hid4711#x@h:1/0"},
        {"postgres_url": "postgresql://u:4711?x@h:1/d"},
        {"postgres_url": "postgresql://u:x[hid4711]@h:1/d"},
    ],
    ids=lambda fields: next(iter(fields.values())),
)
def test_no_part_of_an_unquoted_password(fields: dict[str, str]) -> None:
    """No part of a password that should have been percent-encoded shows in a message or a repr."""
    assert "4711" not in told(**fields)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"KAIROS_REDIS_URL": "", "KAIROS_POSTGRES_URL": " "}, False),
        ({"KAIROS_REDIS_URL": "redis://h", "KAIROS_POSTGRES_URL": "postgresql://h"}, True),
    ],
)
def test_servers_given(environment: dict[str, str], *, expected: bool) -> None:
    """Servers are given where both addresses are set."""
    assert expected is servers_given(environment)


@pytest.mark.parametrize(
    ("environment", "missing"),
    [
        ({"KAIROS_REDIS_URL": "redis://h"}, "KAIROS_POSTGRES_URL"),
        ({"KAIROS_POSTGRES_URL": "postgresql://h", "KAIROS_REDIS_URL": " "}, "KAIROS_REDIS_URL"),
    ],
)
def test_half_a_set_of_servers(environment: dict[str, str], missing: str) -> None:
    """One address without the other is a mistake, and the missing one is named."""
    with pytest.raises(ConfigurationError) as caught:
        servers_given(environment)
    assert missing == caught.value.setting


@pytest.mark.parametrize(
    ("text", "good"), [("0", True), ("65535", True), ("65536", False), ("-1", False), ("x", False)]
)
def test_the_port_of_the_embedded_store(text: str, *, good: bool) -> None:
    """The embedded store's port is a port, or 0 for a free one."""
    environment = {"KAIROS_LOCAL_REDIS_PORT": text, "KAIROS_LOCAL_FOLDER": "/elsewhere"}
    if good:
        assert LocalSettings(folder="/elsewhere", redis_port=int(text)) == LocalSettings.from_env(environment)
    else:
        with pytest.raises(ConfigurationError, match="KAIROS_LOCAL_REDIS_PORT"):
            LocalSettings.from_env(environment)


@pytest.mark.parametrize("path", ["abc", "3abc", "0/1", "-1", "\u0663"])
def test_a_database_that_is_no_number(path: str) -> None:
    """What is no database's number is refused, and not taken for database 0 as redis-py would."""
    for scheme in ("redis", "rediss"):
        with pytest.raises(ConfigurationError, match=r"KAIROS_REDIS_URL: .*number of a database"):
            Settings(redis_url=f"{scheme}://host:6379/{path}")
    for accepted in ("redis://host", "redis://host/", "redis://host:6379/3", "redis://host/?db=2", "unix:///a/b.sock"):
        assert accepted == Settings(redis_url=accepted).redis_url
